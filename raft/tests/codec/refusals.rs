//! What the codec takes, and with what words it refuses the rest.

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, VARINT_BYTES_MAX, put_varint, varint_len};
use raftwerk_raft::codec::{self, DecodeError};
use raftwerk_raft::{Body, EntryKind, LogId, LogIndex, Message, NodeId, Standing, Term};

use crate::{bytes_of, encoded, entry};

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
fn payload_shares_the_memory_of_its_message() {
    let entries = vec![entry(1, 1, EntryKind::Normal, b"payload")];
    let body = Body::Append {
        prev: LogId::ZERO,
        commit: LogIndex::ZERO,
        entries: entries.into(),
    };
    let message = Message {
        from: NodeId(1),
        to: NodeId(2),
        term: Term(1),
        session: 0,
        standing: Standing::Sound,
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
    assert_eq!(message("01 17 01 02 05"), tag("message", 23));
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
    assert_eq!(message("01 16 01 02 00 07 00"), "no proposals");
    assert_eq!(
        message("01 16 01 02 00 00 01 00 00 00 01 78"),
        "mark zero is not written"
    );
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

#[test]
fn standing_of_what_is_no_answer_is_refused() {
    // A heartbeat's tag, and an answer's with both standings.
    for bytes in [
        "01 47 01 02 03 04 00",
        "01 27 01 02 03 04 00",
        "01 68 01 02 03 04",
    ] {
        let refused = codec::decode_message(bytes_of(bytes));
        assert!(
            matches!(refused, Err(DecodeError::Invalid { .. })),
            "{refused:?}"
        );
    }
    assert!(codec::decode_message(bytes_of("01 07 01 02 03 04 00")).is_ok());
}
