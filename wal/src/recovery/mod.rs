//! What a log holds: which frames are the log, which of them are proven durable, and what is lost.
//! Reads only; [`rewrite`] then begins the new life.

pub(crate) mod files;
mod replay;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod survey;
pub(crate) mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use raftwerk_raft::{GroupId, LogHealth, StorageError};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::{OpenMode, Vfs};

use crate::rules::{Rule, holds};
use crate::sections::Sections;
use crate::segment::header::file_name;
use crate::slot::{SLOT_FILE, Slot};
use files::{Files, Part, SegmentFile};
use replay::Replay;
use scan::{Event, Expect, Frame, Gap, Look, Scan};
use survey::Survey;
use verdict::{Damage, GroupDamage, Lost, Report, TailEnd};

/// A frame's end, as a new segment may continue it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) end: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
}

/// A log as it was found.
pub(crate) struct Recovered {
    pub(crate) files: Files,
    pub(crate) parts: Vec<Part>,
    pub(crate) replay: Replay,
    /// The last frame that is proven durable; none in a log that has no such.
    pub(crate) proven: Option<Position>,
    /// The last frame of the log.
    pub(crate) last: Option<Position>,
    /// The largest place in the log that was seen anywhere.
    pub(crate) lsn_max: u64,
    /// The newest segment holds nothing but its first frame, which is proven durable.
    pub(crate) unused: bool,
    /// What the newest checkpoint says of groups that lost something.
    told: Told,
    /// Groups lost something that the log does not say yet.
    pub(crate) health_changed: bool,
    pub(crate) slot: Option<Slot>,
    pub(crate) report: Report,
}

/// Groups that are not intact, with what they lost, and whether others may be so.
type Told = (BTreeMap<GroupId, LogHealth>, bool);

/// How far an examination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments that are verified.
    pub done_bytes: u64,
    /// Bytes of all segments.
    pub total_bytes: u64,
}

/// Is told how far an examination is, segment by segment.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Progress);

/// Reads the log in `dir`.
pub(crate) fn examine(
    vfs: &dyn Vfs,
    dir: &Path,
    uuid: StoreUuid,
    mode: OpenMode,
    page_bytes: u32,
    watch: Watch<'_>,
) -> Result<Recovered, StorageError> {
    let files = files::open_all(vfs, dir, uuid, mode, page_bytes)?;
    let slot_file = vfs.open(&dir.join(SLOT_FILE), OpenMode::Read).ok();
    let slot = slot_file.and_then(|file| Slot::read(file.as_ref(), uuid));
    let slot = slot.filter(|_| holds(Rule::Slot));
    let mut parts = files::chain(&files);
    if parts.is_empty() {
        refuse_lost(dir, &files, uuid, slot)?;
    }
    let base = base_of(&parts, &files);
    let evidence = Evidence::gather(&files, &parts, base, uuid, slot);
    // A segment whose first frame is damaged is the log's if the log is longer than what is found.
    let head = parts.last().map_or(0, |part| part.number);
    for (number, file) in files.range(head + 1..) {
        if evidence.durable > evidence.reached && evidence.with_frames.contains_key(number) {
            let before = file.link.as_ref().and_then(|link| link.predecessor);
            if let (Some(before), Some(last)) = (before, parts.last_mut())
                && before.segment == last.number
            {
                last.end = Some(before.end);
            }
            parts.push(Part {
                number: *number,
                end: None,
            });
        }
    }
    let walk = TailWalk::new(uuid, &files, &parts, base, &evidence);
    let mut found = walk.run(files.clone(), slot, &evidence);
    let base = found.forget_unneeded(base);
    found.resolve_older(uuid, base, watch);
    found.replay.conclude();
    found.summarize();
    Ok(found)
}

/// No first frame can be read. That is a new log, unless something says that there was one.
fn refuse_lost(
    dir: &Path,
    files: &Files,
    uuid: StoreUuid,
    slot: Option<Slot>,
) -> Result<(), StorageError> {
    let acknowledged = files.iter().find(|(_, file)| {
        let mut durable = 0;
        let mut scan = Scan::new(file.file.as_ref(), uuid, file.header);
        scan.walk(Expect::default(), None, &mut |event| {
            if let Event::Frame(frame) = event {
                durable = durable.max(frame.header.durable);
            }
            ControlFlow::Continue(())
        });
        durable > 0
    });
    let number = match (acknowledged, slot) {
        (Some((number, _)), _) => *number,
        (None, Some(slot)) if slot.lsn > 0 => slot.segment,
        _ => return Ok(()),
    };
    Err(StorageError::Corrupt {
        path: dir.join(file_name(number)).display().to_string(),
        offset: 0,
        reason: "no segment has a readable first frame, but the log held acknowledged data".into(),
    })
}

