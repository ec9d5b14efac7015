//! What every encoding is made of. Others who write records of their own (logs, envelopes) use
//! the same pieces.
//!
//! A *varint* is an unsigned LEB128 number: seven bits a byte, the low ones first, the high bit
//! set in all but the last byte, never longer than needed. *Bytes* are their count as a varint,
//! then themselves. Fixed numbers are little-endian.

use bytes::Bytes;

use super::DecodeError;
use crate::types::{LogId, LogIndex, NodeId, Term};

/// The bytes of the longest varint: 64 bits by seven.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends `value` as a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    // All but the last byte.
    let more = |shift: u32| (value >> shift) as u8 | 0x80;
    match value {
        0..0x80 => out.push(value as u8),
        // Room is looked for once.
        0x80..0x4000 => out.extend_from_slice(&[more(0), (value >> 7) as u8]),
        0x4000..0x20_0000 => out.extend_from_slice(&[more(0), more(7), (value >> 14) as u8]),
        _ => put_long(out, value),
    }
}

fn put_long(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends `value` in four bytes.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value` in eight bytes.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends `value` as one byte, 0 or 1.
pub fn put_flag(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends the length of `value` as a varint, then `value`.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends the term, then the index, as varints.
#[inline]
pub fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_varint(out, id.term.value());
    put_varint(out, id.index.value());
}

/// Takes one value after the other from bytes that may be anything. Nothing is copied: what is
/// read as [`Bytes`] shares the memory of the input, and keeps it alive. Nothing is allocated for
/// what the input does not hold.
///
/// A reader that gave an error stands somewhere inside the value that failed.
#[derive(Clone, Debug)]
pub struct Reader {
    input: Bytes,
    at: usize,
}

impl Reader {
    /// Reads `input` from its beginning.
    #[must_use]
    pub const fn new(input: Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Reads one value that takes all of `input`.
    ///
    /// # Errors
    /// What `read` says, and [`DecodeError::Trailing`] when it leaves something over.
    pub fn whole<T>(
        input: Bytes,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut reader = Self::new(input);
        let value = read(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.input.len().saturating_sub(self.at)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = self
            .input
            .get(self.at)
            .copied()
            .ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*array)
    }

    /// A varint.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]; [`DecodeError::TooLong`] beyond 64 bits;
    /// [`DecodeError::Invalid`] when it could be shorter.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(DecodeError::TooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Invalid {
                        reason: "number longer than needed",
                    });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::TooLong)
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Tag`].
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::Tag {
                what: "flag",
                found,
            }),
        }
    }

    /// One byte that says which version `what` is in; only `supported` is taken.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Version`].
    pub fn version(&mut self, what: &'static str, supported: u8) -> Result<(), DecodeError> {
        match self.u8()? {
            found if found == supported => Ok(()),
            found => Err(DecodeError::Version {
                what,
                found,
                supported,
            }),
        }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let end = self.at + len;
        let bytes = self.input.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    /// Bytes after their length.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or what is wrong with the length.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.input.slice(self.at.min(self.input.len())..)
    }

    /// A count as a varint, then as many items. A count that cannot fit into what is left, given
    /// that an item takes `item_bytes_min` bytes or more, is refused before anything is allocated.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], what is wrong with the count, or what `item` says.
    pub fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        if count > self.remaining() / item_bytes_min.max(1) {
            return Err(DecodeError::Truncated);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A term and an index.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId {
            term: self.term()?,
            index: self.index()?,
        })
    }

    /// A term.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn term(&mut self) -> Result<Term, DecodeError> {
        self.varint().map(Term)
    }

    /// An index.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn index(&mut self) -> Result<LogIndex, DecodeError> {
        self.varint().map(LogIndex)
    }

    /// The id of a member: not zero.
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`DecodeError::Invalid`] for zero.
    pub fn node(&mut self) -> Result<NodeId, DecodeError> {
        match self.varint()? {
            0 => Err(DecodeError::Invalid {
                reason: "member id is zero",
            }),
            id => Ok(NodeId(id)),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub const fn end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}
