//! What the core wants: a `Ready` becomes effects and one step to write.

use std::mem;
use std::sync::Arc;

use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    ApplyAck, Body, Entries, Entry, EntryKind, Fate, GroupWrite, HardState, Message, NodeId,
    Persist, Ready, Role, SnapshotMeta, SnapshotStatus, SoftState, Term,
};

use super::{Commit, Driver, Transfer};
use crate::apply::Job;
use crate::envelope::{Envelope, EnvelopeBody};
use crate::run_loop::Effect;
use crate::run_loop::membership::is_member;
use crate::run_loop::submit::Step;
use crate::status::GroupEvent;

impl Driver {
    pub(super) fn take(
        &mut self,
        ready: &mut Ready,
        write: &mut GroupWrite,
        step: &mut Step,
        out: &mut Vec<Effect>,
    ) {
        // What is confirmed stays so, whoever leads now.
        for state in &ready.read_states {
            self.reads.state(state);
        }
        if let Some(soft_state) = ready.soft_state {
            self.soft_state_changed(soft_state);
        }
        drop_repetition(&mut ready.messages);
        for message in ready.messages.drain(..) {
            self.send(message, out);
        }
        for fate in &ready.fates {
            // Of proposals it is seen by what is committed where they stood.
            if let Fate::ReadDropped { context, .. } = fate {
                self.reads.dropped(context);
            }
        }
        if let (Some(ack), false) = (ready.apply_ack, ready.committed.is_empty()) {
            self.commit(mem::take(&mut ready.committed), ack, out);
        }
        self.answer_reads();
        for read in ready.reads.drain(..) {
            out.push(Effect::Read {
                group: self.group,
                log: Arc::clone(&self.log),
                read,
            });
        }
        if ready.snapshot_wanted {
            self.snapshots.want();
        }
        if let Some(persist) = &mut ready.persist {
            self.persist(persist, write, step);
        }
    }

    fn persist(&mut self, persist: &mut Persist, write: &mut GroupWrite, step: &mut Step) {
        let (hard_state, must_sync) = (persist.hard_state, persist.must_sync);
        let snapshot = persist.snapshot.take();
        if let Some(hard_state) = hard_state {
            if hard_state.term != self.hard_state.term {
                self.tell_leadership(hard_state);
            }
            self.hard_state = hard_state;
        }
        if let Some(meta) = &snapshot {
            // The record and the commit index that covers it become durable together.
            self.hard_state.commit = self.hard_state.commit.max(meta.last.index);
            self.install(meta);
        }
        if snapshot.is_some() || (hard_state.is_some() && must_sync) {
            write.hard_state = Some(self.hard_state);
            self.commit = Commit::Written;
        } else if hard_state.is_some() && self.commit == Commit::Written {
            self.commit = Commit::Moved;
        }
        write.reset_to = snapshot.clone();
        // The one copy of them: logs move them into what they keep until it is durable.
        write.append = mem::take(&mut persist.entries).to_vec();
        write.meta.append(&mut persist.meta);
        step.needs_sync = must_sync;
        // They wait with the step, for longer than this.
        step.messages = mem::take(&mut persist.messages);
        step.ack = persist.ack;
        step.install = snapshot;
    }

    fn install(&mut self, meta: &SnapshotMeta) {
        self.installing = true;
        self.snapshots.installing(meta.last);
        self.membership.install(meta);
    }

    fn soft_state_changed(&mut self, soft_state: SoftState) {
        let before = std::mem::replace(&mut self.soft_state, soft_state);
        if before.leader != soft_state.leader {
            self.proposals.leader_changed(self.now, self.election_ticks);
            self.reads.leader_changed();
            self.led_anew = soft_state.leader.is_some();
        }
        let SoftState { leader, role } = soft_state;
        self.tells_peers |= role == Role::Leader;
        self.shared.update(|status| {
            status.leader = leader;
            status.role = role;
            status.term = self.node.term();
        });
        self.tell_leadership(HardState {
            term: self.node.term(),
            ..self.hard_state
        });
        let arrived = |transfer: &mut Transfer| leader == Some(transfer.to);
        if let Some(transfer) = self.transfer.take_if(arrived) {
            transfer.answer.complete(Ok(()));
        }
    }

