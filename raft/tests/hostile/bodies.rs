//! What is fuzzed: plain functions over bytes, each of which any fuzzer could call. They panic
//! when something is wrong, and say how much they did.

use std::fmt::Debug;

use bytes::Bytes;
use raftwerk_raft::codec::{self, DecodeError};

use super::member::Honest;
use super::mutator::Choices;

/// The first bytes choose a member, the others what it is told: messages of every kind from
/// members and strangers, mixed with what its own driver may do. Steps taken.
pub(crate) fn member(data: &[u8]) -> u64 {
    let mut choices = Choices::new(data);
    let Some(mut honest) = Honest::new(&mut choices) else {
        return 0;
    };
    let mut steps = 0;
    while !choices.is_empty() {
        honest.live(&mut choices);
        steps += 1;
    }
    steps
}

/// The bytes as every kind of value. What is accepted has these very bytes for its encoding, and
/// nothing is allocated for what is not there.
pub(crate) fn codec(data: &[u8]) -> u64 {
    let input = Bytes::copy_from_slice(data);
    same(&input, codec::decode_message, codec::encode_message);
    same(&input, codec::decode_entry, codec::encode_entry);
    same(&input, codec::decode_hard_state, codec::encode_hard_state);
    same(
        &input,
        codec::decode_snapshot_meta,
        codec::encode_snapshot_meta,
    );
    let conf = same(&input, codec::decode_conf_state, codec::encode_conf_state);
    if let Some(conf) = conf {
        assert!(
            conf.voters.capacity() <= data.len(),
            "allocated by declaration"
        );
    }
    let change = same(&input, codec::decode_conf_change, codec::encode_conf_change);
    if let Some(change) = change {
        assert!(
            change.steps.capacity() <= data.len(),
            "allocated by declaration"
        );
    }
    6
}

fn same<T: Debug>(
    input: &Bytes,
    decode: fn(Bytes) -> Result<T, DecodeError>,
    encode: fn(&T, &mut Vec<u8>),
) -> Option<T> {
    let value = decode(input.clone()).ok()?;
    let mut again = Vec::new();
    encode(&value, &mut again);
    assert_eq!(again, *input, "{value:?} has two encodings");
    Some(value)
}
