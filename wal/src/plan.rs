//! What is written next, and where: turns the waiting batches into frames. Pure: bytes go to the
//! writer, nothing is read or written here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use raftwerk_raft::{GroupId, Ticket};
use raftwerk_storage::vfs::{SyncSite, VfsFile};

use crate::batch::{Effect, Fill};
use crate::index::Extent;
use crate::segment::checkpoint::{Predecessor, put_group};
use crate::segment::footer::{put_extents, put_successor};
use crate::segment::format::{
    FrameBuf, FrameKind, Item, ItemKind, Place, SegmentId, Span, sum_sections,
};
use crate::sites::{SYNC_BATCH, SYNC_SEAL};
use crate::state::{End, Group, Segment, State};

/// A frame to write.
pub(crate) struct Step {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) offset: u64,
    pub(crate) frame: FrameBuf,
    /// It is made durable, before anything else is written.
    pub(crate) sync: Option<SyncSite>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, sync, .. } = self;
        write!(f, "Step({offset}, {}, {sync:?})", self.frame.frame().len())
    }
}

/// A frame of batches on its way: where it goes is settled, its bytes are made by
/// [`Job::seal`], and the state learns of it when it is durable.
#[derive(Debug)]
struct Draft {
    place: Place,
    file: FileRef,
    fill: Fill,
    capacity: u64,
    /// Where it ends, and what the next frame is chained to, once sealed.
    end: u64,
    chain: u32,
}

/// A file, for which there is nothing to print.
struct FileRef(Arc<dyn VfsFile>);

impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileRef")
    }
}

/// What the writer does in one go. If all of it succeeds, everything up to `ticket` is durable.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) steps: Vec<Step>,
    pub(crate) ticket: Ticket,
    pub(crate) lsn: u64,
    /// Whom it concerns, each once.
    groups: Vec<GroupId>,
    /// How much of the log's space it takes, in bytes.
    taken: u64,
    /// Once it is durable, it vouches for all frames before it, which need no segment before this.
    needed: u64,
    draft: Option<Draft>,
}

impl Job {
    /// About how much it writes, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let len = |step: &Step| step.frame.frame().len() as u64;
        let draft = self.draft.as_ref();
        draft.map_or(0, |draft| draft.fill.body.len() as u64)
            + self.steps.iter().map(len).sum::<u64>()
    }

    /// Makes what is still to be made: checksums and copies, for which nobody should wait. None
    /// when a frame would not end inside of its segment.
    pub(crate) fn seal(mut self) -> Option<Self> {
        if let Some(draft) = &mut self.draft {
            let Draft { place, fill, .. } = draft;
            self.groups = groups_of(&fill.items);
            let mut frame = std::mem::take(&mut fill.body);
            sum_sections(place, 0, &mut fill.items, frame.body());
            draft.chain = frame.seal(FrameKind::Batch, place, &fill.items);
            draft.end = place.offset + frame.frame().len() as u64;
            if draft.end > draft.capacity {
                return None;
            }
            self.steps = vec![Step {
                file: Arc::clone(&draft.file.0),
                offset: place.offset,
                frame,
                sync: Some(SYNC_BATCH),
            }];
        }
        Some(self)
    }
}

impl State {
    /// Makes the waiting batches a job. None when none wait.
    pub(crate) fn plan(&mut self) -> Option<Job> {
        if self.fill.is_empty() {
            return None;
        }
        // The other fill has grown already.
        let fill = std::mem::replace(&mut self.fill, std::mem::take(&mut self.spare_fill));
        let ticket = fill.ticket;
        let mut job = Job {
            steps: Vec::new(),
            ticket,
            lsn: self.end.lsn,
            groups: Vec::new(),
            taken: 0,
            needed: 0,
            draft: None,
        };
        if !fill.items.is_empty() {
            job.needed = self.oldest_needed();
            if self.active_left(&fill).is_some() {
                job.draft = Some(self.draft(fill)?);
                job.lsn += 1;
            } else {
                let unused = self.active_unused();
                job.groups = groups_of(&fill.items);
                job.steps = self.plan_rotation(fill)?;
                job.taken = unused + self.active_taken();
                job.lsn = self.end.lsn;
            }
        }
        Some(job)
    }

    /// How much of the active segment is not written, in bytes.
    fn active_unused(&self) -> u64 {
        self.active_capacity().saturating_sub(self.active_taken())
    }

    /// How much of it is.
    fn active_taken(&self) -> u64 {
        let active = self.segments.last_key_value();
        active.map_or(0, |(_, active)| active.end)
    }

