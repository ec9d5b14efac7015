//! The stream format of state snapshots, the same for every backend: what one store's
//! `checkpoint` wrote, every other's `restore` reads.
//!
//! All numbers are little-endian.
//! ```text
//! stream  = header block* end
//! header  = magic[8] version:u32 term:u64 index:u64 crc:u32      the applied LogId
//! block   = 1:u8 sequence:u64 length:u32 crc:u32 record* crc:u32  crcs of head, body
//! record  = key_length:u32 value_length:u32 key value             keys ascend through the stream
//! end     = 2:u8 sequence:u64 records:u64 total:u32 crc:u32       total: crc of all bytes before
//! ```
//! Every crc is a CRC-32 (IEEE). A length is believed only after its own crc held, and memory
//! grows with what really arrives. A stream without its end record, or with bytes behind it, is
//! an error: never a short state.

use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};

use bytes::{Buf, Bytes};
use crc32fast::Hasher;
use raftwerk_raft::{
    LogId, LogIndex, ScanOrder, SnapshotReader, SnapshotSource, StateError, Term, View,
};

/// The longest key that a checkpoint carries, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 20;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"RWKSTATE";
const VERSION: u32 = 1;
/// A block is closed by the record that fills it.
const BLOCK_BYTES: usize = 64 << 10;
const RECORD_HEAD_BYTES: usize = 8;
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + RECORD_HEAD_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;
const KIND_BLOCK: u8 = 1;
const KIND_END: u8 = 2;

/// Streams a view out. Holds one block in memory at a time.
pub struct ViewStream {
    view: Box<dyn View>,
    pending: Bytes,
    /// Where the next block's scan starts.
    after: Option<Vec<u8>>,
    sequence: u64,
    records: u64,
    total: Hasher,
    ended: bool,
}

impl ViewStream {
    /// Streams `view`, whatever is written to its store meanwhile.
    #[must_use]
    pub fn new(view: Box<dyn View>) -> Self {
        let LogId { term, index } = view.applied();
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(term.0.to_le_bytes());
        header.extend(index.0.to_le_bytes());
        header.extend(crc32fast::hash(&header).to_le_bytes());
        let mut total = Hasher::new();
        total.update(&header);
        let pending = Bytes::from(header);
        Self {
            view,
            pending,
            after: None,
            sequence: 0,
            records: 0,
            total,
            ended: false,
        }
    }

    /// The next block's records, or the end record.
    fn produce(&mut self) -> Result<(), StateError> {
        let body = self.scan()?;
        let mut piece = Vec::with_capacity(body.len() + 32);
        piece.push(if body.is_empty() {
            KIND_END
        } else {
            KIND_BLOCK
        });
        piece.extend(self.sequence.to_le_bytes());
        if body.is_empty() {
            self.ended = true;
            piece.extend(self.records.to_le_bytes());
            piece.extend(self.total.clone().finalize().to_le_bytes());
            piece.extend(crc32fast::hash(&piece).to_le_bytes());
        } else {
            let length = u32::try_from(body.len()).map_err(|_| corrupt("block too long"))?;
            piece.extend(length.to_le_bytes());
            piece.extend(crc32fast::hash(&piece).to_le_bytes());
            piece.extend(&body);
            piece.extend(crc32fast::hash(&body).to_le_bytes());
            self.sequence += 1;
        }
        self.total.update(&piece);
        self.pending = piece.into();
        Ok(())
    }

    fn scan(&mut self) -> Result<Vec<u8>, StateError> {
        let mut body = Vec::new();
        let mut last_key = 0..0;
        let mut records = 0;
        let mut outcome = Ok(());
        let start = self
            .after
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        self.view.scan(
            (start, Bound::Unbounded),
            ScanOrder::Ascending,
            &mut |key, value| {
                let key_at = body.len() + RECORD_HEAD_BYTES;
                outcome = put_record(&mut body, key, value);
                if outcome.is_err() {
                    return ControlFlow::Break(());
                }
                records += 1;
                last_key = key_at..key_at + key.len();
                if body.len() < BLOCK_BYTES {
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break(())
            },
        )?;
        outcome?;
        self.records += records;
        if records > 0 {
            self.after = body.get(last_key).map(<[u8]>::to_vec);
        }
        Ok(body)
    }
}

impl SnapshotSource for ViewStream {
    fn applied(&self) -> LogId {
        self.view.applied()
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() && !self.ended {
            self.produce().map_err(io::Error::other)?;
        }
        let count = self.pending.len().min(out.len());
        if let Some(front) = out.get_mut(..count) {
            self.pending.copy_to_slice(front);
        }
        Ok(count)
    }
}

impl fmt::Debug for ViewStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewStream")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

fn put_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), StateError> {
    for (part, max) in [(key, KEY_BYTES_MAX), (value, VALUE_BYTES_MAX)] {
        let length = u32::try_from(part.len()).ok().filter(|_| part.len() <= max);
        let length = length.ok_or_else(|| corrupt("a record exceeds what a checkpoint carries"))?;
        body.extend(length.to_le_bytes());
    }
    body.extend(key);
    body.extend(value);
    Ok(())
}

/// Reads a checkpoint's records, each after its block's checksum held.
pub struct CheckpointReader<'a> {
    source: &'a mut dyn SnapshotReader,
    applied: LogId,
    block: Bytes,
    sequence: u64,
    records: u64,
    last_key: Option<Bytes>,
    total: Hasher,
    ended: bool,
}

