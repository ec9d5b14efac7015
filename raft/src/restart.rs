//! What a member is started from.

use crate::codec::decode_conf_change;
use crate::confchange::{self, Changer};
use crate::entry::{ConfState, EntryKind, HardState, SnapshotMeta};
use crate::error::ConfigError;
use crate::storage::{GroupState, LogHealth, LogReader};
use crate::tracker::ProgressTracker;
use crate::types::LogIndex;

/// Bytes of entries read in one go.
const READ_BYTES: u64 = 1024 * 1024;

/// What a member is started from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The last hard state that was persisted; the default for a new member.
    pub hard_state: HardState,
    /// The configuration in force at `applied`; empty for a member that waits to be added.
    pub conf_state: ConfState,
    /// What the state machine has applied durably.
    pub applied: LogIndex,
    /// The newest snapshot that may be sent to others.
    pub snapshot: Option<SnapshotMeta>,
    /// What the disk lost.
    pub health: LogHealth,
}

impl Restart {
    /// From what a store holds of a group. The configuration is the newest snapshot's, with the
    /// changes between that and `applied` made again; reading them may go to the disk.
    ///
    /// # Errors
    /// [`ConfigError`] when what is stored cannot be read or contradicts itself.
    pub fn recover<L: LogReader + ?Sized>(
        state: &GroupState,
        log: &L,
        applied: LogIndex,
    ) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::ConfState { reason };
        let (mut next, start) = match &state.snapshot {
            Some(snapshot) => (snapshot.last.index.next(), snapshot.conf_state.clone()),
            None => (LogIndex(1), ConfState::default()),
        };
        let mut tracker = ProgressTracker::new(1, 0);
        (tracker.config, tracker.progress) = confchange::restore(&tracker, LogIndex::ZERO, &start)
            .map_err(|error| invalid(error.to_string()))?;
        while next <= applied {
            let entries = log.read(next..applied.next(), READ_BYTES)?;
            for entry in &entries {
                next = entry.index().next();
                if entry.kind == EntryKind::Normal {
                    continue;
                }
                let change = decode_conf_change(entry.data.clone())
                    .map_err(|error| invalid(format!("entry {}: {error}", entry.index())))?;
                // One that could not be made had no effect when it was applied either.
                let changer = Changer {
                    tracker: &tracker,
                    last_index: LogIndex::ZERO,
                };
                if let Ok((config, progress)) = changer.change(&change) {
                    (tracker.config, tracker.progress) = (config, progress);
                }
            }
            if entries.is_empty() {
                return Err(invalid(format!("entry {next} cannot be read")));
            }
        }
        Ok(Self {
            hard_state: state.hard_state,
            conf_state: tracker.conf_state(),
            applied,
            snapshot: state.snapshot.clone(),
            health: state.health.clone(),
        })
    }
}
