//! What a home cannot do is printed, case by case, although every test passes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

#[allow(dead_code, reason = "nothing is broken here")]
mod reference;
#[allow(dead_code, reason = "nothing is broken here")]
mod reference_state;

use std::collections::BTreeSet;
use std::env;
use std::process::Command;
use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore, Storage, StorageError};
use raftwerk_testkit::log_suite::{self, Ability, HeldSyncs, LogHome};
use raftwerk_testkit::state_suite::{self, StateHome};
use reference::ReferenceHome;
use reference_state::ReferenceStateHome;

/// Can only kill.
struct Bare<H>(H);

impl LogHome for Bare<ReferenceHome> {
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        self.0.open()
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported("no power to cut")
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        Err("no sync to hold")
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported("no sync to fail")
    }
}

impl StateHome for Bare<ReferenceStateHome> {
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        self.0.open()
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn power_loss(&mut self, _seed: u64) -> Ability {
        Ability::Unsupported("no power to cut")
    }

    fn fail_next_sync(&mut self) -> Ability {
        Ability::Unsupported("no sync to fail")
    }
}

/// What some cases need beside a kill, and which.
const NEEDS: &[(&str, &[&str])] = &[
    (
        "a failing sync",
        &[
            "failed_persist_is_not_called_durable",
            "failed_sync_poisons_for_ever",
            "reads_stay_open_when_poisoned",
        ],
    ),
    ("an entry of 16 MiB", &["largest_entry_comes_back_whole"]),
    (
        "held syncs",
        &[
            "refused_batch_comes_back_unchanged",
            "submit_and_reads_do_not_wait_for_the_disk",
            "unsynced_batch_is_not_called_durable",
        ],
    ),
    (
        "power loss",
        &[
            "acknowledged_batches_survive_power_loss",
            "batch_over_groups_survives_whole_or_not_at_all",
            "batches_survive_whole_with_their_applied_id",
            "destroyed_group_stays_gone_after_a_crash",
            "durable_applied_is_never_ahead_of_what_survives",
            "lazy_batch_becomes_durable_when_waited_for",
            "persisted_state_survives_power_loss",
            "random_batches_match_the_map_through_crashes",
            "random_batches_survive_kills_and_power_cuts",
            "restore_replaces_everything_durably",
            "second_open_is_refused_while_the_first_lives",
            "sync_batch_takes_lazy_ones_before_it_along",
            "truncated_suffix_stays_gone_after_a_crash",
            "what_a_new_life_shows_survives_a_power_cut",
        ],
    ),
];

/// Set for the process that runs the suites.
const INSIDE: &str = "RAFTWERK_TESTKIT_BARE_HOME";

#[test]
fn suites_on_a_bare_home() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    for (name, _) in log_suite::CASES {
        log_suite::run(name, &|| Bare(ReferenceHome::new(None)));
    }
    for (name, _) in state_suite::CASES {
        state_suite::run(name, &|| Bare(ReferenceStateHome::new(None)));
    }
}

#[test]
fn what_a_home_cannot_do_is_printed_for_each_case_that_needs_it() {
    let suites = Command::new(env::current_exe().unwrap())
        .args(["--exact", "suites_on_a_bare_home"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert!(suites.status.success(), "{suites:?}");
    let printed = String::from_utf8(suites.stderr).unwrap();
    let said: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("SKIPPED: "))
        .collect();
    let mut wanted = BTreeSet::new();
    for (need, cases) in NEEDS {
        for case in *cases {
            let line = said
                .iter()
                .find(|line| line.starts_with(&format!("{case}: {need}: ")));
            wanted.extend(line.copied());
            assert!(line.is_some(), "{case} says nothing of {need}: {said:#?}");
        }
    }
    assert_eq!(
        wanted.into_iter().collect::<Vec<_>>(),
        sorted(&said),
        "each once, no others"
    );
}

fn sorted<'a>(said: &[&'a str]) -> Vec<&'a str> {
    let mut said = said.to_vec();
    said.sort_unstable();
    said
}
