//! `log salvage`: what can be read of a damaged log, in a new folder.
//!
//! A log has no gaps: of each group the new one has what stands before the first entry that cannot
//! be read, or, where a snapshot covers that, what follows on the snapshot. The new store has a
//! uuid of its own: a member that goes on with it is not the one that promised what is lost.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raftwerk_raft::{
    GroupId, GroupState, GroupWrite, HardState, LogIndex, OpenGroup, SnapshotMeta, Storage,
};
use raftwerk_storage::folder::{Folder, FolderMode};

use super::copy::sync_folder;
use super::engine::{Engine, Held, Purpose, failed, open_log};
use super::look::{CANNOT_LOOK, Finding, find, with_copy};
use super::migrate::log::{Filling, base};
use super::migrate::progress::Shown;
use super::migrate::transfer::check_apart;
use super::walk::walk;
use crate::cli::CliError;
use crate::cli::words::say;
use crate::client::json::{Object, list};
use crate::serve::backends::disk;

/// What the folder is called until everything is in it.
const UNFINISHED: &str = ".salvage";

/// Something that is not in the new log.
struct LeftOut {
    group: GroupId,
    /// Empty when it is no entry.
    entries: Range<LogIndex>,
    what: &'static str,
}

const UNREADABLE: &str = "cannot be read";
const BEHIND: &str = "stand behind what cannot be read";
const VOTE: &str = "a vote may be lost: its member must not vote as who it was";
const COMMIT: &str = "the commit index points behind the log, and is taken back";

/// What became of it.
#[derive(Default)]
struct Salvaged {
    groups: usize,
    entries: u64,
    left_out: Vec<LeftOut>,
    end: Option<(String, Finding)>,
}

/// Saves the log in `dir` into `to`. The exit code is the [`Finding`], or [`CANNOT_LOOK`].
pub(crate) fn run(dir: &Path, to: &Path, json: bool) -> Result<ExitCode, CliError> {
    // A member's folder is not to be written to either.
    let salvaged = check_apart(dir, to)
        .and_then(|()| find(dir))
        .and_then(|(dir, engine)| salvage(&dir, engine, to))
        .map_err(|error| error.with_code(CANNOT_LOOK))?;
    let torn = salvaged
        .end
        .as_ref()
        .map_or(Finding::Intact, |(_, finding)| *finding);
    let finding = match salvaged.left_out.is_empty() {
        true => torn,
        false => Finding::Damaged,
    };
    let text = match json {
        true => salvaged.object(to),
        false => salvaged.text(to),
    };
    say!("{text}");
    Ok(finding.code())
}

fn salvage(dir: &Path, engine: Engine, to: &Path) -> Result<Salvaged, CliError> {
    check_apart(dir, to)?;
    check_free(to)?;
    let unfinished = unfinished(to);
    check_free(&unfinished)?;
    let mut salvaged = Salvaged::default();
    // Its copy is held, and then the source is not: what is looked at first may not be copied.
    if engine == Engine::Wal {
        salvaged.end = super::wal::end(dir)?;
    }
    with_copy(dir, engine, Purpose::Salvage, |source| {
        let source = source.map_err(failed)?;
        let kind = Held::Log(engine).kind()?;
        let mode = FolderMode::CreateIfMissing;
        drop(Folder::open(disk(), &unfinished, kind, mode).map_err(failed)?);
        let new = open_log(engine, &unfinished, Purpose::Keep).map_err(failed)?;
        salvaged.fill(source.as_ref(), new.as_ref())
    })?;
    settle(&unfinished, to)?;
    Ok(salvaged)
}

/// Where the new log is made.
fn unfinished(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    to.with_file_name(name)
}

