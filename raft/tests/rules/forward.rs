//! A follower that sends proposals on hears what became of them, once.

use bytes::Bytes;
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeRefusal, EntryKind, Fate, ForwardMark,
    ForwardOutcome, LogId, LogIndex, Message, MessageKind, NodeId, ProposalDropped, ProposeError,
    Proposed, Standing, StepError, Term,
};

use crate::solo::{Solo, append, change, entries, id, setup, voters};

const MARK: ForwardMark = ForwardMark(7);

/// Member 1, which follows 2 in term 1.
fn following() -> Solo {
    let mut solo = setup().start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    solo.sync();
    solo.take();
    solo
}

/// Proposes at a follower, and says what names it.
fn send_on(solo: &mut Solo) -> ForwardMark {
    let proposed = solo.node.propose("x".into());
    solo.drain();
    match proposed {
        Ok(Proposed::Forwarded {
            to: NodeId(2),
            mark,
        }) => mark,
        other => panic!("not sent on to the leader: {other:?}"),
    }
}

fn answer(mark: ForwardMark, result: Result<LogId, ProposalDropped>) -> Body {
    Body::ProposeResponse { mark, result }
}

fn told(mark: ForwardMark, outcome: ForwardOutcome) -> Fate {
    Fate::Forwarded { mark, outcome }
}

fn propose_for(mark: ForwardMark, body: &[u8]) -> Body {
    let mut forwarded = entries(1, &[1]);
    forwarded[0].id = LogId::ZERO;
    forwarded[0].data = Bytes::copy_from_slice(body);
    Body::Propose {
        mark,
        entries: forwarded.into(),
    }
}

#[test]
fn proposer_hears_where_the_leader_appended_what_it_sent_on() {
    let mut solo = following();
    let mark = send_on(&mut solo);
    let sent = solo.sent_to(2, MessageKind::Propose);
    assert!(matches!(sent[..], [Body::Propose { mark: named, .. }] if *named == mark));
    solo.step(2, 0, answer(mark, Ok(id(1, 2))));
    let appended = ForwardOutcome::Appended(id(1, 2));
    assert_eq!(solo.fates, [told(mark, appended)]);
}

#[test]
fn proposer_hears_why_the_leader_dropped_what_it_sent_on() {
    for reason in [
        ProposalDropped::NoLeader,
        ProposalDropped::Busy,
        ProposalDropped::Refused,
    ] {
        let mut solo = following();
        let mark = send_on(&mut solo);
        solo.step(2, 0, answer(mark, Err(reason)));
        assert_eq!(solo.fates, [told(mark, ForwardOutcome::Dropped(reason))]);
    }
}

#[test]
fn each_is_told_of_once_whatever_comes_twice_late_or_out_of_order() {
    let mut solo = following();
    let marks = [send_on(&mut solo), send_on(&mut solo), send_on(&mut solo)];
    for place in [2, 0, 2, 1, 0] {
        let last = id(1, 2 + place as u64);
        solo.step(2, 0, answer(marks[place], Ok(last)));
    }
    let fate = |place: usize| {
        let last = id(1, 2 + place as u64);
        told(marks[place], ForwardOutcome::Appended(last))
    };
    assert_eq!(solo.fates, [fate(2), fate(0), fate(1)]);
    solo.step(2, 0, answer(ForwardMark(12), Ok(id(1, 9))));
    assert_eq!(solo.fates.len(), 3, "what nobody asked for says nothing");
}

#[test]
fn what_the_leader_does_not_answer_is_in_doubt_after_an_election_timeout() {
    let mut solo = following();
    let first = send_on(&mut solo);
    let patience = setup().config.election_ticks;
    solo.tick(1);
    let second = send_on(&mut solo);
    for passed in 2..patience {
        solo.step(2, 1, append(1, 1, &[], 0));
        solo.tick(1);
        assert!(solo.fates.is_empty(), "after {passed} ticks");
    }
    solo.step(2, 1, append(1, 1, &[], 0));
    solo.tick(1);
    assert_eq!(solo.fates, [told(first, ForwardOutcome::InDoubt)]);
    solo.step(2, 0, answer(first, Ok(id(1, 2))));
    solo.step(2, 0, answer(second, Ok(id(1, 3))));
    let appended = ForwardOutcome::Appended(id(1, 3));
    assert_eq!(
        solo.fates[1..],
        [told(second, appended)],
        "too late for one"
    );
}