    fn place(&self, segment: &Segment) -> Place {
        Place {
            uuid: self.uuid,
            id: segment.header.id,
            page_bytes: segment.header.page_bytes,
            offset: segment.end,
            lsn: self.end.lsn + 1,
            durable: self.durable_lsn,
            chain: self.end.chain,
        }
    }

    fn draft(&mut self, fill: Fill) -> Option<Draft> {
        let place = self.place(self.segments.last_key_value()?.1);
        let taken = fill.frame_bytes(place.page_bytes);
        let mut active = self.segments.last_entry()?;
        active.get_mut().end += taken;
        self.footing = self.footing.plus(fill.footing());
        Some(Draft {
            place,
            file: FileRef(Arc::clone(&active.get().file)),
            fill,
            capacity: active.get().header.capacity,
            end: 0,
            chain: 0,
        })
    }

    /// Counts a draft in that is durable now; `written` is its frame.
    fn settle(&mut self, draft: Draft, written: FrameBuf, groups: &[GroupId]) {
        let Draft {
            place, mut fill, ..
        } = draft;
        fill.body = written;
        if let Some(active) = self.segments.get_mut(&place.id.number) {
            active.end = draft.end;
            if active.is_filling(draft.end) && !active.is_filling(place.offset) {
                self.rewriting.look_soon();
            }
        }
        self.end = End {
            lsn: place.lsn,
            chain: draft.chain,
        };
        self.apply(&place, &fill.items, &fill.effects);
        groups.iter().for_each(|id| self.refresh(*id));
        fill.clear();
        self.spare_fill = fill;
    }

    /// Counts a frame in, and says to which file it goes. None when it would not end inside of its
    /// segment, where recovery would never look for it.
    fn advance(&mut self, place: &Place, frame: &FrameBuf, chain: u32) -> Option<Arc<dyn VfsFile>> {
        self.end = End {
            lsn: place.lsn,
            chain,
        };
        let active = self.segments.get_mut(&place.id.number)?;
        let end = place.offset + frame.frame().len() as u64;
        if end > active.header.capacity {
            return None;
        }
        active.end = end;
        Some(Arc::clone(&active.file))
    }

    fn plan_rotation(&mut self, mut fill: Fill) -> Option<Vec<Step>> {
        let next = self.take_ready(&fill)?;
        self.leave_copies(&mut fill);
        let number = *self.segments.last_key_value()?.0;
        let (place, frame, chain) = self.footer(number, next.header.id)?;
        let file = self.advance(&place, &frame, chain)?;
        if let Some(sealed) = self.segments.get_mut(&number) {
            sealed.footer = Some(place.offset);
        }
        // Its successor gets no byte before the footer is durable.
        let ordered = crate::rules::holds(crate::rules::Rule::SealOrder);
        let footer = Step {
            file,
            offset: place.offset,
            frame,
            sync: ordered.then_some(SYNC_SEAL),
        };
        let end = self.segments.get(&number)?.end;
        let predecessor = Predecessor {
            segment: number,
            end,
            lsn: self.end.lsn,
        };
        let (file, offset, frame) = self.open_segment(next, Some(predecessor), fill)?;
        let first = Step {
            file,
            offset,
            frame,
            sync: Some(SYNC_BATCH),
        };
        Some(vec![footer, first])
    }

    /// Takes from `fill` the entries that stand elsewhere too. A rotation is counted in before it
    /// is durable, and of these nothing is in memory: they would be looked for where nothing
    /// stands.
    fn leave_copies(&mut self, fill: &mut Fill) {
        let mut left = BTreeSet::new();
        for (item, effect) in fill.items.iter_mut().zip(&mut fill.effects) {
            if *effect == Effect::Relocate {
                leave(item, effect);
                left.insert(item.group);
            }
        }
        if left.is_empty() {
            return;
        }
        if let Some(piece) = self.rewriting.left_behind() {
            self.stats.rewritten_entries -= piece.entries;
            self.stats.rewritten_bytes -= piece.bytes;
        }
        for id in left {
            if let Some(group) = self.groups.get_mut(&id) {
                group.moving = false;
            }
            self.refresh(id);
        }
    }

    /// The smallest prepared segment that `fill` surely fits, or the largest.
    fn take_ready(&mut self, fill: &Fill) -> Option<Segment> {
        let need = self.opening_bytes(fill);
        let capacities = self.ready.iter().map(|ready| ready.header.capacity);
        let capacities = capacities.enumerate();
        let fitting = capacities.clone().filter(|(_, capacity)| *capacity >= need);
        let at = fitting.min_by_key(|(_, capacity)| *capacity);
        let at = at.map(|(at, _)| at);
        let largest = capacities.max_by_key(|(_, capacity)| *capacity);
        let at = at.or(largest.map(|(at, _)| at))?;
        // Numbers ascend along the log: what is passed over is prepared again, under a new one.
        self.retired.extend(self.ready.drain(..at));
        self.ready.pop_front()
    }

