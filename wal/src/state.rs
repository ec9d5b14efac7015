//! What the log knows, under one lock that is never held over I/O: groups, the batches that wait,
//! where the next frame goes, and which space is promised to whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use raftwerk_raft::{GroupId, GroupWrite, SubmitError, Term, Ticket, WriteBatch};
use raftwerk_storage::buffer::PageBuf;
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::tail::Tail;
use raftwerk_storage::vfs::VfsFile;

use crate::batch::{Fill, GroupCursor};
use crate::index::{Extent, Extents, Live, agreeing};
use crate::options::Options;
use crate::record::is_encodable;
use crate::recovery::survey::Frames;
use crate::rules::{Rule, holds};
use crate::segment::checkpoint::{
    LogRecord, TOMBSTONE_BYTES, Tombstone, group_bytes_max, snapshot_bytes_max,
};
use crate::segment::footer::{Footing, footer_bytes_max};
use crate::segment::format::frame_bytes_max;
use crate::segment::header::SegmentHeader;
use crate::sites::SYNC_PREPARE;
use crate::stats::Stats;
use crate::straggler::Rewriting;
use crate::tables::{Maps, Sealed};

/// Prepared segments that are left alone while the log runs: with one of these, opening works on
/// a full disk.
pub(crate) const RESERVE_SEGMENTS: usize = 1;
/// How many prepared segments there should be.
pub(crate) const READY_SEGMENTS: usize = RESERVE_SEGMENTS + 1;
/// Of the active segment, entries leave this part (one of so many) while nothing is ready.
const HEADROOM_PART: u64 = 8;
/// Old segments that stay although nothing in them lives: the active one's predecessor, whose
/// checkpoint stands in for a damaged newer one.
const KEPT_SEGMENTS: usize = 2;
/// At most what a new group takes in a checkpoint without snapshot and values, in bytes, its item
/// included.
const GROUP_GROWTH: usize = 360;
/// How many groups [`State::pinning`] names at most.
const PINNING_MAX: usize = 16;

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) image: GroupImage,
    pub(crate) tail: Tail,
    pub(crate) extents: Extents,
    /// Its last item.
    pub(crate) step: u64,
    /// Which life of this id; zero while there is none.
    pub(crate) generation: u64,
    /// What it takes at most in a checkpoint, in bytes.
    pub(crate) checkpoint_bytes: u64,
    /// Some of its entries are on their way to another place.
    pub(crate) moving: bool,
    /// The newest batch that took entries from it, other than from the front.
    pub(crate) cut: Ticket,
}

impl Group {
    /// Nothing is known of it, and no entry stands anywhere.
    pub(crate) fn is_gone(&self) -> bool {
        self.image.is_blank() && self.extents.parts.is_empty()
    }

    /// It may have voted in something that is lost.
    pub(crate) fn doubt(&mut self) {
        let mut health = self.image.health().clone();
        health.vote_unknown = true;
        self.image.set_health(health);
    }

    /// Of entries that stand in another place too now, those that are still its log.
    pub(crate) fn relocatable(&self, generation: u64, extent: &Extent) -> Option<Extent> {
        let log = self.image.first()..self.image.last().index.next();
        let extent = extent.clip(&log)?;
        let term = |index| self.image.term(index).ok();
        let extent = extent.clip(&agreeing(&extent.range(), extent.term, term))?;
        (generation == self.generation || !holds(Rule::Generation)).then_some(extent)
    }

    /// At most how many ranges of segments a checkpoint names for it, whatever is under way: an
    /// append adds one, and entries that move may leave one on either side.
    fn ranges_max(&self) -> usize {
        self.extents.parts.len() + if self.moving { 4 } else { 2 }
    }
}

/// One file of the log.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn VfsFile>,
    /// Where its part of the log ends, in bytes. Of the active one: where the next frame goes.
    pub(crate) end: u64,
    /// Of the active one: its frames.
    pub(crate) frames: Frames,
    /// Where its footer begins, if there is one.
    pub(crate) footer: Option<u64>,
    /// Nothing is written to it any more.
    pub(crate) sealed: bool,
    /// An earlier life of the log wrote it: who read there may still hold a mapping of it.
    pub(crate) earlier: bool,
    pub(crate) maps: Arc<Maps>,
}

