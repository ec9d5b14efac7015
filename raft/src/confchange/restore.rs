//! From a stored configuration to one in force.

use super::ConfChangeError;
use super::draft::Draft;
use crate::entry::{ConfChangeKind, ConfChangeStep, ConfState};
use crate::tracker::{Config, NodeMap, Progress, ProgressTracker};
use crate::types::{LogIndex, NodeId};

/// The configuration that `conf_state` describes, joint or not, with fresh progress for everybody
/// in it. Only the limits of `tracker` matter. An empty state gives an empty configuration.
///
/// # Errors
/// [`ConfChangeError`] when no sequence of changes leads to `conf_state`.
pub fn restore(
    tracker: &ProgressTracker,
    last_index: LogIndex,
    conf_state: &ConfState,
) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
    let empty = ProgressTracker::new(tracker.max_inflight, tracker.max_inflight_bytes);
    let mut draft = Draft::of(&empty, last_index)?;
    if *conf_state == ConfState::default() {
        return draft.finish();
    }
    // The outgoing voters come first; what follows is the change that led away from them.
    for id in &conf_state.voters_outgoing {
        draft.make_voter(*id);
    }
    draft.config.voters.outgoing = std::mem::take(&mut draft.config.voters.incoming);
    draft.config.auto_leave = conf_state.auto_leave;
    let steps = |kind, ids: &[NodeId]| {
        ids.iter()
            .map(move |id| ConfChangeStep { kind, node: *id })
            .collect::<Vec<_>>()
    };
    let mut change = steps(ConfChangeKind::AddVoter, &conf_state.voters);
    change.extend(steps(ConfChangeKind::AddLearner, &conf_state.learners));
    change.extend(steps(ConfChangeKind::AddLearner, &conf_state.learners_next));
    draft.apply(&change)?;
    // Whatever is listed twice, or where it cannot stand, does not come out as it went in.
    let zero = draft.config.voters.contains(NodeId::ZERO);
    if zero || draft.config.conf_state() != *conf_state {
        return Err(ConfChangeError::Unreachable);
    }
    draft.finish()
}
