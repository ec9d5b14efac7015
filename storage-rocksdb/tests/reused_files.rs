//! A write-ahead file that is used again under a new name may keep its old name in a power cut, and
//! what was last written to it: that must not come back when the new name is given a second time.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod history;
mod home;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use history::{batch, check_log, open_log};
use home::copy_moment;
use raftwerk_raft::Storage;
use raftwerk_testkit::log_suite::model::LogModel;
use tempfile::TempDir;

const BATCHES: u64 = 120;

/// The write-ahead files in `folder`: the name of each inode.
fn names(folder: &Path) -> BTreeMap<u64, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        let inode = entry.metadata().ok()?.ino();
        name.ends_with(".log").then_some((inode, name))
    });
    named.collect()
}

#[test]
fn what_a_life_did_not_find_no_later_one_finds() {
    let root = TempDir::new().unwrap();
    let store = root.path().join("store");
    let log = open_log(&store).unwrap();
    let mut model = LogModel::default();
    let mut reused = 0;
    for number in 1..=BATCHES {
        let cut = root.path().join(number.to_string());
        copy_moment(&store, &cut);
        let before = names(&store.join("db"));
        let batch = batch(&model, number);
        model = model.after(&batch).unwrap();
        log.wait(log.submit(batch).unwrap()).unwrap();
        for (inode, name) in names(&store.join("db")) {
            let Some(old) = before.get(&inode).filter(|old| **old != name) else {
                continue;
            };
            // The bytes reached the disk, the name did not.
            fs::copy(store.join("db").join(&name), cut.join("db").join(old)).unwrap();
            let found = check_log(&open_log(&cut).unwrap()).unwrap();
            let again = check_log(&open_log(&cut).unwrap()).unwrap();
            assert_eq!(found, again, "{old} was used again as {name}");
            reused += 1;
        }
        fs::remove_dir_all(&cut).unwrap();
    }
    assert!(reused > 0, "no file was used again");
}
