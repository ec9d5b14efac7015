//! Disks that rot: whatever is flipped, zeroed, exchanged or unreadable, the state is of one moment
//! with its applied id, or refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use raftwerk_raft::{LogId, LogIndex, ScanOrder, StateError, StateOp, StateStore, Term};
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::damage::{DamageOptions, damage_each, damage_points, swaps};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Image};

const LAST: u64 = 6;

/// How a damaged store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Whole,
    /// Of the moment that its applied id says, and that is an earlier one.
    Older,
    Refused,
}

fn open(vfs: &FaultVfs) -> Result<RedbStore, StateError> {
    let mut options = RedbOptions::new("/state");
    options.cache_bytes = 1 << 20;
    RedbStore::open(Arc::new(vfs.clone()), &options)
}

fn id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

fn batch(index: u64) -> Vec<StateOp> {
    let put = |number: u64| StateOp::Put {
        key: format!("key-{:03}", (number * 37) % 90).into(),
        value: vec![index as u8 ^ number as u8; 300].into(),
    };
    (index * 20..index * 20 + 30).map(put).collect()
}

fn expected(last: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut map = BTreeMap::new();
    for op in (1..=last).flat_map(batch) {
        if let StateOp::Put { key, value } = op {
            map.insert(key.to_vec(), value.to_vec());
        }
    }
    map
}

/// A store on the disk, persisted after each batch; closed in good order or killed.
fn image(closed: bool) -> Image {
    let vfs = FaultVfs::new();
    let store = open(&vfs).unwrap();
    for index in 1..=LAST {
        store.write(&batch(index), id(index)).unwrap();
        assert_eq!(store.persist().unwrap(), id(index));
    }
    if closed {
        drop(store);
    }
    vfs.crash(&CrashPlan::Kill).image()
}

fn judge(vfs: &FaultVfs) -> Result<Answer, String> {
    let store = match open(vfs) {
        Ok(store) => store,
        Err(StateError::Corrupt { reason }) if !reason.contains("state.redb") => {
            return Err(format!("names no file: {reason}"));
        }
        Err(_) => return Ok(Answer::Refused),
    };
    let view = store.view().map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    let read = view.scan(
        (Bound::Unbounded, Bound::Unbounded),
        ScanOrder::Ascending,
        &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        },
    );
    if read.is_err() {
        return Ok(Answer::Refused);
    }
    let applied = view.applied();
    if applied != id(applied.index.0) && applied != LogId::ZERO {
        return Err(format!("applied is {applied}"));
    }
    if found != expected(applied.index.0) {
        return Err(format!("not the state as of {applied}"));
    }
    Ok(match applied.index.0 {
        LAST => Answer::Whole,
        _ => Answer::Older,
    })
}

fn attack(closed: bool, options: &DamageOptions) -> BTreeMap<Answer, u64> {
    let counts = damage_points(&image(closed), options, |vfs, _| judge(vfs));
    counts.unwrap_or_else(|failure| panic!("{failure}"))
}

const SECTORS: DamageOptions = DamageOptions {
    bit_stride: 0,
    zeroed: true,
    swapped: false,
    unreadable: true,
};
const BITS: DamageOptions = DamageOptions {
    bit_stride: 20_011,
    zeroed: false,
    swapped: false,
    unreadable: false,
};

#[test]
fn damage_to_a_closed_store_is_refused() {
    for options in [SECTORS, BITS] {
        let counts = attack(true, &options);
        assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
        assert_eq!(counts.get(&Answer::Older), None, "{counts:?}");
    }
}

/// The newest commit of a killed store may be a torn one: then the one before it counts.
#[test]
fn damage_to_a_killed_store_gives_a_moment_or_is_refused() {
    for options in [SECTORS, BITS] {
        let counts = attack(false, &options);
        assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
    }
}

#[test]
fn swapped_sectors_give_a_moment_or_are_refused() {
    for (closed, apart) in [(true, 8), (false, 1)] {
        let image = image(closed);
        let counts = damage_each(&image, swaps(&image, &[apart]), |vfs, _| judge(vfs));
        let counts = counts.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(counts.contains_key(&Answer::Refused), "{counts:?}");
    }
}
