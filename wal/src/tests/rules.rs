//! Each rule of recovery, broken, does harm: one test per rule.

use std::path::{Path, PathBuf};

use raftwerk_raft::{GroupId, LogIndex, Storage, Term};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Keep};

use super::sites::{GROUP, append, entry, vote};
use super::workload::{DIR, keep_prefix, open, open_with, prepare};
use crate::rules::{Rule, broken};
use crate::segment::header::file_name;
use crate::{SYNC_BATCH, Verdict, Wal};

fn path_of(number: u64) -> PathBuf {
    Path::new(DIR).join(file_name(number))
}

/// A log whose frames each take one page, and where each began.
fn log_of_votes(vfs: &FaultVfs, count: u64) -> (std::sync::Arc<Wal>, Vec<(u64, u64)>) {
    let wal = open(vfs).unwrap();
    prepare(&wal);
    let mut places = Vec::new();
    for term in 1..=count {
        places.push(wal.engine_end());
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    (wal, places)
}

/// Damage to what later frames prove durable is no torn tail.
fn proven_damage_is_named() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (_wal, places) = log_of_votes(&vfs, 4);
    let (number, offset) = places[1];
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.zero_sector(&path_of(number), offset / 512).unwrap();
    let wal = open(&after)?;
    let term = wal.open_group(GROUP).unwrap().state.hard_state.term;
    match (term, wal.report().verdict()) {
        (Term(4), Verdict::Corrupt) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The last frame proves the one before it, which is damaged: only a look behind finds it.
fn scan_finds_the_witness() -> Result<(), String> {
    proven_damage_is_named()
}

/// A segment of one timeline behind one of another: each is sound, together they are no log.
fn clones_do_not_mix() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    while wal.engine_segments() < 2 {
        wal.wait(append(&wal, next_entry(&wal, 1, 2000))).unwrap();
        prepare(&wal);
    }
    drop(wal);
    let start = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let image = start.image();
    let (one, other) = (image.after(&CrashPlan::Kill), image.after(&CrashPlan::Kill));
    // The same life of the same segment: only what is written differs.
    for (vfs, node) in [(&one, 1), (&other, 2)] {
        let wal = open(vfs).unwrap();
        prepare(&wal);
        wal.wait(vote(&wal, 3, node)).unwrap();
        wal.wait(vote(&wal, 4, node)).unwrap();
        wal.step_writer();
    }
    let life = |vfs: &FaultVfs| newest(vfs);
    let (mine, theirs) = (life(&one), life(&other));
    if mine != theirs {
        return Err("the clones are in different segments".to_owned());
    }
    // One frame of the other timeline at its own place.
    let bytes = other.read_file(&path_of(mine)).unwrap();
    let frames = frames(&bytes);
    let place = frames[frames.len() - 2];
    one.poke(
        &path_of(mine),
        place,
        &bytes[place as usize..place as usize + 512],
    )
    .unwrap();
    let wal = open_with(&one.crash(&CrashPlan::Kill), keep_prefix())?;
    match wal.report().verdict() {
        Verdict::Corrupt => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn next_entry(wal: &Wal, term: u64, size: usize) -> raftwerk_raft::Entry {
    let last = wal.open_group(GROUP).unwrap().log.last().index;
    entry(term, last.0 + 1, size)
}

fn newest(vfs: &FaultVfs) -> u64 {
    let numbers = vfs.files().into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let number = crate::segment::header::parse_file_name(&name)?;
        let bytes = vfs.read_file(&path).ok()?;
        (!frames(&bytes).is_empty()).then_some(number)
    });
    numbers.max().unwrap()
}

/// Where frames begin.
fn frames(bytes: &[u8]) -> Vec<u64> {
    let pages = bytes.chunks(512).enumerate();
    let begins = pages.filter(|(_, page)| page.starts_with(b"RWf1"));
    begins.map(|(number, _)| number as u64 * 512).collect()
}

/// A bit of a directory flipped never moves an entry to another group.
fn directory_is_not_believed_without_its_checksum() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(vote(&wal, 1, 1)).unwrap();
    let (number, offset) = wal.engine_end();
    wal.wait(vote(&wal, 2, 1)).unwrap();
    wal.wait(vote(&wal, 3, 1)).unwrap();
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    for bit in 0..512 * 8 {
        let after = image.after(&CrashPlan::Kill);
        after
            .flip_bit(&path_of(number), offset + bit / 8, (bit % 8) as u8)
            .unwrap();
        let wal = open(&after)?;
        let groups = wal.groups().unwrap();
        if groups != [GROUP] {
            return Err(format!("bit {bit}: groups {groups:?}"));
        }
        let stranger = wal.open_group(GroupId(0)).unwrap().log.last().index;
        if stranger != LogIndex::ZERO {
            return Err(format!("bit {bit}: a stranger has {stranger}"));
        }
    }
    Ok(())
}

