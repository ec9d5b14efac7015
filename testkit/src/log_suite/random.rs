//! Random batches over a few groups, against the model; a failure is reduced to the steps it
//! needs.

use bytes::Bytes;
use raftwerk_raft::{
    ConfState, Durability, Entry, EntryKind, GroupId, GroupWrite, HardState, LogId, LogIndex,
    NodeId, SnapshotMeta, Term, WriteBatch,
};

use super::home::LogFactory;
use super::model::GroupModel;
use super::session::{Session, skip};
use super::simpler::{describe, simpler};
use crate::dice::Dice;
use crate::shrink::{Failure, guarded, shrink};

const GROUPS: u64 = 5;

/// What happens next. Says nothing of indexes and terms, so that any sequence makes sense.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write { changes: Vec<Change>, lazy: bool },
    Wait,
    Reopen,
    Kill,
    PowerLoss(u64),
}

/// One group's part, relative to what the group holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) group: u64,
    pub(super) destroy: bool,
    /// A reset so far behind the newest snapshot: into the log, or beyond it.
    pub(super) reset: Option<u64>,
    /// A snapshot in the middle (in percent) of what may be covered.
    pub(super) snapshot: Option<u64>,
    pub(super) append: Option<Append>,
    pub(super) hard_state: Option<u64>,
    pub(super) compact: Option<u64>,
    pub(super) meta: Vec<(u8, Option<u16>)>,
    pub(super) seed: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Append {
    /// How many entries are replaced, at most.
    pub(super) back: u64,
    pub(super) count: u64,
    pub(super) new_term: bool,
    pub(super) len_max: u64,
}

fn change(dice: &mut Dice, group: u64) -> Change {
    let mut change = Change {
        group,
        seed: dice.next(),
        ..Change::default()
    };
    change.destroy = dice.chance(2);
    change.reset = dice.chance(4).then(|| dice.below(30));
    change.snapshot = dice.chance(12).then(|| dice.below(101));
    change.append = dice.chance(75).then(|| Append {
        back: if dice.chance(25) { dice.below(12) } else { 0 },
        count: 1 + dice.below(8),
        new_term: dice.chance(30),
        len_max: [0, 20, 200, 6000][dice.below(4) as usize],
    });
    change.hard_state = dice.chance(40).then(|| dice.below(3));
    change.compact = dice.chance(15).then(|| dice.below(101));
    if dice.chance(15) {
        let value = |dice: &mut Dice| dice.chance(70).then(|| dice.below(300) as u16);
        change.meta = (0..=dice.below(3))
            .map(|_| (dice.below(6) as u8, value(dice)))
            .collect();
    }
    change
}

fn steps(dice: &mut Dice, count: usize, crashes: bool) -> Vec<Step> {
    let step = |dice: &mut Dice| match dice.below(100) {
        0..8 => Step::Wait,
        8..10 => Step::Reopen,
        10..13 if crashes => Step::Kill,
        13..18 if crashes => Step::PowerLoss(dice.below(1 << 20)),
        _ => {
            let count = 1 + dice.below(3);
            let mut groups: Vec<u64> = (0..count).map(|_| 1 + dice.below(GROUPS)).collect();
            groups.sort_unstable();
            groups.dedup();
            let changes = groups
                .into_iter()
                .map(|group| change(dice, group))
                .collect();
            Step::Write {
                changes,
                lazy: dice.chance(20),
            }
        }
    };
    (0..count).map(|_| step(dice)).collect()
}

impl Change {
    /// The step itself, valid for what `model` holds.
    fn resolve(&self, model: &GroupModel) -> GroupWrite {
        let mut dice = Dice::new(self.seed);
        let mut write = GroupWrite {
            group: GroupId(self.group),
            ..GroupWrite::default()
        };
        write.destroy = self.destroy;
        let mut now = if self.destroy {
            GroupModel::default()
        } else {
            model.clone()
        };
        let highest = now.last().term.max(now.hard_state.term);
        if let Some(ahead) = self.reset {
            let covered = now
                .snapshot
                .as_ref()
                .map_or(LogIndex::ZERO, |meta| meta.last.index);
            let index = covered.plus(ahead + 1);
            let id = now
                .id_at(index)
                .unwrap_or(LogId::new(highest.max(Term(1)), index));
            write.reset_to = Some(meta_at(id, &mut dice));
            now = apply(&now, &write);
        }
        if let Some(percent) = self.snapshot {
            let from = now
                .snapshot
                .as_ref()
                .map_or(now.base.index, |meta| meta.last.index);
            let index = from.plus(now.last().index.since(from) * percent / 100);
            if let Some(id) = now.id_at(index).filter(|id| id.index > from) {
                write.snapshot = Some(meta_at(id, &mut dice));
                now = apply(&now, &write);
            }
        }
        if let Some(append) = &self.append {
            write.append = append.resolve(&now, highest, &mut dice);
            now = apply(&now, &write);
        }
        if let Some(ahead) = self.hard_state {
            let old = now.hard_state;
            let term = Term(old.term.0 + ahead);
            let vote = if ahead == 0 { old.vote } else { None };
            let vote = vote.or_else(|| dice.chance(50).then(|| NodeId(1 + dice.below(5))));
            let commit = LogIndex(dice.below(now.last().index.0 + 1));
            write.hard_state = Some(HardState { term, vote, commit });
        }
        if let Some(percent) = self.compact {
            let covered = now
                .snapshot
                .as_ref()
                .map_or(LogIndex::ZERO, |meta| meta.last.index);
            write.compact_to = Some(LogIndex(covered.0 * percent / 100));
        }
        let value = |len: u16| Bytes::from(vec![b'm'; usize::from(len)]);
        write.meta = self
            .meta
            .iter()
            .map(|(name, len)| (Bytes::from(format!("name-{name}")), len.map(value)))
            .collect();
        write
    }
}

