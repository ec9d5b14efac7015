//! Which case of a suite catches which broken store.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a suite promises of itself: `B` names a fault, `C` is a case.
pub(crate) struct Catches<B: 'static, C: 'static> {
    pub(crate) cases: &'static [(&'static str, C)],
    /// What each broken store is caught by, among others.
    pub(crate) by_name: &'static [(B, &'static str)],
    /// What random sequences find by themselves.
    pub(crate) at_random: &'static [(&'static str, &'static [B])],
    /// Runs a case on a broken store.
    pub(crate) run: fn(&C, B),
}

impl<B: Copy + Debug, C> Catches<B, C> {
    /// How the case called `name` fails on a broken store.
    fn verdict(&self, broken: B, name: &str) -> Option<String> {
        let mut cases = self.cases.iter();
        let (_, case) = cases
            .find(|(known, _)| *known == name)
            .expect("a known case");
        let run = AssertUnwindSafe(|| (self.run)(case, broken));
        let payload = catch_unwind(run).err()?;
        let text = payload.downcast_ref::<String>().cloned();
        Some(text.unwrap_or_default())
    }

    /// The steps that a random case says it needs to fail.
    pub(crate) fn steps(&self, broken: B, name: &str) -> Vec<String> {
        let verdict = self.verdict(broken, name).expect("caught");
        let (_, steps) = verdict.split_once(":\n  ").expect("steps");
        steps.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// A case that no broken store fails may test nothing.
    pub(crate) fn each_case_is_named(&self) {
        let at_random = self.at_random.iter().map(|(name, _)| *name);
        let by_name = self.by_name.iter().map(|(_, name)| *name);
        let catches: BTreeSet<&str> = by_name.chain(at_random).collect();
        let all: BTreeSet<&str> = self.cases.iter().map(|(name, _)| *name).collect();
        assert_eq!(catches, all);
    }

    pub(crate) fn each_is_caught_by_name(&self) {
        for (broken, name) in self.by_name {
            self.caught(*broken, name);
        }
    }

    pub(crate) fn each_is_caught_at_random(&self) {
        for (name, all) in self.at_random {
            for broken in *all {
                self.caught(*broken, name);
            }
        }
    }

    fn caught(&self, broken: B, name: &str) {
        let verdict = self.verdict(broken, name);
        assert!(verdict.is_some(), "{name} did not notice {broken:?}");
    }
}
