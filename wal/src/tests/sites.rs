//! Each place that syncs, switched off, loses something: one test per place.

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, HardState, LogId, LogIndex, NodeId, Storage, Term, Ticket,
    WriteBatch,
};
use raftwerk_storage::vfs::SyncSite;
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Keep};

use super::workload::{DIR, Known, Small, models, open, prepare, run_on, submit};
use crate::segment::header::file_name;
use crate::{
    SYNC_BATCH, SYNC_NAME, SYNC_OPEN, SYNC_PREPARE, SYNC_SEAL, SYNC_SITES, SYNC_SLOT, TailEnd,
    Verdict, Wal,
};

pub(super) const GROUP: GroupId = GroupId(1);

pub(crate) fn entry(term: u64, index: u64, size: usize) -> Entry {
    Entry::normal(
        LogId::new(Term(term), LogIndex(index)),
        Bytes::from(vec![b'e'; size]),
    )
}

pub(crate) fn append(wal: &Wal, entry: Entry) -> Ticket {
    let write = GroupWrite {
        group: GROUP,
        append: vec![entry],
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    submit(wal, batch, Ticket(0)).unwrap()
}

pub(super) fn vote(wal: &Wal, term: u64, node: u64) -> Ticket {
    let hard_state = HardState {
        term: Term(term),
        vote: Some(NodeId(node)),
        commit: LogIndex::ZERO,
    };
    let write = GroupWrite {
        group: GROUP,
        hard_state: Some(hard_state),
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    submit(wal, batch, Ticket(0)).unwrap()
}

/// An acknowledged entry must survive whatever a power cut does to the rest.
fn acknowledged_survives(vfs: &FaultVfs) -> Result<(), String> {
    let wal = open(vfs)?;
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 30))).unwrap();
    let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED))?;
    match wal.open_group(GROUP).unwrap().log.last().index {
        LogIndex(1) => Ok(()),
        other => Err(format!("last is {other}")),
    }
}

/// The same behind a rotation, so that a segment made while running is at stake.
fn acknowledged_survives_rotation(vfs: &FaultVfs) -> Result<(), String> {
    let wal = open(vfs)?;
    let mut count = 0;
    while wal.engine_segments() < 2 {
        prepare(&wal);
        count += 1;
        wal.wait(append(&wal, entry(1, count, 2000))).unwrap();
    }
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let wal = open(&after)?;
    if wal.report().verdict() != Verdict::Clean {
        return Err(format!("{:?}", wal.report()));
    }
    match wal.open_group(GROUP).unwrap().log.last().index {
        LogIndex(index) if index == count => Ok(()),
        other => Err(format!("last is {other} of {count}")),
    }
}

/// With a prepared segment in reserve, a new life begins in that whatever room there is; a power
/// cut must not take it.
fn reserve_takes_a_new_life_after_a_power_cut(vfs: &FaultVfs) -> Result<(), String> {
    let wal = open(vfs)?;
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 30))).unwrap();
    // Both places of the slot have been written once.
    wal.step_writer();
    let (before, _) = wal.engine_end();
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.set_capacity(Some(0));
    let wal = open(&after)?;
    match wal.open_group(GROUP).unwrap().log.last().index {
        LogIndex(1) if wal.engine_end().0 > before => Ok(()),
        other => Err(format!("last is {other}, in segment {before}")),
    }
}

/// What an open shows must survive the power cut that comes next.
fn shown_vote_survives(vfs: &FaultVfs) -> Result<(), String> {
    let wal = open(vfs)?;
    prepare(&wal);
    let ticket = vote(&wal, 7, 2);
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(ticket).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = open(&second)?;
    let shown = wal.open_group(GROUP).unwrap().state.hard_state;
    let wal = open(&second.crash(&CrashPlan::LOSE_UNSYNCED))?;
    let kept = wal.open_group(GROUP).unwrap().state.hard_state;
    if shown == kept {
        Ok(())
    } else {
        Err(format!("{shown:?} was shown, {kept:?} kept"))
    }
}

/// Behind an idle log, a damaged last write is damage and not a torn write.
fn damage_behind_an_idle_log_is_damage(vfs: &FaultVfs) -> Result<(), String> {
    let wal = open(vfs)?;
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 30))).unwrap();
    wal.step_writer();
    let (number, end) = wal.engine_end();
    let path = std::path::Path::new(DIR).join(file_name(number));
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after
        .zero_sector(&path, end / 512 - 1)
        .map_err(|error| error.to_string())?;
    let wal = open(&after)?;
    match (
        wal.report().verdict(),
        wal.open_group(GROUP).unwrap().state.health.vote_unknown,
    ) {
        (Verdict::Corrupt, true) => Ok(()),
        other => Err(format!("{other:?}: {:?}", wal.report())),
    }
}

type Scenario = fn(&FaultVfs) -> Result<(), String>;

const SCENARIOS: [(SyncSite, Scenario); 6] = [
    (SYNC_PREPARE, reserve_takes_a_new_life_after_a_power_cut),
    (SYNC_NAME, acknowledged_survives_rotation),
    (SYNC_BATCH, acknowledged_survives),
    (SYNC_SEAL, acknowledged_survives_rotation),
    (SYNC_OPEN, shown_vote_survives),
    (SYNC_SLOT, damage_behind_an_idle_log_is_damage),
];

