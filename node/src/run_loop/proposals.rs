//! What became of each proposal: held, forwarded, in the log, applied.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    ConfChange, Entry, EntryKind, GroupId, LogId, LogIndex, LogReader, NodeId, Proposed, RawNode,
    Role, Term,
};

use super::Effect;
use crate::config::Limits;
use crate::envelope::{Applied, Envelope, EnvelopeBody, ForwardError, encode_change};
use crate::error::ProposeError;
use crate::oneshot::Completer;

/// Who waits for the answer.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A handle on this host.
    Local(Completer<Applied, ProposeError>),
    /// A peer that forwarded it.
    Remote { from: NodeId, request: u64 },
}

impl Origin {
    /// Answers; for a peer through `send`.
    pub(crate) fn answer(
        self,
        group: GroupId,
        result: Result<Applied, ProposeError>,
        send: impl FnOnce(NodeId, Envelope),
    ) {
        match self {
            Self::Local(answer) => answer.complete(result),
            Self::Remote { from, request } => {
                let result = result.map_err(|error| forward_error(&error));
                let body = EnvelopeBody::Forwarded { request, result };
                send(from, Envelope { group, body });
            }
        }
    }
}

fn forward_error(error: &ProposeError) -> ForwardError {
    match error {
        ProposeError::NoLeader | ProposeError::Halted { .. } | ProposeError::Stopped => {
            ForwardError::NotLeader { leader: None }
        }
        ProposeError::ChangePending => ForwardError::ChangePending,
        ProposeError::Busy => ForwardError::Busy,
        ProposeError::Dropped => ForwardError::Dropped,
        ProposeError::Unknown => ForwardError::Unknown,
        ProposeError::TooLarge { .. } | ProposeError::Refused { .. } => ForwardError::Refused,
    }
}

/// A proposal in the log whose entry is to be answered for.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) id: LogId,
    pub(crate) origin: Origin,
    pub(crate) kind: EntryKind,
}

#[derive(Clone, Debug)]
enum Payload {
    Normal(Bytes),
    Change(ConfChange),
}

impl Payload {
    fn bytes(&self) -> usize {
        match self {
            Self::Normal(data) => data.len(),
            Self::Change(change) => change.context.len(),
        }
    }
}

#[derive(Debug)]
struct Proposal {
    payload: Payload,
    origin: Origin,
    /// The tick at which it is given up, if it was not appended by then.
    deadline: u64,
    /// What it fails with then.
    held_by: ProposeError,
}

/// All proposals of one group that have no answer yet.
#[derive(Debug)]
pub(crate) struct Proposals {
    group: GroupId,
    host: NodeId,
    limits: Limits,
    queued: VecDeque<Proposal>,
    /// Refused by a peer, or by a leader that is handing over or still changing the members:
    /// tried again at the next tick.
    deferred: Vec<Proposal>,
    appended: BTreeMap<(LogIndex, Term), (Origin, EntryKind)>,
    appended_until: VecDeque<(u64, (LogIndex, Term))>,
    /// With the leader that each was sent to.
    forwarded: BTreeMap<u64, (NodeId, Proposal)>,
    forwarded_until: VecDeque<(u64, u64)>,
    /// Since a leader went away: what was forwarded before `.1` is given up at tick `.0`.
    grace: Option<(u64, u64)>,
    next_request: u64,
    /// Of all that are held or forwarded.
    bytes: usize,
}

/// Bytes of proposals that are appended at once; one always goes through. The core takes all of
/// them or none.
const RUN_BYTES_MAX: usize = 1024 * 1024;

type Node = RawNode<Arc<dyn LogReader>>;

