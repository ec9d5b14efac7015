//! A file's bytes as shared pages: a copy costs one reference count until somebody writes.

use std::sync::Arc;

use super::plan::mix;

/// An odd number without a pattern.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const PAGE: usize = 4096;

type Page = [u8; PAGE];

/// Bytes in copy-on-write pages; a missing page reads as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Arc<Vec<Option<Arc<Page>>>>,
    len: u64,
}

/// One page's part of a byte range.
struct Part {
    page: usize,
    start: usize,
    count: usize,
}

fn parts(offset: u64, count: usize) -> impl Iterator<Item = Part> {
    let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut left = count;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let start = at % PAGE;
        let part = Part {
            page: at / PAGE,
            start,
            count: left.min(PAGE - start),
        };
        at = at.saturating_add(part.count);
        left -= part.count;
        Some(part)
    })
}

impl Content {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// How many bytes of pages are really there: holes take none.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.pages.iter().flatten().count() as u64 * PAGE as u64
    }

    /// Of its bytes and its length. Pages of zeros and missing ones are alike.
    pub(super) fn digest(&self) -> u64 {
        let pages = self.pages.iter().enumerate();
        pages.fold(mix(self.len), |digest, (number, page)| {
            let Some(page) = page else { return digest };
            // Four sums side by side: one chain of multiplications is slower than memory.
            let mut lanes = [0_u64; 4];
            for chunk in page.as_chunks::<32>().0 {
                for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
                    *lane = lane.rotate_left(29).wrapping_mul(ODD) ^ u64::from_le_bytes(*word);
                }
            }
            if lanes == [0; 4] {
                return digest;
            }
            let start = digest ^ mix(number as u64);
            lanes.iter().fold(start, |sum, lane| mix(sum ^ lane))
        })
    }

    /// Reads up to the end of the file.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        if let Some(front) = buffer.get_mut(..count) {
            self.read_raw(offset, front);
        }
        count
    }

    /// Reads whatever the pages hold, the end of the file notwithstanding.
    pub(super) fn read_raw(&self, offset: u64, buffer: &mut [u8]) {
        let mut rest = buffer;
        for part in parts(offset, rest.len()) {
            let (front, behind) = rest.split_at_mut(part.count);
            rest = behind;
            let page = self.pages.get(part.page).and_then(Option::as_ref);
            match page.and_then(|page| page.get(part.start..part.start + part.count)) {
                Some(bytes) => front.copy_from_slice(bytes),
                None => front.fill(0),
            }
        }
    }

    /// Writes and grows the file as needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.write_raw(offset, bytes);
        self.len = self.len.max(offset.saturating_add(bytes.len() as u64));
    }

    /// Writes into the pages and leaves the length alone.
    pub(super) fn write_raw(&mut self, offset: u64, bytes: &[u8]) {
        let pages = Arc::make_mut(&mut self.pages);
        let mut rest = bytes;
        for part in parts(offset, bytes.len()) {
            let (front, behind) = rest.split_at(part.count.min(rest.len()));
            rest = behind;
            if pages.len() <= part.page {
                pages.resize(part.page + 1, None);
            }
            let Some(slot) = pages.get_mut(part.page) else {
                return;
            };
            let page = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; PAGE])));
            if let Some(place) = page.get_mut(part.start..part.start + part.count) {
                place.copy_from_slice(front);
            }
        }
    }

    /// Cuts or extends the file; what is cut reads as zeros when it is extended again.
    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.trim();
    }

    /// Sets the length and keeps what the pages hold behind it.
    pub(super) fn extend_raw(&mut self, len: u64) {
        self.len = len;
    }

    /// Forgets what the pages hold behind the end.
    pub(super) fn trim(&mut self) {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let count = len.div_ceil(PAGE);
        if self.pages.len() < count || (self.pages.len() == count && len.is_multiple_of(PAGE)) {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        pages.truncate(count);
        if !len.is_multiple_of(PAGE)
            && let Some(Some(page)) = pages.get_mut(count - 1)
            && let Some(tail) = Arc::make_mut(page).get_mut(len % PAGE..)
        {
            tail.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cut_off_read_as_zeros_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(4000, &[7; 200]);
        let before = content.clone();
        content.set_len(4010);
        content.set_len(5000);
        let mut buffer = [9; 1000];
        assert_eq!(content.read(4000, &mut buffer), 1000);
        assert!(buffer.iter().take(10).all(|byte| *byte == 7));
        assert!(buffer.iter().skip(10).all(|byte| *byte == 0));
        assert_eq!(before.read(4000, &mut buffer), 200, "a copy is not touched");
        assert!(buffer.iter().take(200).all(|byte| *byte == 7));
    }

    #[test]
    fn digest_tells_contents_apart_and_not_how_they_came() {
        let mut one = Content::default();
        one.write(5000, &[1, 2, 3]);
        let mut other = Content::default();
        other.write(0, &[0; 4096]);
        other.write(5000, &[1, 9, 3]);
        assert_ne!(one.digest(), other.digest());
        other.write(5001, &[2]);
        assert_eq!(one.digest(), other.digest());
        other.set_len(5004);
        assert_ne!(one.digest(), other.digest());
        for bit in 0..8 {
            let mut flipped = one.clone();
            flipped.write(5002, &[3 ^ (1 << bit)]);
            assert_ne!(one.digest(), flipped.digest());
        }
    }

    #[test]
    fn holes_take_no_space() {
        let mut content = Content::default();
        content.write(1 << 20, &[1]);
        assert_eq!(content.len(), (1 << 20) + 1);
        assert_eq!(content.allocated_bytes(), 4096);
    }
}
