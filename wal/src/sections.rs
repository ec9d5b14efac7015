//! The sections of one group in one segment, in few bytes: 14 for each.

use std::ops::Range;

use raftwerk_raft::{LogIndex, Term};

use crate::index::Extent;

/// How far from its stretch's first entry a section may begin.
const DISTANCE_BITS: u32 = 20;
/// No section is longer: a batch never is.
const LENGTH_BITS: u32 = 28;

/// A section, packed: its length and its distance from the stretch's beginning, where it stands,
/// its checksum. What does not fit is cut and then fails its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot([u8; 14]);

impl Slot {
    fn new(distance: u64, extent: &Extent) -> Self {
        let length = u64::from(extent.bytes.min((1 << LENGTH_BITS) - 1));
        let offset = u32::try_from(extent.offset).unwrap_or(u32::MAX);
        let [a, b, c, d, e, f, ..] = (length | (distance << LENGTH_BITS)).to_le_bytes();
        let [g, h, i, j] = offset.to_le_bytes();
        let [k, l, m, n] = extent.crc.to_le_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n])
    }

    const fn packed(self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    const fn bytes(self) -> u32 {
        (self.packed() & ((1 << LENGTH_BITS) - 1)) as u32
    }

    const fn distance(self) -> u64 {
        self.packed() >> LENGTH_BITS
    }

    const fn offset(self) -> u64 {
        let [_, _, _, _, _, _, g, h, i, j, ..] = self.0;
        u32::from_le_bytes([g, h, i, j]) as u64
    }

    const fn crc(self) -> u32 {
        let [.., k, l, m, n] = self.0;
        u32::from_le_bytes([k, l, m, n])
    }
}

/// Sections of one term that follow each other without a gap.
#[derive(Clone, Debug)]
struct Stretch {
    /// The first entry of the first section, and the one behind the last of the last.
    base: LogIndex,
    base_end: LogIndex,
    /// The first that counts, and the one behind the last.
    first: LogIndex,
    end: LogIndex,
    term: Term,
    slots: Vec<Slot>,
}

impl Stretch {
    fn new(extent: &Extent) -> Self {
        Self {
            base: extent.base,
            base_end: extent.base.plus(u64::from(extent.base_count)),
            first: extent.first,
            end: extent.end(),
            term: extent.term,
            slots: vec![Slot::new(0, extent)],
        }
    }

    /// Takes a section that goes on where the last one ends.
    fn extend(&mut self, extent: &Extent) -> bool {
        let distance = extent.base.since(self.base);
        let whole = extent.first == extent.base && extent.count == extent.base_count;
        let joins = self.end == self.base_end && self.end == extent.base;
        if !whole || !joins || self.term != extent.term || distance >= 1 << DISTANCE_BITS {
            return false;
        }
        if self.slots.len() == self.slots.capacity() {
            // By an eighth: doubling would cost as much as it holds.
            self.slots.reserve_exact((self.slots.len() / 8).max(3));
        }
        self.slots.push(Slot::new(distance, extent));
        self.end = extent.end();
        self.base_end = self.end;
        true
    }

    /// The part inside `range`.
    fn clip(mut self, range: &Range<LogIndex>) -> Option<Self> {
        self.first = self.first.max(range.start);
        self.end = self.end.min(range.end);
        if self.first >= self.end {
            return None;
        }
        while let Some(last) = self.slots.last() {
            let begins = self.base.plus(last.distance());
            if begins < self.end {
                break;
            }
            self.base_end = begins;
            self.slots.pop();
        }
        Some(self)
    }

    /// The sections that serve `range`, as far as they do.
    fn within(&self, segment: u64, range: Range<LogIndex>) -> impl Iterator<Item = Extent> + '_ {
        let range = range.start.max(self.first)..range.end.min(self.end);
        let behind = |slot: &Slot| self.base.plus(slot.distance()) <= range.start;
        let skip = self.slots.partition_point(behind).saturating_sub(1);
        let slots = self.slots.get(skip..).unwrap_or_default();
        let ends = slots
            .iter()
            .skip(1)
            .map(|next| self.base.plus(next.distance()));
        let each = slots.iter().zip(ends.chain([self.base_end]));
        each.map(move |(slot, end)| self.extent(*slot, end, segment))
            .map_while(move |extent| extent.clip(&range))
    }

    fn extent(&self, slot: Slot, end: LogIndex, segment: u64) -> Extent {
        let base = self.base.plus(slot.distance());
        let count = u32::try_from(end.since(base)).unwrap_or(u32::MAX);
        Extent {
            base,
            base_count: count,
            first: base,
            count,
            term: self.term,
            segment,
            offset: slot.offset(),
            bytes: slot.bytes(),
            seed: 0,
            crc: slot.crc(),
        }
    }
}

/// Where the entries of one group stand in one segment: ascending, not overlapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections {
    stretches: Vec<Stretch>,
}

impl Sections {
    /// Adds appended entries; what stood at their first index or behind it goes.
    pub(crate) fn append(&mut self, extent: &Extent) {
        self.truncate(extent.first);
        self.place(extent);
    }

