//! Just enough of HPACK (RFC 7541) to find the value of `:authority` in a header block.

use std::borrow::Cow;

/// Of a literal field: the name is the static table's first, `:authority`.
const AUTHORITY: u64 = 1;
/// Length one, not Huffman-coded, and the shortest valid authority there is.
const PLAIN: [u8; 2] = [1, b'x'];
/// How a value that is a URL begins: as it is, and Huffman-coded (appendix B), as far as whole
/// bytes go.
const URLS: [&[u8]; 2] = [b"http://", b"https://"];
const URLS_CODED: [&[u8]; 2] = [
    &[0x9d, 0x29, 0xae, 0xe3, 0x0c],
    &[0x9d, 0x29, 0xad, 0x17, 0x18],
];

/// The block with every literal value of `:authority` that is a URL replaced.
///
/// The new value is never longer than the old one. So the receiver's table never drops an entry
/// that the sender's still has, and references into it stay right. A block that makes no sense
/// is passed on as it is: the receiver will say so.
pub(super) fn plain_authority(block: &[u8]) -> Cow<'_, [u8]> {
    let mut found = Vec::new();
    let mut at = Cursor { block, place: 0 };
    while at.place < block.len() {
        match at.field() {
            Some(Some(value)) => found.push(value),
            Some(None) => {}
            None => return Cow::Borrowed(block),
        }
    }
    if found.is_empty() {
        return Cow::Borrowed(block);
    }
    let mut out = Vec::with_capacity(block.len());
    let mut from = 0;
    for value in found {
        out.extend_from_slice(block.get(from..value.start).unwrap_or_default());
        out.extend_from_slice(&PLAIN);
        from = value.end;
    }
    out.extend_from_slice(block.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

struct Cursor<'a> {
    block: &'a [u8],
    place: usize,
}

impl Cursor<'_> {
    /// Steps over one field (section 6); gives where a value of `:authority` stands, length and
    /// all. `None` for what makes no sense.
    fn field(&mut self) -> Option<Option<std::ops::Range<usize>>> {
        let first = *self.block.get(self.place)?;
        let name_bits = match first {
            // An indexed field, a new table size: no strings follow.
            0x80.. => return self.integer(7).map(|_| None),
            0x20..=0x3f => return self.integer(5).map(|_| None),
            0x40..=0x7f => 6,
            _ => 4,
        };
        let name = self.integer(name_bits)?;
        if name == 0 {
            self.string()?;
        }
        let value = self.string()?;
        Some((name == AUTHORITY && self.is_url(&value)).then_some(value))
    }

    /// Section 5.1, with `bits` of the first byte.
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let mask = (1_u64 << bits) - 1;
        let mut value = u64::from(self.byte()?) & mask;
        if value < mask {
            return Some(value);
        }
        // Four more bytes hold more than a frame can be long.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Section 5.2: steps over a string and gives where it stands, its length included.
    fn string(&mut self) -> Option<std::ops::Range<usize>> {
        let start = self.place;
        let length = usize::try_from(self.integer(7)?).ok()?;
        let end = self
            .place
            .checked_add(length)
            .filter(|end| *end <= self.block.len())?;
        self.place = end;
        Some(start..end)
    }

    /// Whether a string is a URL; no URL is as long as needs more than one byte for its length.
    fn is_url(&self, string: &std::ops::Range<usize>) -> bool {
        let Some((head, value)) = self.block.get(string.clone()).and_then(<[u8]>::split_first)
        else {
            return false;
        };
        let beginnings = if head & 0x80 == 0 { URLS } else { URLS_CODED };
        beginnings
            .iter()
            .any(|beginning| value.starts_with(beginning))
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.place)?;
        self.place += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `http://127.0.0.1:2379`, Huffman-coded.
    const CODED: &[u8] = &[
        0x90, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x08, 0x9d, 0x70, 0x2e, 0x05, 0xc0, 0xb8, 0x17, 0x70,
        0x99, 0x7d,
    ];

    #[test]
    fn authority_that_is_a_url_is_replaced_and_nothing_else() {
        let block = [
            &[0x83, 0x86, 0x44, 3][..], // :method POST, :scheme http, :path
            b"/kv",
            &[0x41, 10], // :authority, indexed from now on
            b"http://h:1",
            &[0x40, 1], // a new name and value
            b"n",
            &[10],
            b"http://h:1",
            &[0x01, 11], // :authority, not indexed
            b"https://h:1",
            &[0x01, 3], // a valid one
            b"h:1",
            &[0x3f, 0x81, 0x1f], // a new table size
            &[0x11],             // :authority, never indexed, Huffman-coded
            CODED,
            &[0xbe],
        ]
        .concat();
        let expected = [
            &[0x83, 0x86, 0x44, 3][..],
            b"/kv",
            &[0x41, 1, b'x'],
            &[0x40, 1],
            b"n",
            &[10],
            b"http://h:1",
            &[0x01, 1, b'x'],
            &[0x01, 3],
            b"h:1",
            &[0x3f, 0x81, 0x1f],
            &[0x11, 1, b'x'],
            &[0xbe],
        ]
        .concat();
        assert_eq!(plain_authority(&block), expected);
    }

    #[test]
    fn block_that_makes_no_sense_is_left_alone() {
        let blocks: [&[u8]; 5] = [
            &[0x41],
            &[0x41, 10, b'h'],
            &[0x41, 3, b'a', b'b', b'c', 0x40],
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[],
        ];
        for block in blocks {
            assert_eq!(plain_authority(block), block);
        }
    }

    #[test]
    fn no_block_grows_or_panics() {
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            assert!(plain_authority(&block).len() <= block.len());
        }
    }
}