/// What an open shows is durable, whatever it found in the page cache.
fn open_makes_durable_what_it_shows() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 2);
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(vote(&wal, 7, 2)).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let second = vfs.crash(&CrashPlan::Kill);
    let shown = open(&second)?.open_group(GROUP).unwrap().state.hard_state;
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let kept = open(&third)?.open_group(GROUP).unwrap().state.hard_state;
    if shown == kept {
        Ok(())
    } else {
        Err(format!("{shown:?} shown, {kept:?} kept"))
    }
}

/// A successor with a frame proves its predecessor whole, footer included.
fn footer_is_durable_before_the_successor_begins() -> Result<(), String> {
    for data in [Keep::All, Keep::AllBut(0), Keep::AllBut(1), Keep::Nothing] {
        for call in 0..200 {
            let vfs = FaultVfs::new();
            let wal = open(&vfs).unwrap();
            prepare(&wal);
            vfs.crash_at(vfs.calls() + call);
            let mut finished = true;
            for index in 1..=8 {
                let write = raftwerk_raft::GroupWrite {
                    group: GROUP,
                    append: vec![entry(1, index, 2000)],
                    ..raftwerk_raft::GroupWrite::default()
                };
                let batch = raftwerk_raft::WriteBatch {
                    groups: vec![write],
                    ..Default::default()
                };
                let Ok(ticket) = wal.submit(batch) else { break };
                finished = wal.wait(ticket).is_ok();
                if !finished {
                    break;
                }
            }
            let plan = CrashPlan::PowerLoss {
                data,
                names: Keep::All,
            };
            let wal = open(&vfs.crash(&plan))?;
            if wal.report().verdict() == Verdict::Corrupt {
                return Err(format!("call {call}, {data:?}: {:?}", wal.report()));
            }
            if finished {
                break;
            }
        }
    }
    Ok(())
}

type Scenario = fn() -> Result<(), String>;

fn scenario(rule: Rule) -> Scenario {
    match rule {
        Rule::Watermark => proven_damage_is_named,
        Rule::FullScan => scan_finds_the_witness,
        Rule::Chain => clones_do_not_mix,
        Rule::DirectoryChecksum => directory_is_not_believed_without_its_checksum,
        Rule::RewriteAtOpen => open_makes_durable_what_it_shows,
        Rule::SealOrder => footer_is_durable_before_the_successor_begins,
    }
}

fn matters(rule: Rule) {
    let scenario = scenario(rule);
    broken(None, scenario).unwrap();
    assert!(
        broken(Some(rule), scenario).is_err(),
        "nobody noticed that {rule:?} is broken"
    );
}

#[test]
fn watermark_tells_damage_from_a_torn_tail() {
    matters(Rule::Watermark);
}

#[test]
fn scan_goes_on_behind_a_bad_place() {
    matters(Rule::FullScan);
}

#[test]
fn chain_keeps_timelines_apart() {
    matters(Rule::Chain);
}

#[test]
fn directory_has_a_checksum_of_its_own() {
    matters(Rule::DirectoryChecksum);
}

#[test]
fn open_rewrites_what_is_not_proven() {
    matters(Rule::RewriteAtOpen);
}

#[test]
fn footer_comes_before_the_successor() {
    matters(Rule::SealOrder);
}

#[test]
fn every_rule_has_its_test() {
    let source = include_str!("rules.rs");
    for rule in Rule::ALL {
        assert!(
            source.contains(&format!("    matters(Rule::{rule:?});")),
            "{rule:?}"
        );
    }
}
