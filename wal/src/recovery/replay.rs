//! Repeats what the frames say, and keeps account of what those that are lost may have said.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use raftwerk_raft::{GroupId, LogId, LogIndex, Term};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::image::GroupImage;

use super::Told;
use super::scan::{Frame, Section};
use super::verdict::{Damage, Lost};
use crate::index::{Extent, Extents, Live, Part, Parts};
use crate::record::{COMPACT, CREATE, DESTROY, HARD_STATE, read_state};
use crate::rules::{Rule, holds};
use crate::segment::checkpoint::{LogRecord, Tombstone, read_group};
use crate::segment::format::{FrameKind, ItemKind, Span};
use crate::state::Group;

/// The largest hole that a damaged log is believed to have, in entries.
const HOLE_MAX: u64 = 1 << 22;

/// Where in a group's life an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It ends one, or begins one.
    Begins,
    /// Behind the item that begins it.
    Within,
    /// A mark that changes nothing may come for a group that is not there.
    Anywhere,
}

/// The log as far as it has been repeated.
#[derive(Debug)]
pub(crate) struct Replay {
    uuid: StoreUuid,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) live: Live,
    pub(crate) record: LogRecord,
    pub(crate) damage: Vec<Damage>,
    pub(crate) frames: u64,
    /// Segments that a checkpoint names, of which it is not known yet whether all that it says is
    /// there.
    pub(crate) unconfirmed: BTreeSet<u64>,
    /// Footers, by segment.
    pub(crate) footers: BTreeMap<u64, u64>,
    /// Groups that may have stood in a lost frame.
    suspects: BTreeSet<GroupId>,
    /// Groups that did, and whose hard state was not written since.
    vote_lost: BTreeSet<GroupId>,
    /// A frame is lost whose groups are not known.
    strangers: bool,
}

impl Replay {
    pub(crate) fn new(uuid: StoreUuid) -> Self {
        Self {
            uuid,
            groups: BTreeMap::new(),
            live: Live::new(),
            record: LogRecord {
                next_generation: 1,
                ..LogRecord::default()
            },
            damage: Vec::new(),
            frames: 0,
            unconfirmed: BTreeSet::new(),
            footers: BTreeMap::new(),
            suspects: BTreeSet::new(),
            vote_lost: BTreeSet::new(),
            strangers: false,
        }
    }

    /// Frames that were durable are lost here.
    pub(crate) fn lose(
        &mut self,
        segment: u64,
        offset: u64,
        first: Option<u64>,
        next: Option<u64>,
    ) {
        let what = Lost::Frames {
            first_lsn: first,
            next_lsn: next,
        };
        self.damage.push(Damage {
            segment,
            offset,
            what,
        });
        self.suspects.extend(self.groups.keys().copied());
        self.strangers = holds(Rule::Strangers);
    }

    /// Repeats one frame.
    pub(crate) fn frame(&mut self, frame: &Frame) {
        self.frames += 1;
        let sections = frame.sections(self.uuid);
        let segment = frame.header.id.number;
        match frame.header.kind {
            FrameKind::Open => self.checkpoint(segment, &sections),
            FrameKind::Seal if frame.is_whole() => {
                self.footers.insert(segment, frame.header.offset);
            }
            _ => {}
        }
        for section in &sections {
            match section.item.kind {
                ItemKind::State(bits) => self.state(segment, bits, section),
                ItemKind::Entries(span) => self.entries(segment, &span, section),
                ItemKind::Relocated { span, generation } => {
                    self.relocated(segment, &span, generation, section);
                }
                ItemKind::Extents if section.bytes.is_none() => {
                    let what = Lost::Footer;
                    self.damage.push(Damage {
                        segment,
                        offset: section.offset,
                        what,
                    });
                }
                ItemKind::Log | ItemKind::Checkpoint | ItemKind::Extents => {}
            }
        }
    }

