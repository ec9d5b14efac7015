//! Frames: the unit that is written, checked and taken or dropped whole. A frame is a header, a
//! body that the items' sections tile, and the directory of these items; it begins on a page and
//! is padded to one.

use bytes::Bytes;
use raftwerk_raft::codec::DecodeError;
use raftwerk_raft::codec::wire::{Reader, put_varint, varint_len};
use raftwerk_raft::{GroupId, LogIndex, Term};
use raftwerk_storage::folder::StoreUuid;

use crate::rules::{Rule, holds};
use raftwerk_storage::buffer::PageBuf;

/// The smallest page: the sector that a disk writes whole.
pub(crate) const PAGE_BYTES_MIN: u32 = 512;
/// The largest page.
pub(crate) const PAGE_BYTES_MAX: u32 = 65_536;
/// How long a frame's header is.
pub(crate) const FRAME_HEADER_BYTES: usize = 80;
/// An item of a directory never takes more than this.
pub(crate) const ITEM_BYTES_MAX: usize = 80;
/// Entries are cut into sections of about this size: what a cold read verifies at once.
pub(crate) const SECTION_BYTES: usize = 64 * 1024;
/// From this size on, in bytes, a section is summed up when it is encoded: to add its place to the
/// sum later takes about a microsecond.
const EARLY_BYTES: usize = 16 * 1024;

const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"RWf1");
/// The last bytes of a header, none of them zero: a write that was cut short lacks them, and one
/// flipped bit does not make it look so.
const HEADER_END: [u8; 4] = *b"fend";
/// The last bytes of a directory, and so of a frame: to the same end.
const DIRECTORY_END: [u8; 4] = *b"dend";

/// One life of one file as a segment of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    /// Ascending along the log, never used twice.
    pub(crate) number: u64,
    /// Drawn anew each time a file is prepared.
    pub(crate) life: u64,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The first of a segment: activates it and holds the checkpoint.
    Open,
    /// Batches.
    Batch,
    /// The last of a sealed segment: the footer.
    Seal,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Batch => 2,
            Self::Seal => 3,
        }
    }

    const fn parse(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Batch),
            3 => Some(Self::Seal),
            _ => None,
        }
    }
}

/// The fixed part of a frame: every byte that steers parsing, and where the frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) id: SegmentId,
    /// Where the frame begins in its segment, in bytes.
    pub(crate) offset: u64,
    /// The frame's place in the log; one more than its predecessor's, but at an open.
    pub(crate) lsn: u64,
    /// All frames up to this one were durable when this was written.
    pub(crate) durable: u64,
    /// The header checksum of the frame before.
    pub(crate) chain: u32,
    pub(crate) items: u32,
    pub(crate) directory_bytes: u32,
    pub(crate) directory_crc: u32,
    pub(crate) body_bytes: u32,
}

/// What is counted one by one never comes so far: counting on from there cannot overflow.
const COUNT_MAX: u64 = u64::MAX >> 1;

/// # Errors
/// It is beyond what any log counts to.
pub(crate) fn check_count(count: u64) -> Result<(), DecodeError> {
    if count <= COUNT_MAX {
        return Ok(());
    }
    Err(DecodeError::Invalid {
        reason: "a count that no log reaches",
    })
}

/// Whether `bytes` may be what was written of a frame's header, with zeros behind it.
pub(crate) fn begins_as_header(bytes: &[u8]) -> bool {
    let magic = FRAME_MAGIC.to_le_bytes();
    let pairs = bytes.iter().zip(magic);
    let same = pairs.take_while(|(byte, wanted)| *byte == wanted).count();
    let rest = bytes.get(same..).unwrap_or_default();
    same == magic.len() || rest.iter().all(|byte| *byte == 0)
}

/// Two numbers of eight bytes.
fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) | (u128::from(second) << 64)).to_le_bytes()
}

