//! Our own core.

use std::collections::VecDeque;
use std::hint::black_box;
use std::mem;
use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::{
    ConfState, Config, Entries, Entry, LogError, LogId, LogIndex, LogReader, Message, NodeId,
    RawNode, Ready, Restart, Role, Term,
};

use super::{Core, LOG_ENTRIES, MEMBERS};

/// What stands before the first entry, and the entries: kept as they are handed out.
#[derive(Clone, Default)]
struct Kept {
    before: LogId,
    runs: VecDeque<Entries>,
}

impl Kept {
    fn last(&self) -> LogId {
        let last = self.runs.back().and_then(|run| run.last());
        last.map_or(self.before, |entry| entry.id)
    }

    /// The entries from `index` on.
    fn since(&self, index: LogIndex) -> impl Iterator<Item = &Entry> {
        let ends_before = |run: &Entries| run.last().is_none_or(|last| last.index() < index);
        let place = self.runs.partition_point(ends_before);
        let first = self.runs.get(place).and_then(|run| run.first());
        let skipped = first.map_or(0, |first| index.since(first.index()));
        self.runs.range(place..).flatten().skip(skipped as usize)
    }

    fn append(&mut self, entries: Entries) {
        let Some(first) = entries.first().map(Entry::index) else {
            return;
        };
        while let Some(run) = self.runs.back_mut()
            && run.last().is_some_and(|last| last.index() >= first)
        {
            let kept = run.iter().take_while(|entry| entry.index() < first);
            match kept.count() {
                0 => drop(self.runs.pop_back()),
                kept => run.truncate(kept),
            }
        }
        self.runs.push_back(entries);
    }

    /// Forgets what is applied, and says up to where.
    fn compact(&mut self, applied: LogIndex) -> LogIndex {
        while let Some(last) = self.runs.front().and_then(|run| run.last())
            && last.index() <= applied
        {
            self.before = last.id;
            self.runs.pop_front();
        }
        self.before.index
    }
}

/// A log in memory: the core has it, and its driver writes to it there.
#[derive(Clone, Default)]
pub struct Log(Box<Kept>);

impl LogReader for Log {
    fn first(&self) -> LogIndex {
        self.0.before.index.next()
    }

    fn last(&self) -> LogId {
        self.0.last()
    }

    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        let kept = &self.0;
        if index == kept.before.index {
            return Ok(kept.before.term);
        }
        let first = kept.before.index.next();
        if index < first {
            return Err(LogError::Compacted { first });
        }
        let entry = kept.since(index).next();
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
        let kept = &self.0;
        let first = kept.before.index.next();
        if range.start < first {
            return Err(LogError::Compacted { first });
        }
        if range.end > kept.last().index.next() {
            let last = kept.last().index;
            return Err(LogError::Unavailable { last });
        }
        let count = range.end.since(range.start) as usize;
        out.extend(kept.since(range.start).take(count).cloned());
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
    applied: LogIndex,
    compacted: LogIndex,
    /// Filled again and again.
    ready: Ready,
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
    fn turn(&mut self, out: &mut Vec<Message>) -> Result<(), String> {
        self.node.ready_into(&mut self.ready);
        send(&mut self.ready.messages, out);
        self.write(out)?;
        self.apply();
        if SYNC {
            self.node.advance();
        } else if let Some(ack) = self.ready.apply_ack.take() {
            self.node.applied(ack);
        }
        Ok(())
    }

    #[inline]
    fn write(&mut self, out: &mut Vec<Message>) -> Result<(), String> {
        let Some(persist) = &mut self.ready.persist else {
            return Ok(());
        };
        if !persist.entries.is_empty() {
            let entries = mem::take(&mut persist.entries);
            self.node.log_mut().0.append(entries);
        }
        let own = self.node.id();
        if persist.messages.iter().all(|message| message.to != own) {
            send(&mut persist.messages, out);
        } else {
            for message in persist.messages.drain(..) {
                if message.to == own {
                    step(&mut self.node, message)?;
                } else {
                    out.push(message);
                }
            }
        }
        if let Some(ack) = persist.ack.take() {
            self.node.persisted(ack);
        }
        Ok(())
    }

    #[inline]
    fn apply(&mut self) {
        let entries = &self.ready.committed;
        for entry in entries {
            black_box(&entry.data);
        }
        if let Some(last) = entries.last() {
            self.applied = last.index();
        }
        if self.applied.since(self.compacted) > LOG_ENTRIES as u64 {
            self.compacted = self.node.log_mut().0.compact(self.applied);
        }
    }
}

#[inline]
fn send(messages: &mut Vec<Message>, out: &mut Vec<Message>) {
    if !messages.is_empty() {
        out.append(messages);
    }
}

fn step(node: &mut RawNode<Log>, message: Message) -> Result<(), String> {
    node.step(message).map_err(|error| error.to_string())
}

impl<const SYNC: bool> Core for OwnCore<SYNC> {
    type Mail = Message;
    type Batch = Entries;

    fn new(id: u64) -> Result<Self, String> {
        Ok(Self {
            node: idle_core(id, SYNC, Log::default())?,
            applied: LogIndex::ZERO,
            compacted: LogIndex::ZERO,
            ready: Ready::default(),
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
        step(&mut self.node, mail)
    }

    #[inline]
    fn work(&mut self, out: &mut Vec<Message>) -> Result<(), String> {
        while self.node.has_ready() {
            self.turn(out)?;
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
