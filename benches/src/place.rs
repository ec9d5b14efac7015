//! Where benches keep their files: below the workspace's target folder, on the disk that the
//! project is built on (`/tmp` may be memory).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder of everything that benches leave: `target/bench`.
#[must_use]
pub fn bench_folder() -> PathBuf {
    target_folder().join("bench")
}

/// The folder that cargo builds into.
#[must_use]
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.parent().unwrap_or(here).join("target")
        },
        PathBuf::from,
    )
}

/// An empty folder that goes when it is dropped.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> Result<TempDir, String> {
    let parent = bench_folder();
    fs::create_dir_all(&parent)
        .and_then(|()| tempfile::tempdir_in(&parent))
        .map_err(|error| format!("{}: {error}", parent.display()))
}

/// What the files below `folder` take on the disk, in bytes: blocks and not lengths.
#[must_use]
pub fn allocated_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_takes_counts_its_subfolders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 10_000]).unwrap();
        let found = allocated_bytes(folder.path());
        assert!((10_000..100_000).contains(&found), "{found}");
    }
}
