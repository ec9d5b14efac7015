//! The conformance suite for log backends: every obligation of `docs/storage-contract.md`, each
//! a test. A backend runs it with [`storage_suite!`](crate::storage_suite).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assertion is how a test speaks"
)]

mod cases;
mod home;
pub mod model;
mod random;
mod session;
mod simpler;

pub use home::{Ability, Arrival, HeldSyncs, LogFactory, LogHome, VfsHome};

/// One test of the suite.
pub type Case = fn(&dyn LogFactory);

/// Every test, by name.
pub const CASES: &[(&str, Case)] = cases::ALL;

/// Runs the test called `name`.
///
/// # Panics
/// When the store breaks its promise, or no test has that name.
pub fn run(name: &str, factory: &dyn LogFactory) {
    let case = CASES.iter().find(|(known, _)| *known == name);
    let (_, case) = case.unwrap_or_else(|| panic!("the suite has no case {name}"));
    crate::skipped::begin(name);
    case(factory);
}

/// Makes a `#[test]` of each case of the log suite, for the stores that the factory makes homes
/// for: an expression that is a [`LogFactory`](crate::log_suite::LogFactory).
///
/// ```
/// use std::sync::Arc;
///
/// use raftwerk_raft::{Storage, StorageError};
/// use raftwerk_testkit::fault_vfs::FaultVfs;
/// use raftwerk_testkit::log_suite::VfsHome;
///
/// fn open_my_log(vfs: &FaultVfs) -> Result<Arc<dyn Storage>, StorageError> {
/// #   let _ = vfs;
/// #   /*
///     ...
/// #   */
/// #   unreachable!()
/// }
///
/// raftwerk_testkit::storage_suite!(|| VfsHome::new(open_my_log));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! storage_suite {
    ($factory:expr) => {
        $crate::each_case! { log_suite, $factory;
            group_never_written_is_empty
            submitted_batch_is_readable_at_once
            reader_opened_before_sees_every_later_batch
            invalid_group_refuses_the_whole_batch
            group_named_twice_is_refused
            parts_take_effect_in_their_order
            conflicting_append_truncates_the_suffix
            truncated_suffix_stays_gone_after_a_crash
            gap_is_refused_without_effect
            append_that_goes_back_in_term_or_skips_is_refused
            append_into_what_a_snapshot_covers_is_refused
            compaction_moves_first_and_keeps_the_term_before_it
            compaction_to_the_end_leaves_an_empty_log_that_goes_on
            compaction_beyond_the_snapshot_is_refused
            compaction_of_what_is_gone_changes_nothing
            reset_empties_the_log_just_behind_the_snapshot
            reset_behind_the_snapshot_is_refused
            snapshot_meta_is_kept_whole
            snapshot_of_another_log_is_refused
            snapshot_of_what_can_be_no_entry_is_refused
            last_hard_state_wins
            hard_state_that_goes_back_is_refused
            named_values_are_set_replaced_and_removed
            named_values_beyond_the_limit_are_refused
            destroyed_group_leaves_nothing
            recreated_group_starts_anew
            groups_are_listed_in_order_of_id
            thousand_groups_keep_apart
            entry_written_again_is_the_last_written
            read_gives_what_stood_in_the_log_at_one_moment
            terms_answer_over_compaction_boundaries
            destroyed_group_stays_gone_after_a_crash
            ranges_outside_the_log_are_refused
            reads_stop_at_the_byte_limit_but_give_one
            entries_of_all_sizes_and_kinds_come_back
            largest_entry_comes_back_whole
            largest_numbers_come_back
            tickets_begin_at_one_and_grow
            durable_reaches_what_was_waited_for
            lazy_batch_becomes_durable_when_waited_for
            sync_batch_takes_lazy_ones_before_it_along
            acknowledged_batches_survive_a_kill
            acknowledged_batches_survive_power_loss
            batch_over_groups_survives_whole_or_not_at_all
            submit_and_reads_do_not_wait_for_the_disk
            unsynced_batch_is_not_called_durable
            watermark_notices_are_monotone_and_reach_the_end
            dropped_subscription_is_silent
            failed_sync_poisons_for_ever
            reads_stay_open_when_poisoned
            what_a_new_life_shows_survives_a_power_cut
            refused_batch_comes_back_unchanged
            idle_store_has_nothing_queued
            concurrent_submitters_each_keep_their_order
            readers_see_whole_entries_while_others_write
            second_open_is_refused_while_the_first_lives
            scrub_of_a_healthy_store_finds_nothing
            random_batches_match_the_model
            random_batches_match_the_model_with_a_reopen_after_each
            random_batches_survive_kills_and_power_cuts
        }
    };
}

/// Makes the tests; [`storage_suite!`](crate::storage_suite) and
/// [`state_store_suite!`](crate::state_store_suite) are what to call.
#[doc(hidden)]
#[macro_export]
macro_rules! each_case {
    ($suite:ident, $factory:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::$suite::run(stringify!($name), &$factory);
            }
        )*

        #[test]
        fn no_case_of_the_suite_is_left_out() {
            let run = [$(stringify!($name)),*];
            for (name, _) in $crate::$suite::CASES {
                assert!(run.contains(name), "{name} is not run");
            }
        }
    };
}