impl Proposals {
    /// `seed` makes the marks of requests differ from those of an earlier life.
    pub(crate) fn new(group: GroupId, host: NodeId, limits: Limits, seed: u64) -> Self {
        Self {
            group,
            host,
            limits,
            queued: VecDeque::new(),
            deferred: Vec::new(),
            appended: BTreeMap::new(),
            appended_until: VecDeque::new(),
            forwarded: BTreeMap::new(),
            forwarded_until: VecDeque::new(),
            grace: None,
            next_request: seed >> 1,
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queued.len() + self.deferred.len() + self.appended.len() + self.forwarded.len()
    }

    pub(crate) fn normal(
        &mut self,
        data: Bytes,
        answer: Completer<Applied, ProposeError>,
        now: u64,
    ) {
        self.queue(
            Payload::Normal(data),
            Origin::Local(answer),
            now,
            &mut Vec::new(),
        );
    }

    pub(crate) fn change(
        &mut self,
        change: ConfChange,
        answer: Completer<Applied, ProposeError>,
        now: u64,
    ) {
        self.queue(
            Payload::Change(change),
            Origin::Local(answer),
            now,
            &mut Vec::new(),
        );
    }

    /// A proposal that a peer forwarded.
    pub(crate) fn remote(
        &mut self,
        from: NodeId,
        request: u64,
        (kind, data): (EntryKind, Bytes),
        now: u64,
        out: &mut Vec<Effect>,
    ) {
        let origin = Origin::Remote { from, request };
        if data.len() > self.limits.proposal_bytes_max {
            let reason = "larger than the leader's limit".into();
            return self.answer(origin, Err(ProposeError::Refused { reason }), out);
        }
        let payload = match kind {
            EntryKind::Normal => Payload::Normal(data),
            EntryKind::ConfChangeSingle | EntryKind::ConfChange => match decode_conf_change(data) {
                Ok(change) => Payload::Change(change),
                Err(error) => {
                    let reason = error.to_string().into();
                    return self.answer(origin, Err(ProposeError::Refused { reason }), out);
                }
            },
        };
        self.queue(payload, origin, now, out);
    }

    fn queue(&mut self, payload: Payload, origin: Origin, now: u64, out: &mut Vec<Effect>) {
        let bytes = self.bytes.saturating_add(payload.bytes());
        let full = bytes > self.limits.proposals_bytes_max && self.bytes > 0;
        if full || self.len() >= self.limits.proposals_max {
            return self.answer(origin, Err(ProposeError::Busy), out);
        }
        self.bytes = bytes;
        let deadline = now.saturating_add(self.limits.leader_wait_ticks);
        self.queued.push_back(Proposal {
            payload,
            origin,
            deadline,
            held_by: ProposeError::NoLeader,
        });
    }

    /// It is held no longer.
    fn leaves(&mut self, proposal: &Proposal) {
        self.bytes = self.bytes.saturating_sub(proposal.payload.bytes());
    }

    /// Answers one that was held or forwarded.
    fn end_one(
        &mut self,
        proposal: Proposal,
        result: Result<Applied, ProposeError>,
        out: &mut Vec<Effect>,
    ) {
        self.leaves(&proposal);
        self.answer(proposal.origin, result, out);
    }

    fn answer(&self, origin: Origin, result: Result<Applied, ProposeError>, out: &mut Vec<Effect>) {
        let send = |to, envelope| out.push(Effect::Send { to, envelope });
        origin.answer(self.group, result, send);
    }

    /// Appends or forwards what is queued, as far as there is a leader.
    pub(crate) fn flush(&mut self, node: &mut Node, now: u64, out: &mut Vec<Effect>) {
        if self.queued.is_empty() {
            return;
        }
        if node.role() == Role::Leader {
            self.append(node, now, out);
        } else {
            self.forward(
                node.leader().filter(|leader| *leader != self.host),
                now,
                out,
            );
        }
    }

    fn append(&mut self, node: &mut Node, now: u64, out: &mut Vec<Effect>) {
        while let Some(first) = self.queued.pop_front() {
            let (proposed, kind, run) = match &first.payload {
                Payload::Change(change) => {
                    let proposed = node.propose_conf_change(change.clone());
                    (proposed, EntryKind::ConfChange, vec![first])
                }
                Payload::Normal(data) => {
                    let mut batch = vec![data.clone()];
                    let mut bytes = data.len();
                    let mut run = vec![first];
                    while let Some(Proposal {
                        payload: Payload::Normal(data),
                        ..
                    }) = self.queued.front()
                    {
                        bytes = bytes.saturating_add(data.len());
                        if bytes > RUN_BYTES_MAX {
                            break;
                        }
                        batch.push(data.clone());
                        run.extend(self.queued.pop_front());
                    }
                    (node.propose_batch(batch), EntryKind::Normal, run)
                }
            };
            match proposed {
                Ok(Proposed::Appended(last)) => self.appended(last, kind, run, now),
                Ok(Proposed::Forwarded { .. }) => {
                    for proposal in run {
                        self.end_one(proposal, Err(ProposeError::Unknown), out);
                    }
                }
                Err(error) => self.not_appended(&error, run, out),
            }
        }
    }

    fn appended(&mut self, last: LogId, kind: EntryKind, run: Vec<Proposal>, now: u64) {
        let until = now.saturating_add(self.limits.proposal_ticks);
        let mut index = LogIndex(last.index.0.saturating_sub(run.len() as u64));
        for proposal in run {
            self.leaves(&proposal);
            index = index.next();
            self.appended
                .insert((index, last.term), (proposal.origin, kind));
            self.appended_until.push_back((until, (index, last.term)));
        }
    }

    fn not_appended(
        &mut self,
        error: &raftwerk_raft::ProposeError,
        run: Vec<Proposal>,
        out: &mut Vec<Effect>,
    ) {
        use raftwerk_raft::ProposeError as Core;
        let result = match error {
            Core::NoLeader | Core::Transferring => {
                return self.hold(run, &ProposeError::NoLeader, out);
            }
            // One change of members at a time: the next waits until this one is applied.
            Core::ChangePending { .. } => {
                return self.hold(run, &ProposeError::ChangePending, out);
            }
            Core::Busy => ProposeError::Busy,
            Core::Halted(halted) => ProposeError::Halted {
                cause: halted.cause.as_str().into(),
            },
            other => ProposeError::Refused {
                reason: other.to_string().into(),
            },
        };
        for proposal in run {
            self.end_one(proposal, Err(result.clone()), out);
        }
    }

    /// Keeps one of this host for the next tick; a peer is told at once and keeps its own.
    fn hold(&mut self, run: Vec<Proposal>, why: &ProposeError, out: &mut Vec<Effect>) {
        for mut proposal in run {
            if matches!(proposal.origin, Origin::Local(_)) {
                proposal.held_by = why.clone();
                self.deferred.push(proposal);
            } else {
                self.end_one(proposal, Err(why.clone()), out);
            }
        }
    }

    fn forward(&mut self, leader: Option<NodeId>, now: u64, out: &mut Vec<Effect>) {
        let until = now.saturating_add(self.limits.proposal_ticks);
        for proposal in std::mem::take(&mut self.queued) {
            match (&proposal.origin, leader) {
                (Origin::Remote { from, request }, leader) => {
                    self.leaves(&proposal);
                    let result = Err(ForwardError::NotLeader { leader });
                    let body = EnvelopeBody::Forwarded {
                        request: *request,
                        result,
                    };
                    let envelope = Envelope {
                        group: self.group,
                        body,
                    };
                    out.push(Effect::Send {
                        to: *from,
                        envelope,
                    });
                }
                (Origin::Local(_), None) => self.queued.push_back(proposal),
                (Origin::Local(_), Some(leader)) => {
                    self.next_request = self.next_request.wrapping_add(1);
                    let request = self.next_request;
                    let (kind, data) = match &proposal.payload {
                        Payload::Normal(data) => (EntryKind::Normal, data.clone()),
                        Payload::Change(change) => (EntryKind::ConfChange, encode_change(change)),
                    };
                    let body = EnvelopeBody::Forward {
                        request,
                        kind,
                        data,
                    };
                    let envelope = Envelope {
                        group: self.group,
                        body,
                    };
                    out.push(Effect::Send {
                        to: leader,
                        envelope,
                    });
                    self.forwarded.insert(request, (leader, proposal));
                    self.forwarded_until.push_back((until, request));
                }
            }
        }
    }

    /// The answer of `from` to a forwarded proposal. A mark that is not known is of an earlier
    /// life, or was given up; nobody answers for another.
    pub(crate) fn forward_answered(
        &mut self,
        from: NodeId,
        request: u64,
        result: Result<Applied, ForwardError>,
        out: &mut Vec<Effect>,
    ) {
        if self
            .forwarded
            .get(&request)
            .is_none_or(|(to, _)| *to != from)
        {
            return;
        }
        let Some((_, mut proposal)) = self.forwarded.remove(&request) else {
            return;
        };
        let result = match result {
            Ok(applied) => Ok(applied),
            // It was certainly not appended, so it may be sent again.
            Err(ForwardError::NotLeader { .. }) => {
                proposal.held_by = ProposeError::NoLeader;
                return self.deferred.push(proposal);
            }
            Err(ForwardError::ChangePending) => {
                proposal.held_by = ProposeError::ChangePending;
                return self.deferred.push(proposal);
            }
            Err(ForwardError::Busy) => Err(ProposeError::Busy),
            Err(ForwardError::Dropped) => Err(ProposeError::Dropped),
            Err(ForwardError::Unknown) => Err(ProposeError::Unknown),
            Err(ForwardError::Refused) => Err(ProposeError::Refused {
                reason: "the leader refused it".into(),
            }),
        };
        self.end_one(proposal, result, out);
    }

    /// Messages to `peer` are being lost: those forwarded there, perhaps, or their answers.
    pub(crate) fn unreachable(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        let lost = |(to, _): &(NodeId, Proposal)| *to == peer;
        let requests: Vec<u64> = self
            .forwarded
            .iter()
            .filter(|(_, forwarded)| lost(forwarded))
            .map(|(request, _)| *request)
            .collect();
        for request in requests {
            if let Some((_, proposal)) = self.forwarded.remove(&request) {
                self.end_one(proposal, Err(ProposeError::Unknown), out);
            }
        }
    }

    /// Whoever led does not any more. An answer of the old leader may still be on its way; after
    /// `grace_ticks` without one the outcome is unknown. What the old one refused the new one may
    /// take.
    pub(crate) fn leader_changed(&mut self, now: u64, grace_ticks: u64) {
        self.queued.extend(self.deferred.drain(..));
        if !self.forwarded.is_empty() {
            self.grace = Some((now.saturating_add(grace_ticks), self.next_request));
        }
    }

    /// Takes out those who wait for one of `entries`, to be answered when these are applied.
    /// Others at the same indexes were overwritten.
    pub(crate) fn committed(&mut self, entries: &[Entry], out: &mut Vec<Effect>) -> Vec<Waiter> {
        let mut waiters = Vec::new();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return waiters;
        };
        while let Some(waiting) = self.appended.first_entry() {
            let (index, term) = *waiting.key();
            if index > last.index() {
                break;
            }
            let (origin, kind) = waiting.remove();
            let offset = usize::try_from(index.since(first.index())).unwrap_or(usize::MAX);
            let here = entries.get(offset).filter(|entry| entry.index() == index);
            match here {
                Some(entry) if entry.term() == term => {
                    waiters.push(Waiter {
                        id: entry.id,
                        origin,
                        kind,
                    });
                }
                Some(_) => self.answer(origin, Err(ProposeError::Dropped), out),
                // Before the first of these: a snapshot has covered it.
                None => self.answer(origin, Err(ProposeError::Unknown), out),
            }
        }
        waiters
    }

