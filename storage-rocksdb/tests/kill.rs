//! A process that dies while it writes leaves everything it acknowledged, whole batches and no gap.
//! It is killed at its k-th acknowledgement, its k-th write, its k-th sync, and sees a sync fail.
//!
//! A program of its own and not a list of tests: it calls itself as the process that dies.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod child;
mod history;

use child::{What, check, did_a_childs_job, start};
use raftwerk_testkit::processes::{Life, Writer, can_inject, inject};
use tempfile::TempDir;

fn main() {
    if did_a_childs_job() {
        return;
    }
    run(
        "killed_at_an_acknowledgement_it_keeps_what_it_acknowledged",
        killed_at_an_ack,
    );
    if !can_inject("kills at single calls and failing syncs") {
        return;
    }
    run(
        "killed_at_a_call_it_keeps_what_it_acknowledged",
        killed_at_a_call,
    );
    run(
        "failed_sync_poisons_and_the_next_life_has_the_rest",
        failed_sync,
    );
}

fn run(name: &str, test: fn()) {
    print!("{name} ... ");
    test();
    println!("ok");
}

/// Lives of one store, one after the other: each begins with what the one before left.
struct Lives {
    root: TempDir,
    what: What,
    stands: u64,
}

impl Lives {
    fn begin(what: What) -> Self {
        Self {
            root: TempDir::new().unwrap(),
            what,
            stands: 0,
        }
    }

    fn next(&self, strace: &[String]) -> Writer {
        start(self.what, &self.root.path().join("store"), strace)
    }

    fn settle(&mut self, mut life: Life) {
        if let Some(found) = life.found {
            assert_eq!(found, self.stands, "a life began elsewhere");
        }
        // One that died while it opened the store changed nothing.
        life.acked = life.acked.max(self.stands);
        life.began = life.began.max(self.stands);
        self.stands = check(self.what, &self.root.path().join("store"), &life);
    }
}

fn killed_at_an_ack() {
    for what in [What::Log, What::State] {
        let mut lives = Lives::begin(what);
        for acks in [1, 2, 3, 5, 8, 13, 1, 21, 4, 34] {
            let mut writer = lives.next(&[]);
            assert!(writer.listen(|life| life.acks >= acks), "it ended early");
            let life = writer.kill();
            assert_eq!(life.failed, None);
            lives.settle(life);
        }
        assert!(lives.stands > 90);
    }
}

/// Calls, and at which of them a thread dies.
const DEATHS: [(&str, &[u32]); 6] = [
    ("write", &[1, 4, 19, 60, 110]),
    ("fdatasync", &[1, 2, 5, 13, 40]),
    ("fsync", &[1, 3, 7]),
    ("rename", &[1, 3]),
    ("unlink", &[1, 3]),
    ("link", &[1, 2]),
];

fn killed_at_a_call() {
    for what in [What::Log, What::State] {
        let mut killed = 0;
        for (call, places) in DEATHS {
            let mut lives = Lives::begin(what);
            for at in places {
                let life = lives.next(&inject(call, "signal=SIGKILL", *at)).end();
                assert_eq!(life.failed, None);
                killed += u32::from(!life.ended);
                lives.settle(life);
            }
        }
        assert!(killed > 9, "only {killed} of 19 died");
    }
}

fn failed_sync() {
    for what in [What::Log, What::State] {
        let mut poisoned = 0;
        for at in [8, 15, 30] {
            for call in ["fdatasync", "fsync"] {
                let mut lives = Lives::begin(what);
                let writer = lives.next(&[]);
                lives.settle(stop_after(writer, 3));
                let life = lives.next(&inject(call, "error=EIO", at)).end();
                poisoned += u32::from(life.poisoned);
                lives.settle(life);
                lives.settle(stop_after(lives.next(&[]), 2));
            }
        }
        print!("{poisoned} of 6 lives of {what:?} poisoned ... ");
        // The last of these calls may come after the last batch, and then nobody notices.
        let wanted = if what == What::Log { 3 } else { 2 };
        assert!(poisoned >= wanted, "{poisoned} of 6 lives of {what:?}");
    }
}

fn stop_after(mut writer: Writer, acks: u64) -> Life {
    assert!(writer.listen(|life| life.acks >= acks), "it ended early");
    writer.kill()
}
