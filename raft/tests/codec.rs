//! The codec: bytes that must never change, round trips, and input that may be anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::{Debug, Write as _};

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, VARINT_BYTES_MAX, put_varint, varint_len};
use raftwerk_raft::codec::{self, DecodeError};
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entry,
    EntryKind, HardState, LogId, LogIndex, Message, NodeId, SnapshotMeta, Term,
};

/// Encodes into bytes of its own.
fn encoded<T>(value: &T, encode: fn(&T, &mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    encode(value, &mut out);
    out.into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn bytes_of(hex: &str) -> Bytes {
    let hex: Vec<u8> = hex.bytes().filter(|c| *c != b' ').collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks(2).map(pair).collect()
}

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
        body,
    };
    golden(
        &message,
        expected,
        codec::encode_message,
        codec::decode_message,
    );
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn entry(term: u64, index: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
    Entry {
        id: id(term, index),
        kind,
        data: Bytes::from_static(data),
    }
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
            entries,
        },
        "01 05 01 c801 05 04 ac02 ab02 02  04 ad02 00 02 6162  05 ae02 02 00",
    );
    let probe = Body::Append {
        prev: LogId::ZERO,
        commit: LogIndex::ZERO,
        entries: Vec::new(),
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
    golden_message(
        5,
        Body::HeartbeatResponse { read_position: 17 },
        "01 08 01 c801 05 11",
    );
    golden_message(
        5,
        Body::Snapshot {
            meta: snapshot_meta(),
        },
        "01 09 01 c801 05 01 03 e807 03 01 02 ac02 01 09 02 01 04 01 04 01 03 637478",
    );
}

#[test]
fn requests_to_the_leader_keep_their_bytes() {
    let entries = vec![entry(0, 0, EntryKind::Normal, b"x")];
    golden_message(
        0,
        Body::Propose { entries },
        "01 0b 01 c801 00 01 00 00 00 01 78",
    );
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
fn varint_takes_as_many_bytes_as_its_bits_need() {
    for bits in 0..64 {
        for value in [1_u64 << bits, (1_u64 << bits) - 1] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(Reader::whole(out.into(), Reader::varint), Ok(value));
        }
    }
    let mut out = Vec::new();
    put_varint(&mut out, u64::MAX);
    assert_eq!(out.len(), VARINT_BYTES_MAX);
    assert_eq!(Reader::whole(out.into(), Reader::varint), Ok(u64::MAX));
}

#[test]
fn varint_of_another_form_is_refused() {
    let read = |hex| Reader::whole(bytes_of(hex), Reader::varint);
    let longer = DecodeError::Invalid {
        reason: "number longer than needed",
    };
    assert_eq!(read(""), Err(DecodeError::Truncated));
    assert_eq!(read("80"), Err(DecodeError::Truncated));
    assert_eq!(read("8000"), Err(longer.clone()));
    assert_eq!(read("ff8000"), Err(longer));
    assert_eq!(read("ffffffffffffffffff02"), Err(DecodeError::TooLong));
    assert_eq!(read("ffffffffffffffffff81"), Err(DecodeError::TooLong));
    assert_eq!(read("ffffffffffffffffff7f"), Err(DecodeError::TooLong));
    assert_eq!(read("0100"), Err(DecodeError::Trailing { bytes: 1 }));
}

#[test]
fn fixed_numbers_and_rest_are_read_in_order() {
    let mut out = Vec::new();
    codec::wire::put_u32(&mut out, 0x0102_0304);
    codec::wire::put_u64(&mut out, 5);
    out.extend_from_slice(b"tail");
    let mut reader = Reader::new(out.into());
    assert_eq!(reader.u32(), Ok(0x0102_0304));
    assert_eq!(reader.u64(), Ok(5));
    assert_eq!((reader.position(), reader.remaining()), (12, 4));
    assert_eq!(reader.clone().rest(), "tail");
    assert_eq!(reader.u64(), Err(DecodeError::Truncated));
    assert_eq!(reader.take(5), Err(DecodeError::Truncated));
    assert_eq!(reader.take(4).unwrap(), "tail");
    assert_eq!(reader.u8(), Err(DecodeError::Truncated));
}