    fn footer(&self, number: u64, successor: SegmentId) -> Option<(Place, FrameBuf, u32)> {
        let place = self.place(self.segments.get(&number)?);
        let mut items = Vec::new();
        let mut body = FrameBuf::default();
        put_successor(successor, body.out());
        items.push(Item::new(
            GroupId::ZERO,
            0,
            ItemKind::Log,
            body.len() as u32,
        ));
        let frames = &self.segments.get(&number)?.frames;
        let mut extents = Vec::new();
        for (id, group) in &self.groups {
            extents.clear();
            extents.extend(group.extents.within(number).map(|one| frames.seeded(one)));
            if !extents.is_empty() {
                let start = body.len();
                put_extents(&extents, body.out());
                let bytes = (body.len() - start) as u32;
                items.push(Item::new(*id, group.step, ItemKind::Extents, bytes));
            }
        }
        sum_sections(&place, 0, &mut items, body.body());
        let chain = body.seal(FrameKind::Seal, &place, &items);
        Some((place, body, chain))
    }

    /// Activates `next`: its first frame holds the checkpoint of all groups as `fill` leaves
    /// them, and the entries of `fill`. One frame: whole or absent.
    pub(crate) fn open_segment(
        &mut self,
        mut next: Segment,
        predecessor: Option<Predecessor>,
        fill: Fill,
    ) -> Option<(Arc<dyn VfsFile>, u64, FrameBuf)> {
        next.end = u64::from(next.header.page_bytes);
        let mut place = self.place(&next);
        // What comes before is durable when this is written.
        place.durable = place
            .durable
            .max(predecessor.map_or(0, |before| before.lsn));
        self.segments.insert(next.header.id.number, next);
        self.live.entry(place.id.number).or_default();
        self.footing = fill.footing();
        self.rewriting.look_soon();
        self.record.predecessor = predecessor;
        let (mut items, effects, mut body) = self.carry(fill);
        sum_sections(&place, 0, &mut items, body.body());
        self.apply(&place, &items, &effects);
        let groups = groups_of(&items);
        groups.iter().for_each(|id| self.refresh(*id));
        items.retain(|item| !matches!(item.kind, ItemKind::State(_)));
        let (carried, carried_bytes) = (items.len(), body.len());
        self.record.put(body.out());
        let bytes = (body.len() - carried_bytes) as u32;
        items.push(Item::new(GroupId::ZERO, 0, ItemKind::Log, bytes));
        let forgotten = &mut self.forgotten_step;
        self.groups.retain(|_, group| {
            let gone = group.is_gone();
            if gone {
                *forgotten = group.step.max(*forgotten);
            }
            !gone
        });
        for (id, group) in &self.groups {
            let start = body.len();
            let parts = &group.extents.parts;
            put_group(&group.image, group.generation, parts, body.out());
            let bytes = (body.len() - start) as u32;
            items.push(Item::new(*id, group.step, ItemKind::Checkpoint, bytes));
        }
        let checkpoint = body.body().get(carried_bytes..).unwrap_or_default();
        let fresh = items.get_mut(carried..).unwrap_or_default();
        sum_sections(&place, carried_bytes as u32, fresh, checkpoint);
        let chain = body.seal(FrameKind::Open, &place, &items);
        let file = self.advance(&place, &body, chain)?;
        Some((file, place.offset, body))
    }

    /// Of a fill, what a first frame holds beside the checkpoint: the entries. What else it does
    /// is in the checkpoint already; its items stay, empty, for their effects.
    fn carry(&self, fill: Fill) -> (Vec<Item>, Vec<Effect>, FrameBuf) {
        let Fill {
            mut items,
            mut effects,
            body: old,
            ..
        } = fill;
        leave_ended(&mut items, &mut effects);
        let mut body = FrameBuf::default();
        body.out().reserve(old.len());
        let mut offset = 0usize;
        for item in &mut items {
            let end = offset + item.bytes as usize;
            let section = old.body().get(offset..end).unwrap_or_default();
            offset = end;
            match item.kind {
                ItemKind::Entries(span) => {
                    let group = self.groups.get(&item.group);
                    let generation = group.map_or(0, |group| group.generation);
                    item.kind = ItemKind::Relocated { span, generation };
                    body.out().extend_from_slice(section);
                }
                ItemKind::Relocated { .. } => body.out().extend_from_slice(section),
                _ => item.bytes = 0,
            }
        }
        (items, effects, body)
    }

