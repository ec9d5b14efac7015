//! One store, from its folder into another.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use raftwerk_storage::folder::{Folder, StoreUuid};

use super::Place;
use super::progress::{Phase, Progress};
use super::target::Target;
use super::{log, state};
use crate::cli::CliError;
use crate::offline::copy::{BadSectors, copy_folder, lock, not_locked};
use crate::offline::engine::{Held, failed, recognise};
use crate::serve::backends::{disk, folder_bytes};

/// Copies the store in `from` into `to` and says what was copied.
///
/// # Errors
/// What stands in the way. `from` is as it was, and `to` is no store.
pub(super) fn transfer(
    from: &Place,
    to: &Place,
    progress: &mut dyn Progress,
) -> Result<String, CliError> {
    let (held, before) = recognise(&from.dir)?;
    if held.engine() != from.engine {
        return Err(CliError::failed(format!(
            "{} holds {held}, not {}",
            from.dir.display(),
            held.kept_by(from.engine)
        )));
    }
    let new = held.kept_by(to.engine);
    new.kind()?;
    check_apart(&from.dir, &to.dir)?;
    let _source = lock(&from.dir).map_err(|error| not_locked(&from.dir, error))?;
    // What was there before the lock may have been replaced.
    let (_, identity) = recognise(&from.dir)?;
    if identity != before {
        return Err(CliError::failed(format!(
            "{} was replaced meanwhile: run this again",
            from.dir.display()
        )));
    }
    let target = Target::claim(&to.dir, &identity)?;
    let (total, mut copied) = (folder_bytes(&from.dir), 0);
    progress.at(Phase::Copy, 0, total)?;
    copy_folder(
        &from.dir,
        &target.source(),
        BadSectors::Refuse,
        &mut |bytes| {
            copied += bytes;
            progress.at(Phase::Copy, copied, total)
        },
    )?;
    progress.at(Phase::Copy, total, total)?;
    let done = fill(
        held,
        &target.source(),
        new,
        &target.store(),
        identity.uuid,
        progress,
    )?;
    target.settle(progress)?;
    Ok(format!(
        "{} is {new} now: {done}, read back and compared; {} is as it was",
        to.dir.display(),
        from.dir.display()
    ))
}

/// Makes the new store, fills it, opens it again and compares.
fn fill(
    held: Held,
    source: &Path,
    new: Held,
    store: &Path,
    uuid: StoreUuid,
    progress: &mut dyn Progress,
) -> Result<String, CliError> {
    let folder = Folder::create_copy(disk(), store, new.kind()?, uuid).map_err(failed)?;
    drop(folder);
    match held {
        Held::Log(engine) => log::fill(engine, source, new.engine(), store, progress),
        Held::State(engine) => state::fill(engine, source, new.engine(), store, progress),
    }
}

/// Neither folder may be the other one or in it.
pub(in crate::offline) fn check_apart(from: &Path, to: &Path) -> Result<(), CliError> {
    let (from, to) = (resolve(from)?, resolve(to)?);
    if from.starts_with(&to) || to.starts_with(&from) {
        return Err(CliError::usage(format!(
            "{} and {} must be folders apart from each other",
            from.display(),
            to.display()
        )));
    }
    Ok(())
}

/// Without links, as far as it exists.
fn resolve(path: &Path) -> Result<PathBuf, CliError> {
    let wrong = |error| CliError::failed(format!("{}: {error}", path.display()));
    let path = std::path::absolute(path).map_err(wrong)?;
    for known in path.ancestors() {
        match known.canonicalize() {
            Ok(resolved) => {
                let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
                return Ok(resolved.join(rest));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error)),
        }
    }
    Ok(path)
}
