//! The cases, by topic.

mod crashes;
mod reading;
mod streams;

use super::{Case, random};

macro_rules! all {
    ($($module:ident :: { $($name:ident),* $(,)? }),* $(,)?) => {
        &[$($((stringify!($name), $module::$name as Case)),*),*]
    };
}

pub(super) const ALL: &[(&str, Case)] = all![
    reading::{
        new_store_is_empty_with_nothing_applied,
        batch_is_visible_with_its_applied_id,
        operations_take_effect_in_their_order,
        batch_without_operations_moves_the_applied_id,
        view_keeps_its_moment,
        scan_honours_bounds_and_order,
        scan_ends_where_the_visitor_breaks,
        range_removal_takes_the_half_open_range,
        keys_and_values_of_all_sizes_come_back,
        stats_follow_the_contents,
        views_are_whole_while_others_write,
    },
    crashes::{
        persisted_state_survives_a_kill,
        persisted_state_survives_power_loss,
        batches_survive_whole_with_their_applied_id,
        durable_applied_is_never_ahead_of_what_survives,
        failed_persist_is_not_called_durable,
    },
    streams::{
        checkpoint_restores_into_another_store,
        checkpoint_keeps_its_moment,
        restore_replaces_everything_durably,
        damaged_stream_is_refused,
        cut_or_extended_stream_is_refused,
        broken_source_is_refused_and_the_restore_repeated,
    },
    random::{
        random_batches_match_the_map,
        random_batches_match_the_map_through_crashes,
    },
];