    fn tell_leadership(&self, hard_state: HardState) {
        let SoftState { leader, role } = self.soft_state;
        self.shared.tell(&GroupEvent::Leadership {
            leader,
            role,
            term: hard_state.term,
        });
    }

    pub(super) fn send(&mut self, message: Message, out: &mut Vec<Effect>) {
        let to = message.to;
        if let Body::Snapshot { meta } = &message.body {
            if !is_member(&meta.conf_state, to) {
                // Older than its receiver's membership, which would refuse it: take a newer one.
                self.snapshots.want();
                return self.node.report_snapshot(to, SnapshotStatus::Failed);
            }
            let meta = (**meta).clone();
            return out.push(Effect::SendSnapshot {
                group: self.group,
                message,
                meta,
            });
        }
        let envelope = Envelope {
            group: self.group,
            body: EnvelopeBody::Raft(message),
        };
        out.push(Effect::Send { to, envelope });
    }

    fn commit(&mut self, entries: Entries, ack: ApplyAck, out: &mut Vec<Effect>) {
        let mut changes = entries
            .iter()
            .filter(|entry| entry.kind != EntryKind::Normal)
            .peekable();
        if changes.peek().is_some() {
            changes.for_each(|entry| self.reconfigure(entry));
            self.publish(out);
        }
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        self.snapshots.applying(entries.len() as u64, bytes);
        let waiters = self.proposals.committed(&entries, out);
        let job = Job::Apply {
            entries,
            waiters,
            ack,
        };
        out.push(Effect::Apply {
            actor: Arc::clone(&self.actor),
            job,
        });
    }

    /// Every member comes to the same verdict on a change that cannot be read or made: it has no
    /// effect.
    fn reconfigure(&mut self, entry: &Entry) {
        let Ok(change) = decode_conf_change(entry.data.clone()) else {
            return;
        };
        let Ok(conf_state) = self.node.apply_conf_change(&change) else {
            return;
        };
        self.membership.change(entry.index(), &change, conf_state);
        // A leader that was alone had nobody to tell of.
        self.tells_peers |= self.soft_state.role == Role::Leader;
    }
}

/// Leaves out the appends that only tell a commit index, where a later one to the same peer tells
/// it too: each would cost an answer. Messages may be lost in any case.
fn drop_repetition(messages: &mut Vec<Message>) {
    let mut later: Vec<(NodeId, Term)> = Vec::new();
    let mut at = messages.len();
    while at > 0 {
        at -= 1;
        let Some(message) = messages.get(at) else {
            break;
        };
        let Body::Append { entries, .. } = &message.body else {
            continue;
        };
        let to = (message.to, message.term);
        if !later.contains(&to) {
            later.push(to);
        } else if entries.is_empty() {
            messages.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{LogId, LogIndex, Standing};

    use super::*;

    fn append(to: u64, term: u64, commit: u64, entries: u64) -> Message {
        let id = |index| LogId::new(Term(term), LogIndex(index));
        let entries = (1..=entries).map(|index| Entry::normal(id(index), "x".into()));
        let body = Body::Append {
            prev: LogId::ZERO,
            commit: LogIndex(commit),
            entries: entries.collect(),
        };
        Message {
            from: NodeId(1),
            to: NodeId(to),
            term: Term(term),
            session: 0,
            standing: Standing::Sound,
            body,
        }
    }

    #[test]
    fn commit_index_rides_with_a_later_append_to_the_same_peer() {
        let mut messages = vec![
            append(2, 5, 7, 0),
            append(3, 5, 7, 0),
            append(2, 5, 7, 2),
            append(2, 5, 8, 0),
            append(4, 4, 7, 0),
            append(4, 5, 7, 1),
        ];
        let kept = [1, 2, 3, 4, 5].map(|at: usize| messages[at].clone());
        drop_repetition(&mut messages);
        assert_eq!(messages, kept);
    }
}
