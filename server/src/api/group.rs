//! The replica that the services use in earnest: one group of a host.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raftwerk::{
    Group, GroupEvent, GroupStatus, Health, Member, MembershipChange, ProposeError, ReadError,
    TransferError,
};
use raftwerk_raft::NodeId;

use super::gate::DiskGate;
use super::urls::check_urls;
use super::{Identity, MemberRecord, Replica, ReplicaError, Standing};

/// A learner may be promoted when it holds this share of the leader's log.
const READY_PERCENT: u64 = 90;

/// How many learners there may be, as the API's users know it.
const LEARNERS_MAX: usize = 1;

/// How long a leader may need to hear of every member that runs: some heartbeats.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// One group as the services' replica.
pub struct GroupReplica {
    group: Group,
    identity: Identity,
    gate: DiskGate,
    term: Arc<AtomicU64>,
}

impl fmt::Debug for GroupReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupReplica")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl GroupReplica {
    /// The replica of `group`, whose writes are refused while `gate` is closed. Follows the
    /// group's events on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(group: Group, identity: Identity, gate: DiskGate) -> Self {
        let mut events = group.events();
        let term = Arc::new(AtomicU64::new(group.status().term.0));
        let (follower, known) = (group.clone(), Arc::clone(&term));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let term = match event {
                    GroupEvent::Leadership { term, .. } => term,
                    GroupEvent::Missed { .. } => follower.status().term,
                    _ => continue,
                };
                known.fetch_max(term.0, Ordering::Relaxed);
            }
        });
        Self {
            group,
            identity,
            gate,
            term,
        }
    }

    /// Makes a change and waits until the member table shows it here, too. Never by a read index:
    /// the members that are left to confirm one may not run yet.
    async fn change(&self, change: MembershipChange) -> Result<(), ReplicaError> {
        let applied = self.group.change_membership(change).await?;
        let index = applied.id.index;
        let here = self
            .group
            .until(move |status| status.applied.index >= index);
        here.await.map(drop).ok_or(ReplicaError::Stopped)
    }

    /// Members that the leader does not hear of must not come to be needed. Only the leader knows:
    /// a change that is asked for at another member goes without this.
    async fn check_heard_of(&self, change: Change) -> Result<(), ReplicaError> {
        let wanted = move |status: &GroupStatus| {
            status.leader != Some(status.node) || is_safe(status, change)
        };
        let safe = tokio::time::timeout(HEARD_MAX, self.group.until(wanted)).await;
        safe.map(drop).map_err(|_| ReplicaError::Unhealthy)
    }

    fn member(&self, id: u64) -> Result<Member, ReplicaError> {
        let members = self.group.members();
        members
            .member(NodeId(id))
            .cloned()
            .ok_or(ReplicaError::MemberNotFound)
    }

    /// After the change a quorum of members must have been started; one that was not has no name.
    fn check_started(&self, status: &GroupStatus, change: Change) -> Result<(), ReplicaError> {
        let voters = &status.conf_state.voters;
        let stays = |id: &&NodeId| change != Change::Remove(**id);
        let started = voters
            .iter()
            .filter(stays)
            .filter(|id| is_started(status, **id))
            .count();
        let adds = usize::from(change == Change::AddVoter);
        let voters = voters.iter().filter(stays).count().saturating_add(adds);
        // One member alone may always be given a second one.
        let alone = adds == 1 && started == 1 && voters == 2;
        if voters > 0 && started < voters / 2 + 1 && !alone {
            return Err(ReplicaError::NotEnoughStarted);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    AddVoter,
    AddLearner,
    Remove(NodeId),
}

/// A member that was never started has no name.
fn is_started(status: &GroupStatus, id: NodeId) -> bool {
    let mut member = status.members.member(id).into_iter();
    member.any(|member| !member.name.is_empty())
}

/// Whether the voters that the leader hears of carry the change: all of them when a member comes;
/// when one goes that is heard of, a majority without it.
fn is_safe(status: &GroupStatus, change: Change) -> bool {
    let hears = |id: &NodeId| {
        let mut peers = status.peers.iter();
        // A new peer counts as active until it has had the time to be heard of.
        let active = peers.any(|peer| peer.id == *id && peer.active) && is_started(status, *id);
        *id == status.node || active
    };
    let voters = &status.conf_state.voters;
    match change {
        Change::AddVoter | Change::AddLearner => voters.iter().all(hears),
        Change::Remove(id) if !voters.contains(&id) || !hears(&id) => true,
        Change::Remove(_) => {
            let heard = voters.iter().filter(|id| hears(id)).count();
            heard.saturating_sub(1) > voters.len().saturating_sub(1) / 2
        }
    }
}

fn record(member: &Member, status: &GroupStatus) -> MemberRecord {
    MemberRecord {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: status.conf_state.learners.contains(&member.id),
    }
}

/// An id that no member has, and in all likelihood none ever had.
fn new_id(status: &GroupStatus) -> NodeId {
    let draw = |salt: u64| NodeId(RandomState::new().hash_one(salt));
    let is_free = |id: &NodeId| *id != NodeId::ZERO && status.members.member(*id).is_none();
    (0..).map(draw).find(is_free).unwrap_or(NodeId::ZERO)
}

#[tonic::async_trait]
impl Replica for GroupReplica {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        let status = self.group.status();
        let mut errors = troubles(&status);
        if !self.gate.is_open() {
            errors.push(ReplicaError::NoSpace.to_string());
        }
        Standing {
            term: status.term.0,
            leader: status.leader.map_or(0, NodeId::value),
            committed: status.commit.0,
            applied: status.applied.index.0,
            is_learner: status.conf_state.learners.contains(&status.node),
            errors,
        }
    }

    async fn propose(&self, command: Bytes) -> Result<Bytes, ReplicaError> {
        if !self.gate.is_open() {
            return Err(ReplicaError::NoSpace);
        }
        Ok(self.group.propose(command).await?.response)
    }

    async fn read_barrier(&self) -> Result<(), ReplicaError> {
        match self.group.read_index().await {
            Ok(_) => Ok(()),
            // A leader that is known but confirms nothing is another matter.
            Err(ReadError::NoLeader) if self.group.leader().is_some() => Err(ReplicaError::Timeout),
            Err(error) => Err(error.into()),
        }
    }

    fn members(&self) -> Vec<MemberRecord> {
        let status = self.group.status();
        status
            .members
            .iter()
            .map(|member| record(member, &status))
            .collect()
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberRecord, ReplicaError> {
        check_urls(&peer_urls)?;
        let status = self.group.status();
        if is_learner {
            self.check_heard_of(Change::AddLearner).await?;
        } else {
            self.check_started(&status, Change::AddVoter)?;
            self.check_heard_of(Change::AddVoter).await?;
        }
        let taken = |url: &String| status.members.iter().any(|m| m.peer_urls.contains(url));
        if peer_urls.iter().any(taken) {
            return Err(ReplicaError::PeerUrlExists);
        }
        if is_learner && status.conf_state.learners.len() >= LEARNERS_MAX {
            return Err(ReplicaError::TooManyLearners);
        }
        let member = Member {
            peer_urls,
            ..Member::new(new_id(&status))
        };
        let change = MembershipChange::new();
        let change = if is_learner {
            change.add_learner(member.clone())
        } else {
            change.add_voter(member.clone())
        };
        self.change(change).await?;
        Ok(record(&member, &self.group.status()))
    }

    async fn remove_member(&self, id: u64) -> Result<(), ReplicaError> {
        self.member(id)?;
        self.check_started(&self.group.status(), Change::Remove(NodeId(id)))?;
        self.check_heard_of(Change::Remove(NodeId(id))).await?;
        let change = MembershipChange::new().remove(NodeId(id));
        if id == self.identity.member_id {
            // Nobody may tell a removed member that it was applied.
            self.group.change_membership(change).await?;
            return Ok(());
        }
        self.change(change).await
    }

    async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<(), ReplicaError> {
        check_urls(&peer_urls)?;
        let member = self.member(id)?;
        let taken = |member: &Member| {
            member.id.0 != id && member.peer_urls.iter().any(|url| peer_urls.contains(url))
        };
        if self.group.members().iter().any(taken) {
            return Err(ReplicaError::PeerUrlExists);
        }
        self.change(MembershipChange::new().update(Member {
            peer_urls,
            ..member
        }))
        .await
    }

    /// Only the leader knows how far a learner is.
    async fn promote_member(&self, id: u64) -> Result<(), ReplicaError> {
        let member = self.member(id)?;
        let status = self.group.status();
        if status.leader != Some(status.node) {
            return Err(ReplicaError::NotLeader);
        }
        // etcd asks how far it is first, which of a voter says something only if it never started.
        let is_learner = status.conf_state.learners.contains(&member.id);
        if !is_learner && is_started(&status, member.id) {
            return Err(ReplicaError::NotLearner);
        }
        let matched = status.peers.iter().find(|peer| peer.id == member.id);
        let matched = matched.map_or(0, |peer| peer.matched.0);
        if matched.saturating_mul(100) < status.commit.0.saturating_mul(READY_PERCENT) {
            return Err(ReplicaError::LearnerNotReady);
        }
        if !is_learner {
            return Err(ReplicaError::NotLearner);
        }
        self.change(MembershipChange::new().add_voter(member)).await
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), ReplicaError> {
        if !self.group.status().conf_state.voters.contains(&NodeId(to)) {
            return Err(ReplicaError::BadTransferee);
        }
        Ok(self.group.transfer_leader(NodeId(to)).await?)
    }
}

/// What is wrong with the group here, and what to do about it.
fn troubles(status: &GroupStatus) -> Vec<String> {
    let health = match &status.health {
        Health::Running => None,
        Health::Installing => Some("raftwerk: installing a snapshot".to_owned()),
        Health::Halted { cause } => Some(format!("raftwerk: halted: {cause}")),
        Health::Stopped => Some(ReplicaError::Stopped.to_string()),
    };
    let loss = status.loss.map(|loss| format!("raftwerk: {loss}"));
    health.into_iter().chain(loss).collect()
}

impl From<ProposeError> for ReplicaError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::Busy => Self::Busy,
            ProposeError::Dropped => Self::LeaderChanged,
            ProposeError::TooLarge { .. } => Self::TooLarge,
            ProposeError::Refused { reason } => Self::ChangeRefused {
                reason: reason.to_string(),
            },
            ProposeError::ChangePending => Self::ChangeRefused {
                reason: ProposeError::ChangePending.to_string(),
            },
            ProposeError::Halted { cause } => Self::Halted {
                cause: cause.to_string(),
            },
            ProposeError::Stopped => Self::Stopped,
            // Whatever else there may be one day: nothing is known of its outcome.
            _ => Self::OutcomeUnknown,
        }
    }
}

