//! Every bit and every sector of a whole small log, damaged: what the log makes of each, counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftwerk_raft::{
    Durability, GroupId, GroupWrite, HardState, LogId, NodeId, SnapshotMeta, Storage, StorageError,
    Term, Ticket, WriteBatch,
};
use raftwerk_testkit::damage::{Damage, DamageOptions, damage_each, damages};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Image};
use raftwerk_testkit::log_suite::model::LogModel;
use raftwerk_testkit::verdict::{Answer, judge};

use super::sites::entry;
use super::workload::{DIR, keep_prefix, open_with, options, prepare, submit};
use crate::options::AmbiguousTail;
use crate::segment::format::FRAME_HEADER_BYTES;
use crate::segment::header::{file_name, parse_file_name};
use crate::slot::SLOT_FILE;
use crate::{Options, SYNC_BATCH, Wal, Written};

const SEGMENTS: usize = 16;
const SEGMENT_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

fn small() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: 1200,
        ..options()
    }
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The slot vouches for everything.
    Vouched,
    /// The last batch was acknowledged, and the slot does not say so yet.
    InWindow,
    /// Behind the last acknowledged batch stands one that was never synced.
    Unsynced,
}

/// What became of a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Nothing is missing.
    Intact,
    /// Served, with what is missing named.
    Named,
    /// Not opened unless told so; told so, everything before it is served and no vote is believed.
    Ambiguous,
    /// Cut: what was never acknowledged.
    Cut,
    /// Cut in silence though it was acknowledged, within the window.
    CutInWindow,
    /// Not opened, with the reason.
    Refused,
}

/// A log of 16 segments in use, each in a file that was another segment before.
struct Victim {
    image: Image,
    /// What it held after each batch; the last acknowledged one, and the last the slot knows.
    models: Vec<LogModel>,
    acknowledged: usize,
    vouched: usize,
    /// Where the frames behind those that the slot knows begin.
    window: (PathBuf, u64),
    /// What stood in segments before.
    earlier: Vec<Vec<u8>>,
}

struct Builder {
    wal: std::sync::Arc<Wal>,
    models: Vec<LogModel>,
}

impl Builder {
    fn write(&mut self, write: GroupWrite) -> Ticket {
        let batch = WriteBatch {
            groups: vec![write],
            durability: Durability::Sync,
        };
        let after = self.models.last().unwrap().after(&batch).unwrap();
        self.models.push(after);
        prepare(&self.wal);
        let ticket = submit(&self.wal, batch, Ticket(0)).unwrap();
        self.wal.wait(ticket).unwrap();
        ticket
    }

    /// The next entry of one of two groups, with its hard state.
    fn append(&mut self, number: u64) {
        let group = GroupId(1 + u64::from(number.is_multiple_of(5)));
        let last = self.models.last().unwrap().group(group).last().index;
        let term = 1 + number / 20;
        self.write(GroupWrite {
            group,
            append: vec![entry(term, last.0 + 1, 40 + (number * 37 % 110) as usize)],
            hard_state: number.is_multiple_of(3).then_some(HardState {
                term: Term(term),
                vote: Some(NodeId(1)),
                commit: last,
            }),
            ..GroupWrite::default()
        });
    }

    fn compact(&mut self, group: GroupId) {
        let last = self.models.last().unwrap().group(group).last();
        let meta = SnapshotMeta {
            last: LogId::new(last.term, last.index),
            ..SnapshotMeta::default()
        };
        self.write(GroupWrite {
            group,
            snapshot: Some(meta),
            compact_to: Some(last.index),
            ..GroupWrite::default()
        });
    }
}

