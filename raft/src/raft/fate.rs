//! What becomes of proposals and reads: nothing that was asked for ends without a word.

use bytes::Bytes;

use super::Raft;
use crate::error::ProposeError;
use crate::message::Body;
use crate::observer::{Event, Observer};
use crate::ready::{Fate, Proposed, ReadDropped};
use crate::storage::LogReader;
use crate::types::{LogIndex, NodeId, Role};

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Tells what became of `count` proposals of `from`, in the moment in which they were made.
    pub(super) fn tell_proposed(
        &mut self,
        from: NodeId,
        count: usize,
        result: &Result<Proposed, ProposeError>,
    ) {
        self.observer.event(&match result {
            Ok(Proposed::Appended(last)) => Event::ProposalAppended {
                from,
                count,
                last: *last,
            },
            Ok(Proposed::Forwarded { to, .. }) => Event::ProposalForwarded {
                from,
                count,
                to: *to,
            },
            Err(reason) => Event::ProposalDropped {
                from,
                count,
                reason,
            },
        });
    }

    /// Somebody's read gets no answer. Whoever forwarded it is told.
    pub(super) fn drop_read(&mut self, from: NodeId, context: Bytes, reason: ReadDropped) {
        self.observer.event(&Event::ReadDropped { from, reason });
        if from == self.config.id || from == NodeId::ZERO {
            self.fates.push(Fate::ReadDropped { context, reason });
        } else if !self.config.etcd_quirks {
            let body = Body::ReadIndexDropped { context, reason };
            self.forward(self.config.id, from, body);
        }
    }

    /// Leadership ends: the reads that wait are lost, and what is not committed others decide.
    pub(super) fn tell_lost_leadership(&mut self) {
        for (from, context) in self.reads.end() {
            self.drop_read(from, context, ReadDropped::LostLeadership);
        }
        let last = self.log.last();
        let first = self.term_start.max(self.log.committed.next());
        if self.role == Role::Leader && last.term == self.term && first <= last.index {
            self.observer
                .event(&Event::ProposalsInDoubt { first, last });
            self.fates.push(Fate::InDoubt { first, last });
        }
        self.term_start = LogIndex::MAX;
    }
}
