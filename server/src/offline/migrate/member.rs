//! A stopped member's log or state store, replaced in its folder.
//!
//! The new store is made beside the old one. `member.toml` then says that a migration is under way,
//! which keeps the member from starting, the folders change places, and `member.toml` names the new
//! backends. What was there is kept under a name of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Place;
use super::progress::{Phase, Progress};
use super::target::remove;
use super::transfer::transfer;
use crate::cli::CliError;
use crate::config::{LogBackend, StoreBackend};
use crate::offline::engine::{Engine, recognise};
use crate::serve::backends::{LOG_DIR, STATE_DIR};
use crate::serve::folder::{MemberFolder, Stored};
use crate::up::not_a_member;

/// Behind a part's name: the store that is to replace it.
const NEXT: &str = "next";
/// What can be replaced.
const PARTS: [&str; 2] = [LOG_DIR, STATE_DIR];
/// Each goes aside, and another one comes.
const SWAP_RENAMES_MAX: u64 = 4;

/// A folder in the member's, and the engine that it is to have.
struct Part {
    name: &'static str,
    from: Engine,
    to: Engine,
}

/// Gives the member in `data` another log, state store, or both.
///
/// # Errors
/// What stands in the way. Run again, it goes on.
pub(super) fn migrate(
    data: &Path,
    log: Option<LogBackend>,
    store: Option<StoreBackend>,
    progress: &mut dyn Progress,
) -> Result<String, CliError> {
    let none = || {
        let none = || CliError::failed(format!("{} holds no member", data.display()));
        not_a_member(data).unwrap_or_else(none)
    };
    Stored::read(data)?.ok_or_else(none)?;
    let folder = MemberFolder::claim(data)?;
    // Again, now that nobody else can be at it.
    let mut stored = Stored::read(folder.path())?.ok_or_else(none)?;
    if stored.migrating {
        swap(data, progress)?;
        stored.migrating = false;
        stored.write(data)?;
    }
    // Complete or not, the member may have run since.
    for name in PARTS {
        let next = beside(data, name, NEXT);
        remove(&next).map_err(|error| failed(&next, &error))?;
    }
    let parts = parts(&stored, log, store)?;
    if parts.is_empty() {
        return Ok(format!(
            "{} has log {} and store {} already",
            data.display(),
            stored.log.word(),
            stored.store.word()
        ));
    }
    let mut done = Vec::new();
    for part in &parts {
        let next = beside(data, part.name, NEXT);
        let kept = beside(data, part.name, part.from.word());
        if kept.exists() {
            return Err(CliError::failed(format!(
                "{} is left from an earlier migration: delete it first",
                kept.display()
            )));
        }
        let place = |engine, dir| Place { engine, dir };
        let (from, to) = (place(part.from, data.join(part.name)), place(part.to, next));
        transfer(&from, &to, progress)?;
        done.push(kept.display().to_string());
    }
    stored.log = log.unwrap_or(stored.log);
    stored.store = store.unwrap_or(stored.store);
    stored.migrating = true;
    stored.write(data)?;
    swap(data, progress)?;
    stored.migrating = false;
    stored.write(data)?;
    Ok(format!(
        "{} has log {} and store {} now: start it with `raftwerk serve --log {} --store {}`; what \
         was there is in {}: delete it when the member runs, and never start from it again",
        data.display(),
        stored.log.word(),
        stored.store.word(),
        stored.log.word(),
        stored.store.word(),
        done.join(" and ")
    ))
}

fn parts(
    stored: &Stored,
    log: Option<LogBackend>,
    store: Option<StoreBackend>,
) -> Result<Vec<Part>, CliError> {
    if log.is_none() && store.is_none() {
        return Err(CliError::usage(
            "say what is to be replaced: --log, --store or both",
        ));
    }
    let in_memory =
        || CliError::usage("what is in memory ends with the member: there is nothing to migrate");
    let mut parts = Vec::new();
    if let Some(to) = log.filter(|log| *log != stored.log) {
        let engine = |backend| match backend {
            LogBackend::Wal => Ok(Engine::Wal),
            LogBackend::Redb => Ok(Engine::Redb),
            LogBackend::Rocksdb => Ok(Engine::Rocksdb),
            LogBackend::Mem => Err(in_memory()),
        };
        parts.push(Part {
            name: LOG_DIR,
            from: engine(stored.log)?,
            to: engine(to)?,
        });
    }
    if let Some(to) = store.filter(|store| *store != stored.store) {
        let engine = |backend| match backend {
            StoreBackend::Redb => Ok(Engine::Redb),
            StoreBackend::Rocksdb => Ok(Engine::Rocksdb),
            StoreBackend::Mem => Err(in_memory()),
        };
        parts.push(Part {
            name: STATE_DIR,
            from: engine(stored.store)?,
            to: engine(to)?,
        });
    }
    Ok(parts)
}

/// Puts every store that waits into its place. Done half, it goes on where it ended.
fn swap(data: &Path, progress: &mut dyn Progress) -> Result<(), CliError> {
    let mut renamed = 0;
    let mut rename = |from: &Path, to: &Path| -> Result<(), CliError> {
        progress.at(Phase::Swap, renamed, SWAP_RENAMES_MAX)?;
        renamed += 1;
        fs::rename(from, to).map_err(|error| failed(from, &error))?;
        let synced = File::open(data).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed(data, &error))
    };
    for name in PARTS {
        let (next, place) = (beside(data, name, NEXT), data.join(name));
        if !next.exists() {
            continue;
        }
        if place.exists() {
            let (held, _) = recognise(&place)?;
            rename(&place, &beside(data, name, held.engine().word()))?;
        }
        rename(&next, &place)?;
    }
    progress.at(Phase::Swap, SWAP_RENAMES_MAX, SWAP_RENAMES_MAX)
}

fn beside(data: &Path, name: &str, suffix: &str) -> PathBuf {
    data.join(format!("{name}.{suffix}"))
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!("{}: {error}", path.display()))
}
