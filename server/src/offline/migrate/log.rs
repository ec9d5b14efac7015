//! The log: every group with its hard state, snapshot record, entries and named values.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use raftwerk_raft::{
    Entry, GroupId, GroupWrite, LogId, LogReader, OpenGroup, SnapshotMeta, Storage, SubmitError,
    Subscription, Ticket, WriteBatch,
};

use super::progress::{Phase, Progress};
use crate::cli::CliError;
use crate::offline::engine::{Engine, Purpose, failed, open_log};
use crate::offline::walk::{count, walk};

/// How long a full log may take to have room again without anything of ours to wait for.
const FULL_MAX: Duration = Duration::from_secs(60);

/// Fills the log in `store` with what is in `source`, opens it again and compares.
///
/// # Errors
/// What stands in the way: damage in the source too.
pub(super) fn fill(
    from: Engine,
    source: &Path,
    to: Engine,
    store: &Path,
    progress: &mut dyn Progress,
) -> Result<String, CliError> {
    let source = open_log(from, source, Purpose::Look).map_err(failed)?;
    let groups = source.groups().map_err(failed)?;
    let total = entries_of(source.as_ref(), &groups)?;
    let new = open_log(to, store, Purpose::Keep).map_err(failed)?;
    let mut filling = Filling::new(new.as_ref(), total, &mut *progress)?;
    for group in &groups {
        let open = source.open_group(*group).map_err(failed)?;
        filling.group(*group, &open)?;
    }
    filling.end()?;
    drop(new);
    let read_back = open_log(to, store, Purpose::Keep).map_err(failed)?;
    compare(source.as_ref(), read_back.as_ref(), total, progress)?;
    Ok(format!("{} groups, {total} entries", groups.len()))
}

/// How many entries there are; all of them must be readable.
fn entries_of(source: &dyn Storage, groups: &[GroupId]) -> Result<u64, CliError> {
    let mut total = 0;
    for group in groups {
        let state = source.open_group(*group).map_err(failed)?.state;
        if !state.health.is_intact() {
            return Err(CliError::failed(format!(
                "the log has lost something of group {group}, as `raftwerk log verify` says: a \
                 copy would hide it; remove the member and add it anew, or let its peers repair it"
            )));
        }
        total += state.last.index.next().0.saturating_sub(state.first.0);
    }
    Ok(total)
}

/// A log that is being filled.
pub(in crate::offline) struct Filling<'a> {
    new: &'a dyn Storage,
    last: Ticket,
    done: u64,
    total: u64,
    progress: &'a mut dyn Progress,
}

impl<'a> Filling<'a> {
    /// Begins to fill `new` with `total` entries.
    pub(in crate::offline) fn new(
        new: &'a dyn Storage,
        total: u64,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, CliError> {
        progress.at(Phase::Write, 0, total)?;
        Ok(Self {
            new,
            last: Ticket::default(),
            done: 0,
            total,
            progress,
        })
    }

    /// Makes everything durable; how many entries there were.
    ///
    /// # Errors
    /// It cannot be.
    pub(in crate::offline) fn end(self) -> Result<u64, CliError> {
        let waited = self.new.wait(self.last);
        waited.map_err(|error| CliError::failed(error.to_string()))?;
        Ok(self.done)
    }

    fn group(&mut self, group: GroupId, open: &OpenGroup) -> Result<(), CliError> {
        let state = &open.state;
        let base = base(open)?;
        if let Some(base) = &base {
            self.submit(GroupWrite {
                group,
                reset_to: Some(base.clone()),
                ..GroupWrite::default()
            })?;
        }
        walk(open.log.as_ref(), &mut |_| {}, &mut |entries| {
            self.append(group, entries)
        })?;
        let snapshot = state.snapshot.clone();
        let values = state.meta.iter().cloned();
        self.submit(GroupWrite {
            group,
            snapshot: snapshot.filter(|meta| base.as_ref() != Some(meta)),
            hard_state: Some(state.hard_state),
            meta: values.map(|(name, value)| (name, Some(value))).collect(),
            ..GroupWrite::default()
        })
    }

    /// Adds entries to the end of a group's log.
    ///
    /// # Errors
    /// They cannot be written.
    pub(in crate::offline) fn append(
        &mut self,
        group: GroupId,
        entries: Vec<Entry>,
    ) -> Result<(), CliError> {
        self.done += count(entries.len());
        self.submit(GroupWrite {
            group,
            append: entries,
            ..GroupWrite::default()
        })?;
        self.progress.at(Phase::Write, self.done, self.total)
    }

    /// Writes one group's step.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::offline) fn submit(&mut self, write: GroupWrite) -> Result<(), CliError> {
        let group = write.group;
        let words = |error: &dyn std::fmt::Display| {
            CliError::failed(format!("group {group} cannot be written: {error}"))
        };
        let mut batch = WriteBatch {
            groups: vec![write],
            ..WriteBatch::default()
        };
        let mut room: Option<Room> = None;
        loop {
            match self.new.submit(batch) {
                Ok(ticket) => {
                    self.last = ticket;
                    return Ok(());
                }
                Err(SubmitError::Full(back)) => {
                    batch = back;
                    match &room {
                        Some(room) if !room.comes() => return Err(words(&"the log stays full")),
                        Some(_) => {}
                        None => {
                            room = Some(Room::awaited(self.new));
                            self.new.wait(self.last).map_err(|error| words(&error))?;
                        }
                    }
                }
                Err(SubmitError::TooLarge { bytes, max, .. }) => {
                    return Err(words(&format!(
                        "an entry of {bytes} bytes is more than this backend takes, {max}"
                    )));
                }
                Err(error) => return Err(words(&error)),
            }
        }
    }
}

