//! What waits for the disk, and what a receipt vouches for.

use raftwerk_raft::{Body, LogIndex, Message, MessageKind, NodeId, Role, Standing, Term};

use crate::solo::{Setup, Solo, append, id, setup, voters};

fn asynchronous() -> Setup {
    setup().options(|config| config.synchronous = false)
}

fn has(solo: &Solo, write: usize, kind: MessageKind) -> bool {
    solo.writes[write]
        .messages
        .iter()
        .any(|message| message.body.kind() == kind)
}

#[test]
fn answers_wait_for_the_write_and_a_leaders_appends_do_not() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    assert!(solo.sent.is_empty() && has(&solo, 0, MessageKind::AppendResponse));
    let mut solo = asynchronous().start();
    solo.step(
        2,
        1,
        Body::Vote {
            last: id(0, 0),
            transfer: false,
        },
    );
    assert!(solo.sent.is_empty() && has(&solo, 0, MessageKind::VoteResponse));
    let mut solo = asynchronous().start();
    solo.lead();
    solo.propose("a");
    assert_eq!(solo.writes.len(), 1);
    solo.sync();
    solo.ack(2, 1);
    solo.propose("b");
    assert_eq!(
        solo.sent_to(2, MessageKind::Append).len(),
        2,
        "not written yet"
    );
}

#[test]
fn vote_requests_wait_for_the_log_they_speak_of() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    solo.campaign();
    assert!(solo.sent_to(3, MessageKind::Vote).is_empty());
    solo.sync();
    assert_eq!(solo.sent_to(3, MessageKind::Vote).len(), 1);
}

#[test]
fn a_leader_counts_itself_once_its_disk_has_the_entry() {
    let mut solo = asynchronous().start();
    solo.lead();
    solo.ack(2, 1);
    solo.propose("a");
    solo.ack(2, 2);
    assert_eq!(solo.commit(), 1);
    solo.sync();
    assert_eq!(solo.commit(), 2);
}

#[test]
fn the_own_vote_counts_once_it_is_written() {
    let mut solo = asynchronous().conf(voters(&[1])).start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Candidate);
    solo.sync();
    assert_eq!(solo.node.role(), Role::Leader);
}

#[test]
fn entries_are_applied_once_they_are_durable_here() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 1));
    assert_eq!(solo.commit(), 1);
    assert!(solo.applies.is_empty());
    solo.sync();
    assert_eq!(solo.applies.len(), 1);
}

#[test]
fn a_receipt_for_an_overwritten_entry_vouches_for_nothing() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1, 1], 0));
    let late = solo.writes.remove(0).ack.unwrap();
    solo.step(3, 2, append(0, 0, &[2, 2], 2));
    solo.node.persisted(late);
    solo.drain();
    assert_eq!(solo.node.status().durable, LogIndex(0));
    assert!(solo.applies.is_empty());
    solo.sync();
    assert_eq!(solo.node.status().durable, LogIndex(2));
}

#[test]
fn a_receipt_of_an_earlier_term_does_not_count_even_if_the_entry_is_back() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    let late = solo.writes.remove(0).ack.unwrap();
    solo.step(3, 2, append(0, 0, &[2], 0));
    solo.step(2, 3, append(0, 0, &[1], 0));
    // The disk will hold the second leader's entry for a while before it has this one again.
    solo.node.persisted(late);
    assert_eq!(solo.node.status().durable, LogIndex(0));
    solo.sync();
    assert_eq!(solo.node.status().durable, LogIndex(1));
}

#[test]
fn a_receipt_of_this_term_does_not_count_for_an_entry_replaced_in_it() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    solo.step(
        3,
        2,
        Body::Heartbeat {
            commit: 0.into(),
            read_position: 0,
        },
    );
    let late = solo.writes.remove(1).ack.unwrap();
    solo.step(3, 2, append(0, 0, &[2], 0));
    solo.node.persisted(late);
    assert_eq!(solo.node.status().durable, LogIndex(0));
    assert!(solo.saw("PersistAckMismatched"));
}

#[test]
fn what_is_cut_while_it_is_written_is_written_anew() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1, 1, 1], 0));
    solo.step(3, 2, append(1, 1, &[2, 2], 0));
    let indexes = |write: usize| -> Vec<u64> {
        solo.writes[write]
            .entries
            .iter()
            .map(|entry| entry.index().0)
            .collect()
    };
    assert_eq!((indexes(0), indexes(1)), (vec![1, 2, 3], vec![2, 3]));
}

