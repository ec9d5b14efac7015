//! Linearizable reads: many share one round of the core, and each waits until the state machine
//! here has caught up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{LogIndex, LogReader, RawNode, ReadIndexError, ReadState};

use crate::config::Limits;
use crate::error::ReadError;
use crate::oneshot::Completer;

/// Rounds under way at the same time; further reads wait and share the next one.
const ROUNDS_MAX: usize = 4;

struct Waiting {
    deadline: u64,
    answer: Completer<LogIndex, ReadError>,
}

struct Round {
    asked: u64,
    reads: Vec<Waiting>,
}

/// The reads of one group that have no answer yet.
pub(crate) struct Reads {
    limits: Limits,
    /// A round without an answer for so many ticks is asked again: messages may be lost.
    retry_ticks: u64,
    queued: Vec<Waiting>,
    rounds: BTreeMap<u64, Round>,
    confirmed: BTreeMap<LogIndex, Vec<Waiting>>,
    len: usize,
    next_round: u64,
}

impl Reads {
    /// `seed` makes the marks of rounds differ from those of an earlier life.
    pub(crate) fn new(limits: Limits, retry_ticks: u64, seed: u64) -> Self {
        Self {
            limits,
            retry_ticks,
            queued: Vec::new(),
            rounds: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            len: 0,
            next_round: seed,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn ask(&mut self, answer: Completer<LogIndex, ReadError>, now: u64) {
        if self.len >= self.limits.reads_max {
            return answer.complete(Err(ReadError::Busy));
        }
        self.len += 1;
        let deadline = now.saturating_add(self.limits.read_ticks);
        self.queued.push(Waiting { deadline, answer });
    }

    /// Begins a round for all that are queued, unless a lease confirms them at `time`.
    pub(crate) fn flush(
        &mut self,
        node: &mut RawNode<Arc<dyn LogReader>>,
        now: u64,
        time: Option<Duration>,
    ) {
        if self.queued.is_empty() {
            return;
        }
        if let Some(Ok(index)) = time.map(|time| node.lease_read(time)) {
            let reads = self.queued.drain(..);
            return self.confirmed.entry(index).or_default().extend(reads);
        }
        if self.rounds.len() >= ROUNDS_MAX {
            return;
        }
        self.next_round = self.next_round.wrapping_add(1);
        let mark = self.next_round;
        match node.read_index(Bytes::copy_from_slice(&mark.to_le_bytes())) {
            Ok(()) => {
                let reads = std::mem::take(&mut self.queued);
                self.rounds.insert(mark, Round { asked: now, reads });
            }
            // Asked again with the next turn or tick, until the deadline.
            Err(ReadIndexError::NoLeader | ReadIndexError::Busy) => {}
            Err(error) => {
                let cause: Arc<str> = error.to_string().into();
                self.end(&ReadError::Halted { cause });
            }
        }
    }

    /// The core's answer to a round; one that is not known was asked again meanwhile.
    pub(crate) fn state(&mut self, state: &ReadState) {
        let Ok(mark) = <[u8; 8]>::try_from(state.context.as_ref()) else {
            return;
        };
        let Some(round) = self.rounds.remove(&u64::from_le_bytes(mark)) else {
            return;
        };
        self.confirmed
            .entry(state.index)
            .or_default()
            .extend(round.reads);
    }

    /// The core says that a round gets no answer: it is asked again with the next turn.
    pub(crate) fn dropped(&mut self, context: &[u8]) {
        let Ok(mark) = <[u8; 8]>::try_from(context) else {
            return;
        };
        if let Some(round) = self.rounds.remove(&u64::from_le_bytes(mark)) {
            self.queued.extend(round.reads);
        }
    }

    /// Answers the reads that `applied` is new enough for.
    pub(crate) fn applied(&mut self, applied: LogIndex) {
        while let Some(first) = self.confirmed.first_entry() {
            if *first.key() > applied {
                break;
            }
            for read in first.remove() {
                self.len -= 1;
                read.answer.complete(Ok(applied));
            }
        }
    }

    /// Another leader, or none: nobody answers for the rounds of the old one.
    pub(crate) fn leader_changed(&mut self) {
        for round in std::mem::take(&mut self.rounds).into_values() {
            self.queued.extend(round.reads);
        }
    }

    /// One tick: gives up what waited too long, asks again what may have been lost.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.len == 0 {
            return;
        }
        let lost: Vec<u64> = self
            .rounds
            .iter()
            .filter(|(_, round)| now.saturating_sub(round.asked) >= self.retry_ticks)
            .map(|(mark, _)| *mark)
            .collect();
        for mark in lost {
            if let Some(round) = self.rounds.remove(&mark) {
                self.queued.extend(round.reads);
            }
        }
        let mut given_up = expired(&mut self.queued, now);
        for round in self.rounds.values_mut() {
            given_up.extend(expired(&mut round.reads, now));
        }
        self.len -= given_up.len();
        for read in given_up {
            read.answer.complete(Err(ReadError::NoLeader));
        }
        let mut behind = Vec::new();
        for reads in self.confirmed.values_mut() {
            behind.extend(expired(reads, now));
        }
        self.confirmed.retain(|_, reads| !reads.is_empty());
        self.len -= behind.len();
        for read in behind {
            read.answer.complete(Err(ReadError::Behind));
        }
    }

    /// The group ends.
    pub(crate) fn end(&mut self, error: &ReadError) {
        let rounds = std::mem::take(&mut self.rounds)
            .into_values()
            .flat_map(|round| round.reads);
        let confirmed = std::mem::take(&mut self.confirmed).into_values().flatten();
        let queued = std::mem::take(&mut self.queued);
        for read in rounds.chain(confirmed).chain(queued) {
            read.answer.complete(Err(error.clone()));
        }
        self.len = 0;
    }
}

fn expired(reads: &mut Vec<Waiting>, now: u64) -> Vec<Waiting> {
    let (late, rest) = std::mem::take(reads)
        .into_iter()
        .partition(|read| read.deadline <= now);
    *reads = rest;
    late
}
