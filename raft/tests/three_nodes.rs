//! The example does what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../examples/three_nodes.rs"]
#[allow(dead_code, unreachable_pub)]
mod three_nodes;

use raftwerk_raft::{Entry, LogId, LogIndex, Role, Term};
use three_nodes::{member, settle};

#[test]
fn three_members_apply_what_their_leader_was_given() {
    let mut members = [member(1), member(2), member(3)];
    members[0].0.campaign();
    settle(&mut members);
    members[0].0.propose("hello".into()).unwrap();
    settle(&mut members);
    let id = |index| LogId::new(Term(1), LogIndex(index));
    let expected = [
        Entry::normal(id(1), "".into()),
        Entry::normal(id(2), "hello".into()),
    ];
    for (node, applied) in &members {
        assert_eq!(applied[..], expected);
        let leads = node.role() == Role::Leader;
        assert_eq!((leads, node.commit()), (node.id().0 == 1, LogIndex(2)));
    }
}

#[test]
fn another_leader_goes_on_where_the_first_one_stood() {
    let mut members = [member(1), member(2), member(3)];
    members[0].0.campaign();
    settle(&mut members);
    members[0].0.transfer_leader(raftwerk_raft::NodeId(2));
    settle(&mut members);
    members[1].0.propose("again".into()).unwrap();
    settle(&mut members);
    for (_, applied) in &members {
        assert_eq!(applied.last().unwrap().data, "again");
    }
}
