//! The suite passes a right store and finds what is wrong with each broken one.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

mod catches;
mod reference;

use catches::Catches;
use raftwerk_testkit::log_suite::{CASES, Case};
use reference::{Broken, ReferenceHome};

raftwerk_testkit::storage_suite!(|| ReferenceHome::new(None));

const CATCHES: Catches<Broken, Case> = Catches {
    cases: CASES,
    by_name: CAUGHT_BY,
    at_random: CAUGHT_AT_RANDOM,
    run: |case, broken| case(&|| ReferenceHome::new(Some(broken))),
};

/// What each broken store is caught by, among others.
const CAUGHT_BY: &[(Broken, &str)] = &[
    (
        Broken::ForgetsTruncation,
        "conflicting_append_truncates_the_suffix",
    ),
    (
        Broken::ResurrectsTruncatedAfterCrash,
        "truncated_suffix_stays_gone_after_a_crash",
    ),
    (
        Broken::AnswersStaleTerm,
        "reader_opened_before_sees_every_later_batch",
    ),
    (
        Broken::SplitsBatchAtCrash,
        "batch_over_groups_survives_whole_or_not_at_all",
    ),
    (Broken::LosesHardStateAtReopen, "last_hard_state_wins"),
    (Broken::LosesVoteOnAppend, "last_hard_state_wins"),
    (
        Broken::CompactsTooFar,
        "compaction_moves_first_and_keeps_the_term_before_it",
    ),
    (
        Broken::CompactsBeyondSnapshot,
        "compaction_beyond_the_snapshot_is_refused",
    ),
    (
        Broken::ForgetsSnapshotContext,
        "snapshot_meta_is_kept_whole",
    ),
    (
        Broken::ForgetsTermBeforeFirst,
        "compaction_moves_first_and_keeps_the_term_before_it",
    ),
    (Broken::AcceptsGap, "gap_is_refused_without_effect"),
    (
        Broken::AppliesHalfOfARefusedBatch,
        "invalid_group_refuses_the_whole_batch",
    ),
    (
        Broken::DestroyLeavesHardState,
        "destroyed_group_leaves_nothing",
    ),
    (
        Broken::DestroyIsForgottenAtReopen,
        "destroyed_group_leaves_nothing",
    ),
    (
        Broken::ResetKeepsTheLog,
        "reset_empties_the_log_just_behind_the_snapshot",
    ),
    (
        Broken::KeepsRemovedValue,
        "named_values_are_set_replaced_and_removed",
    ),
    (
        Broken::IgnoresByteLimit,
        "reads_stop_at_the_byte_limit_but_give_one",
    ),
    (
        Broken::GivesNothingUnderASmallLimit,
        "reads_stop_at_the_byte_limit_but_give_one",
    ),
    (
        Broken::AnswersBeyondTheEnd,
        "ranges_outside_the_log_are_refused",
    ),
    (Broken::ListsUnsorted, "groups_are_listed_in_order_of_id"),
    (Broken::RepeatsTickets, "tickets_begin_at_one_and_grow"),
    (
        Broken::AcksBeforeSync,
        "unsynced_batch_is_not_called_durable",
    ),
    (
        Broken::AcksBeforeSync,
        "acknowledged_batches_survive_power_loss",
    ),
    (
        Broken::ForgetsLazyBatches,
        "lazy_batch_becomes_durable_when_waited_for",
    ),
    (
        Broken::ReadsOnlyDurable,
        "submitted_batch_is_readable_at_once",
    ),
    (
        Broken::BlocksSubmitOnTheDisk,
        "submit_and_reads_do_not_wait_for_the_disk",
    ),
    (Broken::NotifiesAfterDrop, "dropped_subscription_is_silent"),
    (
        Broken::NotifiesBackwards,
        "watermark_notices_are_monotone_and_reach_the_end",
    ),
    (Broken::RecoversFromPoison, "failed_sync_poisons_for_ever"),
    (
        Broken::KeepsHalfOfATooLargeBatch,
        "refused_batch_comes_back_unchanged",
    ),
    (
        Broken::OpensTwice,
        "second_open_is_refused_while_the_first_lives",
    ),
    (
        Broken::ReordersCompactionBeforeAppend,
        "snapshot_of_another_log_is_refused",
    ),
    (
        Broken::ShowsWhatTheCacheKept,
        "what_a_new_life_shows_survives_a_power_cut",
    ),
    (
        Broken::AnnouncesBeforeItHolds,
        "readers_see_whole_entries_while_others_write",
    ),
    (
        Broken::ScrubCriesWolf,
        "scrub_of_a_healthy_store_finds_nothing",
    ),
    (Broken::ForgetsToUncount, "idle_store_has_nothing_queued"),
    (Broken::AcceptsGroupTwice, "group_named_twice_is_refused"),
    (
        Broken::AcceptsSnapshotOfNoEntry,
        "snapshot_of_what_can_be_no_entry_is_refused",
    ),
    (
        Broken::KeepsFirstOfEqualIds,
        "entry_written_again_is_the_last_written",
    ),
    (
        Broken::ReadsTwoMoments,
        "read_gives_what_stood_in_the_log_at_one_moment",
    ),
    (
        Broken::ForgetsTermBeforeFirstAtReopen,
        "terms_answer_over_compaction_boundaries",
    ),
    (
        Broken::DestroyIsForgottenAtReopen,
        "destroyed_group_stays_gone_after_a_crash",
    ),
    (Broken::CutsLargeEntries, "largest_entry_comes_back_whole"),
    (Broken::AskingMakesAGroup, "group_never_written_is_empty"),
    (
        Broken::ReordersCompactionBeforeAppend,
        "parts_take_effect_in_their_order",
    ),
    (
        Broken::AcceptsGap,
        "append_that_goes_back_in_term_or_skips_is_refused",
    ),
    (
        Broken::AcceptsAppendIntoSnapshot,
        "append_into_what_a_snapshot_covers_is_refused",
    ),
    (
        Broken::ForgetsTermBeforeFirst,
        "compaction_to_the_end_leaves_an_empty_log_that_goes_on",
    ),
    (
        Broken::CompactsTooFar,
        "compaction_of_what_is_gone_changes_nothing",
    ),
    (
        Broken::AcceptsSnapshotOfNoEntry,
        "reset_behind_the_snapshot_is_refused",
    ),
    (
        Broken::AcceptsHardStateThatGoesBack,
        "hard_state_that_goes_back_is_refused",
    ),
    (
        Broken::AcceptsTooManyValues,
        "named_values_beyond_the_limit_are_refused",
    ),
    (
        Broken::DestroyLeavesHardState,
        "recreated_group_starts_anew",
    ),
    (Broken::DestroyLeavesHardState, "thousand_groups_keep_apart"),
    (
        Broken::ForgetsKinds,
        "entries_of_all_sizes_and_kinds_come_back",
    ),
    (
        Broken::ForgetsTermBeforeFirstAtReopen,
        "largest_numbers_come_back",
    ),
    (
        Broken::WatermarkLagsBehindWait,
        "durable_reaches_what_was_waited_for",
    ),
    (
        Broken::ForgetsLazyBatches,
        "sync_batch_takes_lazy_ones_before_it_along",
    ),
    (
        Broken::LosesHardStateAtReopen,
        "acknowledged_batches_survive_a_kill",
    ),
    (
        Broken::ReadsFailWhenPoisoned,
        "reads_stay_open_when_poisoned",
    ),
    (
        Broken::RepeatsTickets,
        "concurrent_submitters_each_keep_their_order",
    ),
];

