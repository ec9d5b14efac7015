//! The suite passes a right state store and finds what is wrong with each broken one.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

mod catches;
mod reference_state;

use catches::Catches;
use raftwerk_testkit::state_suite::{CASES, Case};
use reference_state::{Broken, ReferenceStateHome};

raftwerk_testkit::state_store_suite!(|| ReferenceStateHome::new(None));

const CATCHES: Catches<Broken, Case> = Catches {
    cases: CASES,
    by_name: CAUGHT_BY,
    at_random: CAUGHT_AT_RANDOM,
    run: |case, broken| case(&|| ReferenceStateHome::new(Some(broken))),
};

/// What each broken store is caught by, among others.
const CAUGHT_BY: &[(Broken, &str)] = &[
    (
        Broken::AppliedLagsBehindTheData,
        "batches_survive_whole_with_their_applied_id",
    ),
    (
        Broken::AppliedIsDurableBeforeTheData,
        "batches_survive_whole_with_their_applied_id",
    ),
    (
        Broken::ForgetsAppliedOfEmptyBatch,
        "batch_without_operations_moves_the_applied_id",
    ),
    (
        Broken::RunsDeletesFirst,
        "operations_take_effect_in_their_order",
    ),
    (Broken::ViewSeesLaterWrites, "view_keeps_its_moment"),
    (
        Broken::ScanIncludesExcludedBound,
        "scan_honours_bounds_and_order",
    ),
    (
        Broken::DescendingScanIgnoresUpperBound,
        "scan_honours_bounds_and_order",
    ),
    (Broken::IgnoresBreak, "scan_ends_where_the_visitor_breaks"),
    (
        Broken::RemovesInclusiveEnd,
        "range_removal_takes_the_half_open_range",
    ),
    (
        Broken::DropsEmptyValues,
        "keys_and_values_of_all_sizes_come_back",
    ),
    (
        Broken::LosesPersisted,
        "persisted_state_survives_power_loss",
    ),
    (
        Broken::PersistIgnoresFailedSync,
        "failed_persist_is_not_called_durable",
    ),
    (
        Broken::CallsUnpersistedDurable,
        "durable_applied_is_never_ahead_of_what_survives",
    ),
    (
        Broken::CheckpointFollowsLaterWrites,
        "checkpoint_keeps_its_moment",
    ),
    (Broken::RestoreMerges, "restore_replaces_everything_durably"),
    (
        Broken::RestoreIsNotDurable,
        "restore_replaces_everything_durably",
    ),
    (Broken::RestoreTrustsTheStream, "damaged_stream_is_refused"),
    (
        Broken::RestoreTrustsTheStream,
        "cut_or_extended_stream_is_refused",
    ),
    (
        Broken::RestoreKeepsPartOfABrokenStream,
        "broken_source_is_refused_and_the_restore_repeated",
    ),
    (Broken::StatsNeverShrink, "stats_follow_the_contents"),
    (
        Broken::BeginsWithSomething,
        "new_store_is_empty_with_nothing_applied",
    ),
    (
        Broken::ShowsOnlyThePersisted,
        "batch_is_visible_with_its_applied_id",
    ),
    (
        Broken::AppliedLagsBehindTheData,
        "persisted_state_survives_a_kill",
    ),
    (
        Broken::DropsEmptyValues,
        "checkpoint_restores_into_another_store",
    ),
    (
        Broken::ShowsHalfABatch,
        "views_are_whole_while_others_write",
    ),
];

/// What random sequences find by themselves.
const CAUGHT_AT_RANDOM: &[(&str, &[Broken])] = &[
    (
        "random_batches_match_the_map",
        &[
            Broken::RunsDeletesFirst,
            Broken::ViewSeesLaterWrites,
            Broken::RemovesInclusiveEnd,
            Broken::ForgetsAppliedOfEmptyBatch,
        ],
    ),
    (
        "random_batches_match_the_map_through_crashes",
        &[Broken::LosesPersisted, Broken::AppliedLagsBehindTheData],
    ),
];

#[test]
fn failing_sequence_is_reduced_to_the_steps_it_needs() {
    let needed = |broken| CATCHES.steps(broken, "random_batches_match_the_map");
    let put = |key: &str| format!("Put {{ key: b\"{key}\", value: b\"\" }}");
    assert_eq!(
        needed(Broken::RemovesInclusiveEnd),
        [
            format!("Write([{}])", put("key-155")),
            r#"Write([DeleteRange { start: b"key-070", end: b"key-155" }])"#.to_owned(),
        ]
    );
    let steps = needed(Broken::ViewSeesLaterWrites);
    assert_eq!(steps, ["HoldView", "Write([])"]);
}

#[test]
fn each_case_catches_a_broken_store() {
    CATCHES.each_case_is_named();
}

#[test]
fn each_broken_store_is_caught_by_the_case_that_names_its_fault() {
    CATCHES.each_is_caught_by_name();
}

#[test]
fn random_sequences_catch_broken_stores_by_themselves() {
    CATCHES.each_is_caught_at_random();
}
