//! The cases, by topic.

mod durability;
mod groups;
mod limits;
mod log;
mod records;
mod rewriting;
mod sharing;

use super::{Case, random};

macro_rules! all {
    ($($module:ident :: { $($name:ident),* $(,)? }),* $(,)?) => {
        &[$($((stringify!($name), $module::$name as Case)),*),*]
    };
}

pub(super) const ALL: &[(&str, Case)] = all![
    log::{
        group_never_written_is_empty,
        submitted_batch_is_readable_at_once,
        reader_opened_before_sees_every_later_batch,
        conflicting_append_truncates_the_suffix,
        truncated_suffix_stays_gone_after_a_crash,
        gap_is_refused_without_effect,
        append_that_goes_back_in_term_or_skips_is_refused,
        append_into_what_a_snapshot_covers_is_refused,
        compaction_moves_first_and_keeps_the_term_before_it,
        compaction_to_the_end_leaves_an_empty_log_that_goes_on,
        compaction_beyond_the_snapshot_is_refused,
        compaction_of_what_is_gone_changes_nothing,
        ranges_outside_the_log_are_refused,
    },
    records::{
        parts_take_effect_in_their_order,
        reset_empties_the_log_just_behind_the_snapshot,
        reset_behind_the_snapshot_is_refused,
        snapshot_meta_is_kept_whole,
        snapshot_of_another_log_is_refused,
        snapshot_of_what_can_be_no_entry_is_refused,
        last_hard_state_wins,
        hard_state_that_goes_back_is_refused,
        named_values_are_set_replaced_and_removed,
        named_values_beyond_the_limit_are_refused,
    },
    groups::{
        invalid_group_refuses_the_whole_batch,
        group_named_twice_is_refused,
        destroyed_group_leaves_nothing,
        recreated_group_starts_anew,
        groups_are_listed_in_order_of_id,
        thousand_groups_keep_apart,
    },
    rewriting::{
        entry_written_again_is_the_last_written,
        read_gives_what_stood_in_the_log_at_one_moment,
        terms_answer_over_compaction_boundaries,
        destroyed_group_stays_gone_after_a_crash,
    },
    limits::{
        reads_stop_at_the_byte_limit_but_give_one,
        entries_of_all_sizes_and_kinds_come_back,
        largest_entry_comes_back_whole,
        largest_numbers_come_back,
        refused_batch_comes_back_unchanged,
        idle_store_has_nothing_queued,
        scrub_of_a_healthy_store_finds_nothing,
    },
    durability::{
        tickets_begin_at_one_and_grow,
        durable_reaches_what_was_waited_for,
        lazy_batch_becomes_durable_when_waited_for,
        sync_batch_takes_lazy_ones_before_it_along,
        acknowledged_batches_survive_a_kill,
        acknowledged_batches_survive_power_loss,
        batch_over_groups_survives_whole_or_not_at_all,
        submit_and_reads_do_not_wait_for_the_disk,
        unsynced_batch_is_not_called_durable,
        watermark_notices_are_monotone_and_reach_the_end,
        dropped_subscription_is_silent,
        failed_sync_poisons_for_ever,
        reads_stay_open_when_poisoned,
        what_a_new_life_shows_survives_a_power_cut,
    },
    sharing::{
        concurrent_submitters_each_keep_their_order,
        readers_see_whole_entries_while_others_write,
        second_open_is_refused_while_the_first_lives,
    },
    random::{
        random_batches_match_the_model,
        random_batches_match_the_model_with_a_reopen_after_each,
        random_batches_survive_kills_and_power_cuts,
    },
];