/// What random sequences find by themselves.
const CAUGHT_AT_RANDOM: &[(&str, &[Broken])] = &[
    (
        "random_batches_match_the_model",
        &[
            Broken::ForgetsTruncation,
            Broken::CompactsTooFar,
            Broken::LosesVoteOnAppend,
            Broken::DestroyLeavesHardState,
            Broken::ResetKeepsTheLog,
            Broken::KeepsRemovedValue,
            Broken::ForgetsTermBeforeFirst,
        ],
    ),
    (
        "random_batches_match_the_model_with_a_reopen_after_each",
        &[
            Broken::LosesHardStateAtReopen,
            Broken::ForgetsSnapshotContext,
            Broken::DestroyIsForgottenAtReopen,
            Broken::ResurrectsTruncatedAfterCrash,
        ],
    ),
    (
        "random_batches_survive_kills_and_power_cuts",
        &[Broken::SplitsBatchAtCrash, Broken::AcksBeforeSync],
    ),
];

#[test]
fn failing_sequence_is_reduced_to_the_steps_it_needs() {
    let steps = CATCHES.steps(Broken::ForgetsTruncation, "random_batches_match_the_model");
    assert_eq!(
        steps,
        [
            "submit group 3: append 1..=2 of term 1 (0 bytes)",
            "submit group 3: append 1..=1 of term 2 (0 bytes)",
        ]
    );
    let steps = CATCHES.steps(
        Broken::AcksBeforeSync,
        "random_batches_survive_kills_and_power_cuts",
    );
    assert_eq!(
        steps,
        [
            "submit group 5: append 1..=1 of term 1 (0 bytes)",
            "Wait",
            "PowerLoss(0)",
        ]
    );
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
