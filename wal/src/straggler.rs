//! Frees old segments that few live entries keep: these are written again at the end of the log,
//! oldest segment first, a bounded piece at a time, together with whatever is written next.
//!
//! This ends, and pays for itself. A segment is only begun when the log takes more than twice
//! what lives in it and two segments, so one turn through it drops at least as much as it
//! rewrites; and never is more rewritten than [`Options::rewrite_percent`] of the space that the
//! log took for everything else, what it had when it was opened included.
//!
//! [`Options::rewrite_percent`]: crate::Options::rewrite_percent

use std::ops::Range;

use raftwerk_raft::{Entry, GroupId, LogError, LogIndex, Ticket};

use crate::engine::Engine;
use crate::index::Part;
use crate::preparer::Prepared;
use crate::reader::read_verified;
use crate::state::{Group, State};
use crate::tables::Sealed;

/// At most how much one write takes along, in bytes, if not a single section is larger.
const PIECE_BYTES: u64 = 256 * 1024;
/// Of the largest batch, a piece is at most this part (one of so many).
const PIECE_PART: u64 = 4;
/// How many groups are looked at while the lock is held once.
const GROUPS_AT_ONCE: usize = 256;

/// How far the rewriting has come.
#[derive(Debug, Default)]
pub(crate) struct Rewriting {
    /// How much may still be rewritten, in bytes.
    pub(crate) credit: u64,
    /// Something has changed that may make an old segment worth rewriting.
    pub(crate) look: bool,
    /// So much that somebody should look soon.
    pub(crate) due: bool,
    /// The segment that is being freed; zero while none is.
    segment: u64,
    /// Where the search for its entries goes on.
    next: GroupId,
    /// The batch that carries the last piece, until it is durable.
    carried_by: Option<Carried>,
    /// A segment with an entry that cannot be read: it stays.
    unreadable: Option<u64>,
}

impl Rewriting {
    /// Of a log that takes `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            credit: bytes,
            look: true,
            ..Self::default()
        }
    }

    /// Everything up to `ticket` is durable, and the log takes `bytes` more than before, of which
    /// `percent` may be spent.
    pub(crate) fn landed(&mut self, ticket: Ticket, bytes: u64, percent: u32) {
        let mut other = bytes;
        if let Some(piece) = self.carried_by.take_if(|piece| piece.ticket <= ticket) {
            other = bytes.saturating_sub(piece.bytes);
            self.look_soon();
        }
        self.credit += other.saturating_mul(u64::from(percent)) / 100;
    }

    /// The last piece is not written after all: it is looked for again. Says what it was.
    pub(crate) fn left_behind(&mut self) -> Option<Carried> {
        let piece = self.carried_by.take()?;
        self.credit += piece.bytes;
        self.next = GroupId::ZERO;
        self.look_soon();
        Some(piece)
    }

    /// The log has come to where an old segment may be worth rewriting.
    pub(crate) fn look_soon(&mut self) {
        (self.look, self.due) = (true, true);
    }
}

/// A piece on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    ticket: Ticket,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// Live entries of one group in an old segment, without a gap.
#[derive(Debug)]
pub(crate) struct Piece {
    group: GroupId,
    generation: u64,
    range: Range<LogIndex>,
}

/// What a look at the groups gave.
enum Picked {
    Nothing,
    /// Nothing yet.
    More,
    Pieces(Sealed, Vec<Piece>),
}

/// A piece's entries, read and verified.
pub(crate) struct Moved {
    group: GroupId,
    generation: u64,
    entries: Vec<Entry>,
}

impl Engine {
    /// Puts a piece of an old segment's live entries into the next write. `full` says that the
    /// disk has no room for another segment.
    pub(crate) fn step_straggler(&self, full: bool) -> Prepared {
        let picked = self.state.lock().pick(full);
        let (sealed, pieces) = match picked {
            Picked::Nothing => return Prepared::Idle,
            Picked::More => return Prepared::Progress,
            Picked::Pieces(sealed, pieces) => (sealed, pieces),
        };
        let read = pieces
            .into_iter()
            .map(|piece| self.read_piece(&sealed, piece));
        let read: Result<Vec<_>, _> = read.collect();
        let mut state = self.state.lock();
        match read {
            Ok(moved) => state.rewrite(moved, full),
            Err(_) => {
                // Readers and scrubs say so; recovery names what is lost.
                state.rewriting.unreadable = Some(state.rewriting.segment);
                Prepared::Idle
            }
        }
    }

