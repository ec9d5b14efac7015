//! What was there before and must not come back: entries written over, terms compacted away, groups
//! destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use raftwerk_raft::{Entry, GroupId, GroupWrite, LogIndex, Term};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, id, snapshot, step};

const GROUP: GroupId = GroupId(1);

/// Entries `from..=to`, each saying which `version` of it this is.
fn version(version: &str, term: u64, from: u64, to: u64) -> GroupWrite {
    let entry = |index| {
        let said = format!("{version} {index} {}", "x".repeat(150));
        Entry::normal(id(term, index), Bytes::from(said))
    };
    GroupWrite {
        append: (from..=to).map(entry).collect(),
        ..step(1)
    }
}

/// An entry gives way to another, and that to one of the first's term and index: with every
/// pattern of syncs between, the last is what is read.
pub(super) fn entry_written_again_is_the_last_written(factory: &dyn LogFactory) {
    for synced in 0..8 {
        let mut session = Session::begin(factory);
        session.write(append(1, 1, 1, 4));
        let versions = [("first", 2), ("between", 3), ("last", 2)];
        for (number, (said, term)) in versions.into_iter().enumerate() {
            session.write(version(said, term, 5, 12));
            session.verify();
            if synced & (1 << number) != 0 {
                session.wait();
            }
        }
        session.verify();
        session.reopen();
        // The group itself likewise: other contents under the ids of what was destroyed.
        for said in ["anew", "and again"] {
            session.write(GroupWrite {
                destroy: true,
                ..version(said, 2, 1, 12)
            });
            session.verify();
            if synced & 1 != 0 {
                session.wait();
                session.verify();
            }
        }
        session.reopen();
    }
}

/// What one read gives stood in the log at one moment.
pub(super) fn read_gives_what_stood_in_the_log_at_one_moment(factory: &dyn LogFactory) {
    const ROUNDS: u64 = 60;
    const KEPT: u64 = 10;
    const LAST: u64 = 60;
    let mut session = Session::begin(factory);
    session.write(version("kept", 1, 1, LAST));
    session.wait();
    let store = Arc::clone(session.store());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let log = store.open_group(GROUP).expect("open_group").log;
                let mut before = Term(0);
                while !done.load(Ordering::Acquire) {
                    let read = log.read(LogIndex(1)..LogIndex(LAST + 1), u64::MAX);
                    let read = read.expect("what is replaced is never absent");
                    let (kept, rest) = read.split_at(KEPT as usize);
                    assert!(kept.iter().all(|entry| entry.term() == Term(1)));
                    let term = rest.first().map_or(before, Entry::term);
                    assert!(term >= before, "term {term} after {before}");
                    before = term;
                    let mixed = rest.iter().find(|entry| entry.term() != term);
                    assert_eq!(mixed, None, "in a read that begins with term {term}");
                }
            });
        }
        for round in 2..=ROUNDS {
            session.write(version("replaced", round, KEPT + 1, LAST));
            // Durable entries may leave memory: reads then come from the disk, in part.
            session.wait();
        }
        done.store(true, Ordering::Release);
    });
    drop(store);
    session.reopen();
}

pub(super) fn terms_answer_over_compaction_boundaries(factory: &dyn LogFactory) {
    // Runs of one, two and many entries, terms that follow each other and that leap.
    let runs = [
        (1, 1, 3),
        (2, 4, 4),
        (3, 5, 6),
        (9, 7, 12),
        (10, 13, 13),
        (40, 14, 16),
    ];
    let mut session = Session::begin(factory);
    for (term, from, to) in runs {
        session.write(append(1, term, from, to));
    }
    session.write(GroupWrite {
        snapshot: Some(snapshot(40, 15)),
        ..step(1)
    });
    for to in 1..=15 {
        session.write(GroupWrite {
            compact_to: Some(LogIndex(to)),
            ..step(1)
        });
        // Every term from just before the first to the last, and the two beyond.
        session.verify();
        if to % 3 == 1 {
            session.reopen();
        }
    }
    // Behind the boundary the log goes on in another term.
    session.write(append(1, 41, 16, 18));
    session.reopen();
    session.write(GroupWrite {
        snapshot: Some(snapshot(41, 18)),
        compact_to: Some(LogIndex(18)),
        ..step(1)
    });
    session.reopen();
    assert_eq!(session.log(GROUP).term(LogIndex(18)), Ok(Term(41)));
}

pub(super) fn destroyed_group_stays_gone_after_a_crash(factory: &dyn LogFactory) {
    for seed in 0..8 {
        let mut session = Session::begin(factory);
        session.submit(batch([append(1, 3, 1, 20), append(2, 3, 1, 20)]));
        session.wait();
        let destroy = GroupWrite {
            destroy: true,
            ..step(1)
        };
        session.write(destroy.clone());
        session.wait();
        if seed % 2 == 1 {
            session.write(append(1, 1, 1, 2));
        }
        if !session.power_loss(seed) {
            return;
        }
        // Made again, shorter than it was; what it had is not behind that either.
        session.write(GroupWrite {
            destroy: true,
            ..append(1, 1, 1, 3)
        });
        session.wait();
        session.write(append(2, 3, 21, 21));
        assert!(session.power_loss(seed + 100), "as before");
        session.write(destroy);
        session.reopen();
    }
}
