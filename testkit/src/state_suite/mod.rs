//! The conformance suite for state stores: obligations S1 and on of `docs/storage-contract.md`. A
//! backend runs it with [`state_store_suite!`](crate::state_store_suite).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assertion is how a test speaks"
)]

mod cases;
mod home;
mod model;
mod random;
mod session;
mod stream;

pub use home::{StateFactory, StateHome};

/// One test of the suite.
pub type Case = fn(&dyn StateFactory);

/// Every test, by name.
pub const CASES: &[(&str, Case)] = cases::ALL;

/// Runs the test called `name`.
///
/// # Panics
/// When the store breaks its promise, or no test has that name.
pub fn run(name: &str, factory: &dyn StateFactory) {
    let case = CASES.iter().find(|(known, _)| *known == name);
    let (_, case) = case.unwrap_or_else(|| panic!("the suite has no case {name}"));
    crate::skipped::begin(name);
    case(factory);
}

/// Makes a `#[test]` of each case of the state store suite, for the stores that the factory makes
/// homes for: an expression that is a [`StateFactory`](crate::state_suite::StateFactory).
///
/// ```
/// use std::sync::Arc;
///
/// use raftwerk_raft::{StateError, StateStore};
/// use raftwerk_testkit::fault_vfs::FaultVfs;
/// use raftwerk_testkit::log_suite::VfsHome;
///
/// fn open_my_store(vfs: &FaultVfs) -> Result<Arc<dyn StateStore>, StateError> {
/// #   let _ = vfs;
/// #   /*
///     ...
/// #   */
/// #   unreachable!()
/// }
///
/// raftwerk_testkit::state_store_suite!(|| VfsHome::of_state(open_my_store));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! state_store_suite {
    ($factory:expr) => {
        $crate::each_case! { state_suite, $factory;
            new_store_is_empty_with_nothing_applied
            batch_is_visible_with_its_applied_id
            operations_take_effect_in_their_order
            batch_without_operations_moves_the_applied_id
            view_keeps_its_moment
            scan_honours_bounds_and_order
            scan_ends_where_the_visitor_breaks
            range_removal_takes_the_half_open_range
            keys_and_values_of_all_sizes_come_back
            persisted_state_survives_a_kill
            persisted_state_survives_power_loss
            batches_survive_whole_with_their_applied_id
            durable_applied_is_never_ahead_of_what_survives
            failed_persist_is_not_called_durable
            checkpoint_restores_into_another_store
            checkpoint_keeps_its_moment
            restore_replaces_everything_durably
            damaged_stream_is_refused
            cut_or_extended_stream_is_refused
            broken_source_is_refused_and_the_restore_repeated
            stats_follow_the_contents
            views_are_whole_while_others_write
            random_batches_match_the_map
            random_batches_match_the_map_through_crashes
        }
    };
}