    /// One tick: gives up what waited too long, and tries again what was deferred.
    pub(crate) fn tick(&mut self, now: u64, out: &mut Vec<Effect>) {
        while let Some((until, key)) = self.appended_until.front().copied() {
            if until > now && self.appended.contains_key(&key) {
                break;
            }
            self.appended_until.pop_front();
            if let Some((origin, _)) = self.appended.remove(&key) {
                self.answer(origin, Err(ProposeError::Unknown), out);
            }
        }
        while let Some((until, request)) = self.forwarded_until.front().copied() {
            let ended = self
                .grace
                .is_some_and(|(at, before)| at <= now && request <= before);
            if until > now && !ended && self.forwarded.contains_key(&request) {
                break;
            }
            self.forwarded_until.pop_front();
            if let Some((_, proposal)) = self.forwarded.remove(&request) {
                self.end_one(proposal, Err(ProposeError::Unknown), out);
            }
        }
        if self.grace.is_some_and(|(at, _)| at <= now) {
            self.grace = None;
        }
        self.queued.extend(std::mem::take(&mut self.deferred));
        for proposal in std::mem::take(&mut self.queued) {
            if proposal.deadline <= now {
                let held_by = proposal.held_by.clone();
                self.end_one(proposal, Err(held_by), out);
            } else {
                self.queued.push_back(proposal);
            }
        }
    }

    /// The group ends: what was not appended fails with `error`, the fate of the rest is unknown.
    pub(crate) fn end(&mut self, error: &ProposeError, out: &mut Vec<Effect>) {
        let queued = std::mem::take(&mut self.queued);
        for proposal in queued.into_iter().chain(std::mem::take(&mut self.deferred)) {
            self.answer(proposal.origin, Err(error.clone()), out);
        }
        for (origin, _) in std::mem::take(&mut self.appended).into_values() {
            self.answer(origin, Err(ProposeError::Unknown), out);
        }
        self.bytes = 0;
        for (_, proposal) in std::mem::take(&mut self.forwarded).into_values() {
            self.answer(proposal.origin, Err(ProposeError::Unknown), out);
        }
    }
}
