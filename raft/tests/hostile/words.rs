//! Messages of every kind, each field at its bounds: zero, one, the largest, what the receiver has
//! itself, one more and one less.

use bytes::Bytes;
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entry,
    EntryKind, ForwardMark, LogId, LogIndex, Message, MessageKind, NodeId, ProposalDropped,
    ReadDropped, SnapshotMeta, Standing, Status, Term, codec,
};

use super::mutator::Choices;

/// Members, a stranger, nobody and the last id there is. Member 1 is the receiver.
const IDS: [u64; 8] = [1, 2, 3, 4, 5, 99, 0, u64::MAX];

/// Lists the kinds, and does not compile when one is missing.
macro_rules! kinds {
    ($($kind:ident)*) => {
        pub(crate) const KINDS: &[MessageKind] = &[$(MessageKind::$kind),*];

        const _: fn(MessageKind) = |kind| match kind {
            $(MessageKind::$kind)|* => {}
        };
    };
}

kinds! {
    Vote VoteResponse PreVote PreVoteResponse Append AppendResponse Heartbeat HeartbeatResponse
    Snapshot TimeoutNow Propose ProposeResponse ReadIndex ReadIndexResponse ReadIndexDropped
    TransferLeader Committed Acked Lost WantSnapshot Commit
}

fn around(of: u64) -> [u64; 3] {
    [of, of.saturating_sub(1), of.saturating_add(1)]
}

/// What a message says, chosen by bytes with a look at what the receiver knows.
pub(crate) struct Speaker<'a, 'b> {
    pub(crate) choices: &'a mut Choices<'b>,
    pub(crate) status: &'a Status,
    /// What the receiver sent on last.
    pub(crate) known_mark: u64,
    /// Terms of the receiver's log.
    pub(crate) term_at: &'a dyn Fn(LogIndex) -> Term,
}

impl Speaker<'_, '_> {
    pub(crate) fn message(&mut self) -> Message {
        let kind = self.kind();
        let body = self.body(kind);
        let termless = matches!(
            kind,
            MessageKind::Propose
                | MessageKind::ProposeResponse
                | MessageKind::ReadIndex
                | MessageKind::ReadIndexDropped
                | MessageKind::Committed
        );
        let to = match self.choices.below(32) {
            0 => self.id(),
            _ => self.status.id,
        };
        let term = if termless && self.choices.below(8) > 0 {
            Term::ZERO
        } else {
            self.term()
        };
        Message {
            from: self.member(),
            to,
            term,
            session: self.choices.pick(&[0, 0, 0, 0, 0, 0, 1, u64::MAX]),
            standing: self.choices.pick(&[
                Standing::Sound,
                Standing::Sound,
                Standing::Voteless,
                Standing::Uncounted,
            ]),
            body,
        }
    }

    fn id(&mut self) -> NodeId {
        NodeId(self.choices.pick(&IDS))
    }

    /// Mostly somebody whose answer counts.
    fn member(&mut self) -> NodeId {
        match self.choices.below(3) {
            0 => self.id(),
            _ => NodeId(self.choices.pick(&[2, 3])),
        }
    }

    fn term(&mut self) -> Term {
        let own = self.status.hard_state.term.0;
        Term(match self.choices.below(64) {
            0..40 => own,
            40..48 => own.saturating_add(1),
            48..56 => own.saturating_sub(1),
            56..59 => 0,
            59..62 => 1,
            62 => u64::MAX - 1,
            _ => u64::MAX,
        })
    }

    fn index(&mut self) -> LogIndex {
        let status = self.status;
        let own = match self.choices.below(8) {
            0..4 => status.last.index.0,
            4 => status.hard_state.commit.0,
            5 => status.first.0,
            6 => status.applied.0,
            _ => return LogIndex(self.choices.pick(&[0, 1, u64::MAX - 1, u64::MAX])),
        };
        LogIndex(self.choices.pick(&around(own)))
    }

    fn log_id(&mut self) -> LogId {
        let index = self.index();
        let term = match self.choices.below(4) {
            0 => self.term(),
            _ => (self.term_at)(index),
        };
        LogId::new(term, index)
    }

    fn data(&mut self) -> Bytes {
        let len = self.choices.pick(&[0, 1, 1, 40, 300]);
        Bytes::from(vec![self.choices.byte(); len])
    }

    fn change(&mut self) -> ConfChange {
        let kinds = [
            ConfChangeKind::AddVoter,
            ConfChangeKind::AddLearner,
            ConfChangeKind::Remove,
            ConfChangeKind::Update,
        ];
        let transitions = [
            ConfChangeTransition::Auto,
            ConfChangeTransition::JointImplicit,
            ConfChangeTransition::JointExplicit,
        ];
        let count = self.choices.below(4);
        let step = |_| ConfChangeStep {
            kind: self.choices.pick(&kinds),
            node: self.id(),
        };
        ConfChange {
            steps: (0..count).map(step).collect(),
            transition: self.choices.pick(&transitions),
            context: Bytes::new(),
        }
    }

    fn entry(&mut self, id: LogId) -> Entry {
        let kinds = [
            EntryKind::Normal,
            EntryKind::Normal,
            EntryKind::ConfChange,
            EntryKind::ConfChangeSingle,
        ];
        let kind = self.choices.pick(&kinds);
        let data = if kind == EntryKind::Normal || self.choices.below(4) == 0 {
            self.data()
        } else {
            let mut data = Vec::new();
            codec::encode_conf_change(&self.change(), &mut data);
            data.into()
        };
        Entry { id, kind, data }
    }