impl From<ReadError> for ReplicaError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::NoLeader,
            ReadError::Busy => Self::Busy,
            ReadError::Halted { cause } => Self::Halted {
                cause: cause.to_string(),
            },
            ReadError::Stopped => Self::Stopped,
            _ => Self::Timeout,
        }
    }
}

impl From<TransferError> for ReplicaError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NoLeader => Self::NoLeader,
            TransferError::NotVoter { .. } => Self::BadTransferee,
            TransferError::Busy => Self::Busy,
            TransferError::Halted { cause } => Self::Halted {
                cause: cause.to_string(),
            },
            TransferError::Stopped => Self::Stopped,
            _ => Self::Timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::Loss;

    use super::*;

    #[test]
    fn what_a_disk_lost_is_said_with_what_to_do() {
        let mut status = GroupStatus::default();
        assert!(troubles(&status).is_empty());
        status.loss = Some(Loss::VoteUnknown);
        let said = troubles(&status);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("remove it from the group"), "{said:?}");
    }

    #[test]
    fn change_that_waited_for_another_in_vain_is_refused_and_says_why() {
        let ReplicaError::ChangeRefused { reason } = ProposeError::ChangePending.into() else {
            panic!("its outcome is known");
        };
        assert_eq!(reason, ProposeError::ChangePending.to_string());
    }
}
