//! A member that is removed and added again in one term begins anew.

use raftwerk_raft::{Body, ConfChangeKind, LogIndex, MessageKind, NodeId};

use crate::solo::{Solo, append, change, id, setup, snapshot, voters};

const ACK: u64 = 5;

/// A leader of 1, 2 and 3 that has removed 3 and added it again as a voter: entry 1 begins the
/// term, 2 to 5 are what 3 has acknowledged in its first life, 6 removes it and 7 adds it.
fn rejoined(quirks: bool) -> Solo {
    let mut solo = setup().options(|c| c.etcd_quirks = quirks).start();
    solo.lead();
    for data in ["a", "b", "c", "d"] {
        solo.propose(data);
    }
    solo.ack(2, ACK);
    solo.ack(3, ACK);
    solo.tick(1);
    for (kind, index) in [(ConfChangeKind::Remove, 6), (ConfChangeKind::AddVoter, 7)] {
        let proposed = solo.node.propose_conf_change(change(kind, 3));
        proposed.unwrap();
        solo.drain();
        solo.ack(2, index);
    }
    assert_eq!(solo.commit(), 7);
    solo
}

fn matched(solo: &Solo) -> u64 {
    solo.node.status().progress[&NodeId(3)].match_index.0
}

fn ack_in(solo: &mut Solo, session: u64, index: u64) {
    let body = Body::AppendResponse {
        index: LogIndex(index),
        reject: None,
    };
    let term = solo.node.term().0;
    solo.try_step_in(session, 3, term, body).unwrap();
}

#[test]
fn late_acknowledgement_of_an_earlier_life_does_not_count() {
    let mut solo = rejoined(false);
    assert_eq!(matched(&solo), 0);
    ack_in(&mut solo, 0, ACK);
    assert_eq!(matched(&solo), 0, "what it held then may be gone");
    assert!(solo.saw("EarlierSession"));
    ack_in(&mut solo, 1, 7);
    assert_eq!(matched(&solo), 7, "what it holds now counts");
}

#[test]
fn nothing_is_committed_with_the_acknowledgement_of_an_earlier_life() {
    let mut solo = rejoined(false);
    solo.propose("e");
    ack_in(&mut solo, 0, 8);
    assert_eq!(solo.commit(), 7);
    ack_in(&mut solo, 1, 8);
    assert_eq!(solo.commit(), 8);
}

#[test]
fn with_etcds_quirks_a_late_acknowledgement_counts() {
    let mut solo = rejoined(true);
    ack_in(&mut solo, 0, ACK);
    assert_eq!(matched(&solo), ACK);
}

#[test]
fn everything_that_replicates_to_a_second_life_carries_its_session() {
    let mut solo = rejoined(false);
    solo.take();
    solo.tick(1);
    solo.propose("e");
    let sent = solo.take();
    let of = |id, kind| {
        let fits = |m: &&raftwerk_raft::Message| m.to == NodeId(id) && m.body.kind() == kind;
        sent.iter()
            .filter(fits)
            .map(|m| m.session)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(3, MessageKind::Heartbeat), [1]);
    assert_eq!(
        of(2, MessageKind::Heartbeat),
        [0],
        "others are in their first"
    );
    assert_eq!(of(2, MessageKind::Append), [0]);
}

#[test]
fn another_term_begins_with_the_first_session() {
    let mut solo = rejoined(false);
    let term = solo.node.term().0;
    solo.step(2, term + 1, append(0, 0, &[], 0));
    solo.lead();
    ack_in(&mut solo, 0, 7);
    assert_eq!(matched(&solo), 7);
}

#[test]
fn follower_answers_in_the_session_that_it_was_asked_in() {
    let mut solo = setup().start();
    let asked = [
        (
            Body::Heartbeat {
                commit: LogIndex(0),
                read_position: 0,
            },
            MessageKind::HeartbeatResponse,
        ),
        (append(0, 0, &[1, 1], 0), MessageKind::AppendResponse),
        (append(1, 9, &[1], 0), MessageKind::AppendResponse),
        (
            Body::Snapshot {
                meta: snapshot(1, 20, voters(&[1, 2, 3])).into(),
            },
            MessageKind::AppendResponse,
        ),
        (
            Body::Heartbeat {
                commit: LogIndex(30),
                read_position: 0,
            },
            MessageKind::Lost,
        ),
    ];
    for (session, (body, answer)) in (1..).zip(asked) {
        solo.try_step_in(session, 2, 1, body).unwrap();
        let sent = solo.take();
        let found = sent.iter().find(|m| m.body.kind() == answer).unwrap();
        assert_eq!(found.session, session, "{answer:?}");
    }
    solo.try_step_in(0, 2, 2, append(0, 0, &[], 0)).unwrap();
    assert_eq!(solo.take()[0].session, 0);
}

#[test]
fn wish_for_a_snapshot_is_heard_in_a_second_life() {
    let mut asking = setup().start();
    let term = 1;
    let taken = asking.try_step_in(7, 2, term, append(0, 0, &[1, 1], 0));
    taken.unwrap();
    asking.take();
    asking.node.request_snapshot().unwrap();
    asking.drain();
    let sent = asking.take();
    let wish = |m: &&raftwerk_raft::Message| m.body.kind() == MessageKind::WantSnapshot;
    assert_eq!(sent.iter().find(wish).map(|m| m.session), Some(7));

    let mut leading = rejoined(false);
    ack_in(&mut leading, 1, 7);
    let term = leading.node.term().0;
    let last = id(term, 7);
    let taken = leading.try_step_in(1, 3, term, Body::WantSnapshot { last });
    taken.unwrap();
    assert!(leading.saw("SnapshotRequested"));
}

#[test]
fn what_the_leader_said_to_an_earlier_life_is_not_heard_in_a_later_one() {
    let heartbeat = |commit| Body::Heartbeat {
        commit: LogIndex(commit),
        read_position: 0,
    };
    let mut solo = setup().start();
    solo.try_step_in(1, 2, 4, append(0, 0, &[4], 0)).unwrap();
    solo.take();
    // What the first life had acknowledged is no loss of the second one.
    solo.try_step_in(0, 2, 4, heartbeat(5)).unwrap();
    assert_eq!(solo.node.status().loss, None);
    let index = LogIndex(5);
    solo.try_step_in(0, 2, 4, Body::Acked { index }).unwrap();
    assert_eq!(solo.node.status().loss, None);
    assert!(solo.take().is_empty());
    assert!(solo.saw("EarlierSession"));
    // Nor does an election in between make it news.
    solo.campaign();
    let term = solo.node.term().0;
    solo.try_step_in(2, 2, term, heartbeat(0)).unwrap();
    solo.try_step_in(1, 2, term, heartbeat(5)).unwrap();
    assert_eq!(solo.node.status().loss, None);
    // The leader of another term counts anew.
    solo.try_step_in(0, 3, term + 1, heartbeat(5)).unwrap();
    assert!(solo.node.status().loss.is_some());
}
