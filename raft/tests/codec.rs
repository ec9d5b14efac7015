//! The codec: bytes that must never change, values that come back as they went in, and input that
//! may be anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "codec/any.rs"]
mod any;
#[path = "codec/golden.rs"]
mod golden;
#[path = "codec/refusals.rs"]
mod refusals;

use std::fmt::Write as _;

use bytes::Bytes;
use raftwerk_raft::{Entry, EntryKind, LogId, LogIndex, Term};

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

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

fn entry(term: u64, index: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
    Entry {
        id: id(term, index),
        kind,
        data: Bytes::from_static(data),
    }
}
