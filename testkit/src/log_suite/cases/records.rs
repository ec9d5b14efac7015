//! What stands beside a group's log: snapshot, hard state, named values.

use bytes::Bytes;
use raftwerk_raft::{
    ConfState, GroupId, GroupWrite, HardState, LogIndex, META_BYTES_MAX, NodeId, SnapshotMeta, Term,
};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, entries, entry, id, snapshot, step};

fn hard_state(term: u64, vote: Option<u64>, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: vote.map(NodeId),
        commit: LogIndex(commit),
    }
}

fn named(name: &str, value: Option<&str>) -> (Bytes, Option<Bytes>) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    (bytes(name), value.map(bytes))
}

pub(super) fn parts_take_effect_in_their_order(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(GroupWrite {
        hard_state: Some(hard_state(9, Some(1), 3)),
        ..append(1, 9, 1, 30)
    });
    session.write(GroupWrite {
        meta: vec![named("old", Some("x"))],
        ..step(1)
    });
    let all = GroupWrite {
        destroy: true,
        reset_to: Some(snapshot(4, 10)),
        snapshot: Some(snapshot(4, 10)),
        append: entries(5, 11, 15),
        // Smaller than what was destroyed, which no longer counts.
        hard_state: Some(hard_state(5, Some(2), 12)),
        compact_to: Some(LogIndex(10)),
        meta: vec![
            named("a", Some("1")),
            named("a", Some("2")),
            named("b", None),
        ],
        ..step(1)
    };
    session.write(all);
    session.verify();
    session.reopen();
    // The truncation that an append implies comes after the snapshot's record and before the
    // compaction.
    let cut = GroupWrite {
        snapshot: Some(snapshot(5, 13)),
        append: entries(6, 14, 14),
        compact_to: Some(LogIndex(13)),
        ..step(1)
    };
    session.write(cut);
    session.reopen();
    let wrong = GroupWrite {
        snapshot: Some(snapshot(7, 15)),
        ..append(1, 7, 15, 15)
    };
    session.refused(batch([wrong]));
    // One batch, several groups, each its own order.
    session.submit(batch([
        append(3, 1, 1, 2),
        append(2, 2, 1, 3),
        append(1, 7, 15, 16),
    ]));
    session.reopen();
}

pub(super) fn reset_empties_the_log_just_behind_the_snapshot(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(GroupWrite {
        hard_state: Some(hard_state(3, Some(2), 1)),
        ..append(1, 3, 1, 9)
    });
    session.wait();
    let installed = GroupWrite {
        reset_to: Some(snapshot(3, 100)),
        hard_state: Some(hard_state(3, Some(2), 100)),
        ..step(1)
    };
    session.write(installed);
    session.verify();
    session.reopen();
    let log = session.log(GroupId(1));
    assert_eq!((log.first(), log.last()), (LogIndex(101), id(3, 100)));
    assert_eq!(log.term(LogIndex(100)), Ok(Term(3)));
    drop(log);
    session.refused(batch([append(1, 3, 102, 102)]));
    session.write(append(1, 4, 101, 103));
    session.reopen();
    // Back into the log, but not behind the snapshot: what lies behind is dropped.
    session.write(GroupWrite {
        reset_to: Some(snapshot(4, 101)),
        ..step(1)
    });
    session.reopen();
    session.write(GroupWrite {
        reset_to: Some(snapshot(6, 200)),
        ..append(1, 6, 201, 202)
    });
    session.reopen();
}

pub(super) fn reset_behind_the_snapshot_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(GroupWrite {
        reset_to: Some(snapshot(5, 50)),
        ..append(1, 5, 51, 60)
    });
    for meta in [snapshot(5, 49), snapshot(4, 55), snapshot(6, 50)] {
        session.refused(batch([GroupWrite {
            reset_to: Some(meta),
            ..step(1)
        }]));
    }
    session.write(GroupWrite {
        reset_to: Some(snapshot(5, 50)),
        ..step(1)
    });
    session.reopen();
}

fn full_meta(term: u64, index: u64) -> SnapshotMeta {
    let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    SnapshotMeta {
        last: id(term, index),
        conf_state: ConfState {
            voters: nodes(&[1, 2, u64::MAX]),
            learners: nodes(&[4]),
            voters_outgoing: nodes(&[1, 5]),
            learners_next: nodes(&[5]),
            auto_leave: true,
        },
        context: Bytes::from(vec![b'c'; 3000]),
    }
}

