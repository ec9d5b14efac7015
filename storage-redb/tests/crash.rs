//! The power goes at every call of a workload: data and applied index stay of one moment, and
//! nothing that was durable is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    LogId, LogIndex, ScanOrder, SnapshotReader, SnapshotSource, StateOp, StateStore, Term,
};
use raftwerk_storage_redb::{RedbOptions, RedbStore, SYNC_NEW_STATE, SYNC_STATE};
use raftwerk_testkit::crash::{CrashOptions, CrashReport, crash_points};
use raftwerk_testkit::fault_vfs::{CrashPlan, Fault, FaultVfs, Keep, PlanLimits};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

struct Incoming(Box<dyn SnapshotSource>);

impl SnapshotReader for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

/// How many batches are written before the restore, and at which of the calls the power goes: at
/// every so-manieth. The long form is `cargo test --profile ci -p raftwerk-storage-redb --features
/// long-tests`.
const BATCHES: u64 = if cfg!(feature = "long-tests") {
    200
} else {
    15
};
const STRIDE: usize = if cfg!(feature = "long-tests") { 1 } else { 2 };
/// Every batch of these tests gathers.
const GATHERING: usize = 64;
/// Those of [`batch`] that go on where the one before ended go into the B-tree by themselves.
const STRAIGHT: usize = 1;

fn open(vfs: &FaultVfs) -> Result<RedbStore, String> {
    open_with(vfs, GATHERING)
}

fn open_with(vfs: &FaultVfs, straight_ops_min: usize) -> Result<RedbStore, String> {
    let mut options = RedbOptions::new("/state");
    options.cache_bytes = 1 << 20;
    options.straight_ops_min = straight_ops_min;
    // Small enough that tables are frozen, and go into the B-tree in more than one piece.
    options.write_buffer_bytes = 2_200;
    RedbStore::open(Arc::new(vfs.clone()), &options).map_err(|error| error.to_string())
}

fn id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

/// The batch of entry `index`: one key of its own, which comes after those before it; every fourth
/// also has one that a later batch overwrites, and every sixth removes a range.
fn batch(index: u64) -> Vec<StateOp> {
    let put = |key: String| StateOp::Put {
        key: key.into(),
        value: index.to_le_bytes().repeat(80).into(),
    };
    let mut ops = vec![put(format!("own/{index:04}"))];
    if index.is_multiple_of(4) {
        ops.push(put(format!("shared/{}", index / 4 % 2)));
    }
    if index.is_multiple_of(6) {
        ops.push(StateOp::DeleteRange {
            start: Bytes::from_static(b"own/0001"),
            end: format!("own/{:04}", index - 1).into(),
        });
    }
    ops
}

/// What a store that applied everything up to `last` must hold.
fn expected(last: u64) -> Contents {
    let mut contents = Contents::new();
    for op in (1..=last).flat_map(batch) {
        match op {
            StateOp::Put { key, value } => {
                contents.insert(key.to_vec(), value.to_vec());
            }
            StateOp::Delete { key } => {
                contents.remove(key.as_ref());
            }
            StateOp::DeleteRange { start, end } => {
                contents.retain(|key, _| key < &start.to_vec() || key >= &end.to_vec());
            }
        }
    }
    contents
}