/// From which part on the frames are repeated: the newest with a whole checkpoint.
fn base_of(parts: &[Part], files: &Files) -> usize {
    let whole = |part: &Part| {
        files
            .get(&part.number)
            .and_then(|file| file.link.as_ref())
            .is_some_and(|link| link.whole)
    };
    parts.iter().rposition(whole).unwrap_or(0)
}

/// What proves how far the log was durable.
struct Evidence {
    durable: u64,
    /// The last frame found in the chain.
    reached: u64,
    lsn_max: u64,
    /// Segments that hold frames, with the largest place in the log of each.
    with_frames: BTreeMap<u64, u64>,
}

impl Evidence {
    fn gather(
        files: &Files,
        parts: &[Part],
        base: usize,
        uuid: StoreUuid,
        slot: Option<Slot>,
    ) -> Self {
        let vouched = slot.map_or(0, |slot| slot.lsn);
        let mut evidence = Self {
            durable: vouched,
            reached: 0,
            lsn_max: vouched,
            with_frames: BTreeMap::new(),
        };
        let first = parts.get(base).map_or(0, |part| part.number);
        let head = parts.last().map_or(0, |part| part.number);
        for (number, file) in files.range(first..) {
            let part = parts.iter().find(|part| part.number == *number);
            // A file between that is not part of the log was given up by an earlier recovery.
            if part.is_none() && *number <= head {
                continue;
            }
            evidence.look(*number, file, part, uuid);
        }
        if !holds(Rule::Watermark) {
            evidence.durable = 0;
        }
        evidence
    }

    fn look(&mut self, number: u64, file: &SegmentFile, part: Option<&Part>, uuid: StoreUuid) {
        if let Some(link) = file.link.as_ref().filter(|_| part.is_some()) {
            self.durable = self
                .durable
                .max(link.predecessor.map_or(0, |before| before.lsn));
        }
        if part.is_none() && file.is_blank() {
            return;
        }
        let mut last = 0;
        let mut durable = 0;
        let limit = part.and_then(|part| part.end);
        let mut scan = Scan::without_bodies(file.file.as_ref(), uuid, file.header);
        scan.walk(Expect::default(), limit, &mut |event| {
            if let Event::Frame(frame) = event
                && frame.is_whole()
            {
                last = last.max(frame.header.lsn);
                durable = durable.max(frame.header.durable);
            }
            ControlFlow::Continue(())
        });
        self.durable = self.durable.max(durable);
        self.lsn_max = self.lsn_max.max(last);
        if last > 0 {
            self.with_frames.insert(number, last);
        }
        if part.is_some() {
            self.reached = self.reached.max(last);
        }
    }
}

/// The walk over the newest segments, from the last checkpoint to the end of the log.
struct TailWalk<'a> {
    files: &'a Files,
    parts: &'a [Part],
    base: usize,
    durable: u64,
    replay: Replay,
    proven: Option<Position>,
    last: Option<Position>,
    tail: TailEnd,
    frames_in_last: u64,
    stopped: bool,
}

impl<'a> TailWalk<'a> {
    fn new(
        uuid: StoreUuid,
        files: &'a Files,
        parts: &'a [Part],
        base: usize,
        evidence: &Evidence,
    ) -> Self {
        let link = parts
            .get(base)
            .and_then(|part| files.get(&part.number)?.link.clone());
        let proven = link.as_ref().and_then(|link| {
            let before = link.predecessor?;
            let lsn = before.lsn;
            Some(Position {
                segment: before.segment,
                end: before.end,
                lsn,
                chain: link.chain,
            })
        });
        Self {
            files,
            parts,
            base,
            durable: evidence.durable,
            replay: Replay::new(uuid),
            proven,
            last: proven,
            tail: TailEnd::Clean,
            frames_in_last: 0,
            stopped: false,
        }
    }

