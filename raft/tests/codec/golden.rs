//! What is stored and sent keeps its bytes for ever.

use std::fmt::Debug;

use bytes::Bytes;
use raftwerk_raft::codec::{self, DecodeError};
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entries,
    Entry, EntryKind, ForwardMark, HardState, LogId, LogIndex, Message, NodeId, ProposalDropped,
    ReadDropped, SnapshotMeta, Standing, Term,
};

use crate::{bytes_of, encoded, entry, hex, id};

/// `value` is stored as these bytes, for ever.
#[track_caller]
fn golden<T: Debug + PartialEq>(
    value: &T,
    expected: &str,
    encode: fn(&T, &mut Vec<u8>),
    decode: fn(Bytes) -> Result<T, DecodeError>,
) {
    let bytes = bytes_of(expected);
    assert_eq!(hex(&encoded(value, encode)), hex(&bytes), "{value:?}");
    assert_eq!(decode(bytes).as_ref(), Ok(value));
}

#[track_caller]
fn golden_message(term: u64, body: Body, expected: &str) {
    let message = Message {
        from: NodeId(1),
        to: NodeId(200),
        term: Term(term),
        session: 0,
        standing: Standing::Sound,
        body,
    };
    golden(
        &message,
        expected,
        codec::encode_message,
        codec::decode_message,
    );
}

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn joint_state() -> ConfState {
    ConfState {
        voters: ids(&[1, 2, 300]),
        learners: ids(&[9]),
        voters_outgoing: ids(&[1, 4]),
        learners_next: ids(&[4]),
        auto_leave: true,
    }
}

fn snapshot_meta() -> SnapshotMeta {
    SnapshotMeta {
        last: id(3, 1000),
        conf_state: joint_state(),
        context: Bytes::from_static(b"ctx"),
    }
}

#[test]
fn entries_keep_their_bytes() {
    let check = |value: Entry, expected| {
        golden(&value, expected, codec::encode_entry, codec::decode_entry);
    };
    check(Entry::default(), "00 00 00 00");
    check(
        entry(2, 5, EntryKind::Normal, b"hello"),
        "02 05 00 05 68656c6c6f",
    );
    check(
        entry(1, 128, EntryKind::ConfChangeSingle, b"\0"),
        "01 8001 01 01 00",
    );
    check(
        entry(u64::MAX, u64::MAX, EntryKind::ConfChange, b""),
        "ffffffffffffffffff01 ffffffffffffffffff01 02 00",
    );
}

#[test]
fn records_keep_their_bytes() {
    let hard_state = HardState {
        term: Term(7),
        vote: Some(NodeId(3)),
        commit: LogIndex(300),
    };
    golden(
        &hard_state,
        "07 03 ac02",
        codec::encode_hard_state,
        codec::decode_hard_state,
    );
    let empty = HardState::default();
    golden(
        &empty,
        "00 00 00",
        codec::encode_hard_state,
        codec::decode_hard_state,
    );

    let check = |value, expected| {
        golden(
            &value,
            expected,
            codec::encode_conf_state,
            codec::decode_conf_state,
        );
    };
    check(ConfState::default(), "00 00 00 00 00");
    check(joint_state(), "03 01 02 ac02 01 09 02 01 04 01 04 01");

    let check = |value, expected| {
        golden(
            &value,
            expected,
            codec::encode_snapshot_meta,
            codec::decode_snapshot_meta,
        );
    };
    check(SnapshotMeta::default(), "01 00 00 00 00 00 00 00 00");
    check(
        snapshot_meta(),
        "01 03 e807 03 01 02 ac02 01 09 02 01 04 01 04 01 03 637478",
    );
}

#[test]
fn configuration_changes_keep_their_bytes() {
    let check = |transition, kinds: &[(ConfChangeKind, u64)], context: &'static [u8], expected| {
        let steps = kinds.iter().map(|(kind, id)| ConfChangeStep {
            kind: *kind,
            node: NodeId(*id),
        });
        let change = ConfChange {
            transition,
            steps: steps.collect(),
            context: Bytes::from_static(context),
        };
        golden(
            &change,
            expected,
            codec::encode_conf_change,
            codec::decode_conf_change,
        );
    };
    use ConfChangeKind::{AddLearner, AddVoter, Remove, Update};
    use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
    check(Auto, &[], b"", "");
    check(Auto, &[], b"x", "01 00 00 01 78");
    check(Auto, &[(AddVoter, 5)], b"", "01 00 01 00 05 00");
    check(
        JointImplicit,
        &[(AddLearner, 128), (Remove, 0)],
        b"",
        "01 01 02 01 8001 02 00 00",
    );
    check(
        JointExplicit,
        &[(Update, 7)],
        b"ab",
        "01 02 01 03 07 02 6162",
    );
}

