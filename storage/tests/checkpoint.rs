//! A checkpoint comes back as it went, or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use raftwerk_raft::{
    KeyRange, LogId, LogIndex, ScanOrder, ScanVisitor, SnapshotReader, SnapshotSource, StateError,
    Term, View,
};
use raftwerk_storage::checkpoint::{CheckpointReader, KEY_BYTES_MAX, ViewStream};

const APPLIED: LogId = LogId::new(Term(3), LogIndex(77));

type State = BTreeMap<Vec<u8>, Vec<u8>>;

struct MapView(State);

impl View for MapView {
    fn applied(&self) -> LogId {
        APPLIED
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.0.get(key).cloned().map(Bytes::from))
    }

    fn scan(
        &self,
        range: KeyRange<'_>,
        _order: ScanOrder,
        visit: ScanVisitor<'_>,
    ) -> Result<(), StateError> {
        for (key, value) in self.0.range::<[u8], _>(range) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// Gives `bytes` in pieces of at most `piece`.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl SnapshotReader for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.piece).min(self.bytes.len());
        out[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn stream(state: &State, piece: usize) -> io::Result<Vec<u8>> {
    let mut source = ViewStream::new(Box::new(MapView(state.clone())));
    let mut bytes = Vec::new();
    let mut out = vec![0; piece];
    loop {
        match source.read(&mut out)? {
            0 => return Ok(bytes),
            count => bytes.extend(&out[..count]),
        }
    }
}

fn read(bytes: &[u8], piece: usize) -> Result<(LogId, State), StateError> {
    let mut source = Pieces { bytes, piece };
    let mut reader = CheckpointReader::new(&mut source)?;
    let mut state = State::new();
    while let Some((key, value)) = reader.next_record()? {
        state.insert(key.to_vec(), value.to_vec());
    }
    assert!(reader.next_record()?.is_none(), "the end stays the end");
    Ok((reader.applied(), state))
}

fn small() -> State {
    (0..9u8)
        .map(|key| (vec![key; usize::from(key)], vec![key; 20]))
        .collect()
}

#[test]
fn what_went_in_comes_out() {
    // Several blocks, one record larger than a block, an empty key and an empty value.
    let mut large = small();
    large.extend((0..300u16).map(|key| (key.to_be_bytes().to_vec(), vec![7; 1000])));
    large.insert(b"large".to_vec(), vec![1; 200_000]);
    large.insert(b"none".to_vec(), Vec::new());
    for state in [State::new(), small(), large] {
        for piece in [1, 1000, 1 << 20] {
            let bytes = stream(&state, piece).unwrap();
            assert_eq!(read(&bytes, piece).unwrap(), (APPLIED, state.clone()));
        }
    }
}

#[test]
fn stream_cut_anywhere_is_an_error() {
    let bytes = stream(&small(), 4096).unwrap();
    for cut in 0..bytes.len() {
        let error = read(&bytes[..cut], 4096).unwrap_err();
        assert!(
            matches!(error, StateError::Corrupt { .. }),
            "cut at {cut}: {error}"
        );
    }
}

#[test]
fn flipped_bit_anywhere_is_an_error() {
    let bytes = stream(&small(), 4096).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = read(&damaged, 4096).unwrap_err();
        assert!(
            matches!(error, StateError::Corrupt { .. }),
            "bit {bit}: {error}"
        );
    }
}

#[test]
fn no_damaged_record_is_handed_out_before_the_error() {
    let state = small();
    let bytes = stream(&state, 4096).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut source = Pieces {
            bytes: &damaged,
            piece: 4096,
        };
        let Ok(mut reader) = CheckpointReader::new(&mut source) else {
            continue;
        };
        while let Ok(Some((key, value))) = reader.next_record() {
            assert_eq!(
                state.get(key.as_ref()).map(Vec::as_slice),
                Some(value.as_ref())
            );
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = stream(&small(), 4096).unwrap();
    bytes.push(0);
    assert!(matches!(
        read(&bytes, 4096),
        Err(StateError::Corrupt { .. })
    ));
}

#[test]
fn record_too_long_is_refused_by_the_writer() {
    let state = State::from([(vec![0; KEY_BYTES_MAX + 1], Vec::new())]);
    assert!(stream(&state, 4096).is_err());
}

#[test]
fn format_is_the_published_one() {
    let state = State::from([(b"k".to_vec(), b"value".to_vec())]);
    let bytes = stream(&state, 4096).unwrap();
    let crc = |part: &[u8]| crc32fast::hash(part).to_le_bytes();
    let mut wanted = b"RWKSTATE\x01\0\0\0\x03\0\0\0\0\0\0\0\x4d\0\0\0\0\0\0\0".to_vec();
    wanted.extend(crc(&wanted));
    let block = b"\x01\0\0\0\0\0\0\0\0\x0e\0\0\0";
    wanted.extend(block);
    wanted.extend(crc(block));
    let record = b"\x01\0\0\0\x05\0\0\0kvalue";
    wanted.extend(record);
    wanted.extend(crc(record));
    let total = crc(&wanted);
    let mut end = b"\x02\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    end.extend(total);
    wanted.extend(&end);
    wanted.extend(crc(&end));
    assert_eq!(bytes, wanted);
}

struct Broken;

impl SnapshotReader for Broken {
    fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn broken_source_is_told_from_damage() {
    let error = CheckpointReader::new(&mut Broken).unwrap_err();
    assert!(matches!(error, StateError::Io { .. }));
}