#[test]
fn what_was_sent_to_a_leader_that_leads_no_more_is_in_doubt() {
    for end in [
        "another leads",
        "a vote begins",
        "a vote is asked for",
        "it halts",
    ] {
        let mut solo = setup()
            .options(|config| config.pre_vote = end == "a vote is asked for")
            .start();
        solo.step(2, 1, append(0, 0, &[1], 0));
        solo.sync();
        let marks = [send_on(&mut solo), send_on(&mut solo)];
        match end {
            "another leads" => solo.step(3, 2, append(1, 1, &[], 0)),
            "a vote begins" | "a vote is asked for" => {
                solo.node.campaign();
                solo.drain();
            }
            _ => {
                solo.node.storage_failed("disk on fire".to_owned());
                solo.drain();
            }
        }
        let doubts = marks.map(|mark| told(mark, ForwardOutcome::InDoubt));
        assert_eq!(solo.fates, doubts, "{end}");
    }
}

#[test]
fn leader_tells_who_sent_proposals_on_where_they_stand() {
    let mut solo = setup().start();
    solo.lead();
    solo.step(3, 0, propose_for(MARK, b"of 3"));
    let appended = answer(MARK, Ok(id(1, 2)));
    assert_eq!(solo.sent_to(3, MessageKind::ProposeResponse), [&appended]);
    solo.take();
    solo.step(3, 0, propose_for(ForwardMark::ZERO, b"nobody waits"));
    assert!(solo.sent_to(3, MessageKind::ProposeResponse).is_empty());
}

#[test]
fn leader_tells_who_sent_proposals_on_why_it_drops_them() {
    let mut solo = setup().start();
    solo.lead();
    solo.node.transfer_leader(NodeId(2));
    let refused = solo.try_step(3, 0, propose_for(MARK, b"x"));
    let reason = ProposeError::Transferring;
    assert_eq!(refused, Err(StepError::Propose(reason)));
    solo.drain();
    let dropped = answer(MARK, Err(ProposalDropped::NoLeader));
    assert_eq!(solo.sent_to(3, MessageKind::ProposeResponse), [&dropped]);
}

#[test]
fn each_reason_tells_the_proposer_what_to_do() {
    let refusal = ConfChangeRefusal::NotJoint;
    let at = LogIndex(1);
    for (error, told) in [
        (ProposeError::NoLeader, ProposalDropped::NoLeader),
        (ProposeError::NotMember, ProposalDropped::NoLeader),
        (ProposeError::Busy, ProposalDropped::Busy),
        (
            ProposeError::ChangePending {
                index: at,
                applied: at,
            },
            ProposalDropped::Busy,
        ),
        (
            ProposeError::Invalid { reason: "x" },
            ProposalDropped::Refused,
        ),
        (
            ProposeError::ConfChange { reason: refusal },
            ProposalDropped::Refused,
        ),
    ] {
        assert_eq!(ProposalDropped::from(&error), told, "{error}");
    }
}

#[test]
fn who_follows_passes_on_what_another_sent_and_leaves_the_answer_to_the_leader() {
    let mut solo = following();
    solo.step(3, 0, propose_for(MARK, b"of 3"));
    let passed: Vec<Message> = solo.take();
    assert_eq!(passed.len(), 1);
    assert_eq!((passed[0].from, passed[0].to), (NodeId(3), NodeId(2)));
    assert_eq!(passed[0].body, propose_for(MARK, b"of 3"));
}

#[test]
fn what_comes_from_nobody_is_answered_to_nobody() {
    let mut solo = setup().start();
    solo.lead();
    solo.take();
    solo.step(0, 0, propose_for(MARK, b"x"));
    let sent = solo.take();
    assert!(sent.iter().all(|message| message.to != NodeId::ZERO));
}

#[test]
fn leader_that_halts_still_says_what_it_took() {
    let mut solo = setup().start();
    solo.lead();
    solo.take();
    let message = Message {
        from: NodeId(3),
        to: NodeId(1),
        term: Term::ZERO,
        session: 0,
        standing: Standing::Sound,
        body: propose_for(MARK, b"of 3"),
    };
    solo.node.step(message).unwrap();
    solo.node.storage_failed("disk on fire".to_owned());
    solo.drain();
    let appended = answer(MARK, Ok(id(1, 2)));
    assert_eq!(solo.sent_to(3, MessageKind::ProposeResponse), [&appended]);
}