    /// Records where the entries of a frame are found from now on; what its groups take in a
    /// checkpoint is brought up to date after it.
    fn apply(&mut self, place: &Place, items: &[Item], effects: &[Effect]) {
        if let Some(segment) = self.segments.get_mut(&place.id.number) {
            segment.frames.push(place.offset, place.seed());
        }
        let mut offset = 0u32;
        for (item, effect) in items.iter().zip(effects) {
            let section = offset;
            offset += item.bytes;
            if *effect == Effect::None {
                continue;
            }
            let Some(group) = self.groups.get_mut(&item.group) else {
                continue;
            };
            let extent = |span: &Span| Extent {
                crc: item.crc,
                ..Extent::new(
                    span,
                    place.id.number,
                    place.body_offset() + u64::from(section),
                    item.bytes,
                )
            };
            match (effect, &item.kind) {
                (Effect::Clear, _) => {
                    self.rewriting.look = true;
                    group.extents.clear(&mut self.live);
                }
                (Effect::Compact(to), _) => {
                    self.rewriting.look = true;
                    group.extents.compact(to.next(), &mut self.live);
                }
                (Effect::Relocate, ItemKind::Relocated { span, generation }) => {
                    group.moving = false;
                    if let Some(extent) = group.relocatable(*generation, &extent(span)) {
                        group.extents.relocate(&extent, &mut self.live);
                    }
                }
                (Effect::Append, ItemKind::Entries(span) | ItemKind::Relocated { span, .. }) => {
                    group.extents.append(&extent(span), &mut self.live);
                }
                _ => {}
            }
        }
    }

    fn count(&mut self, job: &Job) {
        let stats = &mut self.stats;
        for step in &job.steps {
            stats.written_bytes += step.frame.frame().len() as u64;
            stats.syncs += u64::from(step.sync.is_some());
        }
        let flight = self.in_flight.take();
        if let Some(flight) = flight.filter(|_| !job.steps.is_empty()) {
            stats.writes += 1;
            stats.sync_time.record(flight.since.elapsed());
        }
    }

    /// After a job: nothing of it can be lost any more.
    pub(crate) fn complete(&mut self, mut job: Job) {
        self.count(&job);
        if let Some(draft) = job.draft.take() {
            let written = job.steps.pop().map(|step| step.frame);
            job.taken = draft.end - draft.place.offset;
            self.usual_write = (self.usual_write * 7 + job.taken) / 8;
            self.settle(draft, written.unwrap_or_default(), &job.groups);
        }
        (self.durable_lsn, self.landed) = (job.lsn, job.ticket);
        self.forget_details();
        let percent = self.options.rewrite_percent;
        self.rewriting.landed(job.ticket, job.taken, percent);
        self.evict(job.ticket, &job.groups);
        self.reclaim(job.needed);
        for id in &job.groups {
            let gone = self.groups.get(id).is_some_and(Group::is_gone);
            if gone
                && self.fill.is_empty()
                && let Some(group) = self.groups.remove(id)
            {
                self.forgotten_step = self.forgotten_step.max(group.step);
            }
        }
    }
}

/// Whom the items concern, each once.
fn groups_of(items: &[Item]) -> Vec<GroupId> {
    let runs = items.chunk_by(|a, b| a.group == b.group);
    let mut groups: Vec<_> = runs
        .filter_map(|run| run.first())
        .map(|item| item.group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// As what the checkpoint says already, it is not carried.
fn leave(item: &mut Item, effect: &mut Effect) {
    (item.kind, *effect) = (ItemKind::State(0), Effect::None);
}

/// Leaves what the same fill clears later: carried under the generation that the group has in the
/// end, entries of a life that is over would pass for the next one's.
fn leave_ended(items: &mut [Item], effects: &mut [Effect]) {
    let mut ended = BTreeSet::new();
    for (item, effect) in items.iter_mut().zip(effects).rev() {
        if *effect == Effect::Clear {
            ended.insert(item.group);
        } else if ended.contains(&item.group) {
            leave(item, effect);
        }
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_testkit::fault_vfs::FaultVfs;

    use crate::tests::sites::{append, entry};
    use crate::tests::workload::{open, prepare};

    #[test]
    fn frame_that_would_end_behind_its_segment_is_not_sealed() {
        let wal = open(&FaultVfs::new()).unwrap();
        prepare(&wal);
        for (size, less) in [(30, 0), (31, 1)] {
            append(&wal, entry(1, 1 + less, size));
            let mut job = wal.engine_state().plan().unwrap();
            let draft = job.draft.as_mut().unwrap();
            // Its one page ends here exactly.
            draft.capacity = draft.place.offset + u64::from(draft.place.page_bytes) - less;
            assert_eq!(job.seal().is_none(), less > 0);
        }
    }
}
