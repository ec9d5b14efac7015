//! Disks that rot: whatever is flipped in whichever file, a log or state on RocksDB never gives a
//! wrong byte and is never silently shorter; damage to one group's records stops no other group.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    missing_docs
)]

mod history;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use history::{applied, check_store, open_log, open_store, ops};
use raftwerk_raft::{GroupId, StateStore, Storage, WriteBatch};
use raftwerk_storage_rocksdb::RocksLogOptions;
use raftwerk_testkit::log_suite::model::LogModel;
use raftwerk_testkit::processes::numbered::batch;
use raftwerk_testkit::verdict::{
    Answer, REBIRTHS, doubt_lasts_until_the_group_is_made_anew, judge, vote,
};
use rocksdb::DB;
use tempfile::TempDir;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// What a file is, by its name.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    match name.rsplit_once('.') {
        Some((_, "sst")) => "tables".to_owned(),
        Some((_, "log")) => "write-ahead log".to_owned(),
        _ => name.split('-').next().unwrap_or_default().to_owned(),
    }
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// Flips one bit after another in every file below `store`, `stride` bytes apart, and counts the
/// answers by kind of file.
fn attack(
    store: &Path,
    stride: usize,
    judge: impl Fn(&Path) -> Result<Answer, String>,
) -> BTreeMap<String, BTreeMap<Answer, u64>> {
    let mut answers: BTreeMap<String, BTreeMap<Answer, u64>> = BTreeMap::new();
    for path in files(store) {
        // RocksDB's diary is read by nobody.
        if kind(&path) == "LOG" || kind(&path) == "LOCK" {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        // A short file has as many places as a long one may have at least.
        let stride = stride.min(whole.len() / 12).max(1);
        for at in (stride / 2..whole.len()).step_by(stride) {
            let root = TempDir::new().unwrap();
            let damaged = root.path().join("store");
            copy(store, &damaged);
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(damaged.join(path.strip_prefix(store).unwrap()), bytes).unwrap();
            let answer = judge(&damaged)
                .unwrap_or_else(|reason| panic!("{} at {at}: {reason}", path.display()));
            *answers
                .entry(kind(&path))
                .or_default()
                .entry(answer)
                .or_default() += 1;
        }
    }
    answers
}

#[test]
fn flipped_bits_of_a_log_are_named_or_refused() {
    const BATCHES: u64 = 45;
    let root = TempDir::new().unwrap();
    let store = root.path().join("store");
    let log = open_log(&store).unwrap();
    let mut model = LogModel::default();
    for number in 1..=BATCHES {
        let batch = batch(&model, number);
        model = model.after(&batch).unwrap();
        log.wait(log.submit(batch).unwrap()).unwrap();
    }
    drop(log);
    let answers = attack(&store, 2903, |damaged| match open_log(damaged) {
        Ok(log) => judge(&log, &model),
        Err(_) => Ok(Answer::Refused),
    });
    eprintln!("{answers:?}");
    assert!(
        answers["tables"].contains_key(&Answer::Named),
        "{answers:?}"
    );
    let refused = ["write-ahead log", "MANIFEST"];
    for file in refused {
        assert!(answers[file].contains_key(&Answer::Refused), "{answers:?}");
    }
}

#[test]
fn flipped_bits_of_a_state_are_of_one_moment_or_refused() {
    const BATCHES: u64 = 40;
    let root = TempDir::new().unwrap();
    let store = root.path().join("store");
    let state = open_store(&store).unwrap();
    for number in 1..=BATCHES {
        state.write(&ops(number), applied(number)).unwrap();
    }
    state.persist().unwrap();
    drop(state);
    let answers = attack(&store, 2903, |damaged| {
        let Ok(state) = open_store(damaged) else {
            return Ok(Answer::Refused);
        };
        match check_store(&state) {
            Ok(BATCHES) => Ok(Answer::Intact),
            Ok(number) => Err(format!("silently the state after batch {number}")),
            Err(reason) if reason.starts_with("not the state") => Err(reason),
            Err(_) => Ok(Answer::Refused),
        }
    });
    for file in ["tables", "MANIFEST", "ACTIVE"] {
        assert!(answers[file].contains_key(&Answer::Refused), "{answers:?}");
    }
}

/// RocksDB would read for ever.
#[test]
fn kind_of_a_record_that_no_list_of_files_has_is_refused() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let state = open_store(&path).unwrap();
    state.write(&ops(1), applied(1)).unwrap();
    state.persist().unwrap();
    drop(state);
    let list = files(&path)
        .into_iter()
        .find(|path| kind(path) == "MANIFEST");
    let list = list.unwrap();
    let whole = fs::read(&list).unwrap();
    let mut at = 0;
    let mut records = 0;
    while at + 7 <= whole.len() {
        let mut bytes = whole.clone();
        // A record that is whole becomes one of a file that is used again.
        assert_eq!(bytes[at + 6], 1);
        bytes[at + 6] = 5;
        fs::write(&list, bytes).unwrap();
        assert!(open_store(&path).is_err());
        at += 7 + usize::from(u16::from_le_bytes([whole[at + 4], whole[at + 5]]));
        records += 1;
    }
    assert!(records > 2, "{records}");
}