impl Segment {
    /// One that nobody reads.
    pub(crate) fn new(header: SegmentHeader, file: Arc<dyn VfsFile>, end: u64) -> Self {
        Self {
            header,
            file,
            end,
            frames: Frames::default(),
            footer: None,
            sealed: false,
            earlier: false,
            maps: Arc::default(),
        }
    }

    /// Writes the first page, durably.
    pub(crate) fn write_header(&self) -> io::Result<()> {
        let page = PageBuf::copy_of(&self.header.encode());
        self.file.write_at(0, page.content())?;
        self.file.sync_data(SYNC_PREPARE)
    }

    /// Nobody reads it, and so its file may be used again. Asked when it is the log's no longer,
    /// and so nobody begins to.
    pub(crate) fn is_unread(&self) -> bool {
        let here = Arc::strong_count(&self.file) > 1 || Arc::strong_count(&self.maps) > 1;
        !self.earlier && !here
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, end, .. } = self;
        f.debug_struct("Segment")
            .field("header", header)
            .field("end", end)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Whether three quarters of it are written when its part of the log ends at `end`.
    pub(crate) const fn is_filling(&self, end: u64) -> bool {
        end > self.header.capacity / 4 * 3
    }
}

/// A write that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) bytes: u64,
    pub(crate) since: Instant,
}

/// What stands in the log behind its last frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// The last frame's place in the log.
    pub(crate) lsn: u64,
    /// Its header's checksum.
    pub(crate) chain: u32,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) uuid: StoreUuid,
    pub(crate) options: Options,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) record: LogRecord,
    /// Oldest first; the last is the active one.
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) live: Live,
    /// What the active segment's entries take in its footer.
    pub(crate) footing: Footing,
    pub(crate) end: End,
    pub(crate) durable_lsn: u64,
    pub(crate) fill: Fill,
    /// Empty: takes turns with the other one.
    pub(crate) spare_fill: Fill,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) ready: VecDeque<Segment>,
    /// A segment of this size is wanted for something large, in bytes; zero when none is.
    pub(crate) large: u64,
    /// A batch was refused because too few segments were ready.
    pub(crate) refused: bool,
    /// Segments that nothing needs any more, for the preparer.
    pub(crate) retired: VecDeque<Segment>,
    pub(crate) ticket: Ticket,
    /// Everything up to this batch is durable, and it is known where its entries stand.
    pub(crate) landed: Ticket,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) tail_bytes: u64,
    /// Where the next eviction goes on.
    pub(crate) evict_from: GroupId,
    /// What was done, as far as it is counted under the lock.
    pub(crate) stats: Stats,
    pub(crate) rewriting: Rewriting,
    /// The largest [`Group::step`] of those that were forgotten. A new group counts on from there:
    /// should its beginning be lost, it does not pass for a life that was forgotten.
    pub(crate) forgotten_step: u64,
    /// What a write takes of the log's space, on the whole, of late, in bytes.
    pub(crate) usual_write: u64,
}

impl State {
    /// Takes a batch: checks it, encodes it into the next frame, makes it readable.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has changed then.
    pub(crate) fn submit(&mut self, batch: WriteBatch) -> Result<Ticket, SubmitError> {
        self.check(&batch)?;
        let max = self.options.batch_bytes_max;
        let payload: u64 = batch
            .groups
            .iter()
            .flat_map(|write| &write.append)
            .map(|entry| entry.data.len() as u64)
            .sum();
        if payload > max {
            return Err(SubmitError::TooLarge {
                batch,
                bytes: payload,
                max,
            });
        }
        let mark = self.fill.mark();
        let mut next_generation = self.record.next_generation;
        let mut steps = Vec::with_capacity(batch.groups.len());
        let mut growth = 0;
        for write in &batch.groups {
            let group = self.groups.get(&write.group);
            growth += checkpoint_growth(write, group);
            let cursor = self.cursor(write, group, &mut next_generation);
            steps.push((self.fill.add(write, cursor), cursor.create));
        }
        let cost = self.fill.cost_since(mark) + growth;
        if cost > max {
            self.fill.rollback(mark);
            return Err(SubmitError::TooLarge {
                batch,
                bytes: cost,
                max,
            });
        }
        self.fill.cost += cost;
        let room = self.has_room(is_urgent(&batch));
        if self.fill.cost > max || !room {
            self.refused |= !room;
            if !room {
                self.want_large(cost);
            }
            self.fill.cost -= cost;
            self.fill.rollback(mark);
            return Err(SubmitError::Full(batch));
        }
        self.record.next_generation = next_generation;
        self.stats.batches += 1;
        self.ticket = Ticket(self.ticket.0 + 1);
        self.fill.ticket = self.ticket;
        self.fill.eager |= batch.durability == raftwerk_raft::Durability::Sync;
        for (write, (step, create)) in batch.groups.into_iter().zip(steps) {
            self.perform(write, step, create);
        }
        Ok(self.ticket)
    }