impl FrameHeader {
    /// The header's bytes and its checksum, which the next frame is chained to.
    pub(crate) fn encode(&self, uuid: StoreUuid) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let two = |first: u32, second: u32| u64::from(first) | (u64::from(second) << 32);
        let fields = [
            two(FRAME_MAGIC, u32::from(self.kind.code())),
            self.id.number,
            self.id.life,
            self.offset,
            self.lsn,
            self.durable,
            two(self.chain, self.items),
            two(self.directory_bytes, self.directory_crc),
            u64::from(self.body_bytes),
        ];
        let fields = fields.map(u64::to_le_bytes);
        let crc = self.crc(uuid, fields.as_flattened());
        let mut out = [0; FRAME_HEADER_BYTES];
        let end = two(crc, u32::from_le_bytes(HEADER_END)).to_le_bytes();
        let bytes = fields.as_flattened().iter().chain(&end);
        out.iter_mut()
            .zip(bytes)
            .for_each(|(out, byte)| *out = *byte);
        (out, crc)
    }

    /// The header at the front of `bytes` and its checksum, if it is one of this log.
    pub(crate) fn decode(bytes: &[u8], uuid: StoreUuid) -> Result<(Self, u32), DecodeError> {
        if !bytes.starts_with(&FRAME_MAGIC.to_le_bytes()) {
            return Err(DecodeError::Invalid {
                reason: "no frame begins here",
            });
        }
        let bytes = bytes
            .first_chunk::<FRAME_HEADER_BYTES>()
            .ok_or(DecodeError::Truncated)?;
        let (covered, end) = bytes.split_at(FRAME_HEADER_BYTES - 8);
        let (stored, end) = end.split_at(4);
        let stored = stored.first_chunk().ok_or(DecodeError::Truncated)?;
        let stored = u32::from_le_bytes(*stored);
        if end != HEADER_END {
            return Err(DecodeError::Invalid {
                reason: "end of a frame's header",
            });
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(covered));
        let _magic = reader.u32()?;
        let code = reader.u32()?;
        let kind = FrameKind::parse(code);
        let header = Self {
            kind: kind.ok_or(DecodeError::Invalid {
                reason: "unknown kind of frame",
            })?,
            id: SegmentId {
                number: reader.u64()?,
                life: reader.u64()?,
            },
            offset: reader.u64()?,
            lsn: reader.u64()?,
            durable: reader.u64()?,
            chain: reader.u32()?,
            items: reader.u32()?,
            directory_bytes: reader.u32()?,
            directory_crc: reader.u32()?,
            body_bytes: reader.u32()?,
        };
        if stored != header.crc(uuid, covered) && holds(Rule::HeaderChecksum) {
            return Err(DecodeError::Invalid {
                reason: "checksum of a frame's header",
            });
        }
        for count in [header.id.number, header.lsn, header.durable] {
            check_count(count)?;
        }
        Ok((header, stored))
    }

    fn crc(&self, uuid: StoreUuid, covered: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed(uuid));
        hasher.update(covered);
        hasher.finalize()
    }

    /// What every checksum of the frame begins with: this log, this life of this segment, this
    /// place. Stale, misdirected and swapped sectors do not pass.
    pub(crate) fn seed(&self, uuid: StoreUuid) -> u32 {
        if !holds(Rule::Seed) {
            return 0;
        }
        let mut place = [uuid.0; 3];
        let [_, id, at] = &mut place;
        (*id, *at) = (
            pair(self.id.number, self.id.life),
            pair(self.offset, self.lsn),
        );
        crc32fast::hash(place.as_flattened())
    }

    /// Bytes before the padding.
    pub(crate) const fn content_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + self.directory_bytes as u64 + self.body_bytes as u64
    }

    /// Bytes with the padding.
    pub(crate) const fn frame_bytes(&self, page_bytes: u32) -> u64 {
        self.content_bytes().next_multiple_of(page_bytes as u64)
    }
}