    fn checkpoint(&mut self, segment: u64, sections: &[Section<'_>]) {
        let mut listed = BTreeSet::new();
        for section in sections {
            match section.item.kind {
                ItemKind::Log => self.log_record(segment, section),
                ItemKind::Checkpoint => {
                    listed.insert(section.item.group);
                    self.group_checkpoint(segment, section);
                }
                _ => {}
            }
        }
        let gone: Vec<_> = self
            .groups
            .keys()
            .filter(|group| !listed.contains(group) && holds(Rule::Destroyed))
            .copied()
            .collect();
        for id in gone {
            if let Some(mut group) = self.groups.remove(&id) {
                group.extents.clear(&mut self.live);
            }
            self.suspects.remove(&id);
            self.vote_lost.remove(&id);
        }
    }

    fn log_record(&mut self, segment: u64, section: &Section<'_>) {
        match section.bytes.clone().map(LogRecord::read) {
            Some(Ok(record)) => {
                // What a lost frame said of groups, this frame says again.
                self.strangers = record.strangers_unknown;
                let known = self.record.next_generation;
                self.record = record;
                self.draw_behind(known.saturating_sub(1));
            }
            _ => self.lose_state(segment, section),
        }
    }

    fn lose_state(&mut self, segment: u64, section: &Section<'_>) {
        let what = Lost::State {
            group: section.item.group,
        };
        self.damage.push(Damage {
            segment,
            offset: section.offset,
            what,
        });
    }

    fn group_checkpoint(&mut self, segment: u64, section: &Section<'_>) {
        let id = section.item.group;
        self.suspects.remove(&id);
        let Some(Ok(found)) = section.bytes.clone().map(read_group) else {
            self.lose_state(segment, section);
            let group = self.groups.entry(id).or_default();
            if group.step != section.item.step {
                group.step = section.item.step;
                self.vote_lost.insert(id);
            }
            return;
        };
        self.vote_lost.remove(&id);
        self.draw_behind(found.generation);
        let group = self.groups.entry(id).or_default();
        group.extents.clear(&mut self.live);
        let mut parts = Parts::default();
        for (of, range) in found.ranges {
            // What stands in this very frame comes as relocated entries.
            if of != segment {
                self.unconfirmed.insert(of);
                parts.place(Part::new(of, &range, 0), &mut self.live);
            }
        }
        *group = Group {
            image: found.image,
            extents: Extents::new(parts),
            step: section.item.step,
            generation: found.generation,
            ..Group::default()
        };
    }

    /// Counts an item of a group; notices when one before it is lost.
    fn count(&mut self, id: GroupId, step: u64, is: Place) {
        let group = self.groups.entry(id).or_default();
        self.suspects.remove(&id);
        let unborn = group.generation == 0 && group.image.is_blank();
        // A destroyed group is forgotten, and what makes it again counts from wherever it likes:
        // nothing that was lost before belongs to that life. Without it the beginning is lost.
        let lost = match is {
            Place::Begins => false,
            Place::Within if unborn => true,
            Place::Anywhere if unborn => false,
            _ => step != group.step + 1,
        };
        group.step = step;
        if lost {
            self.vote_lost.insert(id);
        }
    }

    fn state(&mut self, segment: u64, bits: u8, section: &Section<'_>) {
        let id = section.item.group;
        let place = match bits {
            COMPACT => Place::Anywhere,
            _ if bits & (DESTROY | CREATE) != 0 => Place::Begins,
            _ => Place::Within,
        };
        self.count(id, section.item.step, place);
        let read = section
            .bytes
            .clone()
            .map(|bytes| read_state(id, bits, bytes));
        let Some(Ok((write, generation))) = read else {
            self.lose_state(segment, section);
            // A compaction mark alone is no loss: the log is only longer.
            if bits != COMPACT {
                self.vote_lost.insert(id);
            }
            if bits & (DESTROY | CREATE) != 0 {
                self.end_life(id, 0);
            }
            return;
        };
        match generation {
            Some(generation) if write.destroy => self.draw_behind(generation),
            Some(generation) => _ = self.outlive(id, generation),
            None => {}
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if write.destroy {
            let tombstone = Tombstone {
                generation: group.generation,
                until: segment,
            };
            self.record.tombstones.insert(id, tombstone);
            group.generation = 0;
            self.vote_lost.remove(&id);
        }
        if let Some(generation) = generation {
            group.generation = generation;
        }
        if bits & HARD_STATE != 0 {
            self.vote_lost.remove(&id);
        }
        if write.destroy || write.reset_to.is_some() {
            group.extents.clear(&mut self.live);
        }
        if let Some(meta) = &write.snapshot {
            let next = meta.last.index.next();
            if !fill_hole(group, next, meta.last.term, &mut self.live) {
                group.doubt();
            }
        }
        group.image.apply(&write);
        if bits & CREATE != 0 && !write.destroy && self.record.strangers_unknown {
            group.doubt();
        }
        let first = group.image.first();
        group.extents.parts.compact(first, &mut self.live);
    }

    fn entries(&mut self, segment: u64, span: &Span, section: &Section<'_>) {
        let id = section.item.group;
        self.count(id, section.item.step, Place::Within);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if !fill_hole(group, span.first, span.prev_term, &mut self.live) {
            // The log stays shorter than it was: its owner must not vote with it.
            group.doubt();
            self.lose_entries(segment, span, section);
            return;
        }
        let range = span.first..span.end();
        append_ids(group, &range, span.term);
        let parts = &mut group.extents.parts;
        parts.truncate(span.first, &mut self.live);
        match section.bytes {
            Some(_) => {
                let part = Part::of(&extent(segment, span, section));
                parts.append(part, &mut self.live);
            }
            None => self.lose_entries(segment, span, section),
        }
    }

    fn lose_entries(&mut self, segment: u64, span: &Span, section: &Section<'_>) {
        let what = Lost::Entries {
            group: section.item.group,
            range: span.first..span.end(),
        };
        self.damage.push(Damage {
            segment,
            offset: section.offset,
            what,
        });
    }

    fn relocated(&mut self, segment: u64, span: &Span, generation: u64, section: &Section<'_>) {
        let id = section.item.group;
        if self.outlive(id, generation) {
            self.vote_lost.insert(id);
        }
        if section.bytes.is_none() {
            self.lose_entries(segment, span, section);
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if !holds(Rule::Relocation) {
            append_ids(group, &(span.first..span.end()), span.term);
        }
        let extent = extent(segment, span, section);
        if let Some(extent) = group.relocatable(generation, &extent) {
            group.extents.parts.place(Part::of(&extent), &mut self.live);
        }
    }

    /// A group is in its life `generation`. If an earlier one is all that is known of it, that has
    /// ended in what is lost: nothing of it counts. True when that is so.
    fn outlive(&mut self, id: GroupId, generation: u64) -> bool {
        self.draw_behind(generation);
        let Some(group) = self.groups.get(&id) else {
            return false;
        };
        let ended = (1..generation).contains(&group.generation) && holds(Rule::Generation);
        if ended {
            self.end_life(id, generation);
        }
        ended
    }

    /// `generation` was drawn, perhaps in what is lost: no later life may get it again.
    fn draw_behind(&mut self, generation: u64) {
        let next = generation.saturating_add(1);
        self.record.next_generation = self.record.next_generation.max(next);
    }

    /// The life that is known of a group is over, and nothing of it counts. The next one's number
    /// is `generation`, zero if that is not known.
    fn end_life(&mut self, id: GroupId, generation: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.extents.clear(&mut self.live);
            group.image = GroupImage::default();
            group.generation = generation;
        }
    }

    /// What is known by now of groups that lost something.
    pub(super) fn told(&self) -> Told {
        let groups = self
            .groups
            .iter()
            .map(|(id, group)| (*id, group.image.health()));
        let damaged = groups.filter(|(_, health)| !health.is_intact());
        let damaged = damaged.map(|(id, health)| (id, health.clone()));
        (damaged.collect(), self.record.strangers_unknown)
    }

    /// Nobody's vote is certain any more.
    pub(crate) fn doubt(&mut self) {
        self.record.strangers_unknown = true;
        for group in self.groups.values_mut() {
            if !group.image.is_blank() {
                group.doubt();
            }
        }
    }

    /// What the lost frames leave unknown, written into the groups' health: called once, at the
    /// end, when it is known where all entries stand.
    pub(crate) fn conclude(&mut self) {
        self.record.strangers_unknown |= self.strangers;
        for (id, group) in &mut self.groups {
            let mut health = group.image.health().clone();
            // Of a group that is gone nothing is left to be in doubt: if it was made again in what
            // is lost, it is a stranger.
            let suspect = self.suspects.contains(id) && !group.image.is_blank();
            health.vote_unknown |= self.vote_lost.contains(id) || suspect;
            let log = group.image.first()..group.image.last().index.next();
            health.faulty = group.extents.parts.missing(&log);
            group.image.set_health(health);
        }
    }
}

/// The extent that a section is.
pub(crate) fn extent(segment: u64, span: &Span, section: &Section<'_>) -> Extent {
    let Section {
        item, offset, seed, ..
    } = section;
    Extent {
        seed: *seed,
        crc: item.crc,
        ..Extent::new(span, segment, *offset, item.bytes)
    }
}

fn append_ids(group: &mut Group, range: &Range<LogIndex>, term: Term) {
    let first = range.start.max(group.image.first());
    if first < range.end {
        let id = LogId::new(term, first);
        group.image.append_ids(id, range.end.prev());
    }
}

/// Before entries that begin at `first`, behind one of `prev_term`: makes up for what a lost
/// frame appended. What is made up is in no extent, and so comes out as faulty.
/// False when the hole is larger than is believed.
fn fill_hole(group: &mut Group, first: LogIndex, prev_term: Term, live: &mut Live) -> bool {
    let before = first.prev();
    let begin = group.image.first();
    if before < begin.prev() {
        return true;
    }
    let from = match group.image.term(before) {
        // By Log Matching, what stands before is the log that these entries continue.
        Ok(term) if term == prev_term => return true,
        Ok(_) => group
            .image
            .hard_state()
            .commit
            .next()
            .max(begin)
            .min(before),
        Err(_) => group.image.last().index.next(),
    };
    if first.since(from) > HOLE_MAX {
        return false;
    }
    group.extents.parts.truncate(from, live);
    append_ids(group, &(from..first), prev_term);
    true
}
