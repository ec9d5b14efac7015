//! A folder on the real disk as a home for the suites, for a backend that writes its files itself,
//! and for any backend to meet the real file system. No file system of ours can forget or fail
//! under it: a kill is a copy of what the files hold.
#![allow(clippy::expect_used)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use tempfile::TempDir;

use crate::log_suite::{Ability, HeldSyncs, LogHome};
use crate::state_suite::StateHome;

/// A temporary folder with one store, made by a function of its path.
#[derive(Debug)]
pub struct FolderHome<O> {
    root: TempDir,
    life: u64,
    elsewhere: &'static str,
    held_elsewhere: &'static str,
    in_full: bool,
    open: O,
}

impl<O> FolderHome<O> {
    /// A home without a store yet. `elsewhere` says where power cuts, failing and held syncs are
    /// tried instead: it is printed with each case that cannot try them here.
    ///
    /// # Panics
    /// When there can be no temporary folder.
    pub fn new(elsewhere: &'static str, open: O) -> Self {
        Self {
            root: TempDir::new().expect("a temporary folder"),
            life: 0,
            elsewhere,
            held_elsewhere: elsewhere,
            in_full: false,
            open,
        }
    }

    /// Syncs are held in another place than that where power cuts and failing syncs are tried.
    #[must_use]
    pub const fn syncs_held(mut self, elsewhere: &'static str) -> Self {
        self.held_elsewhere = elsewhere;
        self
    }

    /// Whether random batches are tried with every seed and to the last step, as where nothing
    /// waits for a disk. Without this they are cut short, and say so.
    #[must_use]
    pub const fn in_full(mut self, yes: bool) -> Self {
        self.in_full = yes;
        self
    }

    fn path(&self) -> PathBuf {
        self.root.path().join(self.life.to_string())
    }

    /// The next life has the files as they are now; what this one still does reaches its own. The
    /// life before this one is over, and its files go: a test of many lives needs no more room
    /// than one of a few.
    fn copy(&mut self) {
        let from = self.path();
        if let Some(before) = self.life.checked_sub(1) {
            let over = self.root.path().join(before.to_string());
            fs::remove_dir_all(over).unwrap_or_default();
        }
        self.life += 1;
        copy_moment(&from, &self.path()).expect("a copy of the folder as it is at one moment");
    }
}

impl<O> LogHome for FolderHome<O>
where
    O: FnMut(&Path) -> Result<Arc<dyn Storage>, StorageError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        let path = self.path();
        (self.open)(&path)
    }

    fn kill(&mut self) {
        self.copy();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported(self.elsewhere)
    }

    fn is_slow(&self) -> bool {
        !self.in_full
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        Err(self.held_elsewhere)
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported(self.elsewhere)
    }
}

impl<O> StateHome for FolderHome<O>
where
    O: FnMut(&Path) -> Result<Arc<dyn StateStore>, StateError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        let path = self.path();
        (self.open)(&path)
    }

    fn kill(&mut self) {
        self.copy();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported(self.elsewhere)
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported(self.elsewhere)
    }
}

type Moment = Vec<(PathBuf, u64, SystemTime)>;

/// How often a folder that changes meanwhile is copied again.
const COPIES_MAX: usize = 1000;

/// Copies a folder as it is at one moment: again, if anything moved meanwhile.
fn copy_moment(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..COPIES_MAX {
        if copied_still(from, to)? {
            return Ok(());
        }
        match fs::remove_dir_all(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let why = format!(
        "{} changed during each of {COPIES_MAX} copies",
        from.display()
    );
    Err(io::Error::new(io::ErrorKind::TimedOut, why))
}

/// Whether nothing in `from` moved while it was copied.
fn copied_still(from: &Path, to: &Path) -> io::Result<bool> {
    let copied = files(from, from).and_then(|before| {
        copy(&before, from, to)?;
        Ok(before == files(from, from)?)
    });
    match copied {
        // A file that went while it was looked at is a change like others; anything else, such as a
        // disk without room, would be so the next time, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

/// Every file below `folder`: its path from `root`, its length, when it changed.
fn files(root: &Path, folder: &Path) -> io::Result<Moment> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            found.extend(files(root, &entry.path())?);
        } else {
            let path = entry.path();
            let below = path.strip_prefix(root).map_err(io::Error::other)?;
            found.push((below.to_path_buf(), meta.len(), meta.modified()?));
        }
    }
    found.sort();
    Ok(found)
}

fn copy(files: &Moment, from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (path, ..) in files {
        let target = to.join(path);
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::copy(from.join(path), target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder to copy from, with one file, and where its copy goes.
    fn folders() -> (TempDir, PathBuf, PathBuf) {
        let root = TempDir::new().expect("a temporary folder");
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir(&from).expect("create from");
        fs::write(from.join("file"), b"what it holds").expect("write");
        (root, from, to)
    }

    #[test]
    fn copy_that_cannot_be_made_is_an_error_and_not_tried_again() {
        let (_root, from, to) = folders();
        fs::write(&to, b"a file where the copy goes").expect("write");
        let error = copy_moment(&from, &to).expect_err("nothing can be copied there");
        assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn folder_that_never_stands_still_is_given_up() {
        let (_root, from, to) = folders();
        // Listed, and gone when it is to be copied: every time.
        std::os::unix::fs::symlink("nowhere", from.join("gone")).expect("symlink");
        let error = copy_moment(&from, &to).expect_err("it is never copied whole");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn files_of_no_more_than_two_lives_take_room() {
        let mut home = FolderHome::new("nowhere", ());
        fs::create_dir(home.path()).expect("create");
        for _ in 0..10 {
            home.copy();
            assert!(fs::read_dir(home.root.path()).expect("read").count() <= 2);
        }
    }
}
