//! Where a group's entries stand: which segments serve which indexes, and, of the segment that is
//! being written, every section. Those of sealed segments stand in their footers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use raftwerk_raft::{LogIndex, Term};

use crate::sections::Sections;
use crate::segment::format::Span;

/// A section of entries of one term, or the part of it that is still the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first entry of the section.
    pub(crate) base: LogIndex,
    /// How many entries the section holds.
    pub(crate) base_count: u32,
    /// The first entry that counts.
    pub(crate) first: LogIndex,
    /// How many count.
    pub(crate) count: u32,
    /// The term of all of them.
    pub(crate) term: Term,
    /// In which segment.
    pub(crate) segment: u64,
    /// Where in it, in bytes.
    pub(crate) offset: u64,
    /// The section's length, in bytes.
    pub(crate) bytes: u32,
    /// What the section's checksum begins with.
    pub(crate) seed: u32,
    /// The section's checksum.
    pub(crate) crc: u32,
}

impl Extent {
    /// A whole section.
    pub(crate) const fn new(span: &Span, segment: u64, offset: u64, bytes: u32) -> Self {
        Self {
            base: span.first,
            base_count: span.count,
            first: span.first,
            count: span.count,
            term: span.term,
            segment,
            offset,
            bytes,
            seed: 0,
            crc: 0,
        }
    }

    /// The index behind the last that counts.
    pub(crate) const fn end(&self) -> LogIndex {
        self.first.plus(self.count as u64)
    }

    /// What the section holds, for decoding it.
    pub(crate) const fn span(&self) -> Span {
        Span {
            first: self.base,
            count: self.base_count,
            term: self.term,
            prev_term: Term::ZERO,
        }
    }

    /// About how many bytes of the section count.
    pub(crate) fn live_bytes(&self) -> u64 {
        let whole = u64::from(self.bytes) * u64::from(self.count);
        whole.div_ceil(u64::from(self.base_count).max(1))
    }

    /// The entries that count.
    pub(crate) const fn range(&self) -> Range<LogIndex> {
        self.first..self.end()
    }

    /// The part inside `range`.
    pub(crate) fn clip(&self, range: &Range<LogIndex>) -> Option<Self> {
        let first = self.first.max(range.start);
        let end = self.end().min(range.end);
        let count = u32::try_from(end.since(first))
            .ok()
            .filter(|count| *count > 0)?;
        Some(Self {
            first,
            count,
            ..*self
        })
    }
}

/// The part of `range` in which the log has `term`. A log's terms never fall, so it is one.
pub(crate) fn agreeing(
    range: &Range<LogIndex>,
    term: Term,
    log: impl Fn(LogIndex) -> Option<Term>,
) -> Range<LogIndex> {
    let (mut first, mut end) = (range.start, range.end);
    while first < end && log(first) != Some(term) {
        first = first.next();
    }
    while first < end && log(end.prev()) != Some(term) {
        end = end.prev();
    }
    first..end
}

/// What lives in a segment: the sum of all groups' parts there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) entries: u64,
    /// About how many bytes they take.
    pub(crate) bytes: u64,
}

/// What lives in each segment.
pub(crate) type Live = BTreeMap<u64, Load>;

fn hold(live: &mut Live, part: &Part) {
    let load = live.entry(part.segment).or_default();
    load.entries += part.len();
    load.bytes += part.bytes;
}

fn release(live: &mut Live, part: &Part) {
    if let Some(load) = live.get_mut(&part.segment) {
        load.entries = load.entries.saturating_sub(part.len());
        load.bytes = load.bytes.saturating_sub(part.bytes);
    }
}

/// Entries that stand in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) segment: u64,
    pub(crate) first: LogIndex,
    /// The index behind the last.
    pub(crate) end: LogIndex,
    /// About how many bytes they take.
    pub(crate) bytes: u64,
}

impl Part {
    pub(crate) const fn new(segment: u64, range: &Range<LogIndex>, bytes: u64) -> Self {
        Self {
            segment,
            first: range.start,
            end: range.end,
            bytes,
        }
    }

    /// What `extent` serves.
    pub(crate) fn of(extent: &Extent) -> Self {
        Self::new(extent.segment, &extent.range(), extent.live_bytes())
    }

    pub(crate) const fn range(&self) -> Range<LogIndex> {
        self.first..self.end
    }

    /// How many entries.
    fn len(&self) -> u64 {
        self.end.since(self.first)
    }

    /// The part inside `range`, as if all entries were of the same size.
    pub(crate) fn clip(&self, range: &Range<LogIndex>) -> Option<Self> {
        let (first, end) = (self.first.max(range.start), self.end.min(range.end));
        let (some, all) = (end.since(first), self.len().max(1));
        let bytes = u128::from(self.bytes) * u128::from(some);
        (first < end).then_some(Self {
            first,
            end,
            bytes: u64::try_from(bytes.div_ceil(u128::from(all))).unwrap_or(u64::MAX),
            ..*self
        })
    }
}

/// Which segments serve which entries of one group: ascending, not overlapping, neighbours joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    list: VecDeque<Part>,
}

