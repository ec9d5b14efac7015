//! A look inside, for operators and tests.

use std::collections::BTreeMap;

use crate::entry::{ConfState, HardState};
use crate::tracker::Progress;
use crate::types::{LogId, LogIndex, NodeId, Role};

/// A copy of what a member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// To whom leadership is being handed over.
    pub transferee: Option<NodeId>,
    /// Its term, vote and commit index, persisted or not.
    pub hard_state: HardState,
    /// The last entry whose application was acknowledged.
    pub applied: LogIndex,
    /// The first index of the log.
    pub first: LogIndex,
    /// The last entry, persisted or not.
    pub last: LogId,
    /// The last index that is known to be durable here.
    pub durable: LogIndex,
    /// The configuration in force.
    pub conf_state: ConfState,
    /// What a leader knows of everybody's log; empty on others.
    pub progress: BTreeMap<NodeId, Progress>,
    /// Reads that wait for an answer.
    pub pending_reads: usize,
    /// Messages dropped since they could not be true.
    pub invalid_messages: u64,
    /// This member neither asks for votes nor grants any: its disk lost what they rest on.
    pub voteless: bool,
}