fn contents(store: &RedbStore) -> (LogId, Contents) {
    let view = store.view().unwrap();
    let mut contents = Contents::new();
    view.scan(
        (Bound::Unbounded, Bound::Unbounded),
        ScanOrder::Ascending,
        &mut |key, value| {
            contents.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    (view.applied(), contents)
}

/// `acknowledged`: the index that `persist` or `restore` last reported.
fn check(acknowledged: u64, store: &RedbStore) -> Result<(), String> {
    let (applied, found) = contents(store);
    if applied.index.0 < acknowledged {
        return Err(format!("{acknowledged} was durable, {applied} is left"));
    }
    if store.durable_applied().unwrap() != applied {
        return Err("what is there after opening must count as durable".to_owned());
    }
    if found != expected(applied.index.0) {
        return Err(format!("data is not that of {applied}: {:?}", found.keys()));
    }
    Ok(())
}

fn options(stride: usize, random: usize) -> CrashOptions {
    let plans = PlanLimits {
        subsets_max: 2,
        random,
        prefixes_max: 2,
        tear_at: &[100],
        ..PlanLimits::default()
    };
    CrashOptions {
        plans,
        stride,
        ..CrashOptions::default()
    }
}

fn enumerate(
    vfs: &FaultVfs,
    options: &CrashOptions,
    straight_ops_min: usize,
) -> Result<CrashReport, String> {
    crash_points(
        vfs,
        0_u64,
        options,
        |vfs, progress| {
            let store = open_with(vfs, straight_ops_min).unwrap();
            for index in 1..=BATCHES {
                store.write(&batch(index), id(index)).unwrap();
                if index.is_multiple_of(5) && index < BATCHES {
                    let durable = store.persist().unwrap();
                    assert_eq!(durable, id(index));
                    progress.update(|acknowledged| *acknowledged = index);
                }
            }
            let source = store.checkpoint().unwrap();
            store.write(&batch(BATCHES + 1), id(BATCHES + 1)).unwrap();
            assert_eq!(store.restore(&mut Incoming(source)).unwrap(), id(BATCHES));
        },
        |vfs| open_with(vfs, straight_ops_min),
        |acknowledged, store| check(*acknowledged, &store),
    )
    .map_err(|failure| failure.to_string())
}

#[test]
fn data_and_applied_index_agree_after_every_crash() {
    for straight in [GATHERING, STRAIGHT] {
        let report = enumerate(&FaultVfs::new(), &options(STRIDE, 1), straight).unwrap();
        println!("{BATCHES} batches, every {STRIDE}. call: {report:?}");
        assert!(report.moments > 40 && report.images > 200, "{report:?}");
    }
}

#[test]
fn enumeration_notices_a_commit_that_does_not_sync() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SYNC_STATE);
    assert!(enumerate(&vfs, &options(1, 1), GATHERING).is_err());
}

#[test]
fn enumeration_notices_a_new_file_whose_name_is_not_synced() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SYNC_NEW_STATE);
    assert!(enumerate(&vfs, &options(1, 1), GATHERING).is_err());
}

#[test]
fn what_was_not_persisted_is_lost_together_with_its_index() {
    let vfs = FaultVfs::new();
    let store = open(&vfs).unwrap();
    store.write(&batch(1), id(1)).unwrap();
    store.persist().unwrap();
    store.write(&batch(2), id(2)).unwrap();
    assert_eq!(store.view().unwrap().applied(), id(2));
    assert_eq!(store.durable_applied().unwrap(), id(1));
    let left = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let store = open(&left).unwrap();
    assert_eq!(contents(&store), (id(1), expected(1)));
}

#[test]
fn broken_restore_leaves_the_old_state() {
    struct Breaks(Box<dyn SnapshotSource>, usize);
    impl SnapshotReader for Breaks {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = self
                .1
                .checked_sub(1)
                .ok_or(io::ErrorKind::ConnectionReset)?;
            self.0.read(&mut out[..1])
        }
    }
    let vfs = FaultVfs::new();
    let store = open(&vfs).unwrap();
    store.write(&batch(1), id(1)).unwrap();
    let source = store.checkpoint().unwrap();
    store.write(&batch(2), id(2)).unwrap();
    assert!(store.restore(&mut Breaks(source, 600)).is_err());
    assert_eq!(contents(&store), (id(2), expected(2)));
    let source = store.checkpoint().unwrap();
    assert_eq!(store.restore(&mut Incoming(source)).unwrap(), id(2));
    drop(store);
    let plan = CrashPlan::PowerLoss {
        data: Keep::Nothing,
        names: Keep::Nothing,
    };
    assert_eq!(
        contents(&open(&vfs.crash(&plan)).unwrap()),
        (id(2), expected(2))
    );
}

#[test]
fn live_bytes_are_those_of_the_keys_and_values() {
    let vfs = FaultVfs::new();
    let store = open(&vfs).unwrap();
    for index in 1..=9 {
        store.write(&batch(index), id(index)).unwrap();
        let expected: usize = expected(index).iter().map(|(k, v)| k.len() + v.len()).sum();
        assert_eq!(store.stats().unwrap().live_bytes, expected as u64);
    }
    assert!(store.stats().unwrap().allocated_bytes > 0);
}