/// The group after the parts of `write` so far; valid by construction.
fn apply(now: &GroupModel, write: &GroupWrite) -> GroupModel {
    let parts = GroupWrite {
        destroy: false,
        ..write.clone()
    };
    // Earlier parts are there already and are valid a second time.
    now.after(&parts).expect("resolved changes are valid")
}

fn meta_at(last: LogId, dice: &mut Dice) -> SnapshotMeta {
    let voters = (1..=1 + dice.below(3)).map(NodeId).collect();
    let conf_state = ConfState {
        voters,
        auto_leave: dice.chance(50),
        ..ConfState::default()
    };
    let context = Bytes::from(vec![b'k'; dice.below(50) as usize]);
    SnapshotMeta {
        last,
        conf_state,
        context,
    }
}

impl Append {
    fn resolve(&self, now: &GroupModel, highest: Term, dice: &mut Dice) -> Vec<Entry> {
        let covered = now
            .snapshot
            .as_ref()
            .map_or(LogIndex::ZERO, |meta| meta.last.index);
        let floor = covered.max(now.base.index).next();
        let last = now.last().index;
        let from = LogIndex(last.next().0.saturating_sub(self.back)).max(floor);
        let replaces = from <= last;
        // An entry that replaces another is of a newer term.
        let term = if self.new_term || replaces {
            highest.next()
        } else {
            now.last().term
        };
        let term = term.max(Term(1));
        let entry = |index| {
            let len = dice.below(self.len_max + 1) as usize;
            let data = Bytes::from(vec![b'a' + (dice.below(26) as u8); len]);
            let kind = if dice.chance(5) {
                EntryKind::ConfChange
            } else {
                EntryKind::Normal
            };
            Entry {
                id: LogId::new(term, index),
                kind,
                data,
            }
        };
        (0..self.count)
            .map(|ahead| from.plus(ahead))
            .map(entry)
            .collect()
    }
}

/// Runs the steps on a fresh store; `told` hears what each does.
fn run(
    factory: &dyn LogFactory,
    steps: &[Step],
    reopen_each: bool,
    told: &mut Vec<String>,
) -> Result<(), Failure> {
    guarded(|at| {
        let mut session = Session::begin(factory);
        for (number, step) in steps.iter().enumerate() {
            at.set(number);
            match step {
                Step::Write { changes, lazy } => {
                    let batch = resolve(changes, *lazy, &session);
                    told.push(describe(&batch));
                    session.try_submit(batch)?;
                    if reopen_each {
                        session.wait();
                        session.try_kill()?;
                    }
                }
                other => {
                    told.push(format!("{other:?}"));
                    perform(other, &mut session)?;
                }
            }
            session.compare()?;
        }
        Ok(())
    })
}

fn resolve(changes: &[Change], lazy: bool, session: &Session) -> WriteBatch {
    let model = session.model();
    let resolve = |change: &Change| change.resolve(&model.group(GroupId(change.group)));
    let durability = if lazy {
        Durability::Lazy
    } else {
        Durability::Sync
    };
    WriteBatch {
        groups: changes.iter().map(resolve).collect(),
        durability,
    }
}

fn perform(step: &Step, session: &mut Session) -> Result<(), String> {
    match step {
        Step::Write { .. } => Ok(()),
        Step::Wait => {
            session.wait();
            Ok(())
        }
        Step::Reopen => {
            session.wait();
            session.try_kill()
        }
        Step::Kill => session.try_kill(),
        Step::PowerLoss(seed) => session.try_power_loss(*seed),
    }
}

fn check(factory: &dyn LogFactory, runs: u64, count: usize, crashes: bool, reopen_each: bool) {
    let (runs, count) = if factory.create().is_slow() {
        let part = format!(
            "{} of {runs} seeds and {} of {count} steps",
            runs - 1,
            count - count / 4
        );
        skip(
            &part,
            "this home is slow, and was not told to try random batches in full",
        );
        (1, count / 4)
    } else {
        (runs, count)
    };
    for seed in 0..runs {
        let steps = steps(&mut Dice::new(seed), count, crashes);
        let Err(failure) = run(factory, &steps, reopen_each, &mut Vec::new()) else {
            continue;
        };
        let again = |steps: &[Step]| run(factory, steps, reopen_each, &mut Vec::new());
        let (needed, failure) = shrink(&steps, failure, simpler, again);
        let mut told = Vec::new();
        let _ = run(factory, &needed, reopen_each, &mut told);
        panic!(
            "seed {seed}: {}\nneeds these {} steps{}:\n  {}",
            failure.reason,
            needed.len(),
            if reopen_each {
                ", each with a reopen"
            } else {
                ""
            },
            told.join("\n  ")
        );
    }
}

pub(super) fn random_batches_match_the_model(factory: &dyn LogFactory) {
    check(factory, 12, 120, false, false);
}

pub(super) fn random_batches_match_the_model_with_a_reopen_after_each(factory: &dyn LogFactory) {
    check(factory, 4, 60, false, true);
}

pub(super) fn random_batches_survive_kills_and_power_cuts(factory: &dyn LogFactory) {
    check(factory, 12, 80, true, false);
}
