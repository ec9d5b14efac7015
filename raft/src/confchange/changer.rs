//! The three ways to change a configuration.

use super::ConfChangeError;
use super::draft::Draft;
use crate::entry::{ConfChange, ConfChangeStep};
use crate::tracker::{Config, NodeMap, Progress, ProgressTracker};
use crate::types::LogIndex;

/// Computes what a change makes of a tracker's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Changer<'a> {
    /// What is in force.
    pub tracker: &'a ProgressTracker,
    /// The log's last index: where new members are first probed.
    pub last_index: LogIndex,
}

impl Changer<'_> {
    /// Makes a committed change, in the way it asks for.
    ///
    /// # Errors
    /// [`ConfChangeError`]; nothing has changed then.
    pub fn change(
        &self,
        change: &ConfChange,
    ) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
        if change.leave_joint() {
            self.leave_joint()
        } else if let Some(auto_leave) = change.enter_joint() {
            self.enter_joint(auto_leave, &change.steps)
        } else {
            self.simple(&change.steps)
        }
    }

    /// Changes one voter at most, and any number of learners (thesis, section 4.1).
    ///
    /// # Errors
    /// [`ConfChangeError`]; nothing has changed then.
    pub fn simple(
        &self,
        steps: &[ConfChangeStep],
    ) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
        let mut draft = Draft::of(self.tracker, self.last_index)?;
        if draft.config.voters.is_joint() {
            return Err(ConfChangeError::SimpleInJoint);
        }
        draft.apply(steps)?;
        let before = &self.tracker.config.voters.incoming.0;
        let after = &draft.config.voters.incoming.0;
        if before.symmetric_difference(after).count() > 1 {
            return Err(ConfChangeError::MoreThanOneVoter);
        }
        draft.finish()
    }

    /// Makes the voters in force the outgoing half and the changed ones the incoming half
    /// (thesis, section 4.3). With `auto_leave` the leader leaves by itself.
    ///
    /// # Errors
    /// [`ConfChangeError`]; nothing has changed then.
    pub fn enter_joint(
        &self,
        auto_leave: bool,
        steps: &[ConfChangeStep],
    ) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
        let mut draft = Draft::of(self.tracker, self.last_index)?;
        if draft.config.voters.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if draft.config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::ZeroVoters);
        }
        draft.config.voters.outgoing = draft.config.voters.incoming.clone();
        draft.apply(steps)?;
        draft.config.auto_leave = auto_leave;
        draft.finish()
    }

    /// Lets the incoming half rule alone.
    ///
    /// # Errors
    /// [`ConfChangeError`]; nothing has changed then.
    pub fn leave_joint(&self) -> Result<(Config, NodeMap<Progress>), ConfChangeError> {
        let mut draft = Draft::of(self.tracker, self.last_index)?;
        if !draft.config.voters.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        draft.leave_joint();
        draft.finish()
    }
}
