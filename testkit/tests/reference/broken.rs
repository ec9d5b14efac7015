//! What broken stores do wrong, each one thing.

use raftwerk_raft::{Entry, EntryKind, Term, WriteBatch};
use raftwerk_testkit::log_suite::model::{GroupModel, LogModel};

/// The one thing a broken store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    ForgetsTruncation,
    ResurrectsTruncatedAfterCrash,
    AnswersStaleTerm,
    SplitsBatchAtCrash,
    LosesHardStateAtReopen,
    LosesVoteOnAppend,
    CompactsTooFar,
    CompactsBeyondSnapshot,
    ForgetsSnapshotContext,
    ForgetsTermBeforeFirst,
    AcceptsGap,
    AppliesHalfOfARefusedBatch,
    DestroyLeavesHardState,
    DestroyIsForgottenAtReopen,
    ResetKeepsTheLog,
    KeepsRemovedValue,
    IgnoresByteLimit,
    GivesNothingUnderASmallLimit,
    AnswersBeyondTheEnd,
    ListsUnsorted,
    RepeatsTickets,
    AcksBeforeSync,
    ForgetsLazyBatches,
    ReadsOnlyDurable,
    BlocksSubmitOnTheDisk,
    NotifiesAfterDrop,
    NotifiesBackwards,
    RecoversFromPoison,
    KeepsHalfOfATooLargeBatch,
    OpensTwice,
    ReordersCompactionBeforeAppend,
    ShowsWhatTheCacheKept,
    AnnouncesBeforeItHolds,
    ScrubCriesWolf,
    ForgetsToUncount,
    AcceptsGroupTwice,
    AcceptsSnapshotOfNoEntry,
    KeepsFirstOfEqualIds,
    ReadsTwoMoments,
    ForgetsTermBeforeFirstAtReopen,
    CutsLargeEntries,
    AskingMakesAGroup,
    AcceptsAppendIntoSnapshot,
    AcceptsHardStateThatGoesBack,
    AcceptsTooManyValues,
    ForgetsKinds,
    WatermarkLagsBehindWait,
    ReadsFailWhenPoisoned,
}

impl Broken {
    /// What it does to a valid batch.
    pub(super) fn damage(self, before: &LogModel, next: &mut LogModel, batch: &WriteBatch) {
        for write in &batch.groups {
            let old = before.group(write.group);
            let group = next.groups.entry(write.group).or_default();
            match self {
                Self::ForgetsTruncation if !write.append.is_empty() => {
                    let last = group.last().index;
                    group
                        .entries
                        .extend(old.entries.into_iter().filter(|e| e.index() > last));
                }
                Self::LosesVoteOnAppend if !write.append.is_empty() => {
                    group.hard_state.vote = None;
                }
                Self::CompactsTooFar if write.compact_to.is_some() && !group.entries.is_empty() => {
                    group.base = group.entries.remove(0).id;
                }
                Self::DestroyLeavesHardState if write.destroy && write.hard_state.is_none() => {
                    group.hard_state = old.hard_state;
                }
                Self::ResetKeepsTheLog if write.reset_to.is_some() => {
                    let last = group.last().index;
                    group
                        .entries
                        .extend(old.entries.into_iter().filter(|e| e.index() > last));
                }
                Self::KeepsRemovedValue => {
                    for (name, _) in write.meta.iter().filter(|(_, value)| value.is_none()) {
                        if let Some(value) = old.meta.get(name) {
                            group.meta.insert(name.clone(), value.clone());
                        }
                    }
                }
                Self::KeepsFirstOfEqualIds => {
                    for entry in &mut group.entries {
                        let same = |old: &&Entry| old.id == entry.id;
                        if let Some(old) = old.entries.iter().find(same) {
                            entry.data = old.data.clone();
                        }
                    }
                }
                Self::ForgetsKinds => {
                    for entry in &mut group.entries {
                        entry.kind = EntryKind::Normal;
                    }
                }
                Self::ForgetsTermBeforeFirst if write.compact_to.is_some() => {
                    group.base.term = Term(0);
                }
                _ => {}
            }
            if *group == GroupModel::default() {
                next.groups.remove(&write.group);
            }
        }
    }

    /// The broken stores that take what they should refuse.
    pub(super) fn lenient(self, model: &LogModel, batch: &WriteBatch) -> Option<LogModel> {
        let mut batch = batch.clone();
        match self {
            Self::AcceptsGap => {
                for write in &mut batch.groups {
                    let mut at = model.group(write.group).last().index;
                    for entry in &mut write.append {
                        at = at.next();
                        entry.id.index = at;
                    }
                }
            }
            Self::CompactsBeyondSnapshot => {
                batch
                    .groups
                    .iter_mut()
                    .for_each(|write| write.compact_to = None);
            }
            Self::ReordersCompactionBeforeAppend => {
                batch
                    .groups
                    .iter_mut()
                    .for_each(|write| write.snapshot = None);
            }
            Self::AcceptsSnapshotOfNoEntry => {
                for write in &mut batch.groups {
                    write.reset_to = None;
                    write.snapshot = None;
                }
            }
            Self::AcceptsAppendIntoSnapshot => {
                batch
                    .groups
                    .iter_mut()
                    .for_each(|write| write.append.clear());
            }
            Self::AcceptsHardStateThatGoesBack => {
                batch
                    .groups
                    .iter_mut()
                    .for_each(|write| write.hard_state = None);
            }
            Self::AcceptsTooManyValues => {
                batch.groups.iter_mut().for_each(|write| write.meta.clear());
            }
            Self::AcceptsGroupTwice => {
                let mut seen = Vec::new();
                batch.groups.retain(|write| {
                    let first = !seen.contains(&write.group);
                    seen.push(write.group);
                    first
                });
            }
            _ => return None,
        }
        model.after(&batch).ok()
    }
}
