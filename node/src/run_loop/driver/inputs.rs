//! What comes in: messages of peers, what handles ask, what the workers report.

use raftwerk_raft::{Body, LogId, LogIndex, Message, NodeId, RequestSnapshotError};

use super::{Driver, Transfer};
use crate::envelope::{Envelope, EnvelopeBody, ForwardError};
use crate::error::{ReplaceError, TransferError};
use crate::oneshot::Completer;
use crate::run_loop::{Ask, Effect, Reported};
use crate::status::GroupEvent;

impl Driver {
    /// `full`: the log has no room for more entries.
    pub(crate) fn message(
        &mut self,
        from: NodeId,
        body: EnvelopeBody,
        full: bool,
        out: &mut Vec<Effect>,
    ) {
        if self.halted.is_some() {
            return self.refuse(from, &body, ForwardError::NotLeader { leader: None }, out);
        }
        if full && matches!(body, EnvelopeBody::Forward { .. }) {
            return self.refuse(from, &body, ForwardError::Busy, out);
        }
        match body {
            // The state itself comes on a stream of its own; the sink hands the message in.
            EnvelopeBody::Raft(Message {
                body: Body::Snapshot { .. },
                ..
            }) => {}
            EnvelopeBody::Raft(message) if message.from == from && message.to == self.host => {
                self.step(message);
            }
            EnvelopeBody::Raft(_) => {}
            EnvelopeBody::Forward {
                request,
                kind,
                data,
            } => {
                self.proposals
                    .remote(from, request, (kind, data), self.now, out);
            }
            EnvelopeBody::Forwarded { request, result } => {
                self.proposals.forward_answered(from, request, result, out);
            }
        }
    }

    /// Whoever forwards here learns at once that it was not appended.
    fn refuse(
        &self,
        from: NodeId,
        body: &EnvelopeBody,
        error: ForwardError,
        out: &mut Vec<Effect>,
    ) {
        if let EnvelopeBody::Forward { request, .. } = body {
            let body = EnvelopeBody::Forwarded {
                request: *request,
                result: Err(error),
            };
            let envelope = Envelope {
                group: self.group,
                body,
            };
            out.push(Effect::Send { to: from, envelope });
        }
    }

    pub(super) fn step(&mut self, message: Message) {
        // What the core does not take it has counted; messages may be lost in any case.
        let _ = self.node.step(message);
    }

    pub(crate) fn unreachable(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        if self.halted.is_none() {
            self.node.report_unreachable(peer);
            self.proposals.unreachable(peer, out);
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        if let Some(cause) = &self.halted {
            return ask.refuse_halted(cause);
        }
        match ask {
            Ask::Propose { data, answer } => self.proposals.normal(data, answer, self.now),
            Ask::Change { change, answer } => self.proposals.change(change, answer, self.now),
            Ask::Read { answer } => self.reads.ask(answer, self.now),
            Ask::Transfer { to, answer } => self.transfer(to, answer),
            Ask::Snapshot { answer } => self.snapshots.ask(answer),
            Ask::Replace { answer } => self.replace_state(answer),
            Ask::Campaign => self.node.campaign(),
        }
    }

    fn transfer(&mut self, to: NodeId, answer: Completer<(), TransferError>) {
        let is_voter = self.membership.current().conf_state.voters.contains(&to);
        if !is_voter {
            return answer.complete(Err(TransferError::NotVoter { to }));
        }
        match self.node.leader() {
            None => answer.complete(Err(TransferError::NoLeader)),
            Some(leader) if leader == to => answer.complete(Ok(())),
            Some(_) if self.transfer.is_some() => answer.complete(Err(TransferError::Busy)),
            Some(_) => {
                self.node.transfer_leader(to);
                let until = self.now.saturating_add(2 * self.election_ticks);
                self.transfer = Some(Transfer { to, until, answer });
            }
        }
    }

    fn replace_state(&mut self, answer: Completer<LogId, ReplaceError>) {
        if self.replacing.is_some() {
            return answer.complete(Err(ReplaceError::Busy));
        }
        match self.node.request_snapshot() {
            Ok(()) => {
                self.replacing = Some(answer);
                self.shared.update(|status| status.replacing = true);
            }
            Err(RequestSnapshotError::Alone) => answer.complete(Err(ReplaceError::Alone)),
            Err(_) => answer.complete(Err(ReplaceError::NotFollower)),
        }
    }

    /// The core gives the wish up where nobody else leads; one that is fulfilled is on its way.
    pub(super) fn look_after_replacing(&mut self) {
        let on_its_way = self.installing || self.node.has_ready();
        if self.node.wants_snapshot() || on_its_way {
            return;
        }
        self.end_replacing(Err(ReplaceError::GivenUp));
    }

    pub(super) fn end_replacing(&mut self, result: Result<LogId, ReplaceError>) {
        if let Some(answer) = self.replacing.take() {
            self.shared.update(|status| status.replacing = false);
            answer.complete(result);
        }
    }

    pub(crate) fn report(&mut self, what: Reported, out: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        match what {
            Reported::Open(_) => {}
            Reported::Applied { last, ack } => {
                self.node.applied(ack);
                self.applied_to(last);
            }
            Reported::Halted { cause } => self.halt(&cause, out),
            Reported::LogRead { id, result } => self.node.log_read(id, result),
            Reported::View(Ok(view)) => {
                let last = view.source.applied();
                if self.snapshots.viewed(last, view.persisted) {
                    let meta = self.membership.meta_at(last);
                    out.push(Effect::Build {
                        group: self.group,
                        meta,
                        source: view.source,
                    });
                }
            }
            Reported::View(Err(reason)) | Reported::Built(Err(reason)) => {
                self.snapshots.failed(&reason, self.now);
            }
            Reported::Built(Ok((meta, len_bytes))) => self.snapshots.built(meta, len_bytes),
            Reported::Received(message) => self.step(message),
            // Asked for meanwhile it is needed, and comes again.
            Reported::NotNeeded(_) if self.node.wants_snapshot() => {}
            Reported::NotNeeded(message) => self.step(message),
            Reported::Restored(last) => {
                // A newer one may be on its way, whose record is not durable yet: until it is, a
                // restart finds this one.
                self.installing = last != self.snapshots.newest();
                self.ahead = LogIndex::ZERO;
                self.applied_to(last);
                self.shared.tell(&GroupEvent::SnapshotInstalled { last });
                if !self.installing && !self.node.wants_snapshot() {
                    self.end_replacing(Ok(last));
                }
                out.push(Effect::Collect {
                    group: self.group,
                    newest: last,
                });
            }
            Reported::Sent { to, status } => self.node.report_snapshot(to, status),
        }
    }

    pub(super) fn applied_to(&mut self, last: LogId) {
        self.applied = last;
        self.membership.applied_to(last.index);
        self.answer_reads();
    }

    /// A state machine that is being replaced is not to be read.
    pub(super) fn answer_reads(&mut self) {
        if !self.installing {
            self.reads.applied(self.applied.index);
        }
    }
}
