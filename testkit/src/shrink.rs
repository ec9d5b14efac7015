//! Makes a failing sequence of steps as small as it gets, and keeps it failing.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many sequences are tried at most for one failure.
const TRIES_MAX: usize = 1_500;

/// How a run went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The step that it went wrong at.
    pub(crate) at: usize,
    /// In words.
    pub(crate) reason: String,
}

/// Runs `run`, which says in the cell which step it is at. A panic is a failure of that step.
pub(crate) fn guarded(run: impl FnOnce(&Cell<usize>) -> Result<(), String>) -> Result<(), Failure> {
    let at = Cell::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&at)));
    let at = at.get();
    outcome
        .unwrap_or_else(|payload| Err(text_of(&*payload)))
        .map_err(|reason| Failure { at, reason })
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    });
    text.unwrap_or_else(|| "a panic that says nothing".to_owned())
}

/// Leaves out every step that the failure does not need, then puts what is left in the simplest
/// way that still fails: `simpler` names the ways for one step.
pub(crate) fn shrink<S: Clone>(
    steps: &[S],
    failure: Failure,
    simpler: impl Fn(&S) -> Vec<S>,
    run: impl FnMut(&[S]) -> Result<(), Failure>,
) -> (Vec<S>, Failure) {
    let mut search = Search {
        needed: steps.iter().take(failure.at + 1).cloned().collect(),
        failure,
        tries: TRIES_MAX,
        run,
    };
    loop {
        let mut better = search.leave_out();
        better |= search.simplify(&simpler);
        if !better || search.tries == 0 {
            return (search.needed, search.failure);
        }
    }
}

struct Search<S, R> {
    needed: Vec<S>,
    failure: Failure,
    tries: usize,
    run: R,
}

impl<S: Clone, R: FnMut(&[S]) -> Result<(), Failure>> Search<S, R> {
    /// Takes `steps` if they fail too.
    fn fails(&mut self, mut steps: Vec<S>) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        let Err(failure) = (self.run)(&steps) else {
            return false;
        };
        steps.truncate(failure.at + 1);
        self.needed = steps;
        self.failure = failure;
        true
    }

    /// Large pieces first, then smaller ones, from behind.
    fn leave_out(&mut self) -> bool {
        let mut better = false;
        let mut piece = self.needed.len().div_ceil(2);
        while piece > 0 {
            let mut end = self.needed.len();
            while end > 0 {
                let start = end.saturating_sub(piece);
                let mut fewer = self.needed.clone();
                fewer.drain(start..end);
                better |= !fewer.is_empty() && self.fails(fewer);
                end = start.min(self.needed.len());
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
        better
    }

    fn simplify(&mut self, simpler: &impl Fn(&S) -> Vec<S>) -> bool {
        let mut better = false;
        let mut at = 0;
        while let Some(step) = self.needed.get(at).cloned() {
            let tried = simpler(&step).into_iter().any(|simple| {
                let mut steps = self.needed.clone();
                if let Some(place) = steps.get_mut(at) {
                    *place = simple;
                }
                self.fails(steps)
            });
            better |= tried;
            // Once more at the same place, as long as that helps.
            at += usize::from(!tried);
        }
        better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails at the step that makes the sum of those before and itself exceed ten.
    fn sum_to_ten(steps: &[u32]) -> Result<(), Failure> {
        let steps = steps.to_vec();
        guarded(|at| {
            let mut sum = 0;
            for (number, step) in steps.iter().enumerate() {
                at.set(number);
                sum += step;
                assert!(sum <= 10, "{sum} is over ten");
            }
            Ok(())
        })
    }

    fn smaller(step: &u32) -> Vec<u32> {
        let halves = [0, step / 2, step.saturating_sub(1)];
        halves.into_iter().filter(|half| half < step).collect()
    }

    #[test]
    fn what_is_left_fails_and_nothing_of_it_can_go() {
        for steps in [vec![3, 0, 0, 9, 1, 7], vec![1; 40], vec![2, 5, 100]] {
            let failure = sum_to_ten(&steps).unwrap_err();
            let (needed, failure) = shrink(&steps, failure, smaller, sum_to_ten);
            assert_eq!(failure.reason, "11 is over ten");
            assert_eq!(failure.at + 1, needed.len());
            assert_eq!(needed.iter().sum::<u32>(), 11, "{needed:?}");
            assert!(needed.iter().all(|step| *step > 0), "{needed:?}");
        }
    }

    #[test]
    fn panic_is_a_failure_of_its_step() {
        let failure = guarded(|at| {
            at.set(7);
            panic!("so be it")
        });
        let failure = failure.unwrap_err();
        assert_eq!((failure.at, failure.reason.as_str()), (7, "so be it"));
    }
}