impl<'a> CheckpointReader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] when this is no checkpoint or one of an unknown version,
    /// [`StateError::Io`] when the source breaks.
    pub fn new(source: &'a mut dyn SnapshotReader) -> Result<Self, StateError> {
        let mut reader = Self {
            source,
            applied: LogId::ZERO,
            block: Bytes::new(),
            sequence: 0,
            records: 0,
            last_key: None,
            total: Hasher::new(),
            ended: false,
        };
        let mut header = [0; 32];
        reader.fill(&mut header)?;
        let mut fields = header.as_slice();
        if !fields.starts_with(MAGIC) {
            return Err(corrupt("not a checkpoint"));
        }
        fields.advance(MAGIC.len());
        // Before the checksum, whose place a later version may have moved.
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(corrupt(&format!("checkpoint version {version} is unknown")));
        }
        reader.applied = LogId::new(Term(fields.get_u64_le()), LogIndex(fields.get_u64_le()));
        check_crc(&header, "header")?;
        reader.total.update(&header);
        Ok(reader)
    }

    /// The applied `LogId` of the state.
    #[must_use]
    pub const fn applied(&self) -> LogId {
        self.applied
    }

    /// The next key and value; `None` after the end record. Keys ascend. Whoever has not seen
    /// `None` has not got the state.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] when the stream is damaged or cut, [`StateError::Io`] when the
    /// source breaks.
    pub fn next_record(&mut self) -> Result<Option<(Bytes, Bytes)>, StateError> {
        if self.block.is_empty() && !self.ended {
            self.next_block()?;
        }
        if self.block.is_empty() {
            return Ok(None);
        }
        let short = || corrupt("a record exceeds its block");
        let key_length = self.block.try_get_u32_le().map_err(|_| short())? as usize;
        let value_length = self.block.try_get_u32_le().map_err(|_| short())? as usize;
        if key_length.saturating_add(value_length) > self.block.len() {
            return Err(short());
        }
        let key = self.block.split_to(key_length);
        let value = self.block.split_to(value_length);
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(corrupt("keys do not ascend"));
        }
        self.last_key = Some(key.clone());
        self.records += 1;
        Ok(Some((key, value)))
    }

    fn next_block(&mut self) -> Result<(), StateError> {
        let mut kind = [0];
        self.fill(&mut kind)?;
        match kind {
            [KIND_BLOCK] => self.block_body(),
            [KIND_END] => self.end(),
            [kind] => Err(corrupt(&format!("unknown kind of block {kind}"))),
        }
    }

    fn block_body(&mut self) -> Result<(), StateError> {
        let mut head = [0; 17];
        head[0] = KIND_BLOCK;
        self.fill(&mut head[1..])?;
        check_crc(&head, "block head")?;
        let mut fields = &head[1..];
        self.check_sequence(fields.get_u64_le())?;
        self.sequence += 1;
        let length = fields.get_u32_le() as usize;
        if length == 0 || length > BLOCK_BYTES_MAX {
            return Err(corrupt("a block's length is out of bounds"));
        }
        self.total.update(&head);
        let mut body = Vec::new();
        let whole = length + 4;
        while body.len() < whole {
            let have = body.len();
            body.resize(whole.min(have + BLOCK_BYTES), 0);
            self.fill(body.get_mut(have..).unwrap_or_default())?;
        }
        check_crc(&body, "block")?;
        self.total.update(&body);
        body.truncate(length);
        self.block = body.into();
        Ok(())
    }

    fn end(&mut self) -> Result<(), StateError> {
        let mut end = [0; 25];
        end[0] = KIND_END;
        self.fill(&mut end[1..])?;
        check_crc(&end, "end record")?;
        let mut fields = &end[1..];
        self.check_sequence(fields.get_u64_le())?;
        if fields.get_u64_le() != self.records {
            return Err(corrupt(
                "the number of records differs from the end record's",
            ));
        }
        if fields.get_u32_le() != self.total.clone().finalize() {
            return Err(corrupt("the total checksum differs from the end record's"));
        }
        if self.read_some(&mut [0])? != 0 {
            return Err(corrupt("bytes follow the end record"));
        }
        self.ended = true;
        Ok(())
    }

    fn check_sequence(&self, found: u64) -> Result<(), StateError> {
        if found == self.sequence {
            return Ok(());
        }
        Err(corrupt(&format!(
            "block {found} stands where {} belongs",
            self.sequence
        )))
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), StateError> {
        while !out.is_empty() {
            let count = self.read_some(out)?;
            if count == 0 {
                return Err(corrupt("the stream ends before its end record"));
            }
            out = out
                .get_mut(count..)
                .ok_or_else(|| corrupt("source gave more than asked"))?;
        }
        Ok(())
    }

    fn read_some(&mut self, out: &mut [u8]) -> Result<usize, StateError> {
        loop {
            match self.source.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(StateError::Io {
                        operation: "read checkpoint",
                        source,
                    });
                }
                Ok(count) => return Ok(count),
            }
        }
    }
}

impl fmt::Debug for CheckpointReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointReader")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

/// Checks the checksum in the last four bytes of `piece`.
fn check_crc(piece: &[u8], what: &str) -> Result<(), StateError> {
    match piece.split_last_chunk::<4>() {
        Some((body, crc)) if u32::from_le_bytes(*crc) == crc32fast::hash(body) => Ok(()),
        _ => Err(corrupt(&format!("checksum of the {what} does not hold"))),
    }
}

fn corrupt(reason: &str) -> StateError {
    StateError::Corrupt {
        reason: format!("checkpoint: {reason}"),
    }
}
