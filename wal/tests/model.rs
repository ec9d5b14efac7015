//! The log and the reference backend do the same, whatever is written and however often the log
//! is begun again.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use raftwerk_raft::{Durability, LogReader, Storage, SubmitError, Ticket, WriteBatch};
use raftwerk_storage_mem::{MemLog, MemLogOptions};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};
use raftwerk_testkit::history::History;
use raftwerk_testkit::log_suite::model::LogModel;
use raftwerk_wal::{Background, Options, Prepared, Wal};

#[cfg(not(feature = "long-tests"))]
const SEQUENCES: u64 = 500;
#[cfg(feature = "long-tests")]
const SEQUENCES: u64 = 10_000;
const STEPS: usize = 24;

fn open(vfs: &FaultVfs) -> Arc<Wal> {
    let options = Options {
        segment_bytes: 16 * 1024,
        batch_bytes_max: 12 * 1024,
        page_bytes: 512,
        tail_bytes_max: 400,
        group_tail_bytes_max: 200,
        background: Background::Manual,
        ..Options::default()
    };
    Arc::new(Wal::open(Arc::new(vfs.clone()), "log", options).unwrap())
}

fn submit(wal: &Wal, batch: &WriteBatch, last: Ticket) -> Ticket {
    for _ in 0..4 {
        match wal.submit(batch.clone()) {
            Ok(ticket) => return ticket,
            Err(SubmitError::Full(_)) => {}
            Err(other) => panic!("{other}"),
        }
        if last > Ticket(0) {
            wal.wait(last).unwrap();
        }
        while wal.step_preparer() == Prepared::Progress {}
    }
    panic!("it is full for ever");
}

/// All that can be asked of both.
fn same(wal: &dyn Storage, reference: &dyn Storage) {
    let groups = reference.groups().unwrap();
    assert_eq!(wal.groups().unwrap(), groups);
    for group in groups {
        let (mine, other) = (wal.open_group(group), reference.open_group(group));
        let (mine, other) = (mine.unwrap(), other.unwrap());
        assert_eq!(mine.state, other.state, "group {group}");
        let all =
            |log: &Arc<dyn LogReader>| log.read(log.first()..log.last().index.next(), u64::MAX);
        assert_eq!(all(&mine.log), all(&other.log), "group {group}");
        for index in [other.log.first().prev(), other.log.last().index] {
            assert_eq!(mine.log.term(index), other.log.term(index), "group {group}");
        }
    }
}

fn sequence(seed: u64) {
    let mut history = History::new(seed, 700);
    let mut model = LogModel::default();
    let mut vfs = FaultVfs::new();
    let mut wal = open(&vfs);
    let reference = MemLog::new(MemLogOptions::default()).unwrap();
    let (mut last, mut lazy_since) = (Ticket(0), Vec::new());
    for _ in 0..STEPS {
        let (batch, after) = history.batch(&model);
        model = after;
        last = submit(&wal, &batch, last);
        lazy_since.push(batch);
        if history.one_in(3) {
            wal.step_preparer();
        }
        if history.one_in(6) {
            wal.step_writer();
        }
        if !history.one_in(4) {
            continue;
        }
        // What is not waited for may be lost: the reference gets what is.
        wal.wait(last).unwrap();
        for batch in lazy_since.drain(..) {
            let sync = WriteBatch {
                durability: Durability::Sync,
                ..batch
            };
            let ticket = reference.submit(sync).unwrap();
            reference.wait(ticket).unwrap();
        }
        same(wal.as_ref(), &reference);
        let plan = match history.below(4) {
            0 => CrashPlan::Kill,
            1 => CrashPlan::LOSE_UNSYNCED,
            2 => CrashPlan::random(history.below(1 << 30)),
            _ => continue,
        };
        drop(wal);
        vfs = vfs.crash(&plan);
        wal = open(&vfs);
        last = Ticket(0);
        same(wal.as_ref(), &reference);
    }
}

#[test]
fn log_does_what_the_reference_does_whenever_it_is_begun_again() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (half..SEQUENCES).step_by(2).for_each(sequence));
        }
    });
    println!("{SEQUENCES} sequences of {STEPS} batches");
}