fn matters(site: SyncSite) {
    let (_, scenario) = SCENARIOS.iter().find(|(other, _)| *other == site).unwrap();
    scenario(&FaultVfs::new()).unwrap();
    let vfs = FaultVfs::new();
    vfs.disable_sync(site);
    assert!(
        scenario(&vfs).is_err(),
        "nobody noticed that {site:?} is off"
    );
}

#[test]
fn sync_of_a_prepared_segment_matters() {
    matters(SYNC_PREPARE);
}

#[test]
fn sync_of_a_segment_name_matters() {
    matters(SYNC_NAME);
}

#[test]
fn sync_of_a_batch_matters() {
    matters(SYNC_BATCH);
}

#[test]
fn sync_of_a_footer_matters() {
    matters(SYNC_SEAL);
}

#[test]
fn sync_at_open_matters() {
    matters(SYNC_OPEN);
}

#[test]
fn sync_of_the_watermark_slot_matters() {
    matters(SYNC_SLOT);
}

#[test]
fn every_place_that_syncs_is_named_and_has_its_test() {
    let vfs = FaultVfs::new();
    let progress = Progress::new(Known::default());
    let taken = run_on(
        &open(&vfs).unwrap(),
        &progress,
        &models(),
        Small::Pages32.history(5),
        120,
    );
    assert_eq!(taken, 120);
    drop(open(&vfs.crash(&CrashPlan::Kill)).unwrap());
    let ours: Vec<_> = vfs
        .sync_sites_seen()
        .into_iter()
        .filter(|site| site.0.starts_with("wal"))
        .collect();
    let mut named = SYNC_SITES.to_vec();
    named.sort();
    assert_eq!(ours, named);
    let mut tested: Vec<_> = SCENARIOS.iter().map(|(site, _)| *site).collect();
    tested.sort();
    assert_eq!(tested, named);
}

/// A write that never reached the disk, with a sync that failed and then one that did not: the
/// second proves nothing.
#[test]
fn failed_sync_poisons_and_what_comes_back_is_durable_when_shown() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(vote(&wal, 6, 1)).unwrap();
    let ticket = vote(&wal, 7, 2);
    vfs.fail_at(
        vfs.calls(),
        raftwerk_testkit::fault_vfs::Fault::FsyncFailsOnceThenOk,
    );
    assert!(wal.wait(ticket).is_err());
    assert!(wal.durable().is_err(), "poisoned for good");
    let second = vfs.crash(&CrashPlan::Kill);
    let wal = open(&second).unwrap();
    let shown = wal.open_group(GROUP).unwrap().state.hard_state;
    let wal = open(&second.crash(&CrashPlan::LOSE_UNSYNCED)).unwrap();
    assert_eq!(wal.open_group(GROUP).unwrap().state.hard_state, shown);
}

/// A torn write with whole ones of the same life behind it; then new ones of the same length
/// where these stood. None of the old may come back.
#[test]
fn unsynced_frames_of_an_earlier_life_never_come_back() {
    for data in [
        Keep::AllBut(0),
        Keep::AllBut(1),
        Keep::First(1),
        Keep::All,
        Keep::Only(2),
    ] {
        let vfs = FaultVfs::new();
        let wal = open(&vfs).unwrap();
        prepare(&wal);
        wal.wait(vote(&wal, 5, 1)).unwrap();
        vfs.disable_sync(SYNC_BATCH);
        for (term, node) in [(6, 1), (7, 2)] {
            wal.wait(vote(&wal, term, node)).unwrap();
        }
        vfs.enable_sync(SYNC_BATCH);
        let names = Keep::All;
        let second = vfs.crash(&CrashPlan::PowerLoss { data, names });
        let Ok(wal) = super::workload::open_with(&second, super::workload::keep_prefix()) else {
            panic!("does not open after {data:?}")
        };
        prepare(&wal);
        let shown = wal.open_group(GROUP).unwrap().state.hard_state.term.0;
        wal.wait(vote(&wal, shown + 1, 3)).unwrap();
        let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
        let wal = open(&third).unwrap();
        let state = wal.open_group(GROUP).unwrap().state.hard_state;
        assert_eq!(
            (state.term, state.vote),
            (Term(shown + 1), Some(NodeId(3))),
            "{data:?}"
        );
    }
}

#[test]
fn torn_write_is_counted_and_never_acknowledged_data() {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(append(&wal, entry(1, 1, 30))).unwrap();
    let ticket = append(&wal, entry(1, 2, 3000));
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(ticket).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let plan = CrashPlan::PowerLoss {
        data: Keep::First(3),
        names: Keep::All,
    };
    let wal: Arc<Wal> = open(&vfs.crash(&plan)).unwrap();
    let TailEnd::Torn { bytes, .. } = wal.report().tail else {
        panic!("{:?}", wal.report())
    };
    assert!((1..=3 * 512).contains(&bytes), "{bytes}");
    assert_eq!(wal.open_group(GROUP).unwrap().log.last().index, LogIndex(1));
}