/// What an item's section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// What concerns the whole log: in the first frame and in the footer.
    Log,
    /// Appended entries of one term; a conflicting suffix goes first.
    Entries(Span),
    /// Entries that stand in the log already and now stand here too: truncates nothing, is
    /// ignored where the log has another term, or the group another generation.
    Relocated { span: Span, generation: u64 },
    /// Everything but entries; the bits are those of [`crate::record`].
    State(u8),
    /// A group as a segment finds it.
    Checkpoint,
    /// A group's live sections in a sealed segment.
    Extents,
}

/// Contiguous entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: LogIndex,
    pub(crate) count: u32,
    pub(crate) term: Term,
    /// The term of the entry just before: with it a lost predecessor is noticed.
    pub(crate) prev_term: Term,
}

impl Span {
    /// The index behind the last.
    pub(crate) const fn end(&self) -> LogIndex {
        self.first.plus(self.count as u64)
    }

    fn put(&self, out: &mut Vec<u8>) {
        for value in [
            self.first.0,
            u64::from(self.count),
            self.term.0,
            self.prev_term.0,
        ] {
            put_varint(out, value);
        }
    }

    const fn encoded_bytes(&self) -> usize {
        varint_len(self.first.0)
            + varint_len(self.count as u64)
            + varint_len(self.term.0)
            + varint_len(self.prev_term.0)
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            first: LogIndex(reader.varint()?),
            count: narrow(reader.varint()?)?,
            term: Term(reader.varint()?),
            prev_term: Term(reader.varint()?),
        })
    }
}

/// One line of a frame's directory. Its section follows the one before without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) group: GroupId,
    /// Counts the group's items, so that a lost one is noticed.
    pub(crate) step: u64,
    pub(crate) kind: ItemKind,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    /// The checksum is of the section alone: where it stands was not known yet.
    placeless: bool,
}

impl Item {
    pub(crate) const fn new(group: GroupId, step: u64, kind: ItemKind, bytes: u32) -> Self {
        Self {
            group,
            step,
            kind,
            bytes,
            crc: 0,
            placeless: false,
        }
    }

    /// Sums a large section up while it is still near the processor: whoever writes the frame
    /// then needs not go through all of it again.
    pub(crate) fn sum_early(&mut self, section: &[u8]) {
        if section.len() >= EARLY_BYTES {
            (self.crc, self.placeless) = (crc32fast::hash(section), true);
        }
    }

    fn sum(&mut self, section_seed: u32, section: &[u8]) {
        self.crc = match std::mem::take(&mut self.placeless) {
            true => {
                let bytes = section.len() as u64;
                let mut hasher = crc32fast::Hasher::new_with_initial(section_seed);
                hasher.combine(&crc32fast::Hasher::new_with_initial_len(self.crc, bytes));
                hasher.finalize()
            }
            false => section_crc(section_seed, section),
        };
    }

    fn put(&self, out: &mut Vec<u8>) {
        let code = match self.kind {
            ItemKind::Log => 0,
            ItemKind::Entries(_) => 1,
            ItemKind::Relocated { .. } => 2,
            ItemKind::State(_) => 3,
            ItemKind::Checkpoint => 4,
            ItemKind::Extents => 5,
        };
        out.push(code);
        put_varint(out, self.group.0);
        put_varint(out, self.step);
        match &self.kind {
            ItemKind::Entries(span) => span.put(out),
            ItemKind::Relocated { span, generation } => {
                span.put(out);
                put_varint(out, *generation);
            }
            ItemKind::State(bits) => out.push(*bits),
            ItemKind::Log | ItemKind::Checkpoint | ItemKind::Extents => {}
        }
        put_varint(out, u64::from(self.bytes));
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    /// How long it is in a directory, in bytes.
    pub(crate) const fn encoded_bytes(&self) -> u64 {
        let kind = match &self.kind {
            ItemKind::Entries(span) => span.encoded_bytes(),
            ItemKind::Relocated { span, generation } => {
                span.encoded_bytes() + varint_len(*generation)
            }
            ItemKind::State(_) => 1,
            ItemKind::Log | ItemKind::Checkpoint | ItemKind::Extents => 0,
        };
        let numbers = varint_len(self.group.0) + varint_len(self.step);
        // The code in front, the checksum behind.
        (1 + numbers + kind + varint_len(self.bytes as u64) + 4) as u64
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let code = reader.u8()?;
        let group = GroupId(reader.varint()?);
        let step = reader.varint()?;
        let kind = match code {
            0 => ItemKind::Log,
            1 => ItemKind::Entries(Span::read(reader)?),
            2 => ItemKind::Relocated {
                span: Span::read(reader)?,
                generation: reader.varint()?,
            },
            3 => ItemKind::State(reader.u8()?),
            4 => ItemKind::Checkpoint,
            5 => ItemKind::Extents,
            found => {
                return Err(DecodeError::Tag {
                    what: "kind of item",
                    found,
                });
            }
        };
        let bytes = narrow(reader.varint()?)?;
        let mut item = Self::new(group, step, kind, bytes);
        item.crc = reader.u32()?;
        Ok(item)
    }
}

fn narrow(value: u64) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| DecodeError::TooLong)
}

