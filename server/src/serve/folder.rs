//! A member's folder: who it is, written once.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::CliError;
use crate::config::{LogBackend, Settings, StoreBackend};

/// Says whose folder this is.
pub(crate) const MEMBER_FILE: &str = "member.toml";
const LOCK_FILE: &str = "LOCK";

/// What the folder says of its member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// In hexadecimal, as everywhere where people read it.
    pub(crate) cluster: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) log: LogBackend,
    pub(crate) store: StoreBackend,
    /// It has left its cluster and will not be taken back.
    #[serde(default)]
    pub(crate) left: bool,
    /// `raftwerk migrate` is changing its stores and has not ended.
    #[serde(default)]
    pub(crate) migrating: bool,
}

impl Stored {
    /// `None`: there is none in `folder`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, CliError> {
        let path = folder.join(MEMBER_FILE);
        let failed = |error: &dyn std::fmt::Display| {
            CliError::failed(format!("{}: {error}", path.display()))
        };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map(Some)
                .map_err(|error| failed(&error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), CliError> {
        let text = format!(
            "# Written by `raftwerk serve`: whose folder this is. Not to be edited.\n\
             cluster = \"{}\"\nid = \"{}\"\nname = \"{}\"\nlog = \"{}\"\n\
             store = \"{}\"\nleft = {}\nmigrating = {}\n",
            self.cluster,
            self.id,
            self.name,
            self.log.word(),
            self.store.word(),
            self.left,
            self.migrating
        );
        write_whole(folder, MEMBER_FILE, &text).map_err(|error| {
            CliError::failed(format!(
                "cannot write {}/{MEMBER_FILE}: {error}",
                folder.display()
            ))
        })
    }

    /// # Errors
    /// A sentence for whoever starts this folder as something that it is not.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), CliError> {
        let folder = settings.data.display();
        if self.left {
            return Err(CliError::refused(format!(
                "member {} ({}) has left its cluster; to bring it back, add it as a new member, \
                 with an empty folder",
                self.id, self.name
            )));
        }
        if self.migrating {
            return Err(CliError::failed(format!(
                "{folder} is in the middle of a migration: run `raftwerk migrate --data {folder} \
                 --log {} --store {}` again",
                self.log.word(),
                self.store.word()
            )));
        }
        let differs = |flag: &str, has: &str, asked: &str| {
            Err(CliError::failed(format!(
                "{folder} holds a member with {flag} {has}, not {asked}; change the flag, choose \
                 another folder with --data, or see `raftwerk migrate --help`"
            )))
        };
        if self.log != settings.log {
            return differs("--log", self.log.word(), settings.log.word());
        }
        if self.store != settings.store {
            return differs("--store", self.store.word(), settings.store.word());
        }
        if let Some(cluster) = settings
            .given_cluster()
            .filter(|c| c.to_string() != self.cluster)
        {
            return Err(CliError::failed(format!(
                "{folder} holds a member of cluster {}, and --initial-cluster with its token \
                 describes {cluster}; leave both out, or choose another folder with --data",
                self.cluster
            )));
        }
        if self.log == LogBackend::Mem {
            return Err(CliError::refused(format!(
                "{folder} belongs to a member that kept its log in memory, which is gone: remove \
                 the member, delete the folder and add it as a new one"
            )));
        }
        Ok(())
    }
}

/// The folder, held for as long as the process lives.
#[derive(Debug)]
pub(crate) struct MemberFolder {
    path: PathBuf,
    _lock: File,
}

impl MemberFolder {
    /// Makes the folder where it is missing, with mode 0700, and locks it.
    ///
    /// # Errors
    /// Another process runs this member, or the system refuses.
    pub(crate) fn claim(path: &Path) -> Result<Self, CliError> {
        let folder = path.display();
        let failed = |error: std::io::Error| CliError::failed(format!("{folder}: {error}"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = lock(path, LOCK_FILE).map_err(failed)?;
        let Some(lock) = lock else {
            return Err(CliError::failed(format!(
                "{folder} is in use by another process: end it, or choose another folder with \
                 --data"
            )));
        };
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a file of a folder without waiting; `None` when another process holds it.
pub(crate) fn lock(folder: &Path, name: &str) -> std::io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(name))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// All of the text or nothing: a file beside it, synced, renamed, the folder synced.
pub(crate) fn write_whole(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}