#[test]
fn who_does_not_know_its_leader_for_a_member_hears_it_all_the_same() {
    let mut solo = setup().conf(voters(&[1])).start();
    solo.step(2, 1, append(0, 0, &[1], 0));
    solo.sync();
    let mark = send_on(&mut solo);
    solo.step(2, 0, answer(mark, Ok(id(1, 2))));
    let appended = ForwardOutcome::Appended(id(1, 2));
    assert_eq!(solo.fates, [told(mark, appended)]);
}

#[test]
fn entries_that_had_a_place_are_sent_on_without_one() {
    let mut solo = following();
    solo.node.propose_batch(entries(5, &[3])).unwrap();
    solo.drain();
    let sent = solo.sent_to(2, MessageKind::Propose);
    let [Body::Propose { entries, .. }] = sent[..] else {
        panic!("{sent:?}");
    };
    assert!(entries.iter().all(|entry| entry.id == LogId::ZERO));
}

#[test]
fn batch_with_a_change_of_the_configuration_is_refused() {
    let mut batch = entries(1, &[1]);
    batch[0].kind = EntryKind::ConfChange;
    let refused = following().node.propose_batch(batch);
    assert!(matches!(refused, Err(ProposeError::Invalid { .. })));
}

#[test]
fn change_of_the_configuration_that_is_sent_on_is_told_of_too() {
    let mut solo = following();
    let sent_on = solo
        .node
        .propose_conf_change(change(ConfChangeKind::Remove, 3));
    solo.drain();
    let Ok(Proposed::Forwarded { mark, .. }) = sent_on else {
        panic!("{sent_on:?}");
    };
    solo.step(2, 0, answer(mark, Err(ProposalDropped::Busy)));
    let busy = ForwardOutcome::Dropped(ProposalDropped::Busy);
    assert_eq!(solo.fates, [told(mark, busy)]);
    let mut leading = setup().start();
    leading.lead();
    let refused = leading.node.propose_conf_change(ConfChange::default());
    assert!(refused.is_err());
}

#[test]
fn who_sends_on_too_much_at_once_is_told_to_wait() {
    let mut solo = following();
    let marks: Vec<_> = (0..1024).map(|_| send_on(&mut solo)).collect();
    assert_eq!(solo.node.propose("y".into()), Err(ProposeError::Busy));
    solo.step(2, 0, answer(marks[500], Ok(id(1, 2))));
    send_on(&mut solo);
}

#[test]
fn answer_to_an_earlier_life_is_no_answer_to_this_one() {
    let lives = [1, 2].map(|seed| {
        let mut solo = setup().options(|config| config.seed = seed).start();
        solo.step(2, 1, append(0, 0, &[1], 0));
        let mark = send_on(&mut solo);
        (solo, mark)
    });
    let [(_, earlier), (mut solo, mark)] = lives;
    let apart = mark.value().wrapping_sub(earlier.value());
    let near = 1 << 32;
    assert!(apart.min(apart.wrapping_neg()) > near, "{earlier} {mark}");
    solo.step(2, 0, answer(earlier, Ok(id(1, 2))));
    assert!(solo.fates.is_empty());
}

#[test]
fn stranger_has_no_say_in_what_was_sent_on() {
    let mut solo = following();
    let mark = send_on(&mut solo);
    let stranger = solo.try_step(9, 0, answer(mark, Ok(id(1, 2))));
    assert!(matches!(stranger, Err(StepError::PeerNotFound { .. })));
    assert!(solo.fates.is_empty());
}

#[test]
fn members_of_etcds_kind_answer_nothing_and_wait_for_nothing() {
    let quirky = || setup().options(|config| config.etcd_quirks = true).start();
    let mut leading = quirky();
    leading.lead();
    leading.step(3, 0, propose_for(MARK, b"of 3"));
    assert!(leading.sent_to(3, MessageKind::ProposeResponse).is_empty());
    let mut solo = quirky();
    solo.step(2, 1, append(0, 0, &[1], 0));
    for _ in 0..1025 {
        assert_eq!(send_on(&mut solo), ForwardMark::ZERO);
    }
    for _ in 0..setup().config.election_ticks {
        solo.step(2, 1, append(1, 1, &[], 0));
        solo.tick(1);
    }
    assert!(solo.fates.is_empty());
}
