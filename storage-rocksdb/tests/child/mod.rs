//! What the child processes do, and what is looked for behind them.

use std::path::Path;

use raftwerk_raft::{SnapshotReader, SnapshotSource, StateStore};
use raftwerk_testkit::processes::numbered::check_log;
use raftwerk_testkit::processes::{
    Life, Writer, bounded, check_life, end_job, job, say, write_log,
};

use crate::history::{applied, check_store, open_log, open_store, ops};

/// Batches that a life has at most.
const BATCHES_MAX: u64 = 100;

/// Which store a child writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Log,
    State,
}

/// Writes, if this process is a child.
pub(crate) fn did_a_childs_job() -> bool {
    let Some((job, path)) = job() else {
        return false;
    };
    end_job(if job == "log" {
        open_log(&path).and_then(|log| write_log(&log))
    } else {
        write_state(&path)
    });
    true
}

/// Hands a checkpoint over as it is read.
struct Stream(Box<dyn SnapshotSource>);

impl SnapshotReader for Stream {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

fn write_state(path: &Path) -> Result<(), String> {
    let store = open_store(path)?;
    let mut number = check_store(&store)?;
    say(&format!("ready {number}"));
    for _ in 0..BATCHES_MAX {
        number += 1;
        say(&format!("began {number}"));
        store
            .write(&ops(number), applied(number))
            .map_err(|error| error.to_string())?;
        let restored = number % 8 == 6;
        let durable = match number % 8 {
            6 => store
                .checkpoint()
                .and_then(|source| store.restore(&mut Stream(source))),
            0 | 3 | 5 => store.persist(),
            _ => continue,
        };
        match durable {
            Ok(durable) => {
                assert_eq!(durable, applied(number));
                say(&format!("acked {number}"));
            }
            // The old state is still there, and goes on.
            Err(_) if restored && check_store(&store) == Ok(number) => {}
            Err(_) if store.write(&ops(number + 1), applied(number + 1)).is_err() => {
                assert!(store.persist().is_err(), "a second sync proves nothing");
                say("poisoned");
                return Ok(());
            }
            Err(error) => return Err(format!("after {error} it went on")),
        }
    }
    Ok(())
}

/// A child that writes `what` in `path`, below `strace` with these arguments if there are any.
pub(crate) fn start(what: What, path: &Path, strace: &[String]) -> Writer {
    let job = match what {
        What::Log => "log",
        What::State => "state",
    };
    Writer::start(job, path, strace)
}

/// Opens what a child left: all that it was told to be durable is there, whole batches only, and
/// nothing that was never written. Says after which batch it stands.
pub(crate) fn check(what: What, path: &Path, life: &Life) -> u64 {
    let at = path.to_path_buf();
    let found = bounded("what the child left", move || match what {
        What::Log => open_log(&at).and_then(|log| check_log(&log)),
        What::State => open_store(&at).and_then(|store| check_store(&store)),
    });
    check_life(found, life)
}
