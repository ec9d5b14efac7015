//! What a member is started from.

use bytes::Bytes;

use crate::codec::decode_conf_change;
use crate::confchange::{self, Changer};
use crate::entry::{ConfChange, ConfState, EntryKind, HardState, SnapshotMeta};
use crate::error::ConfigError;
use crate::storage::{GroupState, LogHealth, LogReader};
use crate::tracker::ProgressTracker;
use crate::types::{LogId, LogIndex, Term};

/// Bytes of entries read in one go.
const READ_BYTES: u64 = 1024 * 1024;

/// The named value that says that acknowledged entries at the log's end are lost: the entry that
/// was the last one when that was noticed.
pub(crate) const TAIL_LOST: &[u8] = b"raft.tail-lost";
/// The named value that says where the log ended before damaged entries were cut off.
pub(crate) const REFILL_TO: &[u8] = b"raft.refill-to";

/// Term and index, eight bytes each, the largest first.
pub(crate) fn encode_mark(id: LogId) -> Bytes {
    let (term, index) = (id.term.value(), id.index.value());
    [term.to_be_bytes(), index.to_be_bytes()].concat().into()
}

fn decode_mark(bytes: &[u8]) -> Option<LogId> {
    let (term, index) = bytes.split_first_chunk::<8>()?;
    let index: [u8; 8] = index.try_into().ok()?;
    let (term, index) = (u64::from_be_bytes(*term), u64::from_be_bytes(index));
    Some(LogId::new(Term(term), LogIndex(index)))
}

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
    /// Acknowledged entries at the log's end were lost once: no vote under this identity.
    pub tail_lost: bool,
    /// Damaged entries were cut off, and the log has not been made whole up to here since.
    pub refill_to: Option<LogId>,
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
        Self::recover_with(state, log, applied, |_| {})
    }

    /// Like [`Restart::recover`], and shows `made` each change of the configuration since the
    /// snapshot, in order: those only that had an effect.
    ///
    /// # Errors
    /// [`ConfigError`] when what is stored cannot be read or contradicts itself.
    pub fn recover_with<L: LogReader + ?Sized>(
        state: &GroupState,
        log: &L,
        applied: LogIndex,
        mut made: impl FnMut(&ConfChange),
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
                    made(&change);
                }
            }
            if entries.is_empty() {
                return Err(invalid(format!("entry {next} cannot be read")));
            }
        }
        let mark = |name: &[u8]| {
            let found = state.meta.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value)
        };
        let refill = mark(REFILL_TO);
        let refill_to = refill.and_then(|value| decode_mark(value));
        // A mark that cannot be read says at least that something is missing.
        let unreadable = refill.is_some() && refill_to.is_none();
        Ok(Self {
            hard_state: state.hard_state,
            conf_state: tracker.conf_state(),
            applied,
            snapshot: state.snapshot.clone(),
            health: state.health.clone(),
            tail_lost: mark(TAIL_LOST).is_some() || unreadable,
            refill_to,
        })
    }
}
