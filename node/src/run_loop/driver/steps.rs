//! Steps on their way to the disk, and what follows once they are durable.

use std::sync::Arc;

use raftwerk_raft::Ticket;

use super::Driver;
use crate::apply::Job;
use crate::run_loop::Effect;
use crate::run_loop::submit::Step;
use crate::status::GroupEvent;

impl Driver {
    /// The step was taken by the log under `ticket`. Done at once where it needs no sync and
    /// nothing before it waits for one: what follows from steps keeps their order.
    pub(crate) fn submitted(&mut self, ticket: Ticket, step: Step, out: &mut Vec<Effect>) -> bool {
        self.log_moved = true;
        if step.needs_sync || !self.awaiting.is_empty() {
            self.awaiting.push_back((ticket, step));
            return true;
        }
        self.release(step, out);
        false
    }

    /// Everything up to `ticket` is durable.
    pub(crate) fn durable(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        // A step behind the last durable one that needs no sync of its own waits no longer.
        while let Some((at, step)) = self.awaiting.pop_front() {
            if at > ticket && step.needs_sync {
                self.awaiting.push_front((at, step));
                break;
            }
            self.release(step, out);
        }
    }

    fn release(&mut self, step: Step, out: &mut Vec<Effect>) {
        if self.halted.is_some() {
            return;
        }
        for message in step.messages {
            if message.to == self.host {
                self.step(message);
            } else {
                self.send(message, out);
            }
        }
        if let Some(ack) = step.ack {
            self.node.persisted(ack);
        }
        if let Some(meta) = step.install {
            self.publish(out);
            self.node.snapshot_available(meta.clone());
            let job = Job::Restore { meta };
            out.push(Effect::Apply {
                actor: Arc::clone(&self.actor),
                job,
            });
        }
        if let Some(meta) = step.record {
            self.snapshots.recorded(&meta);
            let last = meta.last;
            self.node.snapshot_available(meta);
            self.shared.tell(&GroupEvent::SnapshotTaken { last });
            out.push(Effect::Collect {
                group: self.group,
                newest: last,
            });
        }
    }
}