    fn run(mut self, files: Files, slot: Option<Slot>, evidence: &Evidence) -> Recovered {
        let mut expect = match self.proven {
            Some(before) => Expect {
                lsn: Some(before.lsn.saturating_add(1)),
                chain: Some(before.chain),
            },
            None => Expect::default(),
        };
        let (all, parts) = (self.files, self.parts);
        // Where no successor says it, a segment's part of the log ends with its last frame.
        let mut ends = BTreeMap::new();
        for part in parts.iter().skip(self.base) {
            let Some(file) = all.get(&part.number) else {
                continue;
            };
            if file.adopted {
                let what = Lost::SegmentHeader;
                self.replay.damage.push(Damage {
                    segment: part.number,
                    offset: 0,
                    what,
                });
            }
            self.frames_in_last = 0;
            let mut end = None;
            let mut scan = Scan::new(file.file.as_ref(), file.header.uuid, file.header);
            expect = scan.walk(expect, part.end, &mut |event| match event {
                Event::Frame(frame) => {
                    end = Some(frame.end);
                    self.frame(frame)
                }
                Event::Gap(gap) => self.gap(part.number, &gap, file),
            });
            ends.insert(part.number, part.end.or(end));
            if self.stopped {
                break;
            }
        }
        self.lost_end();
        let newest = parts.last().map_or(0, |part| part.number);
        self.unread_successor(newest);
        let at_head = self.last.is_some_and(|last| last.segment == newest);
        let unused = at_head
            && self.tail == TailEnd::Clean
            && self.frames_in_last == 1
            && self.proven == self.last;
        Recovered {
            told: self.replay.told(),
            files,
            parts: parts
                .iter()
                .map(|part| Part {
                    end: part.end.or(ends.remove(&part.number).flatten()),
                    ..*part
                })
                .collect(),
            replay: self.replay,
            proven: self.proven,
            last: self.last,
            lsn_max: evidence.lsn_max,
            unused,
            health_changed: false,
            slot,
            report: Report {
                tail: self.tail,
                durable_lsn: evidence.durable,
                ..Report::default()
            },
        }
    }

    fn frame(&mut self, frame: &Frame) -> ControlFlow<()> {
        let header = &frame.header;
        let proven = header.lsn <= self.durable;
        if !frame.is_whole() && !proven {
            return self.stop(header.id.number, header.offset, frame.end, frame.torn);
        }
        self.replay.frame(frame);
        self.frames_in_last += 1;
        let position = Position {
            segment: header.id.number,
            end: frame.end,
            lsn: header.lsn,
            chain: frame.chain,
        };
        self.last = Some(position);
        if proven {
            self.proven = self.last;
        }
        ControlFlow::Continue(())
    }

