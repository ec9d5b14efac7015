//! Little-endian primitives for what the runtime itself writes. Reading never allocates by a
//! declared length: it slices what is there.

use bytes::{Buf, Bytes};

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by another version.
    #[error("version {found} is not supported; this build reads version {expected}")]
    Version {
        /// What the bytes say.
        found: u8,
        /// What this build reads.
        expected: u8,
    },
    /// They are not what they should be.
    #[error("malformed bytes: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

const SHORT: DecodeError = DecodeError::Malformed {
    reason: "ends too early",
};

/// Writes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A count or length; what does not fit is written as the maximum, which no reader accepts.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.out.extend_from_slice(value);
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.into()
    }
}

/// Reads.
#[derive(Debug)]
pub(crate) struct Reader {
    input: Bytes,
}

impl Reader {
    pub(crate) const fn new(input: Bytes) -> Self {
        Self { input }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.input.try_get_u8().map_err(|_| SHORT)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.input.try_get_u32_le().map_err(|_| SHORT)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.input.try_get_u64_le().map_err(|_| SHORT)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.input.try_get_u128_le().map_err(|_| SHORT)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        if len > self.input.len() {
            return Err(SHORT);
        }
        Ok(self.input.split_to(len))
    }

    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| DecodeError::Malformed {
            reason: "text is not utf-8",
        })?;
        Ok(text.to_owned())
    }

    pub(crate) fn list<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        if count > max {
            return Err(DecodeError::Malformed {
                reason: "list is too long",
            });
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn version(&mut self, expected: u8) -> Result<(), DecodeError> {
        let found = self.u8()?;
        if found == expected {
            Ok(())
        } else {
            Err(DecodeError::Version { found, expected })
        }
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed {
                reason: "bytes left over",
            })
        }
    }
}
