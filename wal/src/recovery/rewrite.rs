//! Begins a new life of a log: whatever is not proven durable is written again, into a segment
//! that no earlier life has touched, and is durable before anybody is told of it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{Entry, StorageError, Ticket};
use raftwerk_storage::folder::{StoreUuid, io_error};
use raftwerk_storage::vfs::{OpenMode, Vfs, VfsFile};

use super::files::is_all_zeros;
use super::survey::Survey;
use super::verdict::{GroupDamage, Report, TailEnd};
use super::{Recovered, Watch};
use crate::batch::Fill;
use crate::device;
use crate::index::Extent;
use crate::options::{AmbiguousTail, Io, OnDamage, Options};
use crate::preparer::{Preparer, is_spare};
use crate::reader::read_verified;
use crate::rules::{Rule, holds};
use crate::segment::checkpoint::Predecessor;
use crate::segment::footer::Footing;
use crate::segment::header::{file_name, parse_file_name};
use crate::sites::{SYNC_NAME, SYNC_OPEN, SYNC_SLOT};
use crate::slot::{SLOT_FILE, Slot};
use crate::state::{End, Segment, State};
use crate::straggler::Rewriting;
use crate::writer::Writer;

/// A log that may be written to.
pub(crate) struct Begun {
    pub(crate) state: State,
    pub(crate) writer: Writer,
    pub(crate) preparer: Preparer,
    pub(crate) report: Report,
    /// How segments are written.
    pub(crate) io: Io,
}

/// Opens the log in `dir` for writing.
pub(crate) fn begin(
    vfs: &dyn Vfs,
    dir: &Path,
    uuid: StoreUuid,
    options: &Options,
    life_seed: u64,
    watch: Watch<'_>,
) -> Result<Begun, StorageError> {
    remove_spares(vfs, dir)?;
    let slot_file = open_slot(vfs, dir)?;
    let io = device::choose(vfs, &dir.join(SLOT_FILE), options)?;
    let mut found = super::examine(vfs, dir, uuid, io.write_mode(), options.page_bytes, watch)?;
    refuse_ambiguous(dir, &found, options)?;
    refuse_damage(dir, &found, options)?;
    if matches!(found.report.tail, TailEnd::Ambiguous { .. }) {
        found.doubt_everybody();
    }
    let numbers = list_numbers(vfs, dir)?;
    let next_number = numbers.last().map_or(1, |number| number + 1);
    let mut preparer = Preparer::new(uuid, options.page_bytes, life_seed, next_number, io);
    let slot = found.slot.unwrap_or_default();
    let report = found.report.clone();
    let reuse = found.unused && !found.health_changed || !holds(Rule::RewriteAtOpen);
    let mut state = build(&found, uuid, options);
    remove_unfinished(vfs, dir, &numbers, &found)?;
    state.ready = ready_segments(&found, options);
    for ready in &state.ready {
        let path = dir.join(file_name(ready.header.id.number));
        ready.write_header().map_err(io_error("write", &path))?;
    }
    if reuse && continues(&mut found, &mut state, options) {
        state.durable_lsn = state.end.lsn;
    } else {
        open_fresh(vfs, dir, &mut found, &mut state, &mut preparer)?;
    }
    let mut writer = Writer::new(uuid, slot_file, slot);
    let taken = state.segments.values();
    state.rewriting = Rewriting::new(taken.map(|segment| segment.end).sum());
    let active = state.segments.last_key_value();
    let (segment, end) = active.map_or((0, 0), |(number, active)| (*number, active.end));
    if state.durable_lsn > writer.slot_lsn() {
        let path = dir.join(SLOT_FILE);
        writer
            .write_slot(state.durable_lsn, segment, end)
            .map_err(io_error("write", &path))?;
    }
    if remove_unneeded(vfs, dir, &found, &state)? {
        // What was resolved once is not to be found and judged again in a later life.
        vfs.sync_dir(dir, SYNC_NAME)
            .map_err(io_error("sync", dir))?;
    }
    Ok(Begun {
        state,
        writer,
        preparer,
        report,
        io,
    })
}