    fn gap(&mut self, segment: u64, gap: &Gap, file: &SegmentFile) -> ControlFlow<()> {
        let first = gap.lsn.or(gap.next_lsn).unwrap_or(0);
        let lost = first <= self.durable && self.durable > 0;
        let goes_on = gap
            .next_lsn
            .is_some_and(|next| next <= self.durable.saturating_add(1));
        if !lost {
            let mut scan = Scan::new(file.file.as_ref(), file.header.uuid, file.header);
            let until = scan.written_until(gap.offset, gap.until);
            return self.stop(segment, gap.offset, until, gap.torn);
        }
        self.replay.lose(segment, gap.offset, gap.lsn, gap.next_lsn);
        self.frames_in_last += 2;
        match gap.next_lsn {
            Some(_) if !goes_on => {
                self.stopped = true;
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn stop(&mut self, segment: u64, offset: u64, until: u64, torn: bool) -> ControlFlow<()> {
        self.stopped = true;
        self.tail = match torn {
            true => TailEnd::Torn {
                segment,
                offset,
                bytes: until.saturating_sub(offset),
            },
            false => TailEnd::Ambiguous { segment, offset },
        };
        ControlFlow::Break(())
    }

    /// A batch that rode in a rotation is in its segment's first frame: when that is damaged,
    /// nothing else need tell that the segment is the log's. One that waits is blank.
    fn unread_successor(&mut self, newest: u64) {
        let reached = self.last.map_or(0, |last| last.lsn);
        if self.stopped || reached < self.durable {
            return;
        }
        let later = self.files.range(newest + 1..);
        for (number, file) in later.filter(|(_, file)| !file.is_blank()) {
            let (page, end) = (u64::from(file.header.page_bytes), file.header.capacity);
            let mut scan = Scan::new(file.file.as_ref(), file.header.uuid, file.header);
            let until = scan.written_until(page, end);
            if until > page {
                let torn = match scan.look(page) {
                    Look::Frame(frame) => frame.torn,
                    Look::Nothing { torn, .. } => torn,
                };
                let _ = self.stop(*number, page, until, torn);
                return;
            }
        }
    }

    /// The end may be missing without a trace: the slot or a later header knew of more.
    fn lost_end(&mut self) {
        let reached = self.last.map_or(0, |last| last.lsn);
        let told = self
            .replay
            .damage
            .iter()
            .any(|damage| matches!(damage.what, Lost::Frames { next_lsn: None, .. }));
        if reached < self.durable && !told {
            let (segment, offset) = self.last.map_or((0, 0), |last| (last.segment, last.end));
            self.replay.lose(segment, offset, Some(reached + 1), None);
        }
    }
}

impl Recovered {
    /// Segments older than any that is named may be on their way to be reused: they are not the
    /// log's any more. Returns where the base is now.
    fn forget_unneeded(&mut self, base: usize) -> usize {
        let groups = self.replay.groups.values();
        let named = groups.flat_map(|group| group.extents.parts.iter().map(|part| part.segment));
        let oldest = named.min().unwrap_or(u64::MAX);
        // The newest one's predecessor stays: its checkpoint may be needed once more.
        let most = self.parts.len().saturating_sub(2).min(base);
        let count = self
            .parts
            .iter()
            .take(most)
            .take_while(|part| part.number < oldest)
            .count();
        self.parts.drain(..count);
        base - count
    }

    /// Verifies the older segments whole, and that all that checkpoints name is there.
    fn resolve_older(&mut self, uuid: StoreUuid, base: usize, watch: Watch<'_>) {
        let mut progress = Progress {
            done_bytes: self
                .parts
                .iter()
                .skip(base)
                .map(|one| self.bytes(one))
                .sum(),
            total_bytes: self.parts.iter().map(|one| self.bytes(one)).sum(),
        };
        watch(progress);
        let first = self.parts.get(base).map_or(0, |part| part.number);
        let mut present = BTreeSet::new();
        for part in self.parts.clone() {
            let Some(file) = self.files.get(&part.number) else {
                continue;
            };
            present.insert(part.number);
            let is_older = part.number < first;
            // Parts that were repeated may be named too, where a checkpoint was damaged.
            if !is_older && !self.replay.unconfirmed.contains(&part.number) {
                continue;
            }
            if is_older && file.adopted {
                self.replay.damage.push(Damage {
                    segment: part.number,
                    offset: 0,
                    what: Lost::SegmentHeader,
                });
            }
            let mut survey = Survey::walk(file.file.as_ref(), uuid, file.header, part.end);
            if let Some(known) = self.parts.iter_mut().find(|one| one.number == part.number) {
                known.end = part.end.or(survey.end);
            }
            if is_older {
                self.replay.damage.append(&mut survey.damage);
                self.replay.frames += survey.count;
                progress.done_bytes += self.bytes(&part);
                watch(progress);
            }
            self.confirm(part.number, &survey);
        }
        let groups = self.replay.groups.values_mut();
        for group in groups {
            let live = &mut self.replay.live;
            group.extents.parts.retain_segments(&present, live);
        }
    }

    /// How long the log's part of a segment is, at most.
    fn bytes(&self, part: &Part) -> u64 {
        let file = self.files.get(&part.number);
        let capacity = file.map_or(0, |file| file.header.capacity);
        part.end.unwrap_or(capacity).min(capacity)
    }

    fn confirm(&mut self, segment: u64, survey: &Survey) {
        if let Some(footer) = survey.footer {
            self.replay.footers.insert(segment, footer);
        }
        let none = Sections::default();
        for (id, group) in &mut self.replay.groups {
            let found = survey.groups.get(id).unwrap_or(&none);
            let term = |index| group.image.term(index).ok();
            let live = &mut self.replay.live;
            group.extents.parts.confirm(segment, found, term, live);
        }
    }

    /// The end is dropped although it may have been acknowledged: whose it was is not known, so
    /// everybody may have voted in it, groups that do not appear too.
    pub(crate) fn doubt_everybody(&mut self) {
        self.replay.doubt();
        self.summarize();
    }

    fn summarize(&mut self) {
        let report = &mut self.report;
        (report.groups, report.entries) = (0, 0);
        report.damaged_groups.clear();
        report.segments = self.parts.iter().map(|part| part.number).collect();
        report.frames = self.replay.frames;
        report.damage.clone_from(&self.replay.damage);
        report.strangers_unknown = self.replay.record.strangers_unknown;
        for (id, group) in &self.replay.groups {
            if group.image.is_blank() {
                continue;
            }
            report.groups += 1;
            report.entries += group.image.last().index.next().since(group.image.first());
            let health = group.image.health();
            if !health.is_intact() {
                report.damaged_groups.push(GroupDamage {
                    group: *id,
                    faulty: health.faulty.clone(),
                    vote_unknown: health.vote_unknown,
                });
            }
        }
        let newest = report.segments.last();
        let mut places = report.damage.iter();
        self.health_changed =
            self.replay.told() != self.told || places.any(|one| Some(&one.segment) == newest);
    }
}
