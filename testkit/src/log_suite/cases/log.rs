//! The log of one group: appending, truncating, compacting, reading.

use raftwerk_raft::{GroupId, GroupWrite, LogError, LogIndex, Term};

use crate::log_suite::home::LogFactory;
use crate::log_suite::model::{GroupModel, compare_group};
use crate::log_suite::session::{Session, append, batch, entry, id, snapshot, step};

const GROUP: GroupId = GroupId(1);

pub(super) fn group_never_written_is_empty(factory: &dyn LogFactory) {
    let session = Session::begin(factory);
    session.verify();
    let blank = GroupModel::default();
    compare_group(session.store().as_ref(), GroupId(77), &blank).unwrap();
    assert_eq!(session.log(GroupId(77)).first(), LogIndex(1));
    assert_eq!(
        session.store().groups().unwrap(),
        [],
        "asking does not make a group"
    );
}

pub(super) fn submitted_batch_is_readable_at_once(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    for index in 1..=20 {
        session.write(append(1, 1, index, index));
        session.verify();
    }
    session.reopen();
}

pub(super) fn reader_opened_before_sees_every_later_batch(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let log = session.log(GROUP);
    session.write(append(1, 1, 1, 5));
    assert_eq!((log.last(), log.term(LogIndex(3))), (id(1, 5), Ok(Term(1))));
    session.write(append(1, 2, 3, 3));
    assert_eq!((log.last(), log.term(LogIndex(3))), (id(2, 3), Ok(Term(2))));
    assert_eq!(
        log.read(LogIndex(3)..LogIndex(4), 1).unwrap(),
        [entry(2, 3)]
    );
    session.wait();
    session.write(GroupWrite {
        snapshot: Some(snapshot(1, 2)),
        ..step(1)
    });
    session.write(GroupWrite {
        compact_to: Some(LogIndex(2)),
        ..step(1)
    });
    assert_eq!(log.first(), LogIndex(3));
    session.write(GroupWrite {
        reset_to: Some(snapshot(4, 50)),
        ..step(1)
    });
    assert_eq!((log.first(), log.last()), (LogIndex(51), id(4, 50)));
}

pub(super) fn conflicting_append_truncates_the_suffix(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.wait();
    session.write(append(1, 2, 6, 7));
    session.verify();
    let log = session.log(GROUP);
    let gone = LogError::Unavailable { last: LogIndex(7) };
    assert_eq!(log.term(LogIndex(8)), Err(gone.clone()));
    assert_eq!(log.read(LogIndex(8)..LogIndex(11), u64::MAX), Err(gone));
    drop(log);
    // The same index again, and the first of all.
    session.write(append(1, 3, 7, 9));
    session.verify();
    session.write(append(1, 4, 1, 1));
    session.reopen();
    session.write(append(1, 5, 1, 3));
    session.reopen();
}

pub(super) fn truncated_suffix_stays_gone_after_a_crash(factory: &dyn LogFactory) {
    for seed in 0..8 {
        let mut session = Session::begin(factory);
        session.write(append(1, 1, 1, 40));
        session.wait();
        session.write(append(1, 2, 11, 12));
        session.wait();
        session.write(append(1, 3, 12, 14));
        if !session.power_loss(seed) {
            return;
        }
        // What is cut must not come back behind what follows either.
        let next = session.model().group(GROUP).last().index.0 + 1;
        session.write(append(1, 4, next, next));
        session.reopen();
    }
}

pub(super) fn gap_is_refused_without_effect(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.refused(batch([append(1, 1, 2, 3)]));
    session.write(append(1, 1, 1, 3));
    session.refused(batch([append(1, 1, 5, 5)]));
    session.refused(batch([append(1, 1, u64::MAX - 1, u64::MAX - 1)]));
    session.write(append(1, 1, 4, 4));
    session.reopen();
    session.refused(batch([append(1, 1, 6, 6)]));
}

pub(super) fn append_that_goes_back_in_term_or_skips_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 5, 1, 3));
    session.refused(batch([append(1, 4, 4, 4)]));
    let falling = vec![entry(6, 4), entry(5, 5)];
    session.refused(batch([GroupWrite {
        append: falling,
        ..step(1)
    }]));
    let skipping = vec![entry(6, 4), entry(6, 6)];
    session.refused(batch([GroupWrite {
        append: skipping,
        ..step(1)
    }]));
    let repeating = vec![entry(6, 4), entry(6, 4)];
    session.refused(batch([GroupWrite {
        append: repeating,
        ..step(1)
    }]));
    session.refused(batch([append(1, 5, 0, 1)]));
    session.reopen();
}