/// Before anything is written: a refused log is found again as it was.
fn refuse_damage(dir: &Path, found: &Recovered, options: &Options) -> Result<(), StorageError> {
    let report = &found.report;
    // A group without a vote is what keeping the prefix of a doubtful log means.
    let vote_counts = options.ambiguous_tail == AmbiguousTail::Refuse;
    let is_lost = |group: &GroupDamage| !group.faulty.is_empty() || vote_counts;
    let lost = report.damaged_groups.iter().any(is_lost) || report.strangers_unknown;
    if options.on_damage == OnDamage::Confine || !lost {
        return Ok(());
    }
    let (path, offset) = report.damage.first().map_or((dir.to_owned(), 0), |first| {
        (dir.join(file_name(first.segment)), first.offset)
    });
    let places: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
    let groups = report.damaged_groups.iter().map(ToString::to_string);
    let all: Vec<String> = places.into_iter().chain(groups).collect();
    Err(StorageError::Corrupt {
        path: path.display().to_string(),
        offset,
        reason: format!("what was acknowledged is lost: {}", all.join("; ")),
    })
}

fn refuse_ambiguous(dir: &Path, found: &Recovered, options: &Options) -> Result<(), StorageError> {
    let TailEnd::Ambiguous { segment, offset } = found.report.tail else {
        return Ok(());
    };
    if options.ambiguous_tail == AmbiguousTail::KeepPrefix {
        return Ok(());
    }
    let last = found.last.map_or(0, |last| last.lsn);
    Err(StorageError::Corrupt {
        path: dir.join(file_name(segment)).display().to_string(),
        offset,
        reason: format!(
            "the last write, frame {}, is damaged and may have been acknowledged in the last \
             milliseconds; a member with peers may open with the ambiguous tail option \
             keep-prefix and fetches it from them, a lone member loses it that way",
            last + 1
        ),
    })
}

/// The slot's file is only written to when its name is durable. An empty one's may never be,
/// whatever a later sync says, if the sync of the folder failed in the life that made it: such a
/// file is made again.
fn open_slot(vfs: &dyn Vfs, dir: &Path) -> Result<Arc<dyn VfsFile>, StorageError> {
    let path = dir.join(SLOT_FILE);
    let found = match vfs.open(&path, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.map_err(io_error("open", &path))?),
    };
    let file = match found {
        Some(file) if !file.is_empty().map_err(io_error("read", &path))? => file,
        found => {
            if found.is_some() {
                drop(found);
                vfs.remove_file(&path).map_err(io_error("remove", &path))?;
            }
            let file = vfs.open(&path, OpenMode::CreateNew);
            let file = file.map_err(io_error("create", &path))?;
            vfs.sync_dir(dir, SYNC_SLOT)
                .map_err(io_error("sync", dir))?;
            file
        }
    };
    Slot::reserve(file.as_ref()).map_err(io_error("reserve", &path))?;
    Ok(Arc::from(file))
}