#[test]
fn count_beyond_what_the_input_can_hold_allocates_nothing() {
    for (count, item_bytes_min) in [(3, 4), (9, 1), (u64::MAX, 1), (1 << 40, 0)] {
        let mut out = Vec::new();
        put_varint(&mut out, count);
        out.extend_from_slice(&[1; 8]);
        let mut items = 0;
        let list = Reader::new(out.into()).list(item_bytes_min, |reader| {
            items += 1;
            reader.u8()
        });
        assert_eq!((list, items), (Err(DecodeError::Truncated), 0), "{count}");
    }
    let mut reader = Reader::new(bytes_of("02 01 02 03"));
    assert_eq!(reader.list(1, Reader::u8), Ok(vec![1, 2]));
    assert_eq!(reader.remaining(), 1);
}

#[test]
fn only_a_session_takes_room_for_itself() {
    let message = |session| Message {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(3),
        session,
        body: Body::HeartbeatResponse { read_position: 4 },
    };
    let (encode, decode) = (codec::encode_message, codec::decode_message);
    golden(&message(0), "01 08 01 02 03 04", encode, decode);
    golden(&message(200), "01 88 01 02 03 c801 04", encode, decode);
    let zero = codec::decode_message(bytes_of("01 88 01 02 03 00 04"));
    assert!(matches!(zero, Err(DecodeError::Invalid { .. })), "{zero:?}");
}

#[test]
fn payload_shares_the_memory_of_its_message() {
    let entries = vec![entry(1, 1, EntryKind::Normal, b"payload")];
    let body = Body::Append {
        prev: LogId::ZERO,
        commit: LogIndex::ZERO,
        entries,
    };
    let message = Message {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(1),
        session: 0,
        body,
    };
    let input = encoded(&message, codec::encode_message);
    let Body::Append { entries, .. } = codec::decode_message(input.clone()).unwrap().body else {
        panic!("another body");
    };
    assert!(input.as_ptr_range().contains(&entries[0].data.as_ptr()));
}

#[test]
fn entries_are_read_from_a_stream_one_by_one() {
    let entries = [
        entry(1, 1, EntryKind::Normal, b"one"),
        entry(1, 2, EntryKind::ConfChange, b""),
        entry(2, 3, EntryKind::Normal, b"three"),
    ];
    let mut out = Vec::new();
    for entry in &entries {
        let before = out.len();
        codec::encode_entry(entry, &mut out);
        assert_eq!(out.len() - before, codec::entry_len(entry));
    }
    let mut reader = Reader::new(out.into());
    for entry in &entries {
        assert_eq!(codec::read_entry(&mut reader).as_ref(), Ok(entry));
    }
    assert_eq!(reader.end(), Ok(()));
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in [0, 2, 255] {
        let refused = |what, decode: fn(Bytes) -> Option<DecodeError>| {
            let expected = DecodeError::Version {
                what,
                found: version,
                supported: 1,
            };
            assert_eq!(
                decode(Bytes::copy_from_slice(&[version, 1])),
                Some(expected)
            );
        };
        refused("message", |input| codec::decode_message(input).err());
        refused("snapshot meta data", |input| {
            codec::decode_snapshot_meta(input).err()
        });
        refused("configuration change", |input| {
            codec::decode_conf_change(input).err()
        });
    }
}