/// The key of a record: group, kind, index.
fn key(group: u64, kind: u8) -> Vec<u8> {
    let group = group.to_be_bytes();
    [&group[..], &[kind], &[0; 8]].concat()
}

/// Each record of group 2 damaged in turn: head, snapshot, terms, values.
#[test]
fn damaged_record_of_a_group_leaves_that_group_in_doubt_and_the_others_alone() {
    for kind in [1, 2, 3, 4] {
        for rebirth in REBIRTHS {
            let root = TempDir::new().unwrap();
            let path = root.path().join("store");
            let log = open_log(&path).unwrap();
            let mut model = LogModel::default();
            for number in 1..=24 {
                let batch = batch(&model, number);
                model = model.after(&batch).unwrap();
                log.wait(log.submit(batch).unwrap()).unwrap();
            }
            drop(log);
            let engine = RocksLogOptions::new(&path).engine();
            let raw = DB::open(&engine, path.join("db")).unwrap();
            let mut value = raw.get(key(2, kind)).unwrap().unwrap();
            value[0] ^= 1;
            raw.put(key(2, kind), value).unwrap();
            drop(raw);
            let open = || open_log(&path).unwrap();
            doubt_lasts_until_the_group_is_made_anew(2, model, rebirth, open);
        }
    }
}

/// A table in which everything is gone: the roster still says which groups there were.
#[test]
fn groups_whose_heads_cannot_be_read_are_in_doubt_by_name() {
    const GROUPS: u64 = 3000;
    let root = TempDir::new().unwrap();
    let store = root.path().join("store");
    let log = open_log(&store).unwrap();
    let mut model = LogModel::default();
    let batch = WriteBatch {
        groups: (1..=GROUPS).map(vote).collect(),
        ..WriteBatch::default()
    };
    model = model.after(&batch).unwrap();
    log.wait(log.submit(batch).unwrap()).unwrap();
    drop(log);
    let engine = RocksLogOptions::new(&store).engine();
    let raw = DB::open(&engine, store.join("db")).unwrap();
    raw.flush().unwrap();
    drop(raw);
    // One block has more than one group: all of those it held, and no others.
    let mut doubted = 0;
    for path in files(&store).iter().filter(|path| kind(path) == "tables") {
        let mut bytes = fs::read(path).unwrap();
        bytes[100] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let log = open_log(&store).unwrap();
    assert_eq!(judge(&log, &model), Ok(Answer::Named));
    for group in 1..=GROUPS {
        let state = log.open_group(GroupId(group)).unwrap().state;
        doubted += u64::from(state.health.vote_unknown);
    }
    assert!(doubted > 1 && doubted < GROUPS, "{doubted}");
}