pub(super) fn append_into_what_a_snapshot_covers_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.write(GroupWrite {
        snapshot: Some(snapshot(1, 6)),
        ..step(1)
    });
    session.refused(batch([append(1, 2, 6, 11)]));
    session.write(append(1, 2, 7, 8));
    session.write(GroupWrite {
        compact_to: Some(LogIndex(6)),
        ..step(1)
    });
    session.refused(batch([append(1, 2, 6, 8)]));
    session.reopen();
}

pub(super) fn compaction_moves_first_and_keeps_the_term_before_it(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 4));
    session.write(append(1, 3, 5, 20));
    session.write(GroupWrite {
        snapshot: Some(snapshot(3, 9)),
        ..step(1)
    });
    session.write(GroupWrite {
        compact_to: Some(LogIndex(4)),
        ..step(1)
    });
    session.verify();
    let log = session.log(GROUP);
    assert_eq!(
        (log.first(), log.term(LogIndex(4))),
        (LogIndex(5), Ok(Term(1)))
    );
    let compacted = LogError::Compacted { first: LogIndex(5) };
    assert_eq!(log.term(LogIndex(3)), Err(compacted.clone()));
    assert_eq!(
        log.read(LogIndex(4)..LogIndex(6), 100),
        Err(compacted.clone())
    );
    assert_eq!(
        log.entries(LogIndex(1)..LogIndex(6), 100, &mut Vec::new()),
        Err(compacted)
    );
    drop(log);
    session.reopen();
    session.write(GroupWrite {
        compact_to: Some(LogIndex(9)),
        ..step(1)
    });
    session.reopen();
    session.write(append(1, 4, 15, 16));
    session.reopen();
}

pub(super) fn compaction_to_the_end_leaves_an_empty_log_that_goes_on(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 2, 1, 7));
    let everything = GroupWrite {
        snapshot: Some(snapshot(2, 7)),
        compact_to: Some(LogIndex(7)),
        ..step(1)
    };
    session.write(everything);
    let log = session.log(GROUP);
    assert_eq!((log.first(), log.last()), (LogIndex(8), id(2, 7)));
    drop(log);
    session.reopen();
    session.write(append(1, 2, 8, 9));
    session.reopen();
}

pub(super) fn compaction_beyond_the_snapshot_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.refused(batch([GroupWrite {
        compact_to: Some(LogIndex(1)),
        ..step(1)
    }]));
    session.write(GroupWrite {
        snapshot: Some(snapshot(1, 5)),
        ..step(1)
    });
    session.refused(batch([GroupWrite {
        compact_to: Some(LogIndex(6)),
        ..step(1)
    }]));
    session.refused(batch([GroupWrite {
        compact_to: Some(LogIndex::MAX),
        ..step(1)
    }]));
    session.write(GroupWrite {
        compact_to: Some(LogIndex(5)),
        ..step(1)
    });
    session.reopen();
    session.refused(batch([GroupWrite {
        compact_to: Some(LogIndex(6)),
        ..step(1)
    }]));
}

pub(super) fn compaction_of_what_is_gone_changes_nothing(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.write(GroupWrite {
        snapshot: Some(snapshot(1, 8)),
        ..step(1)
    });
    session.write(GroupWrite {
        compact_to: Some(LogIndex(5)),
        ..step(1)
    });
    for to in [0, 3, 5] {
        session.write(GroupWrite {
            compact_to: Some(LogIndex(to)),
            ..step(1)
        });
        session.verify();
    }
    session.reopen();
}

pub(super) fn ranges_outside_the_log_are_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    let covering = GroupWrite {
        snapshot: Some(snapshot(1, 4)),
        ..step(1)
    };
    session.write(GroupWrite {
        compact_to: Some(LogIndex(4)),
        ..covering
    });
    for _ in 0..2 {
        let log = session.log(GROUP);
        let read = |from, to| log.read(LogIndex(from)..LogIndex(to), u64::MAX);
        let compacted = LogError::Compacted { first: LogIndex(5) };
        let unavailable = LogError::Unavailable { last: LogIndex(10) };
        assert_eq!(read(0, 20), Err(compacted.clone()));
        assert_eq!(read(4, 5), Err(compacted));
        assert_eq!(read(11, 12), Err(unavailable.clone()));
        assert_eq!(read(u64::MAX - 1, u64::MAX), Err(unavailable.clone()));
        assert_eq!(
            log.entries(LogIndex(11)..LogIndex(12), 9, &mut Vec::new()),
            Err(unavailable)
        );
        assert_eq!(
            read(9, 20).unwrap(),
            [entry(1, 9), entry(1, 10)],
            "ends with the log"
        );
        assert_eq!(read(6, 6).unwrap(), [], "an empty range");
        assert_eq!(read(8, u64::MAX).unwrap().len(), 3);
        drop(log);
        session.reopen();
    }
}