/// What the checksum of a section begins with that stands `offset` bytes into the body of a frame
/// with `seed`.
pub(crate) fn section_seed(seed: u32, offset: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&offset.to_le_bytes());
    hasher.finalize()
}

/// The checksum of a section.
fn section_crc(section_seed: u32, section: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(section_seed);
    hasher.update(section);
    hasher.finalize()
}

/// Whether a section is the one whose checksum is `crc`.
pub(crate) fn is_section(section_seed: u32, section: &[u8], crc: u32) -> bool {
    section_crc(section_seed, section) == crc || !holds(Rule::SectionChecksum)
}

fn directory_crc(seed: u32, directory: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(b"directory");
    hasher.update(directory);
    hasher.finalize()
}

/// Where a frame goes and what it continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) uuid: StoreUuid,
    pub(crate) id: SegmentId,
    pub(crate) page_bytes: u32,
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) durable: u64,
    pub(crate) chain: u32,
}

impl Place {
    const fn header(&self, kind: FrameKind) -> FrameHeader {
        FrameHeader {
            kind,
            id: self.id,
            offset: self.offset,
            lsn: self.lsn,
            durable: self.durable,
            chain: self.chain,
            items: 0,
            directory_bytes: 0,
            directory_crc: 0,
            body_bytes: 0,
        }
    }

    /// What every checksum of a frame here begins with.
    pub(crate) fn seed(&self) -> u32 {
        self.header(FrameKind::Batch).seed(self.uuid)
    }

    /// Where a frame's body begins in the segment, in bytes.
    pub(crate) const fn body_offset(&self) -> u64 {
        self.offset + FRAME_HEADER_BYTES as u64
    }
}

/// Fills in the checksums of `items`, whose sections are `sections`: what stands in the body
/// from `offset` on.
pub(crate) fn sum_sections(place: &Place, offset: u32, items: &mut [Item], sections: &[u8]) {
    let seed = place.seed();
    let mut start = 0u32;
    for item in items {
        let end = start + item.bytes;
        let section = sections
            .get(start as usize..end as usize)
            .unwrap_or_default();
        debug_assert_eq!(section.len(), item.bytes as usize);
        item.sum(section_seed(seed, offset + start), section);
        start = end;
    }
    debug_assert_eq!(start as usize, sections.len());
}

/// A frame in the making: its body, behind room for the header, in memory that may be written as
/// it is.
#[derive(Debug, Default)]
pub(crate) struct FrameBuf(PageBuf);