#[test]
fn unknown_alternatives_are_refused() {
    let tag = |what, found| Some(DecodeError::Tag { what, found });
    let message = |hex| codec::decode_message(bytes_of(hex)).err();
    let change = |hex| codec::decode_conf_change(bytes_of(hex)).err();
    assert_eq!(message("01 00 01 02 05"), tag("message", 0));
    assert_eq!(message("01 12 01 02 05"), tag("message", 18));
    assert_eq!(message("01 02 01 02 05 02"), tag("flag", 2));
    assert_eq!(
        codec::decode_entry(bytes_of("01 01 03 00")).err(),
        tag("kind of entry", 3)
    );
    assert_eq!(change("01 03 00 00"), tag("transition", 3));
    assert_eq!(change("01 00 01 04 01 00"), tag("kind of change", 4));
}

#[test]
fn what_no_member_can_mean_is_refused() {
    let message = |hex: &str| match codec::decode_message(bytes_of(hex)) {
        Err(DecodeError::Invalid { reason }) => reason,
        other => panic!("{hex}: {other:?}"),
    };
    assert_eq!(message("01 07 00 02 05 00 00"), "member id is zero");
    assert_eq!(message("01 07 01 00 05 00 00"), "member id is zero");
    assert_eq!(message("01 0e 01 02 05 00"), "member id is zero");
    for request in ["01", "03", "05", "07", "09", "0a"] {
        assert_eq!(
            message(&format!("01 {request} 01 02 00")),
            "request without a term"
        );
    }
    // Append: prev, commit, entries.
    let append = |rest: &str| message(&format!("01 05 01 02 05 {rest}"));
    assert_eq!(append("00 01 00 00"), "only one of term and index is zero");
    assert_eq!(append("01 00 00 00"), "only one of term and index is zero");
    assert_eq!(
        append("06 01 00 00"),
        "entry of a later term than the message"
    );
    assert_eq!(append("01 01 00 01 01 03 00 00"), "entries leave a gap");
    assert_eq!(append("01 01 00 01 01 01 00 00"), "entries leave a gap");
    assert_eq!(
        append("01 01 00 02 01 02 00 00 01 02 00 00"),
        "entries leave a gap"
    );
    assert_eq!(append("00 00 00 01 01 00 00 00"), "entries leave a gap");
    let last = "ffffffffffffffffff01";
    assert_eq!(
        append(&format!("01 {last} 00 01 01 {last} 00 00")),
        "entries leave a gap"
    );
    assert_eq!(
        append("02 01 00 01 01 02 00 00"),
        "terms of entries go down"
    );
    assert_eq!(
        append("00 00 00 01 00 01 00 00"),
        "terms of entries go down"
    );
    assert_eq!(
        append("01 01 00 02 02 02 00 00 01 03 00 00"),
        "terms of entries go down"
    );
    assert_eq!(
        append("01 01 00 01 06 02 00 00"),
        "entry of a later term than the message"
    );
    assert_eq!(
        message("01 09 01 02 05 01 00 00 00 00 00 00 00 00"),
        "snapshot of nothing"
    );
    assert_eq!(message("01 0b 01 02 00 00"), "no proposals");
    assert_eq!(
        message("01 0b 01 02 00 01 00 01 00 00"),
        "proposal with a place in the log"
    );
    assert_eq!(
        message("01 0b 01 02 00 01 01 00 00 00"),
        "proposal with a place in the log"
    );
}

#[test]
fn configuration_that_is_not_sorted_is_refused() {
    let descends = "list of members does not ascend";
    for (hex, expected) in [
        ("02 02 01 00 00 00 00", descends),
        ("02 01 01 00 00 00 00", descends),
        ("00 02 05 04 00 00 00", descends),
        ("00 00 02 05 05 00 00", descends),
        ("00 00 00 02 05 01 00", descends),
        ("01 00 00 00 00 00", "member id is zero"),
    ] {
        let error = codec::decode_conf_state(bytes_of(hex)).unwrap_err();
        assert_eq!(error, DecodeError::Invalid { reason: expected }, "{hex}");
    }
    let long_form = codec::decode_conf_change(bytes_of("01 00 00 00")).unwrap_err();
    assert_eq!(
        long_form,
        DecodeError::Invalid {
            reason: "empty change longer than needed"
        }
    );
}
