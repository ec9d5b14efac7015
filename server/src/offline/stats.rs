//! How much a log holds, of each group.

use std::path::Path;

use raftwerk_raft::{GroupId, GroupState, Storage};
use raftwerk_storage::folder::{Folder, Identity};

use super::engine::failed;
use super::look::Finding;
use super::walk::{count, group_object, walk};
use crate::cli::CliError;
use crate::client::json::{Object, list};
use crate::client::table::{bytes, table};
use crate::serve::backends::{disk, folder_bytes};

/// One group's share.
struct Share {
    group: GroupId,
    state: GroupState,
    entries: u64,
    payload_bytes: u64,
}

/// What `log` holds, a copy of what is in `dir`.
pub(super) fn stats(
    dir: &Path,
    log: &dyn Storage,
    json: bool,
) -> Result<(String, Finding), CliError> {
    let identity = Folder::peek(disk().as_ref(), dir).map_err(failed)?;
    let mut shares = Vec::new();
    let mut finding = Finding::Intact;
    for group in log.groups().map_err(failed)? {
        let open = log.open_group(group).map_err(failed)?;
        let (mut entries, mut payload_bytes) = (0, 0);
        let mut damaged = !open.state.health.is_intact();
        walk(open.log.as_ref(), &mut |_| damaged = true, &mut |read| {
            entries += count(read.len());
            payload_bytes += read
                .iter()
                .map(|entry| count(entry.data.len()))
                .sum::<u64>();
            Ok(())
        })?;
        if damaged {
            finding = Finding::Damaged;
        }
        shares.push(Share {
            group,
            state: open.state,
            entries,
            payload_bytes,
        });
    }
    let disk_bytes = folder_bytes(dir);
    let text = if json {
        object(&identity, disk_bytes, &shares)
    } else {
        text(&identity, disk_bytes, &shares)
    };
    Ok((text, finding))
}

fn total(shares: &[Share]) -> (u64, u64) {
    let entries = shares.iter().map(|share| share.entries).sum();
    (
        entries,
        shares.iter().map(|share| share.payload_bytes).sum(),
    )
}

fn text(identity: &Identity, disk_bytes: u64, shares: &[Share]) -> String {
    let (entries, payload_bytes) = total(shares);
    let rows: Vec<_> = shares
        .iter()
        .map(|share| {
            let state = &share.state;
            let covered = state.snapshot.as_ref().map(|meta| meta.last.index);
            [
                share.group.to_string(),
                share.entries.to_string(),
                state.first.to_string(),
                state.last.index.to_string(),
                bytes(share.payload_bytes),
                state.hard_state.term.to_string(),
                state.hard_state.commit.to_string(),
                covered.map_or("-".to_owned(), |index| index.to_string()),
            ]
        })
        .collect();
    let heads = [
        "group", "entries", "first", "last", "payload", "term", "commit", "snapshot",
    ];
    format!(
        "{identity}, {}: {} groups, {entries} entries, {} of payload, {} on disk\n{}",
        identity.uuid,
        shares.len(),
        bytes(payload_bytes),
        bytes(disk_bytes),
        table(heads, [true; 8], &rows)
    )
}

fn object(identity: &Identity, disk_bytes: u64, shares: &[Share]) -> String {
    let (entries, payload_bytes) = total(shares);
    let groups = shares.iter().map(|share| {
        group_object(share.group, &share.state)
            .number("entries", share.entries)
            .number("payload_bytes", share.payload_bytes)
            .end()
    });
    Object::new()
        .string("backend", &identity.backend)
        .number("format", u64::from(identity.format_version))
        .string("uuid", &identity.uuid.to_string())
        .number("entries", entries)
        .number("payload_bytes", payload_bytes)
        .number("disk_bytes", disk_bytes)
        .raw("groups", &list(groups))
        .end()
}