impl FrameBuf {
    /// Where the body goes on.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        if self.0.len() < FRAME_HEADER_BYTES {
            self.0.begin(FRAME_HEADER_BYTES);
            self.0.tail().extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        }
        self.0.tail()
    }

    /// How long the body is so far, in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.0.len().saturating_sub(FRAME_HEADER_BYTES)
    }

    /// The body so far.
    pub(crate) fn body(&self) -> &[u8] {
        self.0
            .content()
            .get(FRAME_HEADER_BYTES..)
            .unwrap_or_default()
    }

    /// Forgets all but the first `len` bytes of the body.
    pub(crate) fn truncate(&mut self, len: usize) {
        if self.len() > len {
            self.0.truncate(FRAME_HEADER_BYTES + len);
        }
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.truncate(0);
    }

    /// The frame, once it is sealed.
    pub(crate) fn frame(&self) -> &[u8] {
        self.0.content()
    }

    /// Makes a frame of the body and its items, whose checksums are filled in; the checksum of
    /// its header is returned.
    pub(crate) fn seal(&mut self, kind: FrameKind, place: &Place, items: &[Item]) -> u32 {
        let body_bytes = self.len();
        let out = self.out();
        out.reserve(items.len() * 32 + place.page_bytes as usize);
        for item in items {
            item.put(out);
        }
        out.extend_from_slice(&DIRECTORY_END);
        let mut header = place.header(kind);
        header.items = items.len() as u32;
        header.body_bytes = body_bytes as u32;
        let directory = self.body().get(body_bytes..).unwrap_or_default();
        header.directory_bytes = directory.len() as u32;
        header.directory_crc = directory_crc(place.seed(), directory);
        let (head, chain) = header.encode(place.uuid);
        let padding = header.frame_bytes(place.page_bytes) - header.content_bytes();
        let out = self.out();
        out.resize(out.len() + padding as usize, 0);
        self.0.align();
        if let Some(front) = self.0.content_mut().first_chunk_mut::<FRAME_HEADER_BYTES>() {
            front.copy_from_slice(&head);
        }
        chain
    }
}

/// An upper bound for the frame that `items` items with a body of `body_bytes` make, in bytes.
pub(crate) const fn frame_bytes_max(page_bytes: u32, items: u64, body_bytes: u64) -> u64 {
    frame_bytes(page_bytes, items * ITEM_BYTES_MAX as u64, body_bytes)
}

/// How long the frame is that items of `item_bytes` with a body of `body_bytes` make, in bytes.
pub(crate) const fn frame_bytes(page_bytes: u32, item_bytes: u64, body_bytes: u64) -> u64 {
    let ends = FRAME_HEADER_BYTES as u64 + DIRECTORY_END.len() as u64;
    (ends + item_bytes + body_bytes).next_multiple_of(page_bytes as u64)
}