#[test]
fn elections_keep_their_bytes() {
    let last = id(4, 300);
    golden_message(
        5,
        Body::Vote {
            last,
            transfer: true,
        },
        "01 01 01 c801 05 04 ac02 01",
    );
    golden_message(
        5,
        Body::Vote {
            last,
            transfer: false,
        },
        "01 01 01 c801 05 04 ac02 00",
    );
    golden_message(
        5,
        Body::VoteResponse { reject: false },
        "01 02 01 c801 05 00",
    );
    golden_message(5, Body::PreVote { last }, "01 03 01 c801 05 04 ac02");
    golden_message(
        0,
        Body::PreVoteResponse { reject: true },
        "01 04 01 c801 00 01",
    );
    golden_message(5, Body::TimeoutNow, "01 0a 01 c801 05");
    golden_message(
        5,
        Body::TransferLeader { to: NodeId(3) },
        "01 0e 01 c801 05 03",
    );
    golden_message(0, Body::Committed { last }, "01 0f 01 c801 00 04 ac02");
    let index = last.index;
    golden_message(5, Body::Acked { index }, "01 10 01 c801 05 ac02");
    golden_message(5, Body::Lost { kept: last }, "01 11 01 c801 05 04 ac02");
    golden_message(5, Body::WantSnapshot { last }, "01 12 01 c801 05 04 ac02");
    for (reason, byte) in [
        (ReadDropped::NoLeader, "01"),
        (ReadDropped::Busy, "02"),
        (ReadDropped::LostLeadership, "03"),
    ] {
        let context = Bytes::from_static(b"r");
        let expected = format!("01 13 01 c801 00 {byte} 01 72");
        golden_message(0, Body::ReadIndexDropped { context, reason }, &expected);
    }
}

#[test]
fn replication_keeps_its_bytes() {
    let entries = vec![
        entry(4, 301, EntryKind::Normal, b"ab"),
        entry(5, 302, EntryKind::ConfChange, b""),
    ];
    golden_message(
        5,
        Body::Append {
            prev: id(4, 300),
            commit: LogIndex(299),
            entries: entries.into(),
        },
        "01 05 01 c801 05 04 ac02 ab02 02  04 ad02 00 02 6162  05 ae02 02 00",
    );
    let probe = Body::Append {
        prev: LogId::ZERO,
        commit: LogIndex::ZERO,
        entries: Entries::new(),
    };
    golden_message(1, probe, "01 05 01 c801 01 00 00 00 00");
    let accepted = Body::AppendResponse {
        index: LogIndex(302),
        reject: None,
    };
    golden_message(5, accepted, "01 06 01 c801 05 ae02 00");
    let rejected = Body::AppendResponse {
        index: LogIndex(302),
        reject: Some(id(2, 9)),
    };
    golden_message(5, rejected, "01 06 01 c801 05 ae02 01 02 09");
    let heartbeat = Body::Heartbeat {
        commit: LogIndex(300),
        read_position: 17,
    };
    golden_message(5, heartbeat, "01 07 01 c801 05 ac02 11");
    let index = LogIndex(300);
    golden_message(5, Body::Commit { index }, "01 14 01 c801 05 ac02");
    golden_message(
        5,
        Body::HeartbeatResponse { read_position: 17 },
        "01 08 01 c801 05 11",
    );
    golden_message(
        5,
        Body::Snapshot {
            meta: snapshot_meta().into(),
        },
        "01 09 01 c801 05 01 03 e807 03 01 02 ac02 01 09 02 01 04 01 04 01 03 637478",
    );
}

#[test]
fn requests_to_the_leader_keep_their_bytes() {
    let entries = vec![entry(0, 0, EntryKind::Normal, b"x")];
    golden_message(
        0,
        Body::Propose {
            mark: ForwardMark::ZERO,
            entries: entries.clone().into(),
        },
        "01 0b 01 c801 00 01 00 00 00 01 78",
    );
    golden_message(
        0,
        Body::Propose {
            mark: ForwardMark(300),
            entries: entries.into(),
        },
        "01 16 01 c801 00 ac02 01 00 00 00 01 78",
    );
    for (result, bytes) in [
        (Ok(LogId::new(Term(4), LogIndex(300))), "00 04 ac02"),
        (Err(ProposalDropped::NoLeader), "01"),
        (Err(ProposalDropped::Busy), "02"),
        (Err(ProposalDropped::Refused), "03"),
    ] {
        let mark = ForwardMark(300);
        let expected = format!("01 15 01 c801 00 ac02 {bytes}");
        golden_message(0, Body::ProposeResponse { mark, result }, &expected);
    }
    let context = Bytes::from_static(b"mark");
    golden_message(
        0,
        Body::ReadIndex {
            context: context.clone(),
        },
        "01 0c 01 c801 00 04 6d61726b",
    );
    let answer = Body::ReadIndexResponse {
        index: LogIndex(300),
        context,
    };
    golden_message(5, answer, "01 0d 01 c801 05 ac02 04 6d61726b");
}

#[test]
fn session_and_standing_take_room_only_where_there_is_one() {
    let message = |session, standing| Message {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(3),
        session,
        standing,
        body: Body::HeartbeatResponse { read_position: 4 },
    };
    let (encode, decode) = (codec::encode_message, codec::decode_message);
    let sound = Standing::Sound;
    golden(&message(0, sound), "01 08 01 02 03 04", encode, decode);
    golden(
        &message(200, sound),
        "01 88 01 02 03 c801 04",
        encode,
        decode,
    );
    let standings = [
        (Standing::Voteless, "01 28 01 02 03 04"),
        (Standing::Uncounted, "01 48 01 02 03 04"),
    ];
    for (standing, expected) in standings {
        golden(&message(0, standing), expected, encode, decode);
    }
    let uncounted = message(200, Standing::Uncounted);
    golden(&uncounted, "01 c8 01 02 03 c801 04", encode, decode);
    let zero = codec::decode_message(bytes_of("01 88 01 02 03 00 04"));
    assert!(matches!(zero, Err(DecodeError::Invalid { .. })), "{zero:?}");
}
