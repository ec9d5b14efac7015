//! Where a group's entries stand: sections of segments, in order of index.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use raftwerk_raft::{LogIndex, Term};

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
    /// The section's length; zero while recovery has yet to find it.
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

impl Extent {
    /// The part that is of the term the log has there. A log's terms never fall, so it is one.
    pub(crate) fn agreeing(&self, term: impl Fn(LogIndex) -> Option<Term>) -> Option<Self> {
        let (mut first, mut end) = (self.first, self.end());
        while first < end && term(first) != Some(self.term) {
            first = first.next();
        }
        while first < end && term(end.prev()) != Some(self.term) {
            end = end.prev();
        }
        self.clip(&(first..end))
    }
}

/// How many extents each segment still serves.
pub(crate) type Live = BTreeMap<u64, u64>;

fn release(live: &mut Live, segment: u64) {
    if let Some(count) = live.get_mut(&segment) {
        *count = count.saturating_sub(1);
    }
}

/// The extents of one group: ascending, not overlapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extents {
    list: VecDeque<Extent>,
}

impl Extents {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.list.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The extents in `segment`, if that is the newest one.
    pub(crate) fn newest_in(&self, segment: u64) -> impl Iterator<Item = &Extent> {
        let older = self
            .list
            .iter()
            .rev()
            .position(|extent| extent.segment < segment);
        let skip = older.map_or(0, |count| self.list.len() - count);
        self.list
            .range(skip..)
            .filter(move |extent| extent.segment == segment)
    }

    /// At most how many entries [`Extents::ranges`] has.
    pub(crate) fn ranges_max(&self) -> usize {
        let segments = match (self.list.front(), self.list.back()) {
            (Some(front), Some(back)) => back.segment.saturating_sub(front.segment) + 1,
            _ => 0,
        };
        self.list
            .len()
            .min(usize::try_from(segments).unwrap_or(usize::MAX))
    }

    /// Adds appended entries; what stood at their first index or behind it goes.
    pub(crate) fn append(&mut self, extent: Extent, live: &mut Live) {
        self.truncate(extent.first, live);
        *live.entry(extent.segment).or_default() += 1;
        self.list.push_back(extent);
    }

    /// Drops what stands at `from` or behind it.
    pub(crate) fn truncate(&mut self, from: LogIndex, live: &mut Live) {
        while let Some(last) = self.list.back().copied().filter(|last| last.end() > from) {
            self.list.pop_back();
            match last.clip(&(LogIndex::ZERO..from)) {
                Some(rest) => {
                    self.list.push_back(rest);
                    return;
                }
                None => release(live, last.segment),
            }
        }
    }

    /// Drops what stands before `first`.
    pub(crate) fn compact(&mut self, first: LogIndex, live: &mut Live) {
        while let Some(front) = self
            .list
            .front()
            .copied()
            .filter(|front| front.first < first)
        {
            self.list.pop_front();
            match front.clip(&(first..LogIndex::MAX)) {
                Some(rest) => {
                    self.list.push_front(rest);
                    return;
                }
                None => release(live, front.segment),
            }
        }
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, live: &mut Live) {
        for extent in self.list.drain(..) {
            release(live, extent.segment);
        }
    }

    /// The entries of `extent` are found there from now on; the rest of the log stays.
    pub(crate) fn relocate(&mut self, extent: Extent, live: &mut Live) {
        let range = extent.first..extent.end();
        let old = std::mem::take(&mut self.list);
        let mut place = Some(extent);
        for other in old {
            let before = other.clip(&(LogIndex::ZERO..range.start));
            let after = other.clip(&(range.end..LogIndex::MAX));
            release(live, other.segment);
            if after.is_some()
                && let Some(extent) = place.take()
            {
                *live.entry(extent.segment).or_default() += 1;
                self.list.extend(before);
                self.list.push_back(extent);
                self.list.extend(after);
                *live.entry(other.segment).or_default() += 1 + u64::from(before.is_some());
                continue;
            }
            for rest in [before, after].into_iter().flatten() {
                *live.entry(rest.segment).or_default() += 1;
                self.list.push_back(rest);
            }
        }
        if let Some(extent) = place {
            *live.entry(extent.segment).or_default() += 1;
            self.list.push_back(extent);
        }
    }

