//! Nothing that was asked for ends without a word.

use bytes::Bytes;
use raftwerk_raft::confchange::ConfChangeError;
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeRefusal, Fate, ForwardMark, LogIndex, MessageKind,
    NodeId, ProposeError, Proposed, ReadDropped, StepError,
};

use crate::solo::{Solo, append, change, entries, id, setup};

fn leading() -> Solo {
    let mut solo = setup().start();
    solo.lead();
    solo
}

fn ask(solo: &mut Solo, mark: &'static str) {
    solo.node.read_index(mark.into()).unwrap();
    solo.drain();
}

fn dropped(mark: &'static str, reason: ReadDropped) -> Fate {
    Fate::ReadDropped {
        context: mark.into(),
        reason,
    }
}

fn forwarded_read(mark: &'static str) -> Body {
    Body::ReadIndex {
        context: mark.into(),
    }
}

fn refusal(mark: &'static str, reason: ReadDropped) -> Body {
    Body::ReadIndexDropped {
        context: mark.into(),
        reason,
    }
}

#[test]
fn reads_are_told_when_their_leader_loses_its_leadership() {
    let mut solo = leading();
    ask(&mut solo, "waits for the term");
    solo.ack(2, 1);
    ask(&mut solo, "waits for a quorum");
    solo.step(3, 2, append(1, 1, &[], 1));
    let reason = ReadDropped::LostLeadership;
    let marks = ["waits for the term", "waits for a quorum"];
    assert_eq!(solo.fates, marks.map(|mark| dropped(mark, reason)));
    assert!(solo.read_states.is_empty());
}

#[test]
fn who_forwarded_a_read_is_told_that_it_is_lost() {
    for quirks in [false, true] {
        let mut solo = setup().options(|c| c.etcd_quirks = quirks).start();
        solo.lead();
        solo.ack(2, 1);
        solo.step(3, 0, forwarded_read("r"));
        solo.step(2, 2, append(1, 1, &[], 1));
        let told = refusal("r", ReadDropped::LostLeadership);
        let sent = solo.sent_to(3, MessageKind::ReadIndexDropped);
        assert_eq!(sent == [&told], !quirks);
        solo.step(
            3,
            2,
            Body::Heartbeat {
                commit: LogIndex(0),
                read_position: 0,
            },
        );
    }
}

#[test]
fn who_forwards_a_read_to_a_member_without_a_leader_is_told() {
    let mut solo = setup().start();
    solo.step(3, 0, forwarded_read("r"));
    let told = refusal("r", ReadDropped::NoLeader);
    assert_eq!(solo.sent_to(3, MessageKind::ReadIndexDropped), [&told]);
}

#[test]
fn who_forwards_a_read_to_a_leader_that_holds_too_many_is_told() {
    let mut solo = leading();
    while solo.node.read_index("r".into()).is_ok() {}
    solo.step(3, 0, forwarded_read("more"));
    let told = refusal("more", ReadDropped::Busy);
    assert_eq!(solo.sent_to(3, MessageKind::ReadIndexDropped), [&told]);
}

#[test]
fn asker_hears_what_the_leader_says_of_its_read() {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    ask(&mut solo, "r");
    solo.step(2, 0, refusal("r", ReadDropped::Busy));
    assert_eq!(solo.fates, [dropped("r", ReadDropped::Busy)]);
    let stranger = solo.try_step(9, 0, refusal("r", ReadDropped::Busy));
    assert!(matches!(stranger, Err(StepError::PeerNotFound { .. })));
}

#[test]
fn leader_tells_which_of_its_entries_others_decide_on() {
    let mut solo = leading();
    solo.propose("a");
    solo.ack(2, 2);
    solo.propose("b");
    solo.propose("c");
    solo.step(3, 2, append(1, 2, &[], 2));
    let first = LogIndex(3);
    let last = id(1, 4);
    assert_eq!(solo.fates, [Fate::InDoubt { first, last }]);
    assert!(solo.saw("ProposalsInDoubt"));
}

#[test]
fn leader_with_nothing_uncommitted_tells_nothing_of_it() {
    let mut solo = leading();
    solo.ack(2, 1);
    solo.step(3, 2, append(1, 1, &[], 1));
    solo.step(2, 3, append(1, 1, &[3], 1));
    assert!(solo.fates.is_empty(), "and a follower never does");
}