    pub(crate) fn read_piece(&self, sealed: &Sealed, piece: Piece) -> Result<Moved, LogError> {
        let Piece {
            group,
            generation,
            range,
        } = piece;
        let (mut entries, mut next) = (Vec::new(), range.start);
        for extent in self.tables.find(sealed, group, &range) {
            let Some(extent) = extent.clip(&(next..range.end)) else {
                continue;
            };
            let fetched = sealed.fetch(extent.offset, extent.bytes as usize);
            let (section, _) = fetched.map_err(|error| LogError::Io {
                reason: error.to_string().into(),
            })?;
            entries.extend(read_verified(section, &extent)?);
            next = extent.end();
        }
        let whole = entries.len() as u64 == range.end.since(range.start);
        let moved = Moved {
            group,
            generation,
            entries,
        };
        whole.then_some(moved).ok_or(LogError::Faulty { range })
    }
}

impl State {
    /// How much of the log lives, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live.values().map(|load| load.bytes).sum()
    }

    /// Whether the log, once it has gone on to its next segment, takes more than twice what lives
    /// in it and two segments, if `oldest` is the first that something lives in. What every
    /// segment holds beside entries is not counted.
    fn is_sparse(&self, oldest: u64) -> bool {
        let empty = self.empty_bytes();
        let wanted = self.wanted_capacity().saturating_sub(empty);
        let taken: u64 = self
            .segments
            .range(oldest..)
            .map(|(_, segment)| segment.header.capacity.saturating_sub(empty))
            .sum();
        let active = self.segments.last_key_value();
        let filling = active.is_some_and(|(_, active)| active.is_filling(active.end));
        let next = if filling { wanted } else { 0 };
        taken + next > 2 * self.live_bytes() + 2 * wanted
    }

    /// At most half of `segment` lives.
    fn is_half_empty(&self, segment: u64) -> bool {
        let live = self.live.get(&segment).map_or(0, |load| load.bytes);
        let capacity = self.segments.get(&segment);
        live <= capacity.map_or(0, |segment| segment.header.capacity) / 2
    }

    /// Chooses what is rewritten next.
    fn pick(&mut self, full: bool) -> Picked {
        self.rewriting.due = false;
        if self.options.rewrite_percent == 0 || self.rewriting.carried_by.is_some() {
            return Picked::Nothing;
        }
        let active = self.segments.last_key_value();
        let active = active.map_or(0, |(number, _)| *number);
        let mut live = self.live.range(..active);
        let oldest = live.find(|(_, load)| load.entries > 0);
        let Some(oldest) = oldest.map(|(number, _)| *number) else {
            self.rewriting.look = false;
            return Picked::Nothing;
        };
        if self.rewriting.unreadable == Some(oldest) {
            return Picked::Nothing;
        }
        if self.segments.get(&oldest).is_none_or(|one| !one.sealed) {
            // Its footer is on its way.
            self.rewriting.due = true;
            return Picked::Nothing;
        }
        if self.rewriting.segment != oldest {
            let look = std::mem::take(&mut self.rewriting.look) || full;
            if !look || !(self.is_sparse(oldest) || full && self.is_half_empty(oldest)) {
                return Picked::Nothing;
            }
            (self.rewriting.segment, self.rewriting.next) = (oldest, GroupId::ZERO);
        }
        let Some(mut sealed) = self.sealed(oldest) else {
            return Picked::Nothing;
        };
        // A bad sector is to be an error here.
        sealed.maps = None;
        match self.gather(oldest) {
            (pieces, _) if !pieces.is_empty() => Picked::Pieces(sealed, pieces),
            (_, true) => Picked::More,
            (_, false) => {
                // All was looked at: what is left will be looked for again when something changes.
                self.rewriting.segment = 0;
                Picked::Nothing
            }
        }
    }

    /// The next entries in `segment`, and whether there are groups that were not looked at.
    fn gather(&mut self, segment: u64) -> (Vec<Piece>, bool) {
        let most = PIECE_BYTES.min(self.options.batch_bytes_max / PIECE_PART);
        let most = most.min(self.rewriting.credit);
        let mut pieces = Vec::new();
        let mut bytes = 0u64;
        let mut unsettled = false;
        for (id, group) in self
            .groups
            .range(self.rewriting.next..)
            .take(GROUPS_AT_ONCE)
        {
            let (mut part, end) = living(group, segment);
            if group.cut > self.landed {
                // It is not known yet where its entries stand.
                unsettled |= part.take().is_some();
            }
            let alone = bytes == 0 && self.rewriting.credit > 0;
            let fits =
                part.and_then(|part| part.clip(&fitting(&part, most.saturating_sub(bytes), alone)));
            let whole = part.is_none() || fits.is_some_and(|fits| fits.end == end);
            if let Some(fits) = fits {
                bytes += fits.bytes;
                pieces.push(Piece {
                    group: *id,
                    generation: group.generation,
                    range: fits.range(),
                });
            }
            self.rewriting.next = *id;
            if !whole {
                return (pieces, false);
            }
            self.rewriting.next = GroupId(id.0.saturating_add(1));
        }
        if unsettled {
            self.rewriting.look_soon();
        }
        let more = self.groups.range(self.rewriting.next..).next().is_some();
        (pieces, more && self.rewriting.next != GroupId::ZERO)
    }

    /// Puts what was read into the next write, as far as it is still the log.
    fn rewrite(&mut self, moved: Vec<Moved>, full: bool) -> Prepared {
        let (mark, cost) = (self.fill.mark(), self.fill.cost);
        let segment = self.rewriting.segment;
        let mut entries = 0;
        for Moved {
            group: id,
            generation,
            entries: read,
        } in &moved
        {
            let group = self.groups.get(id);
            let settled = |group: &&Group| group.cut <= self.landed;
            let group = group.filter(|group| group.generation == *generation);
            let Some(group) = group.filter(settled) else {
                continue;
            };
            let first = group.image.first();
            let is_live = |entry: &&Entry| {
                let index = entry.index();
                let mut parts = group.extents.parts.cover(&(index..index.next()));
                index >= first
                    && group.image.term(index) == Ok(entry.term())
                    && parts.any(|part| part.segment == segment)
            };
            let read: Vec<_> = read.iter().filter(is_live).cloned().collect();
            entries += read.len() as u64;
            self.fill.add_relocated(*id, *generation, &read);
        }
        if entries == 0 {
            // What was looked at has changed: it is looked at again when that is durable.
            self.rewriting.look_soon();
            return Prepared::Idle;
        }
        if !self.has_room(full) {
            self.want_large(self.fill.cost - cost);
            self.fill.rollback(mark);
            self.fill.cost = cost;
            (self.rewriting.segment, self.rewriting.look) = (0, true);
            return Prepared::Idle;
        }
        let bytes = self.fill.cost - cost;
        self.rewriting.credit = self.rewriting.credit.saturating_sub(bytes);
        self.stats.rewritten_entries += entries;
        self.stats.rewritten_bytes += bytes;
        for Moved { group: id, .. } in &moved {
            if let Some(group) = self.groups.get_mut(id) {
                group.moving = true;
            }
            self.refresh(*id);
        }
        self.move_watermark();
        self.rewriting.carried_by = Some(Carried {
            ticket: self.ticket,
            entries,
            bytes,
        });
        Prepared::Progress
    }
}

