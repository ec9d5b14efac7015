//! Begins a new life where the disk has no room for a segment: in the newest one. That is done only
//! where nothing of an earlier life can come back behind what is written next.
//!
//! Everything in that segment that is not proven durable is written again in its own place, and
//! zeros over what a crash left of a write: so a sync proves all of it, whatever an earlier one
//! failed at. Until that sync each sector is as it was or what it is going to be, so a crash leaves
//! what it would have left before, or less of a write that nobody was told of.

use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::StorageError;
use raftwerk_storage::buffer::PageBuf;
use raftwerk_storage::folder::io_error;
use raftwerk_storage::vfs::VfsFile;

use super::verdict::TailEnd;
use super::{Position, Recovered};
use crate::segment::header::file_name;
use crate::sites::SYNC_OPEN;
use crate::state::State;

/// How much is written at once, in bytes.
const PIECE_BYTES: u64 = 1024 * 1024;

/// What of the newest segment is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    /// From where on nothing is proven durable.
    from: u64,
    /// Where the last whole frame ends, and zeros begin.
    last: u64,
    /// Where they stood before.
    until: u64,
}

/// Goes on in the newest segment; false where a new one is needed.
///
/// # Errors
/// The disk's; nothing is known then of what stands in the segment, as before.
pub(super) fn go_on(
    dir: &Path,
    found: &mut Recovered,
    state: &mut State,
) -> Result<bool, StorageError> {
    let Some((last, doubt)) = doubt(found) else {
        return Ok(false);
    };
    let Some(file) = found.files.get(&last.segment) else {
        return Ok(false);
    };
    let file = Arc::clone(&file.file);
    if !super::rewrite::continues(found, state) {
        return Ok(false);
    }
    if doubt.from < doubt.until {
        let path = dir.join(file_name(last.segment));
        write_again(file.as_ref(), doubt).map_err(io_error("write", &path))?;
        file.sync_data(SYNC_OPEN).map_err(io_error("sync", &path))?;
    }
    state.durable_lsn = state.end.lsn;
    Ok(true)
}

/// What is to be written again before anything is appended; none where that is not enough.
fn doubt(found: &Recovered) -> Option<(Position, Doubt)> {
    let last = found.last?;
    let file = found.files.get(&last.segment)?;
    let page = u64::from(file.header.page_bytes);
    let until = match found.report.tail {
        TailEnd::Clean => last.end,
        TailEnd::Torn {
            segment,
            offset,
            bytes,
        } if segment == last.segment && offset == last.end => {
            (offset + bytes).next_multiple_of(page)
        }
        // What stands of it is no part of the log, and is removed.
        TailEnd::Torn { segment, .. } if segment > last.segment => last.end,
        TailEnd::Torn { .. } | TailEnd::Ambiguous { .. } => return None,
    };
    let (newest, before) = match &found.parts[..] {
        [] => return None,
        [newest] => (newest, None),
        [.., before, newest] => (newest, Some(before)),
    };
    let from = match (found.proven, before) {
        (Some(proven), _) if proven.segment == last.segment => proven.end,
        (Some(proven), Some(before))
            if proven.segment == before.number && before.end == Some(proven.end) =>
        {
            page
        }
        (None, None) => page,
        _ => return None,
    };
    let damage = &found.report.damage;
    let sound = file.header.zeroed && damage.iter().all(|one| one.segment != last.segment);
    let sealed = found.replay.footers.contains_key(&last.segment);
    // Nothing later is known of, neither by what vouches for it nor in another file.
    let newest_of_all = newest.number == last.segment && found.lsn_max == last.lsn;
    let doubt = Doubt {
        from,
        last: last.end,
        until: until.min(file.header.capacity),
    };
    (sound && !sealed && newest_of_all).then_some((last, doubt))
}

fn write_again(file: &dyn VfsFile, doubt: Doubt) -> std::io::Result<()> {
    let mut at = doubt.from;
    while at < doubt.until {
        let count = PIECE_BYTES.min(doubt.until - at);
        let mut piece = PageBuf::zeros(usize::try_from(count).unwrap_or(0));
        let whole = doubt.last.clamp(at, at + count) - at;
        let bytes = usize::try_from(whole).unwrap_or(0);
        if let Some(front) = piece.content_mut().get_mut(..bytes) {
            let read = file.read_at(at, front)?;
            if read < bytes {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        file.write_at(at, piece.content())?;
        at += count;
    }
    Ok(())
}
