//! What a client sends, cut into HTTP/2 frames (RFC 9113, section 4.1).

use std::borrow::Cow;

use bytes::{Buf, BufMut, BytesMut};

use super::hpack::plain_authority;

const PREFACE_LEN: usize = 24;
const HEAD_LEN: usize = 9;
/// The largest frame that may come before other settings are agreed on, and we agree on none.
const FRAME_BYTES_MAX: usize = 16 * 1024;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_LEN: usize = 5;

/// Passes frames on, those with headers rewritten. Once a connection's first request is found to
/// be in order, nothing more is looked at: a client names all its requests alike.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Read and not yet passed on: never more than one frame with headers, and one read.
    input: BytesMut,
    preface_passed: bool,
    request_seen: bool,
    in_order: bool,
    /// Bytes of the frame at the front of `input` that are passed on as they are.
    rest: usize,
}

impl Frames {
    /// Where to put what is read.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Nothing is held back and nothing more needs to be looked at.
    pub(super) fn is_transparent(&self) -> bool {
        self.in_order && self.input.is_empty()
    }

    /// Appends to `out` what can be passed on; at the connection's end, everything.
    pub(super) fn pass(&mut self, out: &mut BytesMut, ended: bool) {
        if !self.preface_passed {
            if self.input.len() < PREFACE_LEN && !ended {
                return;
            }
            self.preface_passed = true;
            self.rest = PREFACE_LEN;
        }
        loop {
            if self.in_order {
                out.unsplit(self.input.split());
                return;
            }
            let count = self.rest.min(self.input.len());
            out.unsplit(self.input.split_to(count));
            self.rest = self.rest.saturating_sub(count);
            if self.rest > 0 {
                return;
            }
            match self.next_frame() {
                Next::Headers { length, fragment } => {
                    self.input.advance(HEAD_LEN);
                    let payload = self.input.split_to(length);
                    let changed = put_headers(&payload, fragment, out);
                    self.in_order = !changed && !self.request_seen;
                    self.request_seen = true;
                }
                Next::Other { length } => self.rest = HEAD_LEN.saturating_add(length),
                Next::Incomplete if ended => {
                    out.unsplit(self.input.split());
                    return;
                }
                Next::Incomplete => return,
            }
        }
    }

    fn next_frame(&self) -> Next {
        let Some((head, payload)) = self.input.split_first_chunk::<HEAD_LEN>() else {
            return Next::Incomplete;
        };
        let [high, middle, low, kind, flags, stream @ ..] = *head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let whole = kind == HEADERS && flags & END_HEADERS != 0 && flags & PADDED == 0;
        if !whole || length > FRAME_BYTES_MAX {
            return Next::Other { length };
        }
        if payload.len() < length {
            return Next::Incomplete;
        }
        let skip = if flags & PRIORITY == 0 {
            0
        } else {
            PRIORITY_LEN
        };
        Next::Headers {
            length,
            fragment: Fragment {
                flags,
                stream,
                skip,
            },
        }
    }
}

enum Next {
    Incomplete,
    Other { length: usize },
    Headers { length: usize, fragment: Fragment },
}

struct Fragment {
    flags: u8,
    stream: [u8; 4],
    /// Bytes before the header block.
    skip: usize,
}

/// Writes a frame of headers with a plain authority; true when it had another.
fn put_headers(payload: &[u8], fragment: Fragment, out: &mut BytesMut) -> bool {
    let Fragment {
        flags,
        stream,
        skip,
    } = fragment;
    let (before, block) = payload.split_at_checked(skip).unwrap_or((payload, &[]));
    let block = plain_authority(block);
    let length = before.len().saturating_add(block.len());
    // Never longer than it came, so three bytes are enough.
    out.put_uint(length as u64, 3);
    out.put_u8(HEADERS);
    out.put_u8(flags);
    out.put_slice(&stream);
    out.put_slice(before);
    out.put_slice(&block);
    matches!(block, Cow::Owned(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8; PREFACE_LEN] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_uint(payload.len() as u64, 3);
        out.extend([kind, flags, 0, 0, 0, 1]);
        out.extend(payload);
        out
    }

    /// `:authority: http://h:1` as a literal with indexing.
    fn bad_headers() -> Vec<u8> {
        [&[0x41, 10][..], b"http://h:1", &[0x83]].concat()
    }

    fn through(input: &[u8], step: usize) -> Vec<u8> {
        let (mut frames, mut out) = (Frames::default(), BytesMut::new());
        for piece in input.chunks(step) {
            frames.input().extend_from_slice(piece);
            frames.pass(&mut out, false);
        }
        frames.pass(&mut out, true);
        out.to_vec()
    }

    #[test]
    fn only_whole_frames_of_headers_are_changed_however_they_arrive() {
        let headers = frame(HEADERS, END_HEADERS, &bad_headers());
        let priority = frame(
            HEADERS,
            END_HEADERS | PRIORITY,
            &[&[0; 5][..], &bad_headers()].concat(),
        );
        let others = [
            frame(4, 0, &[]),
            frame(0, 1, b"data that says http://h:1"),
            frame(HEADERS, 0, &bad_headers()),
            frame(HEADERS, END_HEADERS | PADDED, &bad_headers()),
        ]
        .concat();
        let input = [&PREFACE[..], &others, &headers, &others, &priority, &others].concat();
        let changed = frame(HEADERS, END_HEADERS, &[0x41, 1, b'x', 0x83]);
        let with_priority = [&[0; 5][..], &[0x41, 1, b'x', 0x83]].concat();
        let priority = frame(HEADERS, END_HEADERS | PRIORITY, &with_priority);
        let expected = [&PREFACE[..], &others, &changed, &others, &priority, &others].concat();
        for step in [1, 2, 7, 64, input.len()] {
            assert_eq!(through(&input, step), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn connection_whose_first_request_is_in_order_is_left_alone() {
        let good = frame(HEADERS, END_HEADERS, &[0x41, 3, b'h', b':', b'1', 0x83]);
        let bad = frame(HEADERS, END_HEADERS, &bad_headers());
        let input = [&PREFACE[..], &good, &bad].concat();
        for step in [1, 13, input.len()] {
            assert_eq!(through(&input, step), input);
        }
    }

    #[test]
    fn what_is_cut_short_or_no_http_comes_out_as_it_went_in() {
        let headers = frame(HEADERS, END_HEADERS, &bad_headers());
        let input = [&PREFACE[..], &headers].concat();
        for end in 0..input.len() {
            assert_eq!(through(&input[..end], 5), input[..end]);
        }
        let noise: Vec<u8> = (0..4000_u32).map(|n| ((n * 7919) >> 3) as u8).collect();
        let noise = [&PREFACE[..], &noise].concat();
        assert!(through(&noise, 100).len() <= noise.len());
    }
}