fn segments(vfs: &FaultVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        parse_file_name(name).is_some()
    };
    let files = vfs.files().into_iter().filter(is_segment);
    files
        .map(|path| {
            let bytes = vfs.read_file(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

impl Victim {
    fn make(end: End) -> Self {
        let vfs = FaultVfs::new();
        let mut log = Builder {
            wal: open_with(&vfs, small()).unwrap(),
            models: vec![LogModel::default()],
        };
        let mut number = 0;
        let mut fill = |log: &mut Builder, count: usize| {
            while log.wal.engine_segments() < count {
                number += 1;
                log.append(number);
            }
            number
        };
        fill(&mut log, SEGMENTS);
        let earlier = segments(&vfs).into_iter().map(|(_, bytes)| bytes).collect();
        for group in [GroupId(2), GroupId(1)] {
            log.compact(group);
        }
        while log.wal.step_writer() != Written::Idle {}
        // The old files are used again, one after the other.
        let number = fill(&mut log, SEGMENTS);
        while log.wal.step_writer() != Written::Idle {}
        let (mut vouched, (segment, offset)) = (log.models.len() - 1, log.wal.engine_end());
        let mut acknowledged = vouched;
        if end != End::Vouched {
            log.append(number + 2);
            acknowledged += 1;
        }
        if end == End::Unsynced {
            vfs.disable_sync(SYNC_BATCH);
            log.append(number + 3);
            vfs.enable_sync(SYNC_BATCH);
            // Its header says what was durable before.
            vouched += 1;
        }
        let Builder { models, .. } = log;
        let image = vfs.image();
        let files = segments(&vfs);
        assert!(files.len() >= SEGMENTS);
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        println!("{} segments, {bytes} bytes, {end:?}", files.len());
        // The largest batch must fit behind the checkpoint: they may be larger than asked for.
        assert!(bytes as u64 <= 2 * SEGMENT_BYTES * files.len() as u64);
        Self {
            image,
            models,
            acknowledged,
            vouched,
            window: (Path::new(DIR).join(file_name(segment)), offset),
            earlier,
        }
    }

    /// Whether the damage is where the slot knows nothing of: behind its end, in the segments
    /// prepared for later too.
    fn is_in_window(&self, damage: &Damage) -> bool {
        let (path, offset) = &self.window;
        let later = |file: &PathBuf| file > path && !file.ends_with(SLOT_FILE);
        let places = damage.places(SECTOR_BYTES);
        places
            .iter()
            .any(|(file, sector)| later(file) || (file == path && sector * SECTOR_BYTES >= *offset))
    }

    /// Each sector of each segment, as an earlier segment had it at the same place.
    fn stale(&self) -> Vec<Damage> {
        let mut all = Vec::new();
        for (path, now) in segments(&self.image.after(&CrashPlan::Kill)) {
            for before in &self.earlier {
                let sectors = now.chunks(512).zip(before.chunks(512));
                for (sector, (now, before)) in (0..).zip(sectors) {
                    if now != before {
                        all.push(Damage::ReplacedSector {
                            path: path.clone(),
                            sector,
                            bytes: before.to_vec(),
                        });
                    }
                }
            }
        }
        all
    }

    fn judge(&self, vfs: &FaultVfs, damage: &Damage) -> Result<Outcome, String> {
        let opened = Wal::open(std::sync::Arc::new(vfs.clone()), DIR, small());
        let wal = match opened {
            Ok(wal) => std::sync::Arc::new(wal),
            Err(StorageError::Corrupt { reason, .. }) if reason.contains("keep-prefix") => {
                return self.ambiguous(vfs, damage);
            }
            Err(_) => return Ok(Outcome::Refused),
        };
        let holds = |number: usize| judge(wal.as_ref(), &self.models[number]);
        let last = self.models.len() - 1;
        let mut reasons = Vec::new();
        for number in (self.vouched.min(self.acknowledged)..=last).rev() {
            match holds(number) {
                Ok(Answer::Intact) if number == last => return Ok(Outcome::Intact),
                Ok(Answer::Intact) if number >= self.acknowledged => return Ok(Outcome::Cut),
                Ok(Answer::Intact) if self.is_in_window(damage) => {
                    return Ok(Outcome::CutInWindow);
                }
                Ok(Answer::Named) if number >= self.acknowledged => return Ok(Outcome::Named),
                other => reasons.push(format!("as after {number}: {other:?}")),
            }
        }
        Err(format!("{reasons:?}, {:?}", wal.report()))
    }

    fn ambiguous(&self, vfs: &FaultVfs, damage: &Damage) -> Result<Outcome, String> {
        if !self.is_in_window(damage) && !self.takes_the_witness(damage) {
            return Err("refused as ambiguous, outside of the window".to_owned());
        }
        let kept = Options {
            ambiguous_tail: AmbiguousTail::KeepPrefix,
            ..small()
        };
        assert_eq!(kept.ambiguous_tail, keep_prefix().ambiguous_tail);
        let wal = open_with(&vfs.crash(&CrashPlan::Kill), kept)?;
        for id in [1, 2, 77] {
            let health = wal.open_group(GroupId(id)).unwrap().state.health;
            if !health.vote_unknown {
                return Err(format!("group {id}'s vote is believed"));
            }
        }
        judge(wal.as_ref(), &self.models[self.vouched]).map(|_| Outcome::Ambiguous)
    }

    /// It changes the newest segment and, by the same swap, the slot that vouches for it.
    fn takes_the_witness(&self, damage: &Damage) -> bool {
        let places = damage.places(SECTOR_BYTES);
        let slot = Path::new(DIR).join(SLOT_FILE);
        self.newest(damage) && places.iter().any(|(path, _)| *path == slot)
    }

    fn attack(
        &self,
        what: &str,
        damages: impl IntoIterator<Item = Damage, IntoIter: Send>,
    ) -> BTreeMap<Outcome, u64> {
        let counts = damage_each(&self.image, damages, |vfs, damage| self.judge(vfs, damage));
        let counts = counts.unwrap_or_else(|failure| panic!("{what}: {failure}"));
        println!("{what}: {counts:?}");
        counts
    }

    /// Bits of files that are the log's; the identity is another crate's.
    fn bits(&self, stride: u64) -> impl Iterator<Item = Damage> + Send + use<> {
        let options = DamageOptions {
            bit_stride: stride,
            zeroed: false,
            swapped: false,
            unreadable: false,
        };
        damages(&self.image, options).filter(is_ours)
    }

    fn sectors(&self, swapped: bool) -> impl Iterator<Item = Damage> + Send + use<> {
        let options = DamageOptions {
            bit_stride: 0,
            zeroed: true,
            swapped,
            unreadable: true,
        };
        damages(&self.image, options).filter(is_ours)
    }

    /// Of those, the ones in the segment that was written last.
    fn newest(&self, damage: &Damage) -> bool {
        let places = damage.places(SECTOR_BYTES);
        places.iter().any(|(path, _)| *path == self.window.0)
    }
}

fn is_ours(damage: &Damage) -> bool {
    let foreign = |path: &Path| path.ends_with("IDENTITY") || path.ends_with("LOCK");
    let places = damage.places(SECTOR_BYTES);
    !places.iter().any(|(path, _)| foreign(path))
}

/// What a log that is vouched for may do. (Ambiguous is only what stands behind its end, where
/// there was nothing.)
fn is_never_silent(counts: &BTreeMap<Outcome, u64>) {
    let allowed = [Outcome::Intact, Outcome::Named, Outcome::Ambiguous];
    assert!(
        counts.keys().all(|outcome| allowed.contains(outcome)),
        "{counts:?}"
    );
    assert!(counts.contains_key(&Outcome::Named), "{counts:?}");
}

#[test]
fn zeroed_unreadable_and_stale_sectors_of_a_whole_log_are_named() {
    let victim = Victim::make(End::Vouched);
    is_never_silent(&victim.attack("sectors", victim.sectors(false)));
    let stale: Vec<_> = victim.stale().into_iter().step_by(7).collect();
    is_never_silent(&victim.attack("stale sectors", stale));
    is_never_silent(&victim.attack("every 2003rd bit", victim.bits(2003)));
}

/// A header comes next, behind the end or, if the segment is full, in the one that is prepared. One
/// bit of it alone is neither zeros nor a write that was cut short. Farther on there is nothing
/// that a bit could be a part of.
#[test]
fn flipped_bit_behind_the_end_is_ambiguous_where_a_next_header_goes_and_nowhere_else() {
    let victim = Victim::make(End::Vouched);
    let (newest, end) = &victim.window;
    let files = segments(&victim.image.after(&CrashPlan::Kill));
    let mut files = files.into_iter().map(|(path, _)| path);
    let prepared = files.find(|path| path > newest).unwrap();
    let place = |damage: &Damage| match damage {
        Damage::FlippedBit { path, offset, .. } if path == newest => offset.checked_sub(*end),
        Damage::FlippedBit { path, offset, .. } if *path == prepared => {
            offset.checked_sub(u64::from(small().page_bytes))
        }
        _ => None,
    };
    let header = FRAME_HEADER_BYTES as u64;
    let behind = victim.bits(1).filter(|damage| place(damage).is_some());
    let (next, rest): (Vec<_>, Vec<_>) = behind.partition(|damage| place(damage) < Some(header));
    let counts = victim.attack("every bit where a next header goes", next);
    assert_eq!(
        counts,
        BTreeMap::from([(Outcome::Ambiguous, 2 * 8 * header)])
    );
    let counts = victim.attack("every 997th bit behind", rest.into_iter().step_by(997));
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&Outcome::Intact]);
}

/// Behind the slot damage to the last write may be ambiguous, and a zeroed sector looks like a
/// torn write; nowhere else.
#[test]
fn damage_within_the_window_is_ambiguous_and_only_there() {
    let victim = Victim::make(End::InWindow);
    let newest = victim.sectors(false).filter(|damage| victim.newest(damage));
    let sectors = victim.attack("sectors of the newest segment", newest);
    assert!(sectors.contains_key(&Outcome::CutInWindow), "{sectors:?}");
    let bits = victim.bits(37).filter(|damage| victim.newest(damage));
    let bits = victim.attack("bits of the newest segment", bits);
    assert!(bits[&Outcome::Ambiguous] > 0, "{bits:?}");
    assert_eq!(bits.get(&Outcome::CutInWindow), None, "{bits:?}");
}

#[test]
fn damage_to_what_was_never_synced_is_cut_and_what_it_vouches_for_is_named() {
    let victim = Victim::make(End::Unsynced);
    let newest = victim.sectors(false).filter(|damage| victim.newest(damage));
    let counts = victim.attack("sectors before an unsynced write", newest);
    assert!(counts.contains_key(&Outcome::Cut), "{counts:?}");
    assert!(counts.contains_key(&Outcome::Named), "{counts:?}");
    assert_eq!(counts.get(&Outcome::CutInWindow), None, "{counts:?}");
}

/// The long forms: `cargo test --profile ci -p raftwerk-wal --features long-tests`.
#[cfg(feature = "long-tests")]
mod long {
    use super::*;

    #[test]
    fn every_bit_of_a_whole_log_is_answered() {
        let victim = Victim::make(End::Vouched);
        is_never_silent(&victim.attack("every bit", victim.bits(1)));
    }

    #[test]
    fn every_sector_and_every_swap_of_a_whole_log_is_answered() {
        let victim = Victim::make(End::Vouched);
        is_never_silent(&victim.attack("every sector and every swap", victim.sectors(true)));
        is_never_silent(&victim.attack("every stale sector", victim.stale()));
    }

    #[test]
    fn every_place_behind_what_is_vouched_for_is_answered() {
        for end in [End::InWindow, End::Unsynced] {
            let victim = Victim::make(end);
            let bits = victim.bits(1).filter(|damage| victim.newest(damage));
            let counts = victim.attack(&format!("every bit of the newest segment, {end:?}"), bits);
            assert_eq!(counts.get(&Outcome::Refused), None, "{counts:?}");
            let swaps = victim.sectors(true).filter(|damage| victim.newest(damage));
            let counts = victim.attack(&format!("its sectors and swaps, {end:?}"), swaps);
            assert_eq!(counts.get(&Outcome::Refused), None, "{counts:?}");
        }
    }
}