/// Reads a frame's directory.
///
/// # Errors
/// When it is not what was written, or its sections do not tile the body.
pub(crate) fn read_directory(
    header: &FrameHeader,
    uuid: StoreUuid,
    directory: &[u8],
) -> Result<Vec<Item>, DecodeError> {
    let crc = directory_crc(header.seed(uuid), directory);
    if crc != header.directory_crc && holds(Rule::DirectoryChecksum) {
        return Err(DecodeError::Invalid {
            reason: "checksum of a frame's directory",
        });
    }
    let lines = directory
        .strip_suffix(&DIRECTORY_END)
        .ok_or(DecodeError::Truncated)?;
    let mut reader = Reader::new(Bytes::copy_from_slice(lines));
    let mut items = Vec::with_capacity((header.items as usize).min(directory.len() / 8));
    let mut bytes = 0u64;
    for _ in 0..header.items {
        let item = Item::read(&mut reader)?;
        check_count(item.step)?;
        if let ItemKind::Relocated { generation, .. } = item.kind {
            check_count(generation)?;
        }
        bytes += u64::from(item.bytes);
        items.push(item);
    }
    reader.end()?;
    if bytes != u64::from(header.body_bytes) {
        return Err(DecodeError::Invalid {
            reason: "sections do not fill the body",
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_summed_early_has_the_sum_of_its_place() {
        let (place, ..) = sample();
        for bytes in [EARLY_BYTES - 1, EARLY_BYTES, SECTION_BYTES + 77] {
            let sections: Vec<u8> = (0..2 * bytes).map(|at| (at * 7 + at / 256) as u8).collect();
            let kind = ItemKind::State(5);
            let item = |step| Item::new(GroupId(1), step, kind, bytes as u32);
            let mut late = [item(1), item(2)];
            let mut early = late;
            for (item, section) in early.iter_mut().zip(sections.chunks(bytes)) {
                item.sum_early(section);
                assert_eq!(item.placeless, bytes >= EARLY_BYTES);
            }
            sum_sections(&place, 40, &mut late, &sections);
            sum_sections(&place, 40, &mut early, &sections);
            assert_eq!(early, late);
        }
    }

    fn sample() -> (Place, Vec<Item>, Vec<u8>) {
        let place = Place {
            uuid: StoreUuid([3; 16]),
            id: SegmentId {
                number: 4,
                life: 99,
            },
            page_bytes: 512,
            offset: 1024,
            lsn: 17,
            durable: 16,
            chain: 0xdead_beef,
        };
        let span = Span {
            first: LogIndex(5),
            count: 2,
            term: Term(3),
            prev_term: Term(2),
        };
        let items = vec![
            Item::new(GroupId(1), 8, ItemKind::Entries(span), 6),
            Item::new(GroupId(300), 1, ItemKind::State(5), 4),
        ];
        (place, items, b"entriesstat".get(..10).unwrap().to_vec())
    }

    fn sealed() -> (Place, Vec<Item>, Vec<u8>, u32) {
        let (place, mut items, body) = sample();
        sum_sections(&place, 0, &mut items, &body);
        let mut frame = FrameBuf::default();
        frame.out().extend_from_slice(&body);
        let chain = frame.seal(FrameKind::Batch, &place, &items);
        (place, items, frame.frame().to_vec(), chain)
    }

    #[test]
    fn frame_comes_back_page_aligned() {
        let (place, items, bytes, sealed_chain) = sealed();
        assert_eq!(bytes.len(), 512);
        let (header, chain) = FrameHeader::decode(&bytes, place.uuid).unwrap();
        assert_eq!((header.lsn, header.durable, chain), (17, 16, sealed_chain));
        let start = FRAME_HEADER_BYTES + header.body_bytes as usize;
        let end = start + header.directory_bytes as usize;
        assert_eq!(
            read_directory(&header, place.uuid, &bytes[start..end]).unwrap(),
            items
        );
        let section = &bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 6];
        assert_eq!(
            items[0].crc,
            section_crc(section_seed(place.seed(), 0), section)
        );
    }

    #[test]
    fn every_flipped_bit_of_header_and_directory_is_noticed() {
        let (place, _, sealed, _) = sealed();
        let (header, _) = FrameHeader::decode(&sealed, place.uuid).unwrap();
        let start = FRAME_HEADER_BYTES + header.body_bytes as usize;
        let end = start + header.directory_bytes as usize;
        for bit in (0..FRAME_HEADER_BYTES * 8).chain(start * 8..end * 8) {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok((header, _)) = FrameHeader::decode(&bytes, place.uuid) else {
                continue;
            };
            assert!(
                read_directory(&header, place.uuid, &bytes[start..end]).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn frame_of_another_log_is_refused() {
        let (_, _, bytes, _) = sealed();
        assert!(FrameHeader::decode(&bytes, StoreUuid([4; 16])).is_err());
    }

    #[test]
    fn item_takes_what_was_counted_for_it_and_never_more_than_its_bound() {
        for most in [0, 127, 128, 1 << 32, u64::MAX] {
            let count = u32::try_from(most).unwrap_or(u32::MAX);
            let span = Span {
                first: LogIndex(most),
                count,
                term: Term(most),
                prev_term: Term(most),
            };
            for kind in [
                ItemKind::Log,
                ItemKind::Entries(span),
                ItemKind::Relocated {
                    span,
                    generation: most,
                },
                ItemKind::State(255),
                ItemKind::Checkpoint,
                ItemKind::Extents,
            ] {
                let mut out = Vec::new();
                let item = Item::new(GroupId(most), most, kind, count);
                item.put(&mut out);
                assert_eq!(item.encoded_bytes(), out.len() as u64, "{item:?}");
                assert!(out.len() <= ITEM_BYTES_MAX, "{item:?}");
            }
        }
    }
}
