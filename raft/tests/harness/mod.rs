//! A cluster in one thread, driven by a script's commands.

mod commands;
mod describe;
mod faults;
mod output;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    ConfState, Config, Entries, Entry, EntryKind, Fate, HardState, LogIndex, NodeId, Persist,
    RawNode, Ready, SnapshotMeta, StepError,
};

use crate::support::MemLog;
use describe::Wire;
use output::{Level, Logger, Output};

type Done = Result<(), String>;

/// One member with its store and its two storage threads.
struct Member {
    id: NodeId,
    node: RawNode<MemLog, Logger>,
    log: MemLog,
    is_async: bool,
    /// The last term and vote that a `Ready` asked to write.
    written: HardState,
    config: Config,
    /// What is durable beside the log: hard state and named values.
    stored: HardState,
    meta: BTreeMap<Bytes, Bytes>,
    append_work: VecDeque<(Persist, Vec<Wire>)>,
    apply_work: VecDeque<(Entries, Vec<Wire>)>,
    /// What became of what it was asked.
    fates: Vec<Fate>,
    /// The state machine: a snapshot after each entry.
    history: Vec<SnapshotMeta>,
}

/// The members of a script, and the messages between them.
#[derive(Default)]
pub(crate) struct Cluster {
    members: Vec<Member>,
    messages: Vec<Wire>,
    out: Output,
}

impl Cluster {
    fn member(&mut self, id: NodeId) -> Result<&mut Member, String> {
        let at = usize::try_from(id.0).unwrap().wrapping_sub(1);
        self.members
            .get_mut(at)
            .ok_or_else(|| format!("no member {id}"))
    }

    /// Runs `f` and indents what it prints.
    fn indented(&mut self, f: impl FnOnce(&mut Self) -> Done) -> Done {
        let before = self.out.take();
        let done = f(self);
        let inside = self.out.take();
        self.out.put_back(before);
        for line in inside.lines() {
            self.out.line(&format!("  {line}"));
        }
        done
    }

    fn process_ready(&mut self, id: NodeId) -> Done {
        let out = self.out.clone();
        let member = self.member(id)?;
        let ready = member.node.ready();
        out.print(&member.describe(&ready));
        let Ready {
            persist,
            messages,
            committed,
            apply_ack,
            fates,
            ..
        } = ready;
        member.fates.extend(fates);
        let mut sent: Vec<Wire> = messages.into_iter().map(Wire::Peer).collect();
        if member.is_async {
            if let Some(persist) = persist {
                let responses = persist_responses(id, &persist);
                member.append_work.push_back((persist, responses));
            }
            if let Some(ack) = apply_ack {
                let done = Wire::Applied {
                    to: id,
                    ack,
                    entries: committed.to_vec(),
                };
                member.apply_work.push_back((committed, vec![done]));
            }
            self.messages.extend(sent);
            return Ok(());
        }
        if let Some(persist) = persist {
            member.store(&persist)?;
            sent.extend(persist.messages.into_iter().map(Wire::Peer));
        }
        member.apply(&committed);
        self.messages.extend(sent);
        self.member(id)?.node.advance();
        Ok(())
    }

    fn process_append(&mut self, id: NodeId) -> Done {
        let out = self.out.clone();
        let member = self.member(id)?;
        let Some((persist, responses)) = member.append_work.pop_front() else {
            out.print("no append work to perform");
            return Ok(());
        };
        out.line("Processing:");
        out.line(&describe::storage_append(id, &persist, &[]));
        member.store(&persist)?;
        out.line("Responses:");
        self.respond(responses);
        Ok(())
    }

    fn process_apply(&mut self, id: NodeId) -> Done {
        let out = self.out.clone();
        let member = self.member(id)?;
        let Some((entries, responses)) = member.apply_work.pop_front() else {
            out.print("no apply work to perform");
            return Ok(());
        };
        out.line("Processing:");
        out.line(&describe::storage_apply(id, &entries, &[]));
        member.apply(&entries);
        out.line("Responses:");
        self.respond(responses);
        Ok(())
    }

    fn respond(&mut self, responses: Vec<Wire>) {
        for response in &responses {
            self.out.line(&response.describe());
        }
        self.messages.extend(responses);
    }

    fn has_messages(&self, id: NodeId) -> bool {
        self.messages.iter().any(|message| message.to() == id)
    }

    /// Delivers or drops the messages to `id`, of one kind or all; says how many there were.
    fn deliver(&mut self, id: NodeId, kind: Option<&str>, drop: bool) -> usize {
        let wanted = |wire: &mut Wire| {
            wire.to() == id
                && kind.is_none_or(|kind| wire.kind() == kind)
                && !(drop && wire.is_local())
        };
        let found: Vec<Wire> = self.messages.extract_if(.., wanted).collect();
        let count = found.len();
        for wire in found {
            if drop {
                self.out.line(&format!("dropped: {}", wire.describe()));
                continue;
            }
            self.out.line(&wire.describe());
            let out = self.out.clone();
            let Ok(member) = self.member(id) else {
                continue;
            };
            match wire {
                Wire::Peer(mut message) => {
                    message.from = describe::sender(&message);
                    if let Err(error) = member.node.step(message) {
                        out.line(&step_error(&error));
                    }
                }
                Wire::Persisted { ack, .. } => member.node.persisted(ack),
                Wire::Applied { ack, .. } => member.node.applied(ack),
            }
        }
        count
    }

