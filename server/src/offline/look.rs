//! `log dump | verify | stats`: a stopped member's log of any backend, read-only.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use raftwerk_raft::{Storage, StorageError};

use super::copy::Scratch;
use super::engine::{Engine, Held, Purpose, failed, open_log, recognise};
use super::{stats, wal, walk};
use crate::cli::CliError;
use crate::cli::words::{complain, say};
use crate::serve::backends::LOG_DIR;
use crate::up::not_a_member;

/// What an examination found; also the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finding {
    Intact = 0,
    /// With a torn end that was never acknowledged.
    Torn = 1,
    Damaged = 2,
}

impl Finding {
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Of [`verify`] and salvage, that there is nothing to say about the log.
pub(super) const CANNOT_LOOK: u8 = 3;

/// The log that is meant by `dir`: the folder itself, or the one in a member's folder.
pub(super) fn find(dir: &Path) -> Result<(PathBuf, Engine), CliError> {
    let inside = dir.join(LOG_DIR);
    let dir = if inside.is_dir() {
        inside.as_path()
    } else {
        dir
    };
    let held = recognise(dir).map_err(|error| not_a_member(dir).unwrap_or(error))?;
    match held {
        (Held::Log(engine), _) => Ok((dir.to_owned(), engine)),
        (held, _) => Err(CliError::failed(format!(
            "{} holds {held}, not a log",
            dir.display()
        ))),
    }
}

/// Shows `look` a copy of the log, as opening one of this engine writes to it. What it says of the
/// copy is said of the log.
pub(super) fn with_copy<T>(
    dir: &Path,
    engine: Engine,
    purpose: Purpose,
    look: impl FnOnce(Result<Arc<dyn Storage>, StorageError>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let scratch = Scratch::of(dir)?;
    let copy = scratch.store();
    let seen = look(open_log(engine, &copy, purpose));
    seen.map_err(|error| error.renamed(&copy.to_string_lossy(), &dir.to_string_lossy()))
}

/// Says what the engine's own way of opening cannot avoid.
fn tell_copy(engine: Engine) {
    complain!(
        "a copy is looked at: opening a {} log writes to it",
        engine.word()
    );
}

/// Prints what the log holds. Exit code 2 when something of it cannot be read.
pub(crate) fn dump(dir: &Path, json: bool) -> Result<ExitCode, CliError> {
    let (dir, engine) = find(dir)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let finding = match engine {
        Engine::Wal => wal::dump(&dir, json, &mut out)?,
        other => {
            tell_copy(other);
            with_copy(&dir, other, Purpose::Look, |log| {
                walk::dump(log.map_err(failed)?.as_ref(), json, &mut out)
            })?
        }
    };
    match out.flush() {
        // Whoever read the beginning has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(|error| CliError::failed(error.to_string()))?,
    }
    Ok(finding.code())
}

/// Checks the whole log. The exit code is the [`Finding`], or [`CANNOT_LOOK`].
pub(crate) fn verify(dir: &Path, json: bool) -> Result<ExitCode, CliError> {
    let looked = find(dir).and_then(|(dir, engine)| match engine {
        Engine::Wal => wal::verify(&dir, json),
        other => verify_copy(&dir, other, json),
    });
    match looked {
        Ok((text, finding)) => {
            say!("{text}");
            Ok(finding.code())
        }
        Err(error) => Err(error.with_code(CANNOT_LOOK)),
    }
}

fn verify_copy(dir: &Path, engine: Engine, json: bool) -> Result<(String, Finding), CliError> {
    tell_copy(engine);
    with_copy(dir, engine, Purpose::Look, |log| match log {
        Ok(log) => walk::verify(log.as_ref(), json),
        Err(StorageError::Corrupt { reason, .. }) => {
            Ok((walk::unreadable(&reason, json), Finding::Damaged))
        }
        Err(error) => Err(failed(error)),
    })
}

/// Prints how much there is. Exit code 2 when something of it cannot be read.
pub(crate) fn stats(dir: &Path, json: bool) -> Result<ExitCode, CliError> {
    let (dir, engine) = find(dir)?;
    tell_copy(engine);
    let (text, finding) = with_copy(&dir, engine, Purpose::Look, |log| {
        stats::stats(&dir, log.map_err(failed)?.as_ref(), json)
    })?;
    say!("{text}");
    Ok(finding.code())
}
