//! Commands for what goes wrong, and for what etcd's own scripts have no words.

use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Entries, GroupState, HardState, LogIndex, LogReader as _, NodeId, RawNode, Restart,
    SnapshotStatus,
};

use super::commands::{id, number};
use super::{Cluster, Done, Logger};
use crate::datadriven::{Command, parse_bool};

impl Cluster {
    pub(super) fn run_fault(&mut self, command: &Command) -> Done {
        match command.cmd.as_str() {
            "restart" => self.restart(command),
            "report-snapshot" => {
                let peer = id(command, 1);
                let status = match command.args[2].key.as_str() {
                    "finished" => SnapshotStatus::Finished,
                    _ => SnapshotStatus::Failed,
                };
                self.on_node(command, |node| node.report_snapshot(peer, status))
            }
            "duplicate-msgs" => {
                let to = id(command, 0);
                let copies = self.messages.iter().filter(|wire| wire.to() == to);
                let copies: Vec<_> = copies.filter(|wire| !wire.is_local()).cloned().collect();
                self.messages.extend(copies);
                Ok(())
            }
            "reverse-msgs" => {
                let to = id(command, 0);
                let found: Vec<_> = self
                    .messages
                    .extract_if(.., |wire| wire.to() == to)
                    .collect();
                self.messages.extend(found.into_iter().rev());
                Ok(())
            }
            "propose-batch" => {
                let data = command.args[1..].iter();
                let batch: Entries = data.map(|arg| Bytes::from(arg.key.clone())).collect();
                let node = &mut self.member(id(command, 0))?.node;
                let proposed = node.propose_batch(batch);
                proposed.map(drop).map_err(|error| error.to_string())
            }
            "tick" => {
                let count = number(command.val("count").unwrap());
                self.on_node(command, |node| (0..count).for_each(|_| node.tick()))
            }
            "tell-time" => {
                let now = Duration::from_millis(number(&command.args[1].key));
                self.on_node(command, |node| node.tell_time(now))
            }
            "lease-read" => {
                let now = Duration::from_millis(number(&command.args[1].key));
                let node = &mut self.member(id(command, 0))?.node;
                let index = node.lease_read(now).map_err(|error| error.to_string())?;
                self.out.line(&format!("at {index}"));
                Ok(())
            }
            "fail-storage" => {
                let cause = command.args[1].key.clone();
                self.on_node(command, |node| node.storage_failed(cause))
            }
            "request-snapshot" => {
                let node = &mut self.member(id(command, 0))?.node;
                node.request_snapshot().map_err(|error| error.to_string())
            }
            "fates" => {
                let out = self.out.clone();
                for fate in std::mem::take(&mut self.member(id(command, 0))?.fates) {
                    out.line(&super::describe::fate(&fate));
                }
                Ok(())
            }
            "health" => self.health(id(command, 0)),
            _ => Err("unknown command".to_owned()),
        }
    }

    fn health(&mut self, id: NodeId) -> Done {
        let out = self.out.clone();
        let node = &self.member(id)?.node;
        let status = node.status();
        if let Some(halted) = node.halted() {
            out.line(&halted.to_string());
        }
        match status.loss {
            Some(loss) => out.line(&loss.to_string()),
            None => out.line("nothing is lost"),
        }
        let votes = if status.voteless { "never" } else { "yes" };
        out.line(&format!("votes: {votes}"));
        Ok(())
    }

    /// A crash and a new start from what was stored by then. `applied` is how much of that the
    /// state machine had made durable, if not all.
    fn restart(&mut self, command: &Command) -> Done {
        let id = id(command, 0);
        self.messages
            .retain(|wire| wire.to() != id || !wire.is_local());
        let out = self.out.clone();
        let member = self.member(id)?;
        member.append_work.clear();
        member.apply_work.clear();
        if let Some(count) = command.val("lose-tail") {
            let last = member.log.last().index;
            member.log.forget_behind(LogIndex(last.0 - number(count)));
        }
        let faulty = command.vals("faulty").iter();
        let faulty: Vec<_> = faulty.map(|index| LogIndex(number(index))).collect();
        member.log.spoil(faulty.iter().copied());
        if let Some(applied) = command.val("applied") {
            let applied = LogIndex(number(applied));
            member.history.retain(|state| state.last.index <= applied);
        }
        let newest = member.history.last().unwrap().clone();
        let mut state = GroupState {
            hard_state: member.stored,
            snapshot: Some(newest.clone()),
            meta: member.meta.clone().into_iter().collect(),
            ..GroupState::default()
        };
        state.health.faulty = faulty.iter().map(|index| *index..index.next()).collect();
        state.health.vote_unknown = command.val("vote-unknown").is_some_and(parse_bool);
        if state.health.vote_unknown {
            state.hard_state = HardState::default();
            member.stored = HardState::default();
        }
        let restart = Restart::recover(&state, &member.log, newest.last.index);
        let restart = restart.map_err(|error| error.to_string())?;
        let (config, log) = (member.config.clone(), member.log.clone());
        let logger = Logger { id, out };
        member.node = RawNode::with_observer(config, restart, log, logger)
            .map_err(|error| error.to_string())?;
        member.written = member.node.status().hard_state;
        Ok(())
    }
}

impl super::Member {
    /// What a write makes durable beside the log.
    pub(super) fn store_state(&mut self, persist: &raftwerk_raft::Persist) {
        self.stored = persist.hard_state.unwrap_or(self.stored);
        if let Some(snapshot) = &persist.snapshot {
            self.history.push(snapshot.clone());
            let commit = self.stored.commit.max(snapshot.last.index);
            self.stored = HardState {
                commit,
                ..self.stored
            };
        }
        for (name, value) in &persist.meta {
            match value {
                Some(value) => self.meta.insert(name.clone(), value.clone()),
                None => self.meta.remove(name),
            };
        }
    }
}
