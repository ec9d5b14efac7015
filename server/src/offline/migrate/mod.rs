//! `migrate`: a log or a state store, copied into another backend while nobody runs it.
//!
//! The source's lock is held and nothing else of it is touched: what is opened is a copy of its
//! files. The new store carries the source's uuid, so that a member stays who it is, and is none
//! at all (`MIGRATION` stands in its folder) until everything in it was read back and compared.
//! Whatever ends a migration, running it again starts the copy over and completes it.

pub(super) mod log;
mod member;
pub(super) mod progress;
mod state;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};

use super::engine::Engine;
use crate::cli::CliError;
use crate::cli::words::say;
use crate::config::{LogBackend, StoreBackend};
use progress::Shown;

const EXAMPLES: &str = "\
Examples:
  raftwerk migrate --data NAME.raftwerk --log redb
      gives a stopped member another log, in place; `raftwerk serve --log redb` goes on with it
  raftwerk migrate --from wal:DIR --to redb:NEW
      copies a log; a state store likewise, with --from redb:DIR --to rocksdb:NEW

The member must not run. What is there before is kept until you delete it; once the member has run
with the new store, the old one is of the past: never start from it again.";

/// From where to where.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("source").required(true).args(["from", "data"]))]
pub(crate) struct MigrateArgs {
    /// The log (wal, redb, rocksdb) or state store (redb, rocksdb) to copy, as BACKEND:FOLDER;
    /// nothing in it changes
    #[arg(long, value_name = "BACKEND:DIR", requires = "to")]
    from: Option<Place>,
    /// Where to: a missing or empty folder, or what an ended migration of the same store left
    #[arg(long, value_name = "BACKEND:DIR", requires = "from")]
    to: Option<Place>,
    /// A stopped member's folder, to be given another log or state store in place
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from", "to"])]
    data: Option<PathBuf>,
    /// The member's new log
    #[arg(long, value_enum, requires = "data")]
    log: Option<LogBackend>,
    /// The member's new state store
    #[arg(long, value_enum, requires = "data")]
    store: Option<StoreBackend>,
}

/// A backend and a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) engine: Engine,
    pub(super) dir: PathBuf,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, dir) = text
            .split_once(':')
            .ok_or("expected BACKEND:DIR, wal:/var/lib/m1/log for example")?;
        if dir.is_empty() {
            return Err("the folder is missing behind the colon".to_owned());
        }
        Ok(Self {
            engine: Engine::from_str(word, false)
                .map_err(|_| format!("{word:?} is no backend: wal, redb or rocksdb"))?,
            dir: dir.into(),
        })
    }
}

/// Does what the flags say.
pub(crate) fn run(args: MigrateArgs) -> Result<ExitCode, CliError> {
    let mut progress = Shown::new();
    let done = match (args.from, args.to, args.data) {
        (Some(from), Some(to), None) => transfer::transfer(&from, &to, &mut progress),
        (None, None, Some(data)) => member::migrate(&data, args.log, args.store, &mut progress),
        _ => Err(CliError::usage("say either --from and --to, or --data")),
    };
    progress.end();
    say!("{}", done?);
    Ok(ExitCode::SUCCESS)
}
