//! The state store: every key and value, and the applied entry, as a checkpoint streams them.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;
use raftwerk_raft::{ScanOrder, SnapshotReader, SnapshotSource, StateError, View};

use super::progress::{Phase, Progress};
use crate::cli::CliError;
use crate::offline::engine::{Engine, open_state, state_failed};
use crate::offline::walk::count;

/// What is compared at once, in bytes of keys and values.
const PAGE_BYTES: usize = 1 << 20;

/// Fills the state store in `store` with what is in `source`, opens it again and compares.
///
/// # Errors
/// What stands in the way.
pub(super) fn fill(
    from: Engine,
    source: &Path,
    to: Engine,
    store: &Path,
    progress: &mut dyn Progress,
) -> Result<String, CliError> {
    let source = open_state(from, source)?;
    let new = open_state(to, store)?;
    let total = source.stats().map_err(state_failed)?.live_bytes;
    let mut stopped = None;
    let mut stream = Stream {
        source: source.checkpoint().map_err(state_failed)?,
        done: 0,
        total,
        progress: &mut *progress,
        stopped: &mut stopped,
    };
    let restored = new.restore(&mut stream);
    drop(stream);
    if let Some(error) = stopped {
        return Err(error);
    }
    let applied = restored.map_err(state_failed)?;
    drop(new);

    let read_back = open_state(to, store)?;
    if read_back.durable_applied().map_err(state_failed)? != applied {
        return Err(differs("the applied entry"));
    }
    let (old, new) = (source.view(), read_back.view());
    let (old, new) = (old.map_err(state_failed)?, new.map_err(state_failed)?);
    let keys = compare(old.as_ref(), new.as_ref(), total, progress)?;
    Ok(format!("{keys} keys as of entry {applied}"))
}

/// What one store streams out and the other one in.
struct Stream<'a> {
    source: Box<dyn SnapshotSource>,
    done: u64,
    total: u64,
    progress: &'a mut dyn Progress,
    stopped: &'a mut Option<CliError>,
}

impl SnapshotReader for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let progress = self.progress.at(Phase::Write, self.done, self.total);
        if let Err(error) = progress {
            *self.stopped = Some(error);
            return Err(io::Error::other("stopped"));
        }
        let read = self.source.read(out)?;
        self.done += count(read);
        Ok(read)
    }
}

/// How many keys there are, the same in both.
///
/// # Errors
/// They differ.
pub(super) fn compare(
    old: &dyn View,
    new: &dyn View,
    total: u64,
    progress: &mut dyn Progress,
) -> Result<u64, CliError> {
    if old.applied() != new.applied() {
        return Err(differs("the applied entry"));
    }
    let (mut keys, mut done) = (0, 0);
    let mut after: Option<Bytes> = None;
    progress.at(Phase::Compare, 0, total)?;
    loop {
        let (from, limit) = (after.as_ref(), PAGE_BYTES);
        let found = page(old, from, limit).map_err(state_failed)?;
        if page(new, from, limit).map_err(state_failed)? != found {
            return Err(differs("keys or values"));
        }
        let Some((last, _)) = found.last() else {
            return Ok(keys);
        };
        after = Some(last.clone());
        keys += count(found.len());
        done += found
            .iter()
            .map(|(k, v)| count(k.len() + v.len()))
            .sum::<u64>();
        progress.at(Phase::Compare, done, total)?;
    }
}

type Pairs = Vec<(Bytes, Bytes)>;

/// The keys and values behind `after`, until they are `limit` bytes.
fn page(view: &dyn View, after: Option<&Bytes>, limit: usize) -> Result<Pairs, StateError> {
    let begin = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_ref()));
    let mut pairs = Pairs::new();
    let mut size = 0;
    view.scan(
        (begin, Bound::Unbounded),
        ScanOrder::Ascending,
        &mut |key, value| {
            size += key.len() + value.len();
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if size < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    Ok(pairs)
}

fn differs(what: &str) -> CliError {
    CliError::failed(format!(
        "what was read back differs from the source: {what}; nothing of it is used"
    ))
}