    /// The extents that serve `range`, from its start on without a gap, at most `count_max`.
    pub(crate) fn cover(&self, range: &Range<LogIndex>, count_max: usize) -> Vec<Extent> {
        let skip = self
            .list
            .partition_point(|extent| extent.end() <= range.start);
        let mut next = range.start;
        let mut out = Vec::new();
        for extent in self.list.range(skip..).take(count_max) {
            let Some(part) = extent.clip(range).filter(|part| part.first == next) else {
                break;
            };
            next = part.end();
            out.push(part);
        }
        out
    }

    /// The parts of `range` that no extent serves.
    pub(crate) fn missing(&self, range: &Range<LogIndex>) -> Vec<Range<LogIndex>> {
        let mut next = range.start;
        let mut out = Vec::new();
        for part in self.list.iter().filter_map(|extent| extent.clip(range)) {
            if part.first > next {
                out.push(next..part.first);
            }
            next = part.end();
        }
        if next < range.end {
            out.push(next..range.end);
        }
        out
    }

    /// Which segment serves which indexes, neighbours joined.
    pub(crate) fn ranges(&self) -> Vec<(u64, Range<LogIndex>)> {
        let mut out: Vec<(u64, Range<LogIndex>)> = Vec::new();
        for extent in &self.list {
            match out.last_mut() {
                Some((segment, range))
                    if *segment == extent.segment && range.end == extent.first =>
                {
                    range.end = extent.end();
                }
                _ => out.push((extent.segment, extent.first..extent.end())),
            }
        }
        out
    }

    /// Replaces the extents that recovery has yet to find in `segment` by those found there, as
    /// far as they are of the term that the log has: what a lost frame replaced does not count.
    pub(crate) fn resolve(
        &mut self,
        segment: u64,
        found: &Self,
        term: impl Fn(LogIndex) -> Option<Term>,
        live: &mut Live,
    ) {
        let old = std::mem::take(&mut self.list);
        for extent in old {
            if extent.segment != segment || extent.bytes > 0 {
                self.list.push_back(extent);
                continue;
            }
            release(live, segment);
            let range = extent.first..extent.end();
            for part in found.list.iter().filter_map(|other| other.clip(&range)) {
                let Some(part) = part.agreeing(&term) else {
                    continue;
                };
                *live.entry(segment).or_default() += 1;
                self.list.push_back(part);
            }
        }
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
        let ranges = extents.ranges().into_iter();
        ranges
            .map(|(segment, range)| (segment, range.start.0, range.end.0))
            .collect()
    }

    #[test]
    fn conflicting_append_frees_the_segments_behind_it() {
        let (mut extents, mut live) = (Extents::default(), Live::new());
        extents.append(extent(1, 5, 1), &mut live);
        extents.append(extent(6, 5, 2), &mut live);
        extents.append(extent(4, 2, 3), &mut live);
        assert_eq!(ranges(&extents), [(1, 1, 4), (3, 4, 6)]);
        assert_eq!(live, Live::from([(1, 1), (2, 0), (3, 1)]));
        extents.compact(LogIndex(5), &mut live);
        assert_eq!(ranges(&extents), [(3, 5, 6)]);
        assert_eq!(live[&1], 0);
    }

    #[test]
    fn relocation_truncates_nothing() {
        let (mut extents, mut live) = (Extents::default(), Live::new());
        extents.append(extent(1, 20, 1), &mut live);
        extents.relocate(extent(5, 6, 2), &mut live);
        assert_eq!(ranges(&extents), [(1, 1, 5), (2, 5, 11), (1, 11, 21)]);
        assert_eq!(live, Live::from([(1, 2), (2, 1)]));
        extents.relocate(extent(1, 20, 3), &mut live);
        assert_eq!(ranges(&extents), [(3, 1, 21)]);
        assert_eq!(live, Live::from([(1, 0), (2, 0), (3, 1)]));
        assert_eq!(extents.missing(&(LogIndex(0)..LogIndex(23))).len(), 2);
    }
}