    fn stabilize(&mut self, ids: &[NodeId]) -> Done {
        loop {
            let mut busy = false;
            for &id in ids {
                if self.member(id)?.node.has_ready() {
                    busy = true;
                    self.out.line(&format!("> {id} handling Ready"));
                    self.indented(|cluster| cluster.process_ready(id))?;
                }
            }
            for &id in ids {
                if self.has_messages(id) {
                    busy = true;
                    self.out.line(&format!("> {id} receiving messages"));
                    self.indented(|cluster| {
                        cluster.deliver(id, None, false);
                        Ok(())
                    })?;
                }
            }
            for &id in ids {
                if !self.member(id)?.append_work.is_empty() {
                    busy = true;
                    self.out.line(&format!("> {id} processing append thread"));
                }
                while !self.member(id)?.append_work.is_empty() {
                    self.indented(|cluster| cluster.process_append(id))?;
                }
            }
            for &id in ids {
                if !self.member(id)?.apply_work.is_empty() {
                    busy = true;
                    self.out.line(&format!("> {id} processing apply thread"));
                }
                while !self.member(id)?.apply_work.is_empty() {
                    self.indented(|cluster| cluster.process_apply(id))?;
                }
            }
            if !busy {
                return Ok(());
            }
        }
    }
}

fn step_error(error: &StepError) -> String {
    match error {
        StepError::PeerNotFound { .. } => "raft: cannot step as peer not found".to_owned(),
        StepError::Propose(_) => "raft proposal dropped".to_owned(),
        other => other.to_string(),
    }
}

fn persist_responses(id: NodeId, persist: &Persist) -> Vec<Wire> {
    let messages = persist.messages.iter().cloned().map(Wire::Peer);
    let snapshot = persist.snapshot.clone();
    let done = persist.ack.map(|ack| Wire::Persisted {
        to: id,
        ack,
        snapshot,
    });
    messages.chain(done).collect()
}

impl Member {
    /// The store's part of a step.
    fn store(&mut self, persist: &Persist) -> Done {
        if let Some(snapshot) = &persist.snapshot {
            if !persist.entries.is_empty() {
                return Err("can't apply snapshot and entries at the same time".to_owned());
            }
            self.log.reset_to(snapshot.last);
        }
        self.log.append(&persist.entries);
        self.store_state(persist);
        Ok(())
    }

    /// The state machine's part.
    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            let conf_state = if entry.kind == EntryKind::Normal {
                self.history.last().unwrap().conf_state.clone()
            } else {
                let change = decode_conf_change(entry.data.clone()).unwrap();
                match self.node.apply_conf_change(&change) {
                    Ok(conf_state) => conf_state,
                    Err(error) => panic!("{error}"),
                }
            };
            let meta = SnapshotMeta {
                last: entry.id,
                conf_state,
                ..SnapshotMeta::default()
            };
            self.history.push(meta.clone());
            self.node.snapshot_available(meta);
        }
    }

    fn describe(&mut self, ready: &Ready) -> String {
        let none = Persist::default();
        let persist = ready.persist.as_ref().unwrap_or(&none);
        let mut text = String::new();
        let mut line = |line: &str| {
            text += line;
            text += "\n";
        };
        if let Some(soft) = ready.soft_state {
            let leader = soft.leader.unwrap_or_default();
            line(&format!(
                "Lead:{leader} State:{}",
                output::role_name(soft.role)
            ));
        }
        let state = persist.hard_state.unwrap_or(self.written);
        if persist.hard_state.is_some() && state != HardState::default() {
            line(&format!("HardState {}", describe::hard_state(&state)));
        }
        if !ready.read_states.is_empty() {
            line(&describe::read_states(&ready.read_states));
        }
        if !persist.entries.is_empty() {
            line("Entries:");
            persist
                .entries
                .iter()
                .for_each(|entry| line(&describe::entry(entry)));
        }
        if let Some(meta) = &persist.snapshot {
            line(&format!("Snapshot {}", describe::snapshot(meta)));
        }
        if !ready.committed.is_empty() {
            line("CommittedEntries:");
            ready
                .committed
                .iter()
                .for_each(|entry| line(&describe::entry(entry)));
        }
        let messages = self.describe_messages(ready, persist);
        if !messages.is_empty() {
            line("Messages:");
            messages.iter().for_each(|message| line(message));
        }
        // A snapshot alone asks for no sync in etcd's words.
        let sync = !persist.entries.is_empty()
            || (state.term, state.vote) != (self.written.term, self.written.vote);
        self.written = state;
        if text.is_empty() {
            return "<empty Ready>".to_owned();
        }
        format!("Ready MustSync={sync}:\n{text}")
    }

    /// What leaves, and what goes to the storage threads.
    fn describe_messages(&self, ready: &Ready, persist: &Persist) -> Vec<String> {
        let mut messages: Vec<String> = ready
            .messages
            .iter()
            .cloned()
            .map(|message| Wire::Peer(message).describe())
            .collect();
        if !self.is_async {
            let after = persist.messages.iter().cloned();
            messages.extend(after.map(|message| Wire::Peer(message).describe()));
        } else if ready.persist.is_some() {
            let responses = persist_responses(self.id, persist);
            messages.push(describe::storage_append(self.id, persist, &responses));
        }
        if let Some(ack) = ready.apply_ack {
            let entries = ready.committed.clone();
            let done = [Wire::Applied {
                to: self.id,
                ack,
                entries: entries.to_vec(),
            }];
            messages.push(describe::storage_apply(self.id, &ready.committed, &done));
        }
        messages
    }

    fn first_and_last(&self) -> (LogIndex, LogIndex) {
        use raftwerk_raft::LogReader as _;
        (self.log.first(), self.log.last().index)
    }

    fn is_voter(&self, state: &ConfState) -> bool {
        state.voters.contains(&self.id) || state.voters_outgoing.contains(&self.id)
    }
}
