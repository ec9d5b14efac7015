//! Random batches against the map; a failure is reduced to the steps it needs.

use raftwerk_raft::StateOp;

use super::home::StateFactory;
use super::session::{Session, delete, delete_range, put};
use crate::dice::Dice;
use crate::shrink::{Failure, guarded, shrink};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<StateOp>),
    Persist,
    /// A view that must show its moment to the end of the life.
    HoldView,
    Kill,
    PowerLoss(u64),
}

/// A random batch over a few hundred keys.
fn random_batch(dice: &mut Dice) -> Vec<StateOp> {
    let key = |dice: &mut Dice| format!("key-{:03}", dice.below(300));
    let count = dice.below(12);
    let op = |dice: &mut Dice| match dice.below(10) {
        0..7 => {
            let value = vec![b'a' + (dice.below(26) as u8); dice.below(400) as usize];
            put(key(dice), value)
        }
        7..9 => delete(key(dice)),
        _ => delete_range(key(dice), key(dice)),
    };
    (0..count).map(|_| op(dice)).collect()
}

fn steps(seed: u64, count: usize, crashes: bool) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut steps = Vec::new();
    for _ in 0..count {
        steps.push(Step::Write(random_batch(&mut dice)));
        match dice.below(20) {
            0..4 => steps.push(Step::Persist),
            4..6 => steps.push(Step::HoldView),
            6 if crashes => steps.push(Step::Kill),
            7..9 if crashes => steps.push(Step::PowerLoss(dice.below(1 << 20))),
            _ => {}
        }
    }
    steps
}

fn run(factory: &dyn StateFactory, steps: &[Step]) -> Result<(), Failure> {
    guarded(|at| {
        let mut session = Session::begin(factory);
        let mut held = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            at.set(number);
            match step {
                Step::Write(ops) => session.write(ops),
                Step::Persist => session.persist(),
                Step::HoldView => {
                    let view = session.store().view().map_err(|error| error.to_string())?;
                    held.push((session.model().clone(), view));
                }
                Step::Kill => {
                    held.clear();
                    session.kill();
                }
                Step::PowerLoss(seed) => {
                    held.clear();
                    session.power_loss_or_kill(*seed);
                }
            }
            session.compare()?;
            for (model, view) in &held {
                let kept = model.compare_view(&**view);
                kept.map_err(|reason| format!("a view held since then: {reason}"))?;
            }
        }
        drop(held);
        session.reopen();
        Ok(())
    })
}

fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Write(ops) => {
            let without = |at: usize| {
                let mut rest = ops.clone();
                rest.remove(at);
                Step::Write(rest)
            };
            let halves = [&ops[..ops.len() / 2], &ops[ops.len() / 2..]];
            let halves = halves.into_iter().filter(|half| half.len() < ops.len());
            let halves = halves.map(|half| Step::Write(half.to_vec()));
            let mut ways: Vec<Step> = halves.chain((0..ops.len()).map(without)).collect();
            ways.extend((0..ops.len()).filter_map(|at| without_value(ops, at)));
            ways
        }
        Step::Persist | Step::HoldView => Vec::new(),
        Step::Kill => vec![Step::Persist],
        Step::PowerLoss(0) => vec![Step::Kill],
        Step::PowerLoss(_) => vec![Step::Kill, Step::PowerLoss(0)],
    }
}

fn without_value(ops: &[StateOp], at: usize) -> Option<Step> {
    let mut ops = ops.to_vec();
    match ops.get_mut(at)? {
        StateOp::Put { value, .. } if !value.is_empty() => value.clear(),
        _ => return None,
    }
    Some(Step::Write(ops))
}

fn check(factory: &dyn StateFactory, seeds: std::ops::Range<u64>, count: usize, crashes: bool) {
    for seed in seeds {
        let steps = steps(seed, count, crashes);
        let Err(failure) = run(factory, &steps) else {
            continue;
        };
        let (needed, failure) = shrink(&steps, failure, simpler, |steps| run(factory, steps));
        let told: Vec<String> = needed.iter().map(|step| format!("{step:?}")).collect();
        panic!(
            "seed {seed}: {}\nneeds these {} steps:\n  {}",
            failure.reason,
            needed.len(),
            told.join("\n  ")
        );
    }
}

pub(super) fn random_batches_match_the_map(factory: &dyn StateFactory) {
    check(factory, 0..4, 120, false);
}

pub(super) fn random_batches_match_the_map_through_crashes(factory: &dyn StateFactory) {
    check(factory, 100..106, 60, true);
}
