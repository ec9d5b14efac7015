//! Memory at an address that direct writes take: a part of a vector that is a page too long.

/// What the memory of direct writes is aligned to, in bytes: no disk asks for more.
pub const MEMORY_BYTES: usize = 4096;

/// A buffer that grows at its end, and is aligned whenever [`PageBuf::align`] was called last.
#[derive(Debug, Default)]
pub struct PageBuf {
    bytes: Vec<u8>,
    start: usize,
}

impl PageBuf {
    /// So many zeros, aligned.
    #[must_use]
    pub fn zeros(count: usize) -> Self {
        let mut bytes = vec![0; count + MEMORY_BYTES];
        let start = first_aligned(&bytes);
        bytes.truncate(start + count);
        Self { bytes, start }
    }

    /// A copy, aligned.
    #[must_use]
    pub fn copy_of(content: &[u8]) -> Self {
        let mut copy = Self::default();
        copy.begin(content.len());
        copy.bytes.extend_from_slice(content);
        copy
    }

    /// Forgets the content, keeps the memory, and makes room for so many bytes.
    pub fn begin(&mut self, room: usize) {
        // What stands before the content does not count, and so is not written again.
        self.bytes.truncate(self.start);
        let held = self.bytes.len();
        self.bytes.reserve(room + 2 * MEMORY_BYTES - held);
        self.start = first_aligned(&self.bytes);
        self.bytes.resize(self.start, 0);
    }

    /// To append to, and for nothing else.
    pub const fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How much has been appended, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// True when nothing has been appended.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has been appended.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// What has been appended, to be changed in place.
    pub fn content_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Forgets all but the first `len` bytes of the content.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Moves the content to an aligned address, if the vector has moved while it grew.
    pub fn align(&mut self) {
        let len = self.len();
        self.bytes.reserve(MEMORY_BYTES);
        let start = first_aligned(&self.bytes);
        if start == self.start {
            return;
        }
        if start > self.start {
            self.bytes.resize(start + len, 0);
        }
        self.bytes.copy_within(self.start..self.start + len, start);
        self.bytes.truncate(start + len);
        self.start = start;
    }
}

fn first_aligned(bytes: &[u8]) -> usize {
    // Unknown only where code runs that has no addresses.
    bytes.as_ptr().align_offset(MEMORY_BYTES) % MEMORY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_aligned(buffer: &PageBuf) -> bool {
        first_aligned(buffer.content()) == 0
    }

    #[test]
    fn content_survives_growth_and_is_aligned_behind_it() {
        let mut buffer = PageBuf::default();
        let mut expected = Vec::new();
        for round in 0..40u8 {
            buffer.tail().extend_from_slice(&[round; 1777]);
            expected.extend_from_slice(&[round; 1777]);
            buffer.align();
            assert!(is_aligned(&buffer), "round {round}");
            assert_eq!(buffer.content(), expected);
        }
        buffer.truncate(5);
        assert_eq!(buffer.content(), [0; 5]);
        buffer.begin(10);
        assert_eq!(buffer.len(), 0);
        assert!(is_aligned(&PageBuf::zeros(4096)) && is_aligned(&PageBuf::copy_of(&expected)));
        assert_eq!(PageBuf::copy_of(&expected).content(), expected);
        assert_eq!(PageBuf::zeros(3).content(), [0; 3]);
    }
}