fn list_numbers(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = vfs.list(dir).map_err(io_error("list", dir))?;
    let mut numbers: Vec<_> = names
        .iter()
        .filter_map(|name| parse_file_name(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove_spares(vfs: &dyn Vfs, dir: &Path) -> Result<(), StorageError> {
    for name in vfs.list(dir).map_err(io_error("list", dir))? {
        if is_spare(&name) {
            let path = dir.join(name);
            vfs.remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn build(found: &Recovered, uuid: StoreUuid, options: &Options) -> State {
    let mut segments = BTreeMap::new();
    for part in &found.parts {
        let Some(file) = found.files.get(&part.number) else {
            continue;
        };
        let end = part.end.unwrap_or(0);
        let mut segment = Segment::new(file.header, Arc::clone(&file.file), end);
        segment.footer = found.replay.footers.get(&part.number).copied();
        segment.sealed = true;
        segment.earlier = true;
        segments.insert(part.number, segment);
    }
    // Nothing of a segment that is not proven at all is kept.
    let newest = found.proven.map_or(0, |proven| proven.segment);
    segments.retain(|number, _| *number <= newest);
    if let (Some(proven), Some(segment)) = (found.proven, segments.get_mut(&newest)) {
        segment.end = proven.end;
    }
    for segment in segments.values_mut() {
        // What stands behind is of no log: its writer may have known of more than is kept.
        segment.footer = segment.footer.filter(|footer| *footer < segment.end);
    }
    State {
        uuid,
        options: options.clone(),
        groups: BTreeMap::new(),
        record: found.replay.record.clone(),
        segments,
        live: found.replay.live.clone(),
        footing: Footing::default(),
        end: End {
            lsn: found.lsn_max,
            chain: found.proven.map_or(0, |proven| proven.chain),
        },
        durable_lsn: found.proven.map_or(0, |proven| proven.lsn),
        fill: Fill::default(),
        spare_fill: Fill::default(),
        in_flight: None,
        ready: VecDeque::new(),
        large: 0,
        refused: false,
        retired: VecDeque::new(),
        ticket: Ticket::default(),
        landed: Ticket::default(),
        checkpoint_bytes: 0,
        tail_bytes: 0,
        evict_from: raftwerk_raft::GroupId::ZERO,
        stats: crate::stats::Stats::default(),
        rewriting: Rewriting::default(),
        forgotten_step: 0,
        usual_write: 0,
    }
}

/// Prepared segments of an earlier life that were never touched.
fn ready_segments(found: &Recovered, options: &Options) -> VecDeque<Segment> {
    let newest = found.parts.last().map_or(0, |part| part.number);
    let mut ready = VecDeque::new();
    for (number, file) in found.files.range(newest + 1..) {
        let header = file.header;
        let fits = !file.adopted && header.page_bytes == options.page_bytes && header.zeroed;
        let complete = file.file.len().is_ok_and(|len| len >= header.capacity);
        let end = u64::from(header.page_bytes);
        if *number > newest && fits && complete && file.is_blank() {
            ready.push_back(Segment::new(header, Arc::clone(&file.file), end));
        }
    }
    ready
}

/// Goes on in the newest segment, if that is possible.
fn continues(found: &mut Recovered, state: &mut State, options: &Options) -> bool {
    let Some(last) = found.last else { return false };
    let file = found.files.get(&last.segment);
    let Some(file) = file.filter(|file| file.header.page_bytes == options.page_bytes) else {
        return false;
    };
    let mut segment = Segment::new(file.header, Arc::clone(&file.file), last.end);
    let mut survey = Survey::walk(file.file.as_ref(), state.uuid, file.header, Some(last.end));
    segment.frames = std::mem::take(&mut survey.frames);
    state.segments.insert(last.segment, segment);
    state.end = End {
        lsn: last.lsn,
        chain: last.chain,
    };
    adopt_groups(found, state);
    state.footing = Footing::default();
    for (id, sections) in survey.groups {
        if let Some(group) = state.groups.get_mut(&id) {
            group.extents.set_details(last.segment, sections);
            for extent in group.extents.within(last.segment) {
                let one = Footing::of(&extent.span(), extent.bytes);
                state.footing = state.footing.plus(one);
            }
        }
    }
    true
}

fn adopt_groups(found: &mut Recovered, state: &mut State) {
    state.groups = std::mem::take(&mut found.replay.groups);
    let ids: Vec<_> = state.groups.keys().copied().collect();
    for id in ids {
        state.refresh(id);
    }
}

fn open_fresh(
    vfs: &dyn Vfs,
    dir: &Path,
    found: &mut Recovered,
    state: &mut State,
    preparer: &mut Preparer,
) -> Result<(), StorageError> {
    adopt_groups(found, state);
    let fill = unproven_entries(dir, found, state)?;
    let need = state.opening_bytes(&fill);
    while state
        .ready
        .front()
        .is_some_and(|ready| ready.header.capacity < need)
    {
        state.ready.pop_front();
    }
    let next = match state.ready.pop_front() {
        Some(ready) => ready,
        None => {
            let capacity = state.wanted_capacity().max(need);
            let capacity = capacity.next_multiple_of(u64::from(state.options.page_bytes));
            preparer
                .make_now(vfs, dir, capacity)
                .map_err(io_error("prepare a segment in", dir))?
        }
    };
    let path = dir.join(file_name(next.header.id.number));
    let predecessor = found.proven.map(|proven| Predecessor {
        segment: proven.segment,
        end: proven.end,
        lsn: proven.lsn,
    });
    let Some((file, offset, frame)) = state.open_segment(next, predecessor, fill) else {
        return Ok(());
    };
    file.write_at(offset, frame.frame())
        .map_err(io_error("write", &path))?;
    file.sync_data(SYNC_OPEN).map_err(io_error("sync", &path))?;
    state.durable_lsn = state.end.lsn;
    let gone: Vec<u64> = state.live.keys().copied().collect();
    for number in gone {
        if !state.segments.contains_key(&number) {
            state.live.remove(&number);
        }
    }
    Ok(())
}

/// The entries of frames that are not proven durable, to be written again.
fn unproven_entries(dir: &Path, found: &Recovered, state: &State) -> Result<Fill, StorageError> {
    let mut fill = Fill::default();
    let proven = found
        .proven
        .map_or((0, 0), |proven| (proven.segment, proven.end));
    let last = found.last.map_or((0, 0), |last| (last.segment, last.end));
    if proven == last {
        return Ok(fill);
    }
    for part in found.parts.iter().filter(|part| part.number >= proven.0) {
        let Some(file) = found
            .files
            .get(&part.number)
            .filter(|_| part.number <= last.0)
        else {
            continue;
        };
        let end = if part.number == last.0 {
            Some(last.1)
        } else {
            part.end
        };
        let survey = Survey::walk(file.file.as_ref(), state.uuid, file.header, end);
        let path = dir.join(file_name(part.number));
        for (id, sections) in &survey.groups {
            let Some(group) = state.groups.get(id) else {
                continue;
            };
            let here = group.extents.parts.iter();
            for live in here.filter(|live| live.segment == part.number) {
                let extents = sections.within(part.number, live.range());
                for extent in extents.filter(|one| (one.segment, one.offset) >= proven) {
                    let extent = survey.frames.seeded(extent);
                    let entries = read_live(file.file.as_ref(), &extent, &path)?;
                    fill.add_relocated(*id, group.generation, &entries);
                }
            }
        }
    }
    Ok(fill)
}

/// Of a section, the entries that count, verified.
fn read_live(file: &dyn VfsFile, extent: &Extent, path: &Path) -> Result<Vec<Entry>, StorageError> {
    let mut section = vec![0; extent.bytes as usize];
    let count = file
        .read_at(extent.offset, &mut section)
        .map_err(io_error("read", path))?;
    section.truncate(count);
    read_verified(section.into(), extent).map_err(|error| StorageError::Corrupt {
        path: path.display().to_string(),
        offset: extent.offset,
        reason: error.to_string(),
    })
}

/// Files behind the log that got a segment's name and then no header: nothing stands in them.
fn remove_unfinished(
    vfs: &dyn Vfs,
    dir: &Path,
    numbers: &[u64],
    found: &Recovered,
) -> Result<(), StorageError> {
    let newest = found.parts.last().map_or(0, |part| part.number);
    let later = numbers.iter().filter(|number| **number > newest);
    for number in later.filter(|number| !found.files.contains_key(number)) {
        let path = dir.join(file_name(*number));
        let file = vfs.open(&path, OpenMode::Read);
        let file = file.map_err(io_error("open", &path))?;
        if is_all_zeros(file.as_ref()) {
            vfs.remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Segments that are neither the log's nor ready for it; true if there are any. A file that cannot
/// be told to be this log's is left alone: it may be a segment that the disk or an operator
/// spoiled.
fn remove_unneeded(
    vfs: &dyn Vfs,
    dir: &Path,
    found: &Recovered,
    state: &State,
) -> Result<bool, StorageError> {
    let mut removed = false;
    for number in found.files.keys() {
        let ready = state
            .ready
            .iter()
            .any(|ready| ready.header.id.number == *number);
        if ready || state.segments.contains_key(number) {
            continue;
        }
        let path = dir.join(file_name(*number));
        vfs.remove_file(&path).map_err(io_error("remove", &path))?;
        removed = true;
    }
    Ok(removed)
}