impl Parts {
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.list.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    fn push(&mut self, part: Part, live: &mut Live) {
        hold(live, &part);
        match self.list.back_mut() {
            Some(last) if last.segment == part.segment && last.end == part.first => {
                last.end = part.end;
                last.bytes += part.bytes;
            }
            _ => self.list.push_back(part),
        }
    }

    /// Adds appended entries; what stood at their first index or behind it goes.
    pub(crate) fn append(&mut self, part: Part, live: &mut Live) {
        self.truncate(part.first, live);
        self.place(part, live);
    }

    /// Drops what stands at `from` or behind it.
    pub(crate) fn truncate(&mut self, from: LogIndex, live: &mut Live) {
        while let Some(last) = self.list.back().copied().filter(|last| last.end > from) {
            self.list.pop_back();
            release(live, &last);
            if let Some(rest) = last.clip(&(LogIndex::ZERO..from)) {
                self.push(rest, live);
            }
        }
    }

    /// Drops what stands before `first`.
    pub(crate) fn compact(&mut self, first: LogIndex, live: &mut Live) {
        while let Some(front) = self.list.front().copied() {
            if front.first >= first {
                return;
            }
            self.list.pop_front();
            release(live, &front);
            if let Some(rest) = front.clip(&(first..LogIndex::MAX)) {
                hold(live, &rest);
                self.list.push_front(rest);
            }
        }
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, live: &mut Live) {
        for part in self.list.drain(..) {
            release(live, &part);
        }
    }

    /// The entries of `part` are found there from now on; the rest of the log stays.
    pub(crate) fn place(&mut self, part: Part, live: &mut Live) {
        if self.list.back().is_none_or(|last| last.end <= part.first) {
            self.push(part, live);
            return;
        }
        let mut place = Some(part);
        for other in std::mem::take(&mut self.list) {
            let before = other.clip(&(LogIndex::ZERO..part.first));
            let after = other.clip(&(part.end..LogIndex::MAX));
            release(live, &other);
            let place = after.and_then(|_| place.take());
            for part in before.into_iter().chain(place).chain(after) {
                self.push(part, live);
            }
        }
        if let Some(part) = place {
            self.push(part, live);
        }
    }

    /// The parts that serve `range`, from its start on without a gap.
    pub(crate) fn cover(&self, range: &Range<LogIndex>) -> impl Iterator<Item = Part> + '_ {
        let skip = self.list.partition_point(|part| part.end <= range.start);
        let range = range.clone();
        let mut next = range.start;
        self.list.range(skip..).map_while(move |part| {
            let part = part.clip(&range).filter(|part| part.first == next)?;
            next = part.end;
            Some(part)
        })
    }

    /// The parts of `range` that no segment serves.
    pub(crate) fn missing(&self, range: &Range<LogIndex>) -> Vec<Range<LogIndex>> {
        let mut next = range.start;
        let mut out = Vec::new();
        for part in self.list.iter().filter_map(|part| part.clip(range)) {
            if part.first > next {
                out.push(next..part.first);
            }
            next = part.end;
        }
        if next < range.end {
            out.push(next..range.end);
        }
        out
    }

    /// Drops what stands in other segments than `present`.
    pub(crate) fn retain_segments(&mut self, present: &BTreeSet<u64>, live: &mut Live) {
        self.list.retain(|part| {
            let kept = present.contains(&part.segment);
            if !kept {
                release(live, part);
            }
            kept
        });
    }

    /// Of what stands in `segment`, keeps what was `found` there, as far as it is of the term that
    /// the log has: what a lost frame replaced does not count.
    pub(crate) fn confirm(
        &mut self,
        segment: u64,
        found: &Sections,
        term: impl Fn(LogIndex) -> Option<Term>,
        live: &mut Live,
    ) {
        if !self.list.iter().any(|part| part.segment == segment) {
            return;
        }
        for part in std::mem::take(&mut self.list) {
            release(live, &part);
            if part.segment != segment {
                self.push(part, live);
                continue;
            }
            for (range, of_term) in found.ranges() {
                let Some(kept) = Part::new(segment, &range, 0).clip(&part.range()) else {
                    continue;
                };
                let kept = agreeing(&kept.range(), of_term, &term);
                let extents = found.within(segment, kept.clone());
                let bytes = extents.map(|extent| extent.live_bytes()).sum();
                let kept = Part::new(segment, &kept, bytes);
                if kept.first < kept.end {
                    self.push(kept, live);
                }
            }
        }
    }
}

/// Where the entries of one group stand. In detail only in segments without a durable footer that
/// this life has written: the active one, and for a moment the one before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extents {
    pub(crate) parts: Parts,
    details: BTreeMap<u64, Sections>,
}

impl Extents {
    /// Known parts, without details.
    pub(crate) const fn new(parts: Parts) -> Self {
        Self {
            parts,
            details: BTreeMap::new(),
        }
    }

    /// What is known of the sections in a segment.
    pub(crate) fn set_details(&mut self, segment: u64, sections: Sections) {
        self.details.insert(segment, sections);
    }