    /// Mostly entries that follow each other.
    fn entries(&mut self, prev: LogId) -> Vec<Entry> {
        let mut last = prev;
        let count = self.choices.pick(&[0, 1, 1, 2, 3]);
        (0..count)
            .map(|_| {
                let own = self.status.hard_state.term;
                let term = self.choices.pick(&[last.term, own, own, own.next()]);
                last = LogId::new(term, last.index.next());
                if self.choices.below(16) == 0 {
                    last = self.log_id();
                }
                self.entry(last)
            })
            .collect()
    }

    fn ids(&mut self) -> Vec<NodeId> {
        let count = self.choices.pick(&[0, 0, 1, 2, 3, 5]);
        (0..count).map(|_| self.id()).collect()
    }

    fn conf_state(&mut self) -> ConfState {
        if self.choices.flag() {
            return ConfState {
                voters: [1, 2, 3].map(NodeId).to_vec(),
                ..ConfState::default()
            };
        }
        ConfState {
            voters: self.ids(),
            learners: self.ids(),
            voters_outgoing: self.ids(),
            learners_next: self.ids(),
            auto_leave: self.choices.flag(),
        }
    }

    /// Replication the most often.
    fn kind(&mut self) -> MessageKind {
        match self.choices.below(KINDS.len() + 8) {
            0..5 => MessageKind::Append,
            5..8 => MessageKind::AppendResponse,
            other => KINDS[other - 8],
        }
    }

    fn body(&mut self, kind: MessageKind) -> Body {
        match kind {
            MessageKind::Vote => Body::Vote {
                last: self.log_id(),
                transfer: self.choices.flag(),
            },
            MessageKind::VoteResponse => Body::VoteResponse {
                reject: self.choices.flag(),
            },
            MessageKind::PreVote => Body::PreVote {
                last: self.log_id(),
            },
            MessageKind::PreVoteResponse => Body::PreVoteResponse {
                reject: self.choices.flag(),
            },
            MessageKind::Append => self.append(),
            MessageKind::AppendResponse => {
                let index = self.index();
                let reject = self.choices.flag().then(|| self.log_id());
                Body::AppendResponse { index, reject }
            }
            MessageKind::Heartbeat => Body::Heartbeat {
                commit: self.index(),
                read_position: self.position(),
            },
            MessageKind::Commit => Body::Commit {
                index: self.index(),
            },
            MessageKind::HeartbeatResponse => Body::HeartbeatResponse {
                read_position: self.position(),
            },
            MessageKind::Snapshot => Body::Snapshot {
                meta: Box::new(self.snapshot()),
            },
            MessageKind::TimeoutNow => Body::TimeoutNow,
            MessageKind::Propose => self.proposals(),
            MessageKind::ProposeResponse => self.proposed(),
            MessageKind::ReadIndex => Body::ReadIndex {
                context: self.data(),
            },
            MessageKind::ReadIndexResponse => Body::ReadIndexResponse {
                index: self.index(),
                context: self.data(),
            },
            MessageKind::ReadIndexDropped => Body::ReadIndexDropped {
                context: self.data(),
                reason: self.choices.pick(&[
                    ReadDropped::NoLeader,
                    ReadDropped::Busy,
                    ReadDropped::LostLeadership,
                ]),
            },
            MessageKind::TransferLeader => Body::TransferLeader { to: self.id() },
            MessageKind::Committed => Body::Committed {
                last: self.log_id(),
            },
            MessageKind::Acked => Body::Acked {
                index: self.index(),
            },
            MessageKind::Lost => Body::Lost {
                kept: self.log_id(),
            },
            MessageKind::WantSnapshot => Body::WantSnapshot {
                last: self.log_id(),
            },
        }
    }

    fn append(&mut self) -> Body {
        let prev = self.log_id();
        let commit = self.index();
        let entries = self.entries(prev);
        Body::Append {
            prev,
            commit,
            entries: entries.into(),
        }
    }

    pub(crate) fn snapshot(&mut self) -> SnapshotMeta {
        SnapshotMeta {
            last: self.log_id(),
            conf_state: self.conf_state(),
            context: self.data(),
        }
    }

    fn proposals(&mut self) -> Body {
        let count = self.choices.below(4);
        let place = match self.choices.below(8) {
            0 => self.log_id(),
            _ => LogId::ZERO,
        };
        Body::Propose {
            mark: self.mark(),
            entries: (0..count).map(|_| self.entry(place)).collect(),
        }
    }

    fn proposed(&mut self) -> Body {
        let result = match self.choices.below(4) {
            0 => Err(ProposalDropped::NoLeader),
            1 => Err(ProposalDropped::Busy),
            2 => Err(ProposalDropped::Refused),
            _ => Ok(self.log_id()),
        };
        let mark = self.mark();
        Body::ProposeResponse { mark, result }
    }

    /// None, any, and perhaps one that the receiver waits for.
    fn mark(&mut self) -> ForwardMark {
        let known = self.known_mark;
        ForwardMark(self.choices.pick(&[0, 1, known, known, u64::MAX]))
    }

    fn position(&mut self) -> u64 {
        self.choices.pick(&[0, 1, 2, 3, u64::MAX])
    }
}

/// The bytes of a message that these choices make, for somebody who knows little.
pub(crate) fn encoded(choices: &[u8]) -> Vec<u8> {
    let status = Status {
        id: NodeId(1),
        ..Status::default()
    };
    let mut speaker = Speaker {
        choices: &mut Choices::new(choices),
        status: &status,
        known_mark: 2,
        term_at: &|_| Term(1),
    };
    let mut out = Vec::new();
    codec::encode_message(&speaker.message(), &mut out);
    out
}
