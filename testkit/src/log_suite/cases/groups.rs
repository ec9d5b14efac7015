//! Many groups in one store, and batches over several.

use bytes::Bytes;
use raftwerk_raft::{GroupId, GroupWrite, HardState, LogIndex, NodeId, Term};

use crate::log_suite::home::LogFactory;
use crate::log_suite::session::{Session, append, batch, snapshot, step};

pub(super) fn invalid_group_refuses_the_whole_batch(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(append(2, 1, 1, 3));
    let good = || append(1, 1, 1, 2);
    let gap = || append(2, 1, 9, 9);
    session.refused(batch([good(), gap()]));
    session.refused(batch([gap(), good()]));
    let beyond = GroupWrite {
        compact_to: Some(LogIndex(2)),
        ..append(2, 2, 4, 5)
    };
    session.refused(batch([good(), beyond, append(3, 1, 1, 1)]));
    session.reopen();
}

pub(super) fn group_named_twice_is_refused(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.refused(batch([
        append(1, 1, 1, 2),
        append(2, 1, 1, 1),
        append(1, 1, 3, 4),
    ]));
    session.reopen();
}

fn full(group: u64) -> GroupWrite {
    GroupWrite {
        hard_state: Some(HardState {
            term: Term(4),
            vote: Some(NodeId(1)),
            commit: LogIndex(2),
        }),
        meta: vec![(
            Bytes::from_static(b"name"),
            Some(Bytes::from_static(b"value")),
        )],
        ..append(group, 4, 1, 8)
    }
}

pub(super) fn destroyed_group_leaves_nothing(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.submit(batch([full(1), full(2)]));
    session.write(GroupWrite {
        snapshot: Some(snapshot(4, 5)),
        ..step(1)
    });
    session.wait();
    session.write(GroupWrite {
        destroy: true,
        ..step(1)
    });
    session.verify();
    assert_eq!(session.store().groups().unwrap(), [GroupId(2)]);
    session.reopen();
    session.write(GroupWrite {
        destroy: true,
        ..step(99)
    });
    session.reopen();
}

pub(super) fn recreated_group_starts_anew(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.write(full(1));
    session.write(GroupWrite {
        snapshot: Some(snapshot(4, 5)),
        ..step(1)
    });
    session.reopen();
    session.write(GroupWrite {
        destroy: true,
        ..step(1)
    });
    // The log begins at one again: the old last is no place to go on from.
    session.refused(batch([append(1, 1, 9, 9)]));
    session.write(append(1, 1, 1, 2));
    session.reopen();
    session.write(GroupWrite {
        destroy: true,
        ..append(1, 2, 1, 1)
    });
    session.verify();
    session.reopen();
    let installed = GroupWrite {
        destroy: true,
        reset_to: Some(snapshot(1, 3)),
        ..step(1)
    };
    session.write(installed);
    session.reopen();
}

pub(super) fn groups_are_listed_in_order_of_id(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    let ids = [7, 1, u64::MAX, 256, 0, 65_536, 255];
    for group in ids {
        session.write(append(group, 1, 1, 1));
    }
    session.write(GroupWrite {
        reset_to: Some(snapshot(1, 9)),
        ..step(2)
    });
    let vote = HardState {
        term: Term(1),
        ..HardState::default()
    };
    session.write(GroupWrite {
        hard_state: Some(vote),
        ..step(3)
    });
    // A step without parts makes no group.
    session.write(step(4));
    for _ in 0..2 {
        let mut expected: Vec<GroupId> = ids.into_iter().chain([2, 3]).map(GroupId).collect();
        expected.sort_unstable();
        assert_eq!(session.store().groups().unwrap(), expected);
        session.reopen();
    }
}

pub(super) fn thousand_groups_keep_apart(factory: &dyn LogFactory) {
    let mut session = Session::begin(factory);
    session.submit(batch((1..=1000).map(|group| append(group, 1, 1, 2))));
    session.submit(batch(
        (1..=1000)
            .step_by(3)
            .map(|group| append(group, group, 2, 3)),
    ));
    let state = |group| HardState {
        term: Term(group),
        vote: None,
        commit: LogIndex(1),
    };
    let vote = |group| GroupWrite {
        hard_state: Some(state(group)),
        ..step(group)
    };
    session.submit(batch((1..=1000).step_by(7).map(vote)));
    session.submit(batch((1..=1000).step_by(11).map(|group| GroupWrite {
        destroy: true,
        ..step(group)
    })));
    session.verify();
    session.reopen();
}