    /// Adds appended entries; what stood at their first index or behind it goes.
    pub(crate) fn append(&mut self, extent: &Extent, live: &mut Live) {
        self.parts.append(Part::of(extent), live);
        for sections in self.details.values_mut() {
            sections.truncate(extent.first);
        }
        self.sections(extent.segment).append(extent);
    }

    /// The entries of `extent` are found there from now on; the rest of the log stays.
    pub(crate) fn relocate(&mut self, extent: &Extent, live: &mut Live) {
        self.parts.place(Part::of(extent), live);
        self.sections(extent.segment).place(extent);
    }

    fn sections(&mut self, segment: u64) -> &mut Sections {
        // There are two at most.
        self.details.entry(segment).or_default()
    }

    /// Drops what stands before `first`.
    pub(crate) fn compact(&mut self, first: LogIndex, live: &mut Live) {
        self.parts.compact(first, live);
        if self.parts.is_empty() {
            self.details.clear();
        }
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, live: &mut Live) {
        self.parts.clear(live);
        self.details.clear();
    }

    /// The sections that serve `part`, if they are known in memory.
    pub(crate) fn details(&self, part: &Part) -> Option<impl Iterator<Item = Extent> + '_> {
        let sections = self.details.get(&part.segment)?;
        Some(sections.within(part.segment, part.range()))
    }

    /// The live sections in `segment`, of which the details are known.
    pub(crate) fn within(&self, segment: u64) -> impl Iterator<Item = Extent> + '_ {
        let parts = self
            .parts
            .iter()
            .filter(move |part| part.segment == segment);
        parts.filter_map(|part| self.details(part)).flatten()
    }

    /// Forgets the details of segments before `segment`: their footers are durable.
    pub(crate) fn forget_details(&mut self, segment: u64) {
        self.details.retain(|of, _| *of >= segment);
    }

    /// How much memory it takes, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let details = self.details.values().map(Sections::memory);
        self.parts.list.capacity() * size_of::<Part>() + details.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(first: u64, count: u32, segment: u64) -> Extent {
        let span = Span {
            first: LogIndex(first),
            count,
            term: Term(1),
            prev_term: Term(1),
        };
        Extent::new(&span, segment, first * 100, 10)
    }

    fn ranges(extents: &Extents) -> Vec<(u64, u64, u64)> {
        let parts = extents.parts.iter();
        parts
            .map(|part| (part.segment, part.first.0, part.end.0))
            .collect()
    }

    /// How many entries live in each segment; these are the ones of the only group.
    fn entries(extents: &Extents, live: &Live) -> Vec<(u64, u64)> {
        let mut sums = Live::new();
        for part in extents.parts.iter() {
            hold(&mut sums, part);
        }
        for (segment, load) in live {
            let sum = sums.get(segment).copied().unwrap_or_default();
            assert_eq!(*load, sum, "segment {segment}");
        }
        let pair = |(segment, load): (&u64, &Load)| (*segment, load.entries);
        live.iter().map(pair).collect()
    }

    #[test]
    fn conflicting_append_frees_the_segments_behind_it() {
        let (mut extents, mut live) = (Extents::default(), Live::new());
        extents.append(&extent(1, 5, 1), &mut live);
        extents.append(&extent(6, 5, 2), &mut live);
        extents.append(&extent(4, 2, 3), &mut live);
        assert_eq!(ranges(&extents), [(1, 1, 4), (3, 4, 6)]);
        assert_eq!(entries(&extents, &live), [(1, 3), (2, 0), (3, 2)]);
        extents.compact(LogIndex(5), &mut live);
        assert_eq!(ranges(&extents), [(3, 5, 6)]);
        assert_eq!(entries(&extents, &live), [(1, 0), (2, 0), (3, 1)]);
    }

    #[test]
    fn relocation_truncates_nothing() {
        let (mut extents, mut live) = (Extents::default(), Live::new());
        extents.append(&extent(1, 20, 1), &mut live);
        extents.relocate(&extent(5, 6, 2), &mut live);
        assert_eq!(ranges(&extents), [(1, 1, 5), (2, 5, 11), (1, 11, 21)]);
        assert_eq!(entries(&extents, &live), [(1, 14), (2, 6)]);
        extents.relocate(&extent(1, 20, 3), &mut live);
        assert_eq!(ranges(&extents), [(3, 1, 21)]);
        assert_eq!(entries(&extents, &live), [(1, 0), (2, 0), (3, 20)]);
        let missing = extents.parts.missing(&(LogIndex(0)..LogIndex(23)));
        assert_eq!(missing.len(), 2);
    }

    #[test]
    fn neighbours_in_a_segment_take_one_part() {
        let (mut extents, mut live) = (Extents::default(), Live::new());
        for index in 1..=1000 {
            extents.append(&extent(index, 1, 1 + index / 501), &mut live);
        }
        assert_eq!(ranges(&extents), [(1, 1, 501), (2, 501, 1001)]);
        assert_eq!(entries(&extents, &live), [(1, 500), (2, 500)]);
        assert_eq!(extents.within(2).count(), 500);
        extents.forget_details(2);
        assert_eq!(extents.within(1).count(), 0, "its footer says where");
        assert_eq!(extents.parts.len(), 2);
    }
}