/// Room in a log that was full. Space is prepared in the background, too: the watermark's notice
/// says when another try is worth it.
struct Room {
    told: Receiver<()>,
    until: Instant,
    _subscription: Subscription,
}

impl Room {
    fn awaited(log: &dyn Storage) -> Self {
        let (tell, told) = sync_channel(1);
        Self {
            told,
            until: Instant::now() + FULL_MAX,
            _subscription: log.on_durable(Box::new(move |_| {
                // A notice that waits already says the same.
                let _ = tell.try_send(());
            })),
        }
    }

    /// False when there was none for too long.
    fn comes(&self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        self.told.recv_timeout(left).is_ok()
    }
}

/// The snapshot that the new log begins behind; `None` where it begins at the first entry. Where
/// entries before the snapshot are kept, it is one that never was, until they are in.
pub(in crate::offline) fn base(open: &OpenGroup) -> Result<Option<SnapshotMeta>, CliError> {
    let before = open.state.first.prev();
    let Some(snapshot) = &open.state.snapshot else {
        return Ok(None);
    };
    if before.0 == 0 {
        return Ok(None);
    }
    let term = open
        .log
        .term(before)
        .map_err(|error| CliError::failed(error.to_string()))?;
    Ok(Some(SnapshotMeta {
        last: LogId::new(term, before),
        ..snapshot.clone()
    }))
}

/// # Errors
/// The first thing that differs.
pub(super) fn compare(
    source: &dyn Storage,
    copy: &dyn Storage,
    total: u64,
    progress: &mut dyn Progress,
) -> Result<(), CliError> {
    let differs = |what: &dyn std::fmt::Display| {
        CliError::failed(format!(
            "what was read back differs from the source: {what}; nothing of it is used"
        ))
    };
    let groups = source.groups().map_err(failed)?;
    if groups != copy.groups().map_err(failed)? {
        return Err(differs(&"other groups"));
    }
    let mut done = 0;
    progress.at(Phase::Compare, 0, total)?;
    for group in groups {
        let (old, new) = (source.open_group(group), copy.open_group(group));
        let (old, new) = (old.map_err(failed)?, new.map_err(failed)?);
        let before = old.state.first.prev();
        if old.state != new.state || old.log.term(before) != new.log.term(before) {
            return Err(differs(&format!("the state of group {group}")));
        }
        walk(old.log.as_ref(), &mut |_| {}, &mut |entries| {
            if !holds(new.log.as_ref(), &entries) {
                let first = entries.first().map(Entry::index).unwrap_or_default();
                return Err(differs(&format!("group {group} from entry {first} on")));
            }
            done += count(entries.len());
            progress.at(Phase::Compare, done, total)
        })?;
    }
    Ok(())
}

fn holds(log: &dyn LogReader, entries: &[Entry]) -> bool {
    let mut rest = entries;
    while let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        let Ok(found) = log.read(first.index()..last.index().next(), u64::MAX) else {
            return false;
        };
        match rest.strip_prefix(found.as_slice()) {
            Some(after) if !found.is_empty() => rest = after,
            _ => return false,
        }
    }
    true
}