    /// Drops what stands at `from` or behind it.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        while let Some(last) = self.stretches.pop_if(|last| last.end > from) {
            if let Some(rest) = last.clip(&(LogIndex::ZERO..from)) {
                self.stretches.push(rest);
            }
        }
    }

    /// The entries of `extent` are found there from now on; the rest stays.
    pub(crate) fn place(&mut self, extent: &Extent) {
        let last = self.stretches.last_mut();
        if last.as_ref().is_none_or(|last| last.end <= extent.first) {
            if !last.is_some_and(|last| last.extend(extent)) {
                self.stretches.push(Stretch::new(extent));
            }
            return;
        }
        let mut place = Some(Stretch::new(extent));
        for other in std::mem::take(&mut self.stretches) {
            let after = other.clone().clip(&(extent.end()..LogIndex::MAX));
            self.stretches
                .extend(other.clip(&(LogIndex::ZERO..extent.first)));
            if after.is_some() {
                self.stretches.extend(place.take());
                self.stretches.extend(after);
            }
        }
        self.stretches.extend(place);
    }

    /// Drops all.
    pub(crate) fn clear(&mut self) {
        self.stretches.clear();
    }

    /// The sections that serve `range`, as far as they do. What their checksums begin with is left
    /// out.
    pub(crate) fn within(
        &self,
        segment: u64,
        range: Range<LogIndex>,
    ) -> impl Iterator<Item = Extent> + '_ {
        let skip = self
            .stretches
            .partition_point(|stretch| stretch.end <= range.start);
        let rest = self.stretches.get(skip..).unwrap_or_default().iter();
        let end = range.end;
        rest.take_while(move |stretch| stretch.first < end)
            .flat_map(move |stretch| stretch.within(segment, range.clone()))
    }

    /// Which entries there are, and of which term.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Range<LogIndex>, Term)> + '_ {
        let range = |stretch: &Stretch| (stretch.first..stretch.end, stretch.term);
        self.stretches.iter().map(range)
    }

    /// How much memory it takes, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let slots = |stretch: &Stretch| stretch.slots.capacity() * size_of::<Slot>();
        self.stretches.capacity() * size_of::<Stretch>()
            + self.stretches.iter().map(slots).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::format::Span;

    fn extent(first: u64, count: u32, term: u64) -> Extent {
        let span = Span {
            first: LogIndex(first),
            count,
            term: Term(term),
            prev_term: Term(0),
        };
        Extent {
            crc: 0xfedc_ba98,
            ..Extent::new(&span, 4, 0x7fff_0000 + first, (1 << 28) - 1 - count)
        }
    }

    fn found(sections: &Sections, range: Range<u64>) -> Vec<Extent> {
        let range = LogIndex(range.start)..LogIndex(range.end);
        sections.within(4, range).collect()
    }

    #[test]
    fn section_comes_back_as_it_was() {
        let mut sections = Sections::default();
        let all = [extent(5, 3, 1), extent(8, 1, 1), extent(9, 1 << 20, 1)];
        let far = extent(9 + (1 << 20), 2, 1);
        for extent in all.iter().chain([&far]) {
            sections.append(extent);
        }
        let part = extent(9, 1 << 20, 1);
        let part = part.clip(&(LogIndex(100)..LogIndex(200))).unwrap();
        assert_eq!(found(&sections, 5..9), all[..2]);
        assert_eq!(found(&sections, 100..200), [part]);
        assert_eq!(found(&sections, far.first.0..u64::MAX), [far]);
        assert_eq!(sections.ranges().count(), 2, "too far for one stretch");
    }

    #[test]
    fn conflicting_append_hides_what_stood_behind_it() {
        let mut sections = Sections::default();
        sections.append(&extent(1, 5, 1));
        sections.append(&extent(6, 5, 1));
        sections.append(&extent(4, 2, 2));
        let kept = extent(1, 5, 1);
        let kept = kept.clip(&(LogIndex(1)..LogIndex(4))).unwrap();
        assert_eq!(found(&sections, 0..99), [kept, extent(4, 2, 2)]);
        sections.append(&extent(4, 9, 2));
        assert_eq!(found(&sections, 0..99), [kept, extent(4, 9, 2)]);
    }

    #[test]
    fn relocated_section_stands_between_what_is_there() {
        let mut sections = Sections::default();
        sections.append(&extent(11, 10, 1));
        sections.place(&extent(1, 5, 1));
        sections.place(&extent(14, 2, 1));
        let starts = |sections: &Sections| -> Vec<_> {
            let found = found(sections, 0..99).into_iter();
            found
                .map(|part| (part.base.0, part.first.0, part.count))
                .collect()
        };
        let wanted = [(1, 1, 5), (11, 11, 3), (14, 14, 2), (11, 16, 5)];
        assert_eq!(starts(&sections), wanted);
        sections.append(&extent(21, 3, 1));
        assert_eq!(starts(&sections)[4..], [(21, 21, 3)]);
    }

    #[test]
    fn section_takes_at_most_sixteen_bytes() {
        let mut sections = Sections::default();
        let count = 5000;
        for index in 1..=count {
            sections.append(&extent(index, 1, 1));
        }
        let memory = sections.memory() as u64;
        assert!(memory <= 16 * count, "{memory} bytes for {count} entries");
    }
}
