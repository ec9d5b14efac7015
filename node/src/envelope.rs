//! What hosts say to each other.

use bytes::Bytes;
use raftwerk_raft::{Body, EntryKind, GroupId, LogId, Message, NodeId};

/// One message between two hosts, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whose message.
    pub group: GroupId,
    /// What it says.
    pub body: EnvelopeBody,
}

/// What an [`Envelope`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeBody {
    /// The core's own.
    Raft(Message),
    /// A proposal made at a follower, for its leader.
    Forward {
        /// The sender's mark for the answer.
        request: u64,
        /// What kind of entry to make of it.
        kind: EntryKind,
        /// Its payload.
        data: Bytes,
    },
    /// The answer to [`EnvelopeBody::Forward`].
    Forwarded {
        /// The mark of the request.
        request: u64,
        /// What became of it.
        result: Result<Applied, ForwardError>,
    },
}

/// An entry that was committed, applied, and what the state machine answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub id: LogId,
    /// What [`raftwerk_raft::StateMachine::apply`] answered.
    pub response: Bytes,
}

/// Why a forwarded proposal has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// Not appended: the receiver does not lead. It may be sent to `leader`.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// Not appended: a bound is reached, or leadership is being handed over.
    #[error("busy; retry")]
    Busy,
    /// Appended, and overwritten by another leader: it will never be applied.
    #[error("overwritten by another leader; retry")]
    Dropped,
    /// Whether it is or will be applied is not known.
    #[error("outcome unknown")]
    Unknown,
    /// Not appended, and never will be: the request makes no sense, or a change of members is
    /// not possible now.
    #[error("refused")]
    Refused,
}

impl Envelope {
    /// About how many bytes it holds: what queues count against their bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        const BASE: usize = 128;
        BASE + match &self.body {
            EnvelopeBody::Raft(message) => match &message.body {
                Body::Append { entries, .. } | Body::Propose { entries } => {
                    entries.iter().map(|entry| entry.data.len() + 48).sum()
                }
                Body::Snapshot { meta } => meta.context.len(),
                _ => 0,
            },
            EnvelopeBody::Forward { data, .. } => data.len(),
            EnvelopeBody::Forwarded {
                result: Ok(applied),
                ..
            } => applied.response.len(),
            EnvelopeBody::Forwarded { .. } => 0,
        }
    }
}
