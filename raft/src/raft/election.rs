//! Who leads: timeouts, pre-votes, votes (Raft paper, section 5.2; thesis, sections 4.2.3, 9.6).

use super::Raft;
use crate::config::ReadOnly;
use crate::entry::Entry;
use crate::message::{Body, Message, MessageKind};
use crate::observer::{Event, Observer, VoteRequest};
use crate::quorum::VoteResult;
use crate::storage::LogReader;
use crate::types::{LogId, LogIndex, NodeId, Role, Term};

/// How an election is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Campaign {
    /// Ask whether it could be won.
    PreVote,
    /// Ask for votes.
    Vote,
    /// Ask for votes at the leader's own wish.
    Transfer,
}

/// What the election timeouts are drawn from: small, and the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64, id: NodeId) -> Self {
        Self(seed ^ id.value().wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number below `bound` (splitmix64).
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        u32::try_from(mix(self.0) % u64::from(bound.max(1))).unwrap_or(0)
    }
}

/// A number that differs for each member and seed, and from what timeouts are drawn of.
pub(super) const fn first_mark(seed: u64, id: NodeId) -> u64 {
    mix(Jitter::new(!seed, id).0)
}

/// Spreads every bit over all (the finish of splitmix64).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Draws a timeout in `[election_ticks, 2 * election_ticks)`, plus this member's own delay.
    pub(super) fn draw_election_timeout(&mut self) {
        let base = self.config.election_ticks;
        self.election_timeout = base
            .saturating_add(self.config.election_delay_ticks)
            .saturating_add(self.jitter.below(base));
    }

    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        self.reset(term);
        self.leader = leader;
        self.take_role(Role::Follower);
    }

    fn become_pre_candidate(&mut self) {
        // Neither term nor vote change: an election that cannot be won disturbs nobody.
        self.tracker.reset_votes();
        self.leader = None;
        self.doubt_forwards();
        if !self.config.etcd_quirks {
            self.draw_election_timeout();
        }
        self.take_role(Role::PreCandidate);
    }

    fn become_candidate(&mut self) {
        self.reset(self.term.next());
        self.vote = Some(self.config.id);
        self.take_role(Role::Candidate);
    }

    fn become_leader(&mut self) {
        self.reset(self.term);
        self.leader = Some(self.config.id);
        self.role = Role::Leader;
        if let Some(progress) = self.tracker.progress.get_mut(&self.config.id) {
            progress.become_replicate();
            progress.recent_active = true;
        }
        // There may be a configuration change anywhere in what is not applied: none is taken
        // until all that came from earlier terms is.
        self.pending_conf_index = self.log.last_index();
        // Only an entry of its own term commits (Raft paper, section 5.4.2): it starts with one.
        self.term_start = self.log.last_index().next();
        self.append_own(Entry::default().into());
        self.take_role(Role::Leader);
    }

    fn take_role(&mut self, role: Role) {
        self.role = role;
        let term = self.term;
        self.observer.event(&Event::RoleChanged { role, term });
    }

    /// Whether this member may lead: a voter that is not about to be replaced by a snapshot.
    pub(super) fn promotable(&self) -> bool {
        let progress = self.tracker.progress.get(&self.config.id);
        progress.is_some_and(|progress| !progress.is_learner)
            && self.log.unstable.snapshot.is_none()
            && !self.voteless()
            && !self.is_faulty()
            && !self.requests.wanted
            && self.term.next() < Term(u64::MAX)
            && self.log.has_room(1)
    }

    /// Starts an election in the configured way.
    pub(crate) fn campaign(&mut self) {
        self.hup(if self.config.pre_vote {
            Campaign::PreVote
        } else {
            Campaign::Vote
        });
    }

    pub(super) fn hup(&mut self, how: Campaign) {
        let term = self.term;
        if self.role == Role::Leader {
            self.observer.event(&Event::CampaignByLeader);
        } else if !self.promotable() {
            self.observer.event(&Event::Unpromotable);
        } else if self.has_unapplied_conf_change() {
            self.observer.event(&Event::CampaignBlocked { term });
        } else if self.may_campaign(how) {
            self.observer.event(&Event::ElectionStarted { term });
            self.ask_for_votes(how);
        }
    }

    fn ask_for_votes(&mut self, how: Campaign) {
        let (kind, term) = if how == Campaign::PreVote {
            self.become_pre_candidate();
            (MessageKind::PreVote, self.term.next())
        } else {
            self.become_candidate();
            (MessageKind::Vote, self.term)
        };
        let last = self.log.last();
        // The voters of both halves of a joint configuration.
        for to in self.tracker.voter_nodes() {
            if to == self.config.id {
                // Its own vote counts once it is durable, like anybody's.
                self.send_in(term, to, vote_response(kind, false));
                continue;
            }
            let own_term = self.term;
            self.observer.event(&Event::VoteRequested {
                kind,
                to,
                last,
                term: own_term,
            });
            let body = match kind {
                MessageKind::PreVote => Body::PreVote { last },
                _ => Body::Vote {
                    last,
                    transfer: how == Campaign::Transfer,
                },
            };
            self.send_in(term, to, body);
        }
    }

    pub(super) fn handle_vote_response(&mut self, kind: MessageKind, from: NodeId, granted: bool) {
        let term = self.term;
        self.observer.event(&Event::VoteReceived {
            kind,
            from,
            granted,
            term,
        });
        self.tracker.record_vote(from, granted);
        let (granted, rejected, result) = self.tracker.tally_votes();
        self.observer.event(&Event::VotesCounted {
            kind,
            granted,
            rejected,
        });
        match result {
            VoteResult::Won if self.role == Role::PreCandidate => {
                self.ask_for_votes(Campaign::Vote);
            }
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append();
            }
            VoteResult::Lost => self.become_follower(self.term, None),
            VoteResult::Pending => {}
        }
    }

    pub(super) fn vote_request(
        &self,
        from: NodeId,
        candidate_last: LogId,
        kind: MessageKind,
    ) -> VoteRequest {
        let (own_last, vote, term) = (self.promised(), self.vote, self.term);
        VoteRequest {
            kind,
            from,
            candidate_last,
            own_last,
            vote,
            term,
        }
    }

    /// Whether a request of a higher term is ignored: a live leader must not be deposed by a
    /// member that cannot hear it (leader stickiness, thesis, section 4.2.3).
    pub(super) fn ignores_vote_request(&mut self, message: &Message) -> bool {
        let (last, forced, kind) = match message.body {
            Body::Vote { last, transfer } => (last, transfer, MessageKind::Vote),
            Body::PreVote { last } => (last, false, MessageKind::PreVote),
            _ => return false,
        };
        let remaining_ticks = self
            .config
            .election_ticks
            .saturating_sub(self.election_elapsed);
        let in_lease = self.config.check_quorum && self.leader.is_some() && remaining_ticks > 0;
        if forced || !in_lease {
            return false;
        }
        let request = self.vote_request(message.from, last, kind);
        self.observer.event(&Event::VoteIgnored {
            request,
            remaining_ticks,
        });
        true
    }

    /// Answers a candidate of this term, or one that asks about a later one.
    pub(super) fn handle_vote(&mut self, from: NodeId, term: Term, last: LogId, pre: bool) {
        let kind = if pre {
            MessageKind::PreVote
        } else {
            MessageKind::Vote
        };
        let request = self.vote_request(from, last, kind);
        // The same vote again, or the first one in a term without a leader, or a mere question.
        let free = self.vote == Some(from)
            || (self.vote.is_none() && self.leader.is_none())
            || (pre && term > self.term);
        // A learner votes when it is asked: it may have been promoted without knowing it yet.
        if free && !self.voteless() && last >= self.promised() {
            self.observer.event(&Event::VoteCast(request));
            // In the term of the question, which for a pre-vote is not this member's own.
            self.send_in(term, from, vote_response(kind, false));
            if !pre {
                self.election_elapsed = 0;
                self.vote = Some(from);
            }
        } else {
            self.observer.event(&Event::VoteRefused(request));
            self.send(from, vote_response(kind, true));
            self.tell_commit(from, last);
            if last < self.promised() {
                // Perhaps nobody but this member can lead.
                self.requests.wanted = false;
            }
        }
    }

    /// A candidate that is refused may have entries whose commitment it does not know. It may even
    /// be the only voter that is left, waiting for the vote of one that was removed by them.
    pub(super) fn tell_commit(&mut self, to: NodeId, candidate_last: LogId) {
        let index = self.log.committed;
        if self.config.etcd_quirks || index == LogIndex::ZERO || index > candidate_last.index {
            return;
        }
        if let Ok(term) = self.log.term(index) {
            let last = LogId::new(term, index);
            self.forward(self.config.id, to, Body::Committed { last });
        }
    }

    /// What is committed anywhere is committed: if this log has that very entry, it has everything
    /// before it (Log Matching).
    pub(super) fn handle_committed(&mut self, from: NodeId, last: LogId) {
        let news = last.index > self.log.committed && self.log.matches(last);
        if self.role == Role::Leader || !news {
            return;
        }
        self.log.commit_to(last.index);
        let commit = last.index;
        self.observer.event(&Event::CommitLearned { from, commit });
        // With the change others decide: the election is to be held among them.
        if self.role != Role::Follower && self.has_unapplied_conf_change() {
            self.become_follower(self.term, None);
        }
    }

    /// A leader without a quorum steps down (thesis, section 6.2).
    pub(super) fn check_quorum(&mut self) {
        if !self.tracker.quorum_active() {
            self.observer.event(&Event::QuorumLost);
            self.become_follower(self.term, None);
        }
        for (id, progress) in &mut self.tracker.progress {
            if *id != self.config.id {
                progress.recent_active = false;
            }
        }
    }

    /// Lets this follower vote for somebody else before its timeout.
    pub(crate) fn forget_leader(&mut self) {
        if self.role != Role::Follower {
            return;
        }
        if self.config.read_only == ReadOnly::Lease || self.config.lease.is_some() {
            // The leader's lease rests on this member not voting.
            self.observer.event(&Event::ForgetLeaderRefused);
        } else if let Some(leader) = self.leader.take() {
            let term = self.term;
            self.observer
                .event(&Event::LeaderForgotten { leader, term });
        }
    }
}

const fn vote_response(kind: MessageKind, reject: bool) -> Body {
    match kind {
        MessageKind::PreVote => Body::PreVoteResponse { reject },
        _ => Body::VoteResponse { reject },
    }
}
