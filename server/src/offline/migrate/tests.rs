//! Every pair of backends, every place where a migration can end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, EntryKind, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId, SnapshotMeta,
    StateOp, StateStore, Storage, Term, WriteBatch,
};
use raftwerk_storage::folder::{Folder, FolderMode, MIGRATION_FILE};
use raftwerk_storage_mem::{MemLog, MemLogOptions, MemStore};
use tempfile::TempDir;

use super::progress::{Phase, Progress};
use super::transfer::transfer;
use super::{Place, log, member, state};
use crate::cli::CliError;
use crate::config::{LogBackend, StoreBackend};
use crate::offline::engine::{Engine, Held, Purpose, open_log, open_state, recognise};
use crate::serve::backends::disk;
use crate::serve::folder::Stored;

const LOGS: &[Engine] = &[
    Engine::Wal,
    Engine::Redb,
    #[cfg(feature = "rocksdb")]
    Engine::Rocksdb,
];
const STATES: &[Engine] = &[
    Engine::Redb,
    #[cfg(feature = "rocksdb")]
    Engine::Rocksdb,
];

/// Ends the migration at the step of this number.
struct EndAt(Option<usize>);

impl Progress for EndAt {
    fn at(&mut self, _: Phase, _: u64, _: u64) -> Result<(), CliError> {
        match &mut self.0 {
            Some(0) => Err(CliError::failed("ended here")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn to_the_end() -> EndAt {
    EndAt(None)
}

fn place(engine: Engine, dir: &Path) -> Place {
    Place {
        engine,
        dir: dir.to_owned(),
    }
}

/// Every file below `dir` with its bytes, by its name there.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            let below = contents(&path).into_iter();
            found.extend(below.map(|(path, bytes)| (name.join(path), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn make(held: Held, dir: &Path) {
    let kind = held.kind().unwrap();
    drop(Folder::open(disk(), dir, kind, FolderMode::CreateIfMissing).unwrap());
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

fn entries(term: u64, range: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    range
        .map(|index| Entry::normal(id(term, index), Bytes::from(vec![index as u8; bytes])))
        .collect()
}

fn snapshot(last: LogId) -> SnapshotMeta {
    let mut meta = SnapshotMeta {
        last,
        context: Bytes::from_static(b"who is who"),
        ..SnapshotMeta::default()
    };
    meta.conf_state.voters = vec![NodeId(1), NodeId(2)];
    meta
}

/// Every shape that a group's log can have.
fn writes() -> Vec<GroupWrite> {
    let group = |group| GroupWrite {
        group: GroupId(group),
        ..GroupWrite::default()
    };
    let hard_state = Some(HardState {
        term: Term(9),
        vote: Some(NodeId(2)),
        commit: LogIndex(5),
    });
    let mut change = Entry::normal(id(7, 21), Bytes::from_static(b"change"));
    change.kind = EntryKind::ConfChange;
    vec![
        GroupWrite {
            append: entries(1, 1..11, 100),
            hard_state,
            ..group(1)
        },
        // Compacted, with entries kept before the snapshot, and values.
        GroupWrite {
            append: entries(2, 11..21, 1000),
            snapshot: Some(snapshot(id(1, 8))),
            compact_to: Some(LogIndex(4)),
            meta: vec![(Bytes::from_static(b"a"), Some(Bytes::from_static(b"b")))],
            ..group(1)
        },
        GroupWrite {
            append: vec![change],
            ..group(1)
        },
        // From a snapshot, without entries.
        GroupWrite {
            reset_to: Some(snapshot(id(4, 1000))),
            ..group(2)
        },
        // From the first entry on, more than is read at once.
        GroupWrite {
            append: entries(3, 1..6, 400_000),
            ..group(3)
        },
        // Never a log.
        GroupWrite {
            hard_state,
            ..group(4)
        },
        GroupWrite {
            append: entries(1, 1..3, 10),
            ..group(5)
        },
        GroupWrite {
            destroy: true,
            ..group(5)
        },
        // Compacted to its end.
        GroupWrite {
            append: entries(1, 1..4, 10),
            ..group(u64::MAX)
        },
        GroupWrite {
            snapshot: Some(snapshot(id(1, 3))),
            compact_to: Some(LogIndex(3)),
            ..group(u64::MAX)
        },
    ]
}

fn fill(log: &dyn Storage, writes: Vec<GroupWrite>) {
    let mut last = None;
    for write in writes {
        let batch = WriteBatch {
            groups: vec![write],
            ..WriteBatch::default()
        };
        last = Some(log.submit(batch).unwrap());
    }
    log.wait(last.unwrap()).unwrap();
}

/// The same in memory, to compare with.
fn model() -> MemLog {
    let model = MemLog::new(MemLogOptions::default()).unwrap();
    fill(&model, writes());
    model
}

fn make_log(engine: Engine, dir: &Path) {
    make(Held::Log(engine), dir);
    let log = open_log(engine, dir, Purpose::Keep).unwrap();
    fill(log.as_ref(), writes());
}

fn small_log(engine: Engine, dir: &Path) {
    make(Held::Log(engine), dir);
    let log = open_log(engine, dir, Purpose::Keep).unwrap();
    let mut writes = writes();
    writes.truncate(3);
    fill(log.as_ref(), writes);
}

fn log_is(dir: &Path, engine: Engine, expected: &dyn Storage) {
    let log = open_log(engine, dir, Purpose::Keep).unwrap();
    log::compare(expected, log.as_ref(), 0, &mut to_the_end()).unwrap();
}

fn state_ops() -> Vec<StateOp> {
    let keys = (0..2000_u32).map(|n| StateOp::Put {
        key: Bytes::from(format!("key {n:05}")),
        value: Bytes::from(vec![n as u8; n as usize]),
    });
    keys.chain([StateOp::Delete {
        key: Bytes::from_static(b"key 00007"),
    }])
    .collect()
}

fn make_state(engine: Engine, dir: &Path, ops: &[StateOp]) {
    make(Held::State(engine), dir);
    let store = open_state(engine, dir).unwrap();
    store.write(ops, id(3, 77)).unwrap();
    store.persist().unwrap();
}

fn state_is(dir: &Path, engine: Engine, ops: &[StateOp]) {
    let expected = MemStore::new();
    expected.write(ops, id(3, 77)).unwrap();
    let store = open_state(engine, dir).unwrap();
    assert_eq!(store.durable_applied().unwrap(), id(3, 77));
    let (old, new) = (expected.view().unwrap(), store.view().unwrap());
    state::compare(old.as_ref(), new.as_ref(), 0, &mut to_the_end()).unwrap();
}

fn left_over(dir: &Path) -> bool {
    let names = fs::read_dir(dir).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .any(|name| name.starts_with(MIGRATION_FILE))
}

fn migrate(from: &Place, to: &Place, end_at: Option<usize>) -> Result<String, CliError> {
    transfer(from, to, &mut EndAt(end_at))
}

fn uuid(dir: &Path) -> raftwerk_storage::folder::StoreUuid {
    Folder::peek(disk().as_ref(), dir).unwrap().uuid
}

#[test]
fn every_log_becomes_every_other_and_the_source_stays_as_it_was() {
    let model = model();
    for from in LOGS {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("source");
        make_log(*from, &source);
        let before = contents(&source);
        for to in LOGS {
            let copy = folder.path().join(format!("copy-{}", to.word()));
            let said = migrate(&place(*from, &source), &place(*to, &copy), None).unwrap();
            assert!(said.contains("5 groups, 22 entries"), "{said}");
            assert!(contents(&source) == before, "{from:?} to {to:?}");
            assert_eq!(uuid(&copy), uuid(&source));
            assert!(!left_over(&copy));
            assert_eq!(recognise(&copy).unwrap().0, Held::Log(*to));
            log_is(&copy, *to, &model);
        }
    }
}

#[test]
fn every_state_store_becomes_every_other_and_the_source_stays_as_it_was() {
    let ops = state_ops();
    for from in STATES {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("source");
        make_state(*from, &source, &ops);
        let before = contents(&source);
        for to in STATES {
            let copy = folder.path().join(format!("copy-{}", to.word()));
            let said = migrate(&place(*from, &source), &place(*to, &copy), None).unwrap();
            assert!(said.contains("1999 keys as of entry"), "{said}");
            assert!(contents(&source) == before, "{from:?} to {to:?}");
            assert_eq!(uuid(&copy), uuid(&source));
            assert!(!left_over(&copy));
            state_is(&copy, *to, &ops);
        }
    }
}

#[test]
fn state_store_without_anything_is_copied() {
    let folder = TempDir::new().unwrap();
    let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
    make(Held::State(Engine::Redb), &source);
    drop(open_state(Engine::Redb, &source).unwrap());
    migrate(
        &place(Engine::Redb, &source),
        &place(Engine::Redb, &copy),
        None,
    )
    .unwrap();
    let store = open_state(Engine::Redb, &copy).unwrap();
    assert_eq!(store.durable_applied().unwrap(), LogId::default());
}

/// Ends a migration at each of its steps: what is there then is no store, and the next one
/// completes it. Gives the number of steps.
fn end_everywhere(held: Held, source: &Path, check: &dyn Fn(&Path)) -> usize {
    let from = place(held.engine(), source);
    let before = contents(source);
    for step in 0.. {
        let folder = TempDir::new().unwrap();
        let copy = folder.path().join("copy");
        let to = place(held.engine(), &copy);
        match migrate(&from, &to, Some(step)) {
            Ok(_) => return step,
            Err(error) => assert_eq!(error.to_string(), "ended here"),
        }
        let kind = held.kind().unwrap();
        let opened = Folder::open(disk(), &copy, kind, FolderMode::CreateIfMissing);
        assert!(opened.is_err(), "a store after step {step}");
        assert!(contents(source) == before, "step {step}");
        // Ends again one step further, then goes through.
        let _ = migrate(&from, &to, Some(step + 1));
        if copy.join(MIGRATION_FILE).exists() {
            migrate(&from, &to, None).unwrap();
        }
        assert!(!left_over(&copy));
        check(&copy);
    }
    0
}

#[test]
fn log_whose_copying_ended_anywhere_is_no_store_and_is_completed() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    small_log(Engine::Redb, &source);
    let expected = open_log(Engine::Redb, &source, Purpose::Keep).unwrap();
    let model = MemLog::new(MemLogOptions::default()).unwrap();
    let mut writes = writes();
    writes.truncate(3);
    fill(&model, writes);
    log::compare(&model, expected.as_ref(), 0, &mut to_the_end()).unwrap();
    drop(expected);
    let steps = end_everywhere(Held::Log(Engine::Redb), &source, &|copy| {
        log_is(copy, Engine::Redb, &model);
    });
    assert!(steps > 10, "{steps}");
}

#[test]
fn state_whose_copying_ended_anywhere_is_no_store_and_is_completed() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    let ops = [StateOp::Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
    }];
    make_state(Engine::Redb, &source, &ops);
    let steps = end_everywhere(Held::State(Engine::Redb), &source, &|copy| {
        state_is(copy, Engine::Redb, &ops);
    });
    assert!(steps > 8, "{steps}");
}

fn refused(from: &Place, to: &Place) -> String {
    let before = to.dir.exists().then(|| contents(&to.dir));
    let error = migrate(from, to, None).unwrap_err();
    assert!(to.dir.exists() == before.is_some());
    if let Some(before) = before {
        assert!(contents(&to.dir) == before, "{error}");
    }
    error.to_string()
}

#[test]
fn folder_that_is_not_empty_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let (source, other) = (folder.path().join("source"), folder.path().join("other"));
    small_log(Engine::Redb, &source);
    small_log(Engine::Redb, &other);
    let from = place(Engine::Redb, &source);
    let says = |to: &Path, words: &str| {
        let said = refused(&from, &place(Engine::Redb, to));
        assert!(said.contains(words), "{said}");
    };
    says(&other, "holds IDENTITY: choose an empty folder");
    let thesis = folder.path().join("thesis");
    fs::create_dir(&thesis).unwrap();
    fs::write(thesis.join("thesis.txt"), "years of work").unwrap();
    says(&thesis, "holds thesis.txt");
    says(&source, "apart from each other");
    says(&source.join("inside"), "apart from each other");
    says(folder.path(), "apart from each other");
    // What another store's migration left is not ours to delete.
    let begun = folder.path().join("begun");
    let _ = migrate(
        &place(Engine::Redb, &other),
        &place(Engine::Redb, &begun),
        Some(5),
    );
    assert!(left_over(&begun));
    says(&begun, "an unfinished migration of another store");
}

#[test]
fn source_that_is_not_what_was_said_is_refused() {
    let folder = TempDir::new().unwrap();
    let (log, state) = (folder.path().join("log"), folder.path().join("state"));
    small_log(Engine::Redb, &log);
    make_state(Engine::Redb, &state, &[]);
    let copy = folder.path().join("copy");
    let says = |from: &Place, to: Engine, words: &str| {
        let said = refused(from, &place(to, &copy));
        assert!(said.contains(words), "{said}");
    };
    says(
        &place(Engine::Wal, &log),
        Engine::Redb,
        "holds a redb log, not a wal log",
    );
    says(
        &place(Engine::Redb, &state),
        Engine::Wal,
        "a state store cannot be kept in a wal",
    );
    says(
        &place(Engine::Redb, folder.path()),
        Engine::Wal,
        "holds no store",
    );
    let held = open_log(Engine::Redb, &log, Purpose::Keep).unwrap();
    says(&place(Engine::Redb, &log), Engine::Redb, "is in use");
    drop(held);
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn folder_of_a_backend_that_is_not_built_in_says_how_to_build_it() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("source");
    let kind = raftwerk_storage::folder::Kind {
        name: "log-rocksdb",
        format_version: 1,
    };
    drop(Folder::open(disk(), &source, kind, FolderMode::CreateIfMissing).unwrap());
    let error = recognise(&source).unwrap_err().to_string();
    assert!(
        error.contains("build it with --features rocksdb"),
        "{error}"
    );
    let (from, to) = (place(Engine::Rocksdb, &source), folder.path().join("copy"));
    let said = refused(&from, &place(Engine::Redb, &to));
    assert!(said.contains("build it with --features rocksdb"), "{said}");
}

#[test]
fn log_that_has_lost_something_is_not_copied() {
    let folder = TempDir::new().unwrap();
    let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
    make_log(Engine::Wal, &source);
    // The fourth entry of group 3, in every file where it stands.
    let needle = [4_u8; 5000];
    for (path, mut bytes) in contents(&source) {
        let found: Vec<usize> = bytes
            .chunks_exact(5000)
            .enumerate()
            .filter_map(|(at, chunk)| (chunk == needle).then_some(at * 5000))
            .collect();
        for at in &found {
            bytes[*at] ^= 1;
        }
        if !found.is_empty() {
            fs::write(source.join(path), bytes).unwrap();
        }
    }
    let error = migrate(
        &place(Engine::Wal, &source),
        &place(Engine::Redb, &copy),
        None,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("has lost something of group 3"), "{error}");
    let kind = Held::Log(Engine::Redb).kind().unwrap();
    assert!(Folder::open(disk(), &copy, kind, FolderMode::CreateIfMissing).is_err());
}

/// What makes a log another one than [`model`].
fn differences() -> Vec<(&'static str, GroupWrite)> {
    let group = |group| GroupWrite {
        group: GroupId(group),
        ..GroupWrite::default()
    };
    let mut other = entries(7, 21..22, 6);
    other[0].kind = EntryKind::ConfChange;
    vec![
        (
            "an entry more",
            GroupWrite {
                append: entries(7, 22..23, 1),
                ..group(1)
            },
        ),
        (
            "an entry's bytes",
            GroupWrite {
                append: other,
                ..group(1)
            },
        ),
        (
            "an entry less",
            GroupWrite {
                compact_to: Some(LogIndex(5)),
                ..group(1)
            },
        ),
        (
            "a snapshot",
            GroupWrite {
                snapshot: Some(snapshot(id(1, 9))),
                ..group(1)
            },
        ),
        (
            "a value",
            GroupWrite {
                meta: vec![(Bytes::from_static(b"a"), None)],
                ..group(1)
            },
        ),
        (
            "a hard state",
            GroupWrite {
                hard_state: Some(HardState {
                    term: Term(10),
                    ..HardState::default()
                }),
                ..group(1)
            },
        ),
        (
            "a group less",
            GroupWrite {
                destroy: true,
                ..group(4)
            },
        ),
        (
            "a group more",
            GroupWrite {
                append: entries(1, 1..2, 1),
                ..group(9)
            },
        ),
    ]
}

#[test]
fn comparison_notices_every_difference_of_logs() {
    let model = model();
    let differs = |more: GroupWrite| {
        let other = self::model();
        fill(&other, vec![more]);
        log::compare(&model, &other, 0, &mut to_the_end()).is_err()
            && log::compare(&other, &model, 0, &mut to_the_end()).is_err()
    };
    for (what, change) in differences() {
        assert!(differs(change), "{what}");
    }
    log::compare(&model, &self::model(), 0, &mut to_the_end()).unwrap();
}

#[test]
fn comparison_notices_every_difference_of_states() {
    let store = |more: &[StateOp], applied| {
        let store = MemStore::new();
        store.write(&state_ops(), id(1, 1)).unwrap();
        store.write(more, applied).unwrap();
        store
    };
    let put = |key: &str| StateOp::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
    };
    let same = store(&[], id(1, 2));
    let differs = |other: &dyn StateStore| {
        let (old, new) = (same.view().unwrap(), other.view().unwrap());
        let (old, new) = (old.as_ref(), new.as_ref());
        let one = state::compare(old, new, 0, &mut to_the_end()).is_err();
        one && state::compare(new, old, 0, &mut to_the_end()).is_err()
    };
    assert!(!differs(&store(&[], id(1, 2))));
    assert!(differs(&store(&[], id(1, 3))));
    for key in ["a first", "key 00100", "key 01000 and a half", "z last"] {
        assert!(differs(&store(&[put(key)], id(1, 2))), "{key}");
    }
    for key in ["key 00000", "key 01999"] {
        let key = Bytes::copy_from_slice(key.as_bytes());
        assert!(differs(&store(&[StateOp::Delete { key }], id(1, 2))));
    }
}

fn make_member(data: &Path) {
    fs::create_dir(data).unwrap();
    small_log(Engine::Redb, &data.join("log"));
    make_state(Engine::Redb, &data.join("state"), &[]);
    let stored = Stored {
        cluster: "1".to_owned(),
        id: "2".to_owned(),
        name: "m".to_owned(),
        log: LogBackend::Redb,
        store: StoreBackend::Redb,
        left: false,
        migrating: false,
    };
    stored.write(data).unwrap();
}

#[test]
fn member_whose_migration_ended_anywhere_is_whole_or_does_not_start() {
    for step in 0.. {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("member");
        make_member(&data);
        let before = contents(&data.join("log"));
        let to = Some(LogBackend::Wal);
        let ended = member::migrate(&data, to, None, &mut EndAt(Some(step)));
        let stored = Stored::read(&data).unwrap().unwrap();
        if ended.is_err() && !stored.migrating {
            assert_eq!(stored.log, LogBackend::Redb);
            assert!(contents(&data.join("log")) == before, "step {step}");
        }
        // Filling the new folder has its own test, and a wal takes its time: a few of those.
        if ended.is_err() && !stored.migrating && step % 8 != 0 {
            continue;
        }
        if ended.is_err() {
            member::migrate(&data, to, None, &mut to_the_end()).unwrap();
        }
        let stored = Stored::read(&data).unwrap().unwrap();
        assert_eq!((stored.log, stored.migrating), (LogBackend::Wal, false));
        assert_eq!(
            recognise(&data.join("log")).unwrap().0,
            Held::Log(Engine::Wal)
        );
        assert!(contents(&data.join("log.redb")) == before, "step {step}");
        assert_eq!(uuid(&data.join("log")), uuid(&data.join("log.redb")));
        assert!(!data.join("log.next").exists());
        let expected: Arc<dyn Storage> =
            open_log(Engine::Redb, &data.join("log.redb"), Purpose::Keep).unwrap();
        log_is(&data.join("log"), Engine::Wal, expected.as_ref());
        if ended.is_ok() {
            break;
        }
    }
}

#[test]
fn member_is_asked_what_to_migrate_and_keeps_what_an_earlier_migration_left() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("member");
    make_member(&data);
    let says = |log, store, words: &str| {
        let said = member::migrate(&data, log, store, &mut to_the_end())
            .unwrap_or_else(|error| error.to_string());
        assert!(said.contains(words), "{said}");
    };
    says(None, None, "say what is to be replaced");
    says(Some(LogBackend::Mem), None, "nothing to migrate");
    says(None, Some(StoreBackend::Mem), "nothing to migrate");
    says(Some(LogBackend::Redb), None, "already");
    fs::create_dir(data.join("log.redb")).unwrap();
    says(
        Some(LogBackend::Wal),
        None,
        "left from an earlier migration",
    );
    assert_eq!(
        recognise(&data.join("log")).unwrap().0,
        Held::Log(Engine::Redb)
    );
}
