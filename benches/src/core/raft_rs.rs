//! The core of TiKV. The benches build it with the codec whose entries share their payload,
//! `rust-protobuf`; `raft-rs-prost` beside them with the other one, with which it is slower.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::storage::{GetEntriesContext, RaftState, Storage};
use raft::{Config, Error, RawNode, StateRole, StorageError};

use super::{Core, LOG_ENTRIES, MEMBERS};

/// A log in memory that takes entries over as they are handed out, as ours does.
#[derive(Default)]
struct Log {
    hard_state: HardState,
    before: (u64, u64),
    entries: VecDeque<Entry>,
}

impl Log {
    fn place(&self, index: u64) -> usize {
        index.saturating_sub(self.before.1 + 1) as usize
    }

    fn append(&mut self, entries: Vec<Entry>) {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.place(first.index));
            self.entries.extend(entries);
        }
    }

    fn compact(&mut self, applied: u64) {
        if self.entries.len() > LOG_ENTRIES {
            let gone = self.entries.drain(..self.place(applied + 1));
            let last = gone.last().map(|entry| (entry.term, entry.index));
            self.before = last.unwrap_or(self.before);
        }
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let voters: Vec<u64> = (1..=MEMBERS as u64).collect();
        let conf_state = ConfState::from((voters, vec![]));
        Ok(RaftState::new(self.hard_state.clone(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        _max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.1 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let places = self.place(low)..self.place(high);
        Ok(self.entries.range(places).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.1 {
            return Ok(self.before.0);
        }
        if index < self.before.1 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get(self.place(index));
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.1 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.before.1 + self.entries.len() as u64)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// A core of `raft` 0.7.
pub struct RaftRs {
    node: RawNode<Log>,
    applied: u64,
}

impl RaftRs {
    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            black_box(&entry.data);
        }
        if let Some(last) = entries.last() {
            self.applied = last.index;
            let applied = self.applied;
            self.node.mut_store().compact(applied);
        }
    }
}

fn words(error: raft::Error) -> String {
    error.to_string()
}

impl Core for RaftRs {
    type Mail = Message;
    /// The fastest way in: one message with the whole batch.
    type Batch = Message;

    fn new(id: u64) -> Result<Self, String> {
        let config = Config {
            max_size_per_msg: 1024 * 1024,
            check_quorum: true,
            pre_vote: true,
            ..Config::new(id)
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        Ok(Self {
            node: RawNode::new(&config, Log::default(), &logger).map_err(words)?,
            applied: 0,
        })
    }

    #[allow(
        clippy::useless_conversion,
        reason = "one codec's payloads are `Bytes`, the other's are not"
    )]
    fn batch(payloads: impl ExactSizeIterator<Item = Bytes>) -> Message {
        let entries: Vec<Entry> = payloads
            .map(|payload| Entry {
                data: payload.into(),
                ..Entry::default()
            })
            .collect();
        let mut message = Message {
            entries: entries.into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        message
    }

    fn campaign(&mut self) -> Result<(), String> {
        self.node.campaign().map_err(words)
    }

    fn propose(&mut self, mut batch: Message) -> Result<(), String> {
        batch.from = self.node.raft.id;
        self.node.step(batch).map_err(words)
    }

    fn to(mail: &Message) -> u64 {
        mail.to
    }

    fn take(&mut self, mail: Message) -> Result<(), String> {
        self.node.step(mail).map_err(words)
    }

    fn work(&mut self, out: &mut Vec<Message>) -> Result<(), String> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            out.extend(ready.take_messages());
            self.apply(&ready.take_committed_entries());
            let entries = ready.take_entries();
            let store = self.node.mut_store();
            store.append(entries);
            if let Some(hard_state) = ready.hs() {
                store.hard_state = hard_state.clone();
            }
            out.extend(ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.node.mut_store().hard_state.commit = commit;
            }
            out.extend(light.take_messages());
            self.apply(&light.take_committed_entries());
            self.node.advance_apply();
        }
        Ok(())
    }

    fn applied(&self) -> u64 {
        self.applied
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }
}