#[test]
fn batches_that_ascend_go_straight_into_the_tree_and_scattered_ones_gather() {
    let vfs = FaultVfs::new();
    let mut options = RedbOptions::new("/state");
    options.straight_ops_min = 64;
    let store = RedbStore::open(Arc::new(vfs.clone()), &options).unwrap();
    let gathered = || {
        let file = vfs.read_file(Path::new("/state/state.redb")).unwrap().len();
        store.stats().unwrap().allocated_bytes - file as u64
    };
    // In order all of them, and each batch in order by itself.
    let ascending = |index: u64| (0..64).map(move |at| index * 64 + at);
    let scattered = |index: u64| (0..64).map(move |at| at * 64 + index);
    let write = |keys: &mut dyn Iterator<Item = u64>, index: u64| {
        let ops: Vec<_> = keys
            .map(|key| StateOp::Put {
                key: format!("{key:06}").into(),
                value: vec![7; 94].into(),
            })
            .collect();
        store.write(&ops, id(index)).unwrap();
    };
    for index in 0..20 {
        write(&mut ascending(index), index + 1);
        assert_eq!(gathered(), 0, "batch {index}");
    }
    for index in 0..20 {
        write(&mut scattered(index), index + 21);
        assert_eq!(gathered(), (index + 1) * 64 * 100, "batch {index}");
    }
}

#[test]
fn store_closed_while_a_table_goes_into_the_tree_is_of_one_moment() {
    let mut between = 0;
    for last in 1..=12 {
        let vfs = FaultVfs::new();
        let store = open(&vfs).unwrap();
        for index in 1..=last {
            store.write(&unranged(index), id(index)).unwrap();
        }
        drop(store);
        let (applied, found) = contents(&open(&vfs).unwrap());
        let wanted: Contents = (1..=applied.index.0)
            .flat_map(unranged)
            .map(|op| match op {
                StateOp::Put { key, value } => (key.to_vec(), value.to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, wanted, "{applied} of {last}");
        between += usize::from(applied.index.0 > 0 && applied.index.0 < last);
    }
    assert!(between > 0, "no store was closed with a part in the tree");
}

/// A batch that is gathered in memory: keys on both sides of those before it, and large values.
fn unranged(index: u64) -> Vec<StateOp> {
    let put = |key: String| StateOp::Put {
        key: key.into(),
        value: vec![index.to_le_bytes()[0]; 350].into(),
    };
    vec![
        put(format!("down/{:04}", 1000 - index)),
        put(format!("up/{index:04}")),
    ]
}

#[test]
fn store_whose_disk_fails_at_any_call_is_of_one_moment_when_opened_again() {
    let calls = {
        let vfs = FaultVfs::new();
        fill(&vfs);
        vfs.calls()
    };
    let mut failed = 0;
    for call in 0..calls {
        let vfs = FaultVfs::new();
        vfs.fail_at(call, Fault::Eio);
        let done = fill(&vfs);
        failed += usize::from(done < 24);
        // The disk is well again, and nothing was cut off: what was left is what is found.
        let left = vfs.crash(&CrashPlan::Kill);
        let (applied, found) = contents(&open(&left).unwrap());
        let wanted: Contents = (1..=applied.index.0)
            .flat_map(unranged)
            .filter_map(|op| match op {
                StateOp::Put { key, value } => Some((key.to_vec(), value.to_vec())),
                _ => None,
            })
            .collect();
        assert_eq!(found, wanted, "call {call}, {applied}");
    }
    assert!(failed > 0, "no call failed");
}

/// How many batches a store took before it failed.
fn fill(vfs: &FaultVfs) -> u64 {
    let Ok(store) = open(vfs) else { return 0 };
    let mut done = 0;
    for index in 1..=24 {
        if store.write(&unranged(index), id(index)).is_err() {
            break;
        }
        done = index;
        if index == 12 && store.persist().is_err() {
            break;
        }
    }
    done
}