pub(super) fn snapshot_meta_is_kept_whole(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 1, 1, 10));
    session.write(GroupWrite {
        snapshot: Some(full_meta(1, 4)),
        ..step(1)
    });
    session.reopen();
    let newer = SnapshotMeta {
        context: Bytes::new(),
        ..full_meta(1, 7)
    };
    session.write(GroupWrite {
        snapshot: Some(newer),
        compact_to: Some(LogIndex(7)),
        ..step(1)
    });
    session.write(append(1, 2, 8, 9));
    session.reopen();
    session.write(GroupWrite {
        reset_to: Some(full_meta(3, 90)),
        ..step(1)
    });
    session.reopen();
}

pub(super) fn snapshot_of_another_log_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(1, 2, 1, 10));
    for meta in [
        snapshot(1, 5),
        snapshot(3, 5),
        snapshot(2, 11),
        snapshot(9, 99),
    ] {
        session.refused(batch([GroupWrite {
            snapshot: Some(meta),
            ..step(1)
        }]));
    }
    session.write(GroupWrite {
        snapshot: Some(snapshot(2, 5)),
        ..step(1)
    });
    session.refused(batch([GroupWrite {
        snapshot: Some(snapshot(2, 4)),
        ..step(1)
    }]));
    session.reopen();
}

pub(super) fn snapshot_of_what_can_be_no_entry_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let reset = |meta| GroupWrite {
        reset_to: Some(meta),
        ..step(1)
    };
    session.refused(batch([reset(snapshot(0, 25))]));
    session.refused(batch([reset(snapshot(7, 0))]));
    session.write(append(1, 0, 1, 2));
    session.refused(batch([GroupWrite {
        snapshot: Some(snapshot(0, 1)),
        ..step(1)
    }]));
    session.refused(batch([reset(snapshot(0, 9))]));
    session.reopen();
    session.write(reset(snapshot(1, 9)));
    session.reopen();
}

pub(super) fn last_hard_state_wins(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let states = [
        hard_state(1, None, 0),
        hard_state(1, Some(3), 0),
        hard_state(1, Some(3), 9),
        hard_state(2, None, 9),
        hard_state(2, Some(1), 5),
        hard_state(7, Some(u64::MAX), u64::MAX),
    ];
    for state in states {
        session.write(GroupWrite {
            hard_state: Some(state),
            ..step(1)
        });
        session.verify();
    }
    session.reopen();
    session.write(append(1, 7, 1, 2));
    session.verify();
    session.reopen();
    assert_eq!(session.model().group(GroupId(1)).hard_state, states[5]);
}

pub(super) fn hard_state_that_goes_back_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let now = GroupWrite {
        hard_state: Some(hard_state(5, Some(2), 0)),
        ..append(1, 5, 1, 1)
    };
    session.write(now);
    for state in [
        hard_state(4, Some(2), 0),
        hard_state(5, Some(3), 0),
        hard_state(5, None, 0),
    ] {
        let write = GroupWrite {
            hard_state: Some(state),
            append: vec![entry(5, 2)],
            ..step(1)
        };
        session.refused(batch([write]));
    }
    session.reopen();
}

pub(super) fn named_values_are_set_replaced_and_removed(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let write = |changes| GroupWrite {
        meta: changes,
        ..step(1)
    };
    session.write(write(vec![
        named("b", Some("1")),
        named("a", Some("")),
        named("", Some("e")),
    ]));
    session.reopen();
    session.write(write(vec![named("b", Some("2")), named("missing", None)]));
    session.reopen();
    session.write(write(vec![named("a", None), named("", None)]));
    session.reopen();
    session.write(write(vec![named("b", None)]));
    session.verify();
    assert_eq!(
        session.store().groups().unwrap(),
        [],
        "nothing is left of the group"
    );
    session.reopen();
}

pub(super) fn named_values_beyond_the_limit_are_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let value = |name: &'static str, len: usize| {
        vec![(
            Bytes::from_static(name.as_bytes()),
            Some(Bytes::from(vec![b'v'; len])),
        )]
    };
    let write = |changes| GroupWrite {
        meta: changes,
        ..step(1)
    };
    session.refused(batch([write(value("name", META_BYTES_MAX - 3))]));
    session.write(write(value("name", META_BYTES_MAX - 4)));
    session.reopen();
    session.refused(batch([write(value("x", 0))]));
    session.write(write(value("name", META_BYTES_MAX / 2)));
    session.write(write(value("x", 100)));
    session.reopen();
}
