//! This very program as another process that writes batches and says so, line by line: `ready N`
//! (it found the first N), `began N`, `acked N` (up to N is durable), `poisoned`.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use raftwerk_raft::{SnapshotReader, SnapshotSource, StateStore, Storage, SubmitError};

use crate::history::{
    applied, batch, check_log, check_store, log_after, open_log, open_store, ops,
};

const JOB: &str = "RAFTWERK_ROCKSDB_CHILD";
/// Batches that a life has at most.
const BATCHES_MAX: u64 = 100;
/// Nothing that is waited for takes longer, on any machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Does `work` in a thread of its own, and fails when it does not come to its end: a call into a
/// file system whose power is cut may never return.
pub(crate) fn bounded<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, end) = sync_channel(1);
    let worker = thread::spawn(move || {
        let _ = done.send(work());
    });
    match end.recv_timeout(WAIT_MAX) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("{what} takes longer than {WAIT_MAX:?}"),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panicked) => std::panic::resume_unwind(panicked),
            Ok(()) => panic!("{what} ended without an outcome"),
        },
    }
}

/// Which store a child writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Log,
    State,
}

/// Writes, if this process is a child.
pub(crate) fn did_a_childs_job() -> bool {
    let Some(job) = env::var_os(JOB) else {
        return false;
    };
    let path = PathBuf::from(env::args_os().nth(1).unwrap());
    let done = if job == "log" {
        write_log(&path)
    } else {
        write_state(&path)
    };
    match done {
        Ok(()) => say("ended"),
        Err(reason) => say(&format!("failed {reason}")),
    }
    true
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the parent has seen enough.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn write_log(path: &Path) -> Result<(), String> {
    let log = open_log(path)?;
    let mut number = check_log(&log)?;
    let mut model = log_after(number);
    say(&format!("ready {number}"));
    for round in 0..BATCHES_MAX {
        // Some together, so that a commit carries more than one.
        let mut last = None;
        for _ in 0..1 + round % 3 {
            number += 1;
            let batch = batch(&model, number);
            model = model.after(&batch).unwrap();
            say(&format!("began {number}"));
            last = Some(log.submit(batch).map_err(|error| error.to_string())?);
        }
        let Some(ticket) = last else { continue };
        match log.wait(ticket) {
            Ok(()) => say(&format!("acked {number}")),
            Err(poison) => {
                let again = log.submit(batch(&model, number + 1));
                let refused = matches!(&again, Err(SubmitError::Poisoned(same)) if *same == poison);
                if !refused || log.durable() != Err(poison.clone()) || log.wait(ticket).is_ok() {
                    return Err(format!("poisoned, and yet: {again:?}"));
                }
                // Reads stay open.
                model.compare(&log)?;
                say("poisoned");
                return Ok(());
            }
        }
    }
    Ok(())
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

/// What a child did until it was gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// How many batches it found; nothing if it never came so far.
    pub(crate) found: Option<u64>,
    pub(crate) began: u64,
    pub(crate) acked: u64,
    pub(crate) acks: u64,
    pub(crate) poisoned: bool,
    /// It came to its own end.
    pub(crate) ended: bool,
    /// Why it gave up.
    pub(crate) failed: Option<String>,
}

/// A child at work.
pub(crate) struct Writer {
    process: Child,
    lines: Receiver<String>,
    pub(crate) life: Life,
}

impl Writer {
    /// Starts one on the store in `path`, below `strace` with these arguments if there are any.
    pub(crate) fn start(what: What, path: &Path, strace: &[String]) -> Self {
        let program = env::current_exe().unwrap();
        let mut command = match strace {
            [] => Command::new(program),
            arguments => {
                let mut command = Command::new("strace");
                command.args(["-f", "-qq", "-o", "/dev/null"]);
                command.args(arguments).arg(program);
                command
            }
        };
        let job = match what {
            What::Log => "log",
            What::State => "state",
        };
        let mut process = command
            .arg(path)
            .env(JOB, job)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let (tell, lines) = sync_channel(64);
        thread::spawn(move || {
            loop {
                let mut line = String::new();
                let read = said.read_line(&mut line);
                // The last line may be cut.
                if read.is_err() || !line.ends_with('\n') || tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            lines,
            life: Life::default(),
        }
    }

    /// Listens until `enough`, or until the child ends: false.
    pub(crate) fn listen(&mut self, enough: impl Fn(&Life) -> bool) -> bool {
        while !enough(&self.life) {
            match self.lines.recv_timeout(WAIT_MAX) {
                Ok(line) => self.hear(line.trim_end()),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the child is silent for {WAIT_MAX:?}: {:?}", self.life)
                }
            }
        }
        true
    }

    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap();
        match word {
            "ready" => {
                self.life.found = Some(number());
                self.life.began = number();
                self.life.acked = number();
            }
            "began" => self.life.began = number(),
            "acked" => {
                self.life.acked = number();
                self.life.acks += 1;
            }
            "poisoned" => self.life.poisoned = true,
            "ended" => self.life.ended = true,
            "failed" => self.life.failed = Some(rest.to_owned()),
            _ => panic!("the child says: {line}"),
        }
    }

    /// SIGKILL, unless it is gone already.
    pub(crate) fn kill(mut self) -> Life {
        let _ = self.process.kill();
        self.end()
    }

    /// Waits for its end, and listens to everything that it still said.
    pub(crate) fn end(mut self) -> Life {
        self.listen(|_| false);
        let mut process = self.process;
        bounded("the child's end", move || process.wait().unwrap());
        self.life
    }
}

/// Opens what a child left: all that it was told to be durable is there, whole batches only, and
/// nothing that was never written. Says after which batch it stands.
pub(crate) fn check(what: What, path: &Path, life: &Life) -> u64 {
    let at = path.to_path_buf();
    let found = bounded("what the child left", move || match what {
        What::Log => open_log(&at).and_then(|log| check_log(&log)),
        What::State => open_store(&at).and_then(|store| check_store(&store)),
    });
    let number = found.unwrap_or_else(|reason| panic!("{what:?} after {life:?}: {reason}"));
    assert!(
        number >= life.acked && number <= life.began.max(life.acked),
        "{what:?} stands after batch {number}: {life:?}"
    );
    number
}