/// Of `part`, what takes at most about `most` bytes; an entry that is `alone` may take more.
fn fitting(part: &Part, most: u64, alone: bool) -> Range<LogIndex> {
    let count = part.end.since(part.first);
    let fits = u128::from(count) * u128::from(most) / u128::from(part.bytes.max(1));
    let fits = u64::try_from(fits)
        .unwrap_or(u64::MAX)
        .max(u64::from(alone));
    part.first..part.first.plus(fits.min(count))
}

/// What of the group's log stands in `segment` first, and behind the last that does. What waits to
/// be compacted does not count.
fn living(group: &Group, segment: u64) -> (Option<Part>, LogIndex) {
    let log = group.image.first()..LogIndex::MAX;
    let parts = group.extents.parts.iter();
    let mut parts = parts.filter(|part| part.segment == segment);
    let first = parts.find_map(|part| part.clip(&log));
    let last = parts.next_back().map(|part| part.end);
    let end = last.or(first.map(|part| part.end));
    (first, end.unwrap_or(LogIndex::ZERO))
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{GroupWrite, LogIndex, Storage};
    use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};

    use super::*;
    use crate::Wal;
    use crate::tests::space::{entries, fill_segments, rest, settle, write, write_and_compact};
    use crate::tests::workload::open;

    const IDLE: u64 = 50;

    /// What group [`IDLE`] holds after `meanwhile`, which is written between the read of its
    /// entries and the write that moves them, of term 1 and 2; and how many were moved.
    fn after(meanwhile: GroupWrite) -> (Vec<Entry>, u64) {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        let mut last = Ticket(0);
        settle(&wal, vec![write(IDLE, entries(1, 1..11, 100))], &mut last);
        let picked = fill_segments(&wal, &mut last, |wal| {
            let picked = wal.engine_state().pick(false);
            match picked {
                Picked::Pieces(sealed, pieces) => Some((sealed, pieces)),
                _ => None,
            }
        });
        let (sealed, pieces) = picked;
        let read = |piece| wal.engine().read_piece(&sealed, piece).unwrap();
        let moved: Vec<_> = pieces.into_iter().map(read).collect();
        let batch = raftwerk_raft::WriteBatch {
            groups: vec![meanwhile],
            ..Default::default()
        };
        wal.submit(batch).unwrap();
        let before = wal.stats().rewritten_entries;
        wal.engine_state().rewrite(moved, false);
        let moved = wal.stats().rewritten_entries - before;
        rest(&wal);
        let held = held(&wal);
        drop(wal);
        let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
        assert_eq!(
            super::tests::held(&wal),
            held,
            "as before it was opened again"
        );
        (held, moved)
    }

    fn held(wal: &Wal) -> Vec<Entry> {
        let log = wal.open_group(GroupId(IDLE)).unwrap().log;
        let range = log.first()..log.last().index.next();
        log.read(range, u64::MAX).unwrap()
    }

    #[test]
    fn entries_that_are_still_the_log_are_moved() {
        let (held, moved) = after(write(7, entries(1, 1..2, 10)));
        assert_eq!((held, moved), (entries(1, 1..11, 100), 10));
    }

    #[test]
    fn destroyed_group_is_not_brought_back() {
        let (held, moved) = after(GroupWrite {
            destroy: true,
            ..write(IDLE, Vec::new())
        });
        assert_eq!((held, moved), (Vec::new(), 0));
    }

    #[test]
    fn group_that_was_made_again_gets_nothing_of_its_earlier_life() {
        let again = entries(1, 1..4, 30);
        let (held, moved) = after(GroupWrite {
            destroy: true,
            ..write(IDLE, again.clone())
        });
        assert_eq!((held, moved), (again, 0));
    }

    #[test]
    fn suffix_that_was_replaced_stays_replaced() {
        let (held, moved) = after(write(IDLE, entries(2, 5..7, 20)));
        let expected = [entries(1, 1..5, 100), entries(2, 5..7, 20)].concat();
        // What is left of it is moved when it is known where that stands.
        assert_eq!((held, moved), (expected, 0));
    }

    #[test]
    fn what_was_compacted_stays_compacted() {
        let (held, moved) = after(write_and_compact(IDLE, Vec::new(), 6));
        assert_eq!((held, moved), (entries(1, 7..11, 100), 4));
    }

    /// Moving the front of a log takes nothing from behind it.
    #[test]
    fn entries_behind_those_that_move_stay() {
        let (held, moved) = after(write(IDLE, entries(1, 11..15, 20)));
        let expected = [entries(1, 1..11, 100), entries(1, 11..15, 20)].concat();
        assert_eq!((held, moved), (expected, 10));
    }

    #[test]
    fn segment_with_an_entry_that_cannot_be_read_stays_and_nothing_is_lost_of_others() {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        let mut last = Ticket(0);
        settle(&wal, vec![write(IDLE, entries(1, 1..11, 100))], &mut last);
        let first = *wal.engine_state().segments.first_key_value().unwrap().0;
        let path = std::path::Path::new("log").join(crate::segment::header::file_name(first));
        for sector in 2..8 {
            vfs.zero_sector(&path, sector).unwrap();
        }
        fill_segments(&wal, &mut last, |wal| {
            (wal.engine_state().segments.len() > 6).then_some(())
        });
        assert_eq!(rest(&wal), 0, "it does not try for ever");
        assert_eq!(wal.engine_state().rewriting.unreadable, Some(first));
        assert!(wal.engine_state().segments.contains_key(&first));
        assert_eq!(wal.stats().rewritten_entries, 0);
        let log = wal.open_group(GroupId(IDLE)).unwrap().log;
        let read = log.read(LogIndex(1)..LogIndex(2), u64::MAX);
        assert!(matches!(read, Err(LogError::Faulty { .. })), "{read:?}");
    }
}
