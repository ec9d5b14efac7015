//! Reads that a leader answers by itself, for as long as nobody else can have been elected
//! (thesis, section 6.4.1): measured on its own clock from the moment at which it sent a heartbeat
//! that a quorum has answered.

use std::collections::VecDeque;
use std::time::Duration;

use super::Raft;
use super::election::Campaign;
use crate::error::LeaseReadError;
use crate::message::{Body, Message};
use crate::observer::{Event, Observer};
use crate::storage::LogReader;
use crate::types::{LogIndex, NodeId, Role};

/// Heartbeat rounds that wait for a quorum. An answer to an older one renews nothing.
const ROUNDS_MAX: usize = 64;

/// A leader's lease.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    /// What the driver's clock last said.
    now: Duration,
    /// Heartbeats not yet answered by a quorum: position and time of sending.
    rounds: VecDeque<(u64, Duration)>,
    /// When the newest heartbeat was sent that a quorum has answered.
    start: Option<Duration>,
    /// Somebody was told to campaign in this term, at whatever time that arrives.
    given_away: bool,
}

impl Lease {
    /// Another term, or another quorum.
    fn revoke(&mut self) {
        self.rounds.clear();
        self.start = None;
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// What the driver's clock says.
    pub(crate) fn tell_time(&mut self, now: Duration) {
        self.lease.now = self.lease.now.max(now);
    }

    /// A new term begins with no lease.
    pub(super) fn end_lease(&mut self) {
        self.lease.revoke();
        self.lease.given_away = false;
    }

    /// What earlier rounds have confirmed was another quorum.
    pub(super) fn revoke_lease(&mut self) {
        self.lease.revoke();
    }

    /// From now on somebody may win an election though everybody has heard from this leader.
    pub(super) fn give_lease_away(&mut self) {
        self.lease.revoke();
        self.lease.given_away = true;
    }

    /// A round of heartbeats is sent: who answers it has a leader for an election timeout.
    pub(super) fn begin_lease_round(&mut self) {
        if self.config.lease.is_none() || self.lease.given_away {
            return;
        }
        if self.lease.rounds.len() == ROUNDS_MAX {
            self.lease.rounds.pop_front();
        }
        let position = self.reads.next_position();
        self.lease.rounds.push_back((position, self.lease.now));
    }

    /// A quorum has answered every round up to `position`.
    pub(super) fn renew_lease(&mut self, position: u64) {
        while let Some((round, sent)) = self.lease.rounds.front().copied() {
            if round > position {
                return;
            }
            self.lease.rounds.pop_front();
            self.lease.start = self.lease.start.max(Some(sent));
        }
    }

    /// An index at which a read is linearizable at the time `now`, without asking anybody.
    pub(crate) fn lease_read(&mut self, now: Duration) -> Result<LogIndex, LeaseReadError> {
        let Some(terms) = self.config.lease else {
            return Err(LeaseReadError::Off);
        };
        self.tell_time(now);
        if self.role != Role::Leader {
            let leader = self.leader;
            return Err(LeaseReadError::NotLeader { leader });
        }
        if !self.committed_in_term() {
            return Err(LeaseReadError::NotReady);
        }
        if self.decides_alone() {
            return Ok(self.log.committed);
        }
        let age = |start| self.lease.now.saturating_sub(start);
        match self.lease.start.map(age) {
            Some(age) if age < terms.lasts() && self.transferee.is_none() => Ok(self.log.committed),
            _ => Err(LeaseReadError::Expired),
        }
    }

    /// A leader was heard from: it counts on an election timeout from now on.
    pub(super) fn promise_lease(&mut self) {
        self.contact_elapsed = 0;
    }

    /// Some leader may count on this member, though it may have forgotten whom: also after a
    /// restart, and in a later term.
    fn keeps_promise(&self) -> bool {
        self.config.lease.is_some() && self.contact_elapsed < self.config.election_ticks
    }

    /// A vote, of whatever term, that would break what a leader was promised.
    pub(super) fn breaks_promise(&mut self, message: &Message) -> bool {
        let forced = match message.body {
            Body::Vote { transfer, .. } => transfer,
            Body::PreVote { .. } => false,
            _ => return false,
        };
        if forced || message.term < self.term || !self.keeps_promise() {
            return false;
        }
        let from = message.from;
        self.observer.event(&Event::VoteInLease { from });
        true
    }

    /// An election at somebody's wish would break it too, since the candidate votes for itself.
    pub(super) fn may_campaign(&mut self, how: Campaign) -> bool {
        let may = how == Campaign::Transfer || !self.keeps_promise() || self.decides_alone();
        if !may {
            self.observer.event(&Event::CampaignInLease);
        }
        may
    }

    /// Nobody else's vote or answer is needed, nor in the other half of a joint configuration.
    pub(super) fn decides_alone(&self) -> bool {
        let (own, mut voters) = (self.config.id, self.tracker.config.voters.ids());
        self.is_voter(own) && voters.all(|id| id == own)
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.tracker.config.voters.contains(id)
    }
}
