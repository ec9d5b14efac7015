//! Our own core.

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::{
    ConfState, Config, Entry, LogError, LogId, LogIndex, LogReader, Message, NodeId, RawNode,
    Restart, Role, Term,
};

use super::{Core, LOG_ENTRIES, MEMBERS};

/// What stands before the first entry, and the entries.
#[derive(Default)]
struct Kept {
    before: LogId,
    entries: VecDeque<Entry>,
}

impl Kept {
    fn last(&self) -> LogId {
        self.entries.back().map_or(self.before, |entry| entry.id)
    }

    fn place(&self, index: LogIndex) -> usize {
        index.since(self.before.index.next()) as usize
    }

    fn append(&mut self, entries: impl IntoIterator<Item = Entry>, first: LogIndex) {
        self.entries.truncate(self.place(first));
        self.entries.extend(entries);
    }

    fn compact(&mut self, applied: LogIndex) {
        if self.entries.len() > LOG_ENTRIES {
            let gone = self.entries.drain(..self.place(applied.next()));
            self.before = gone.last().map_or(self.before, |entry| entry.id);
        }
    }
}

/// A log in memory.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Kept>>);

impl LogReader for Log {
    fn first(&self) -> LogIndex {
        self.0.lock().before.index.next()
    }

    fn last(&self) -> LogId {
        self.0.lock().last()
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        let kept = self.0.lock();
        if index == kept.before.index {
            return Ok(kept.before.term);
        }
        let first = kept.before.index.next();
        if index < first {
            return Err(LogError::Compacted { first });
        }
        let entry = kept.entries.get(kept.place(index));
        entry.map(Entry::term).ok_or(LogError::Unavailable {
            last: kept.last().index,
        })
    }

    fn entries(
        &self,
        range: Range<LogIndex>,
        _max_bytes: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let kept = self.0.lock();
        let first = kept.before.index.next();
        if range.start < first {
            return Err(LogError::Compacted { first });
        }
        if range.end > kept.last().index.next() {
            let last = kept.last().index;
            return Err(LogError::Unavailable { last });
        }
        let places = kept.place(range.start)..kept.place(range.end);
        out.extend(kept.entries.range(places).cloned());
        Ok(())
    }

    fn read(&self, range: Range<LogIndex>, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let mut out = Vec::new();
        self.entries(range, max_bytes, &mut out)?;
        Ok(out)
    }
}

/// One of our cores; by `SYNC`, in synchronous mode.
pub struct OwnCore<const SYNC: bool> {
    node: RawNode<Log>,
    log: Log,
    applied: LogIndex,
}

/// A member of three that knows no leader.
///
/// # Errors
/// What the core says.
pub fn idle_core(id: u64, synchronous: bool, log: Log) -> Result<RawNode<Log>, String> {
    let config = Config {
        synchronous,
        ..Config::new(NodeId(id), id)
    };
    let conf_state = ConfState {
        voters: (1..=MEMBERS as u64).map(NodeId).collect(),
        ..ConfState::default()
    };
    let restart = Restart {
        conf_state,
        ..Restart::default()
    };
    RawNode::new(config, restart, log).map_err(|error| error.to_string())
}

impl<const SYNC: bool> OwnCore<SYNC> {
    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            black_box(&entry.data);
        }
        if let Some(last) = entries.last() {
            self.applied = last.index();
            self.log.0.lock().compact(self.applied);
        }
    }
}

impl<const SYNC: bool> Core for OwnCore<SYNC> {
    type Mail = Message;
    type Batch = Vec<Bytes>;

    fn new(id: u64) -> Result<Self, String> {
        let log = Log::default();
        Ok(Self {
            node: idle_core(id, SYNC, log.clone())?,
            log,
            applied: LogIndex::ZERO,
        })
    }

    fn batch(payloads: impl ExactSizeIterator<Item = Bytes>) -> Self::Batch {
        payloads.collect()
    }

    fn campaign(&mut self) -> Result<(), String> {
        self.node.campaign();
        Ok(())
    }

    fn propose(&mut self, batch: Self::Batch) -> Result<(), String> {
        let proposed = self.node.propose_batch(batch);
        proposed.map(drop).map_err(|error| error.to_string())
    }

    fn to(mail: &Message) -> u64 {
        mail.to.value()
    }

    fn take(&mut self, mail: Message) -> Result<(), String> {
        self.node.step(mail).map_err(|error| error.to_string())
    }

    fn work(&mut self, out: &mut Vec<Message>) -> Result<(), String> {
        while self.node.has_ready() {
            let ready = self.node.ready();
            out.extend(ready.messages);
            let mut ack = None;
            if let Some(persist) = ready.persist {
                if let Some(first) = persist.entries.first().map(Entry::index) {
                    self.log.0.lock().append(persist.entries, first);
                }
                for message in persist.messages {
                    if message.to == self.node.id() {
                        self.take(message)?;
                    } else {
                        out.push(message);
                    }
                }
                ack = persist.ack;
            }
            if let Some(ack) = ack {
                self.node.persisted(ack);
            }
            self.apply(&ready.committed);
            if SYNC {
                self.node.advance();
            } else if let Some(ack) = ready.apply_ack {
                self.node.applied(ack);
            }
        }
        Ok(())
    }

    fn applied(&self) -> u64 {
        self.applied.value()
    }

    fn leads(&self) -> bool {
        self.node.role() == Role::Leader
    }
}