#[test]
fn every_proposal_is_told_of() {
    let mut solo = leading();
    let batch = vec![Bytes::from("a"), Bytes::from("b")];
    let appended = solo.node.propose_batch(batch);
    assert_eq!(appended, Ok(Proposed::Appended(id(1, 3))));
    assert!(solo.saw("ProposalAppended { from: NodeId(1), count: 2"));
    solo.node.transfer_leader(NodeId(2));
    let refused = solo.node.propose("c".into());
    assert_eq!(refused, Err(ProposeError::Transferring));
    assert!(solo.saw("ProposalDropped { from: NodeId(1), count: 1, reason: Transferring"));
    let mut forwarded = entries(1, &[1]);
    forwarded[0].id = id(0, 0);
    let refused = solo.try_step(
        3,
        0,
        Body::Propose {
            mark: ForwardMark::ZERO,
            entries: forwarded.into(),
        },
    );
    assert!(matches!(refused, Err(StepError::Propose(_))));
    assert!(solo.saw("ProposalDropped { from: NodeId(3)"));
    solo.step(2, 2, append(1, 3, &[], 0));
    let sent_on = solo.node.propose("d".into());
    assert!(matches!(
        sent_on,
        Ok(Proposed::Forwarded { to: NodeId(2), .. })
    ));
    assert!(solo.saw("ProposalForwarded { from: NodeId(1), count: 1, to: NodeId(2)"));
}

#[test]
fn refused_change_of_the_configuration_says_what_is_wrong_with_it() {
    let mut solo = leading();
    solo.ack(2, 1);
    let leave = solo.node.propose_conf_change(ConfChange::default());
    let reason = ConfChangeRefusal::NotJoint;
    assert_eq!(leave, Err(ProposeError::ConfChange { reason }));
    let mut all = change(ConfChangeKind::Remove, 1);
    for node in [2, 3] {
        all.steps.extend(change(ConfChangeKind::Remove, node).steps);
    }
    let refused = solo.node.propose_conf_change(all);
    let reason = ConfChangeRefusal::Impossible(ConfChangeError::RemovedAllVoters);
    assert_eq!(refused, Err(ProposeError::ConfChange { reason }));
    assert_eq!(solo.node.status().last, id(1, 1), "nothing takes its place");
}

#[test]
fn who_asked_a_member_that_halts_is_told() {
    for synchronous in [false, true] {
        let mut solo = setup().options(|c| c.synchronous = synchronous).start();
        solo.lead();
        solo.ack(2, 1);
        solo.sync();
        ask(&mut solo, "own");
        solo.step(3, 0, forwarded_read("of 3"));
        solo.take();
        // In synchronous mode this `Ready` is never advanced: its write is what fails.
        solo.node.propose("lost?".into()).unwrap();
        let out = solo.node.ready();
        assert!(out.persist.is_some());
        solo.node.storage_failed("disk on fire".to_owned());
        assert!(solo.node.has_ready());
        let last = solo.node.ready();
        let reason = ReadDropped::LostLeadership;
        let doubt = Fate::InDoubt {
            first: LogIndex(2),
            last: id(1, 2),
        };
        assert_eq!(last.fates, [dropped("own", reason), doubt]);
        let bodies: Vec<&Body> = last.messages.iter().map(|message| &message.body).collect();
        assert_eq!(bodies, [&refusal("of 3", reason)]);
        assert_eq!(last.soft_state.unwrap().leader, None);
        assert!(last.persist.is_none() && last.committed.is_empty());
        assert!(!solo.node.has_ready());
    }
}

#[test]
fn what_a_follower_that_halts_was_given_to_send_on_still_leaves() {
    let mut solo = setup().options(|c| c.synchronous = false).start();
    solo.step(2, 1, append(0, 0, &[], 0));
    solo.sync();
    solo.take();
    solo.node.propose("for the leader".into()).unwrap();
    solo.node.read_index("too".into()).unwrap();
    solo.node.storage_failed("disk on fire".to_owned());
    solo.drain();
    assert_eq!(solo.sent_to(2, MessageKind::Propose).len(), 1);
    assert_eq!(solo.sent_to(2, MessageKind::ReadIndex).len(), 1);
    assert_eq!(solo.sent.len(), 2);
}