fn check_free(dir: &Path) -> Result<(), CliError> {
    let in_the_way = |what: &str| CliError::failed(format!("{} {what}", dir.display()));
    match fs::read_dir(dir) {
        Ok(mut inside) => match inside.next() {
            None => Ok(()),
            Some(_) => Err(in_the_way("is not empty")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(in_the_way(&error.to_string())),
    }
}

/// The whole of it gets its name at once.
fn settle(unfinished: &Path, to: &Path) -> Result<(), CliError> {
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let done = sync_folder(unfinished)
        .and_then(|()| fs::rename(unfinished, to))
        .and_then(|()| File::open(above)?.sync_all());
    done.map_err(|error| CliError::failed(format!("{}: {error}", to.display())))
}

impl Salvaged {
    fn fill(&mut self, source: &dyn Storage, new: &dyn Storage) -> Result<(), CliError> {
        let groups = source.groups().map_err(failed)?;
        let mut total = 0;
        for group in &groups {
            let state = source.open_group(*group).map_err(failed)?.state;
            total += state.last.index.next().since(state.first);
        }
        let mut shown = Shown::new();
        let mut filling = Filling::new(new, total, &mut shown)?;
        for group in &groups {
            let open = source.open_group(*group).map_err(failed)?;
            self.group(*group, &open, &mut filling)?;
        }
        self.groups = groups.len();
        self.entries = filling.end()?;
        shown.end();
        Ok(())
    }

    /// What can be read of one group.
    fn group(
        &mut self,
        group: GroupId,
        open: &OpenGroup,
        filling: &mut Filling<'_>,
    ) -> Result<(), CliError> {
        let state = &open.state;
        let mut lost = Vec::new();
        walk(
            open.log.as_ref(),
            &mut |range| lost.push(range),
            &mut |_| Ok(()),
        )?;
        for entries in lost.iter().cloned() {
            self.leave_out(group, entries, UNREADABLE);
        }
        let snapshot = state.snapshot.as_ref();
        let covered = snapshot.map_or(LogIndex::ZERO, |meta| meta.last.index);
        let hidden = lost.iter().any(|range| range.start <= covered);
        // What a snapshot covers is in the state: the log may begin behind it.
        let (begin, base) = match snapshot.filter(|_| hidden) {
            Some(meta) => (covered.next(), Some(meta.clone())),
            None => (state.first, base(open)?),
        };
        let behind = state.last.index.next().max(begin);
        let gap = lost.iter().find(|range| range.end > begin);
        let end = gap.map_or(behind, |range| range.start.max(begin));
        for (at, range) in lost
            .iter()
            .enumerate()
            .filter(|(_, range)| range.end > begin)
        {
            let next = lost.get(at + 1).map_or(behind, |range| range.start);
            self.leave_out(group, range.end..next, BEHIND);
        }
        if hidden {
            let first_lost = lost.first().map_or(begin, |range| range.start);
            self.leave_out(
                group,
                state.first..first_lost.min(begin),
                "stand before a gap",
            );
        }
        if let Some(base) = &base {
            filling.submit(GroupWrite {
                group,
                reset_to: Some(base.clone()),
                ..GroupWrite::default()
            })?;
        }
        walk(open.log.as_ref(), &mut |_| {}, &mut |mut entries| {
            entries.retain(|entry| (begin..end).contains(&entry.index()));
            match entries.is_empty() {
                true => Ok(()),
                false => filling.append(group, entries),
            }
        })?;
        if state.health.vote_unknown {
            self.leave_out(group, LogIndex::ZERO..LogIndex::ZERO, VOTE);
        }
        let commit = state.hard_state.commit.min(end.prev());
        if commit < state.hard_state.commit {
            self.leave_out(group, LogIndex::ZERO..LogIndex::ZERO, COMMIT);
        }
        filling.submit(around(group, state, base.as_ref(), commit))
    }

    fn leave_out(&mut self, group: GroupId, entries: Range<LogIndex>, what: &'static str) {
        if !entries.is_empty() || [VOTE, COMMIT].contains(&what) {
            self.left_out.push(LeftOut {
                group,
                entries,
                what,
            });
        }
    }

    fn text(&self, to: &Path) -> String {
        let mut lines = vec![format!(
            "{}: {} groups, {} entries",
            to.display(),
            self.groups,
            self.entries
        )];
        for LeftOut {
            group,
            entries,
            what,
        } in &self.left_out
        {
            lines.push(match entries.is_empty() {
                true => format!("left out: group {group}: {what}"),
                false => format!(
                    "left out: group {group}: entries {} to {} {what}",
                    entries.start,
                    entries.end.prev()
                ),
            });
        }
        if let Some((end, _)) = &self.end {
            lines.push(format!("left out: {end}"));
        }
        lines.join("\n")
    }

    fn object(&self, to: &Path) -> String {
        let left_out = self.left_out.iter().map(|left| {
            Object::new()
                .number("group", left.group.0)
                .number("first", left.entries.start.0)
                .number("end", left.entries.end.0)
                .string("what", left.what)
                .end()
        });
        let object = Object::new()
            .string("folder", &to.display().to_string())
            .number("groups", super::walk::count(self.groups))
            .number("entries", self.entries)
            .raw("left_out", &list(left_out));
        match &self.end {
            Some((end, _)) => object.string("end", end).end(),
            None => object.end(),
        }
    }
}

/// What a group has beside its entries, as far as `commit`.
fn around(
    group: GroupId,
    state: &GroupState,
    base: Option<&SnapshotMeta>,
    commit: LogIndex,
) -> GroupWrite {
    let snapshot = state.snapshot.clone();
    let values = state.meta.iter().cloned();
    GroupWrite {
        group,
        snapshot: snapshot.filter(|meta| base != Some(meta)),
        hard_state: Some(HardState {
            commit,
            ..state.hard_state
        }),
        meta: values.map(|(name, value)| (name, Some(value))).collect(),
        ..GroupWrite::default()
    }
}