    fn check(&self, batch: &WriteBatch) -> Result<(), SubmitError> {
        let mut seen = BTreeSet::new();
        let blank = GroupImage::default();
        for write in &batch.groups {
            let group = write.group;
            let invalid = |reason: String| SubmitError::Invalid { group, reason };
            if batch.groups.len() > 1 && !seen.insert(group) {
                return Err(invalid("the group stands in the batch twice".to_owned()));
            }
            let image = self.groups.get(&group).map_or(&blank, |group| &group.image);
            image.check(write).map_err(invalid)?;
            let mut metas = [&write.reset_to, &write.snapshot].into_iter().flatten();
            if !metas.all(is_encodable) {
                return Err(invalid(
                    "the snapshot's configuration is not sorted".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn cursor(
        &self,
        write: &GroupWrite,
        group: Option<&Group>,
        next_generation: &mut u64,
    ) -> GroupCursor {
        let begins = write.destroy || group.is_none_or(|group| group.generation == 0);
        // A step that only destroys begins nothing.
        let content = write.reset_to.is_some()
            || write.snapshot.is_some()
            || !write.append.is_empty()
            || write.hard_state.is_some()
            || !write.meta.is_empty();
        let create = (begins && content).then(|| {
            *next_generation += 1;
            *next_generation - 1
        });
        let prev_term = match (&write.reset_to, write.append.first()) {
            (Some(meta), _) => meta.last.term,
            (None, Some(first)) if !write.destroy => group
                .and_then(|group| group.image.term(first.index().prev()).ok())
                .unwrap_or(Term::ZERO),
            _ => Term::ZERO,
        };
        GroupCursor {
            step: group.map_or(self.forgotten_step, |group| group.step),
            create,
            prev_term,
        }
    }

    fn perform(&mut self, write: GroupWrite, step: u64, create: Option<u64>) {
        let (id, ticket) = (write.group, self.ticket);
        let newest = self
            .segments
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let strangers_unknown = self.record.strangers_unknown;
        let group = self.groups.entry(id).or_default();
        if write.destroy && group.generation != 0 {
            // The fill may still go to the next segment.
            let tombstone = Tombstone {
                generation: group.generation,
                until: newest + 1,
            };
            self.record.tombstones.insert(id, tombstone);
            group.generation = 0;
        }
        if let Some(generation) = create {
            group.generation = generation;
        }
        group.step = step;
        let last = group.image.last().index;
        let replaces = write
            .append
            .first()
            .is_some_and(|first| first.index() <= last);
        if write.destroy || write.reset_to.is_some() || replaces {
            group.cut = ticket;
        }
        let before = group.tail.bytes();
        group.image.apply(&write);
        if create.is_some() && !write.destroy && strangers_unknown {
            // It may have existed before, and voted, in what was lost.
            group.doubt();
        }
        group.tail.apply(ticket, write);
        self.tail_bytes = (self.tail_bytes + group.tail.bytes()).saturating_sub(before);
        self.refresh(id);
    }

    /// Makes the watermark move, as an empty batch does.
    pub(crate) fn move_watermark(&mut self) {
        self.ticket = Ticket(self.ticket.0 + 1);
        self.fill.ticket = self.ticket;
        self.fill.eager = true;
    }

    /// Brings up to date what a group takes in a checkpoint.
    pub(crate) fn refresh(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let bytes = match group.image.is_blank() {
            true => 0,
            false => group_bytes_max(&group.image, group.ranges_max()),
        };
        self.checkpoint_bytes = (self.checkpoint_bytes + bytes) - group.checkpoint_bytes;
        group.checkpoint_bytes = bytes;
    }

    /// Whether what waits can be written into space that is prepared already. What is urgent may
    /// take the reserve. Once that is taken, what is not leaves some of the active segment to it.
    pub(crate) fn has_room(&self, urgent: bool) -> bool {
        let (spare, left) = match (urgent, self.ready.is_empty()) {
            (true, _) => (0, 0),
            (false, true) => (RESERVE_SEGMENTS, self.active_capacity() / HEADROOM_PART),
            (false, false) => (RESERVE_SEGMENTS, 0),
        };
        let left_enough = self.active_left(&self.fill);
        if left_enough.is_some_and(|free| free >= left) {
            return true;
        }
        let need = self.opening_bytes(&self.fill);
        let fits = |next: &Segment| need <= next.header.capacity;
        self.ready.len() > spare && self.ready.iter().any(fits)
    }

    pub(crate) fn active_capacity(&self) -> u64 {
        let active = self.segments.last_key_value();
        active.map_or(0, |(_, active)| active.header.capacity)
    }

    /// How much the active segment has left behind a frame of `fill` and its footer, in bytes;
    /// none when it has no room for these.
    pub(crate) fn active_left(&self, fill: &Fill) -> Option<u64> {
        let (_, active) = self.segments.last_key_value()?;
        let page = active.header.page_bytes;
        let frame = fill.frame_bytes(page);
        let footing = self.footing.plus(fill.footing());
        let end = active.end + frame + footer_bytes_max(page, footing, self.groups_max(fill));
        active.header.capacity.checked_sub(end)
    }

    /// At most what a new segment takes that begins with `fill`, its footer included, in bytes.
    pub(crate) fn opening_bytes(&self, fill: &Fill) -> u64 {
        self.empty_bytes() + fill.cost
    }

    /// The same without a fill.
    pub(crate) fn empty_bytes(&self) -> u64 {
        let page = self.options.page_bytes;
        let groups = self.groups.len() as u64;
        let body = self.record.bytes_max() + self.checkpoint_bytes;
        let first = frame_bytes_max(page, 2 + groups, body);
        // A page for the header, and what padding adds.
        first + footer_bytes_max(page, Footing::default(), 0) + 3 * u64::from(page)
    }

    /// How many groups there are at most when `fill` is written.
    fn groups_max(&self, fill: &Fill) -> u64 {
        self.groups.len() as u64 + fill.created()
    }

    /// How large the next segment should be, in bytes: a batch of half of that must fit behind the
    /// checkpoint, which may grow meanwhile, but the largest batch in any case if it is smaller.
    pub(crate) fn wanted_capacity(&self) -> u64 {
        let half = self.options.segment_bytes / 2;
        let batch = self.options.batch_bytes_max.min(half);
        self.capacity_for(batch).max(self.options.segment_bytes)
    }

    /// What a segment takes that begins with batches of `cost`, in bytes.
    fn capacity_for(&self, cost: u64) -> u64 {
        let need = self.empty_bytes() + cost + self.checkpoint_bytes / 4;
        need.next_multiple_of(u64::from(self.options.page_bytes))
    }

    /// What waits found no room: if the newest of it, which costs `cost`, is too large for the
    /// segments that are prepared, it gets one of its size.
    pub(crate) fn want_large(&mut self, cost: u64) {
        if self.capacity_for(cost) > self.wanted_capacity() {
            self.large = self.large.max(self.capacity_for(self.fill.cost));
        }
    }

    /// A segment of the log that is not written any more, to read from.
    pub(crate) fn sealed(&self, number: u64) -> Option<Sealed> {
        let segment = self.segments.get(&number)?;
        let mapped = segment.sealed && self.options.mapped_reads;
        Some(Sealed {
            uuid: self.uuid,
            header: segment.header,
            file: Arc::clone(&segment.file),
            end: segment.end,
            footer: segment.footer,
            maps: mapped.then(|| Arc::clone(&segment.maps)),
        })
    }

    /// The footer of every segment but the active one is durable: what it says need not be held.
    pub(crate) fn forget_details(&mut self) {
        let Some((newest, _)) = self.segments.last_key_value() else {
            return;
        };
        let newest = *newest;
        let mut fresh = false;
        for (_, segment) in self.segments.range_mut(..newest).rev() {
            if segment.sealed {
                break;
            }
            (segment.sealed, fresh) = (true, true);
            segment.frames.clear();
        }
        if fresh {
            for group in self.groups.values_mut() {
                group.extents.forget_details(newest);
            }
        }
    }

    /// The oldest segment that something lives in.
    pub(crate) fn oldest_needed(&self) -> u64 {
        let lives = |number: &&u64| self.live.get(number).is_some_and(|load| load.entries > 0);
        self.segments
            .keys()
            .find(lives)
            .copied()
            .unwrap_or(u64::MAX)
    }

    /// Takes from the log the oldest segments before `needed`: when something durable vouches for
    /// the frames that have freed them. The last of these alone, damaged, may be taken for a torn
    /// write, and then what it moved or compacted stands in the old segments only.
    pub(crate) fn reclaim(&mut self, needed: u64) {
        while self.segments.len() > KEPT_SEGMENTS {
            let Some(oldest) = self.segments.first_entry() else {
                return;
            };
            let number = *oldest.key();
            if number >= needed {
                return;
            }
            self.retired.push_back(oldest.remove());
            self.live.remove(&number);
            self.record
                .tombstones
                .retain(|_, tombstone| tombstone.until > number);
        }
    }

    /// Groups whose entries keep the oldest segment from being reused.
    pub(crate) fn pinning(&self) -> Vec<GroupId> {
        if self.segments.len() <= KEPT_SEGMENTS {
            return Vec::new();
        }
        let Some((oldest, _)) = self.segments.first_key_value() else {
            return Vec::new();
        };
        let pins = |group: &&(&GroupId, &Group)| {
            let mut parts = group.1.extents.parts.iter();
            parts.any(|part| part.segment == *oldest)
        };
        let groups: Vec<_> = self.groups.iter().collect();
        groups
            .iter()
            .filter(pins)
            .take(PINNING_MAX)
            .map(|(id, _)| **id)
            .collect()
    }

    /// Keeps the memory of recent entries within its bounds.
    pub(crate) fn evict(&mut self, durable: Ticket, touched: &[GroupId]) {
        for id in touched {
            self.evict_group(*id, durable, self.options.group_tail_bytes_max);
        }
        let mut left = self.groups.len();
        while self.tail_bytes > self.options.tail_bytes_max && left > 0 {
            let next = self
                .groups
                .range(self.evict_from..)
                .next()
                .map(|(id, _)| *id);
            let Some(id) = next else {
                self.evict_from = GroupId::ZERO;
                left -= 1;
                continue;
            };
            self.evict_group(id, durable, 0);
            self.evict_from = GroupId(id.0.saturating_add(1));
            left -= 1;
        }
    }

    fn evict_group(&mut self, id: GroupId, durable: Ticket, bytes_max: u64) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let before = group.tail.bytes();
        group.tail.evict(durable, bytes_max);
        self.tail_bytes = (self.tail_bytes + group.tail.bytes()).saturating_sub(before);
    }
}

/// What frees space may take the reserve, and so may what brings no entries, or a full disk would
/// stay full.
fn is_urgent(batch: &WriteBatch) -> bool {
    let frees = |write: &GroupWrite| {
        write.compact_to.is_some() || write.destroy || write.reset_to.is_some()
    };
    batch.groups.iter().any(frees) || batch.groups.iter().all(|write| write.append.is_empty())
}

/// At most how much a write to `group` adds to a checkpoint, in bytes.
fn checkpoint_growth(write: &GroupWrite, group: Option<&Group>) -> u64 {
    let fresh = group.is_none_or(|group| group.checkpoint_bytes == 0);
    let line = if fresh { GROUP_GROWTH } else { 0 };
    let tombstone = if write.destroy { TOMBSTONE_BYTES } else { 0 };
    let metas = [&write.reset_to, &write.snapshot].into_iter().flatten();
    let meta = write.meta.iter();
    let meta = meta.map(|(name, value)| 10 + name.len() + value.as_ref().map_or(0, |v| v.len()));
    let runs = write.append.chunk_by(|a, b| a.term() == b.term());
    let terms = 20 * runs.count();
    (line + tombstone + metas.map(snapshot_bytes_max).sum::<usize>() + meta.sum::<usize>() + terms)
        as u64
}
