//! `log compact`: a redb log's file, made as small as what it holds.

use std::path::Path;
use std::process::ExitCode;

use raftwerk_storage_redb::compact_log;

use super::engine::{Engine, failed};
use super::look::find;
use crate::cli::CliError;
use crate::cli::words::say;
use crate::client::table::bytes;
use crate::serve::backends::disk;

/// Shrinks the log in `dir`, in place.
pub(crate) fn run(dir: &Path) -> Result<ExitCode, CliError> {
    let (dir, engine) = find(dir)?;
    let why = match engine {
        Engine::Redb => {
            let done = compact_log(disk(), &dir).map_err(failed)?;
            let (before, after) = (bytes(done.bytes_before), bytes(done.bytes_after));
            say!("{}: {before} before, {after} now", dir.display());
            return Ok(ExitCode::SUCCESS);
        }
        Engine::Wal => "uses its segments again",
        Engine::Rocksdb => "compacts itself while the member runs",
    };
    Err(CliError::usage(format!(
        "{} is a {} log, which {why}: there is nothing to shrink",
        dir.display(),
        engine.word()
    )))
}