#[test]
fn as_long_as_entries_wait_every_receipt_names_the_last() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    // A new term, no new entries: the first receipt comes too late to count.
    solo.step(
        3,
        2,
        Body::Heartbeat {
            commit: 0.into(),
            read_position: 0,
        },
    );
    assert!(solo.writes[1].entries.is_empty());
    assert_eq!(solo.writes[1].ack.unwrap().last(), id(1, 1));
    solo.sync();
    assert_eq!(solo.node.status().durable, LogIndex(1));
}

#[test]
fn only_entries_votes_terms_and_snapshots_need_a_sync() {
    let mut solo = asynchronous().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    assert!(solo.writes[0].must_sync);
    solo.sync();
    solo.step(2, 1, append(1, 1, &[], 1));
    assert!(!solo.writes[0].must_sync, "the commit index alone");
    assert!(has(&solo, 0, MessageKind::AppendResponse));
    solo.sync();
    solo.step(
        3,
        2,
        Body::Heartbeat {
            commit: 0.into(),
            read_position: 0,
        },
    );
    assert!(solo.writes[0].must_sync, "a term");
    solo.sync();
    solo.node.forget_leader();
    solo.step(
        3,
        2,
        Body::Vote {
            last: id(1, 1),
            transfer: false,
        },
    );
    assert!(solo.writes[0].must_sync, "a vote");
    solo.sync();
    solo.step(
        3,
        2,
        Body::Snapshot {
            meta: crate::solo::snapshot(2, 7, voters(&[1, 2])).into(),
        },
    );
    assert!(solo.writes[0].must_sync, "a snapshot");
}

#[test]
fn applying_pauses_at_its_budget_and_goes_on_when_it_is_acknowledged() {
    let setup = asynchronous().options(|config| config.max_committed_size_per_ready = 1);
    let mut solo = setup.start();
    solo.step(2, 1, append(0, 0, &[1, 1, 1], 3));
    solo.sync();
    for count in 1..=3 {
        assert_eq!(solo.applies.len(), 1);
        assert_eq!(solo.applies[0].0.len(), 1, "one at a time, but one always");
        let (entries, ack) = solo.applies.remove(0);
        assert_eq!(entries[0].index(), LogIndex(count));
        solo.node.applied(ack);
        solo.drain();
    }
    assert!(solo.applies.is_empty());
}

#[test]
fn own_answers_are_taken_before_the_receipt_of_the_same_step() {
    let mut solo = setup()
        .conf(voters(&[1]))
        .options(|config| config.pre_vote = true)
        .start();
    solo.lead();
    solo.node.propose("a".into()).unwrap();
    let vote = Message {
        from: NodeId(2),
        to: NodeId(1),
        term: Term(7),
        session: 0,
        standing: Standing::Sound,
        body: Body::Vote {
            last: id(0, 0),
            transfer: false,
        },
    };
    solo.node.step(vote).unwrap();
    assert_eq!(solo.node.role(), Role::Follower);
    // Its own pre-vote, which begins another term, leaves with the entry that is to be written.
    solo.node.campaign();
    solo.drain();
    assert!(solo.saw("StalePersistAck"));
    assert_eq!(solo.node.role(), Role::Leader);
    let status = solo.node.status();
    assert_eq!(
        status.durable, status.last.index,
        "the next one makes up for it"
    );
}

#[test]
fn a_failed_store_ends_leadership_and_the_group_for_good() {
    let mut solo = asynchronous().start();
    solo.lead();
    solo.node.storage_failed("disk on fire".to_owned());
    assert_eq!(solo.node.role(), Role::Follower);
    solo.drain();
    assert_eq!(solo.node.halted().unwrap().cause, "disk on fire");
    solo.node.storage_failed("again".to_owned());
    assert_eq!(
        solo.node.halted().unwrap().cause,
        "disk on fire",
        "the first cause stays"
    );
    assert!(solo.node.propose("a".into()).is_err());
    assert!(solo.node.read_index("a".into()).is_err());
    assert!(solo.try_step(2, 9, append(0, 0, &[], 0)).is_err());
    solo.tick(50);
    solo.node.campaign();
    solo.node.transfer_leader(NodeId(2));
    assert!(!solo.node.has_ready());
}

#[test]
fn a_single_member_commits_once_its_disk_has_the_entry() {
    let mut solo = asynchronous().conf(voters(&[1])).start();
    solo.campaign();
    solo.sync();
    solo.sync();
    assert_eq!(solo.commit(), 1);
    solo.propose("a");
    assert_eq!(solo.commit(), 1, "only written");
    solo.sync();
    assert_eq!(solo.commit(), 2);
}
