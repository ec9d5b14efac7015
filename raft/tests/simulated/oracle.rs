//! What must hold in every cluster at every moment (Raft paper, figure 3), and what was seen so
//! far.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftwerk_raft::{ConfState, Entry, EntryKind, LogId, LogIndex, NodeId, Term};

/// The state after an entry: every replica has the same at the same index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) applied: LogId,
    pub(crate) hash: u64,
    pub(crate) conf: ConfState,
}

impl Machine {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        let mut hash = self.hash ^ entry.id.term.0.rotate_left(32) ^ entry.id.index.0;
        for byte in &entry.data {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.applied = entry.id;
        self.hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    }
}

/// An entry as it was first seen, with the term of the one before it.
type Seen = (Term, EntryKind, Bytes);

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    entries: BTreeMap<(LogIndex, Term), Seen>,
    /// The term of each committed entry, and the term of who knew it first.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    states: BTreeMap<LogIndex, (LogId, u64)>,
}

impl Oracle {
    /// What everybody starts from.
    pub(crate) fn begins_at(&mut self, last: LogId) {
        self.committed.insert(last.index, (last.term, Term::ZERO));
        self.states.insert(last.index, (last, 0));
    }

    /// Election safety: one leader a term. Leader completeness: it has all that was committed in
    /// earlier terms. `term_at` reads its log, from `first` on.
    pub(crate) fn leads(
        &mut self,
        id: NodeId,
        term: Term,
        first: LogIndex,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) {
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "election safety: two leaders in term {term}");
        for (index, (entry_term, known_in)) in self.committed.range(first..) {
            if *known_in < term {
                let has = term_at(*index);
                assert_eq!(
                    has,
                    Some(*entry_term),
                    "leader completeness: {id} leads term {term} without entry {index}"
                );
            }
        }
    }

    /// A member votes once a term, also across restarts.
    pub(crate) fn votes(&mut self, id: NodeId, term: Term, candidate: NodeId) {
        let vote = *self.votes.entry((id, term)).or_insert(candidate);
        assert_eq!(vote, candidate, "{id} voted twice in term {term}");
    }

    /// Log matching: the same index and term is the same entry, with the same one before it.
    pub(crate) fn holds(&mut self, entry: &Entry, before: Term) {
        let is = (before, entry.kind, entry.data.clone());
        let seen = self
            .entries
            .entry((entry.index(), entry.term()))
            .or_insert_with(|| is.clone());
        assert_eq!(*seen, is, "log matching: entry {} differs", entry.id);
    }

    /// What is committed stays. True when this is news.
    pub(crate) fn commits(&mut self, index: LogIndex, entry: Term, known_in: Term) -> bool {
        let news = !self.committed.contains_key(&index);
        let (term, _) = *self.committed.entry(index).or_insert((entry, known_in));
        assert_eq!(
            term, entry,
            "leader completeness: committed entry {index} was replaced"
        );
        news
    }

    pub(crate) fn is_committed(&self, index: LogIndex) -> bool {
        self.committed.contains_key(&index)
    }

    pub(crate) fn last_committed(&self) -> LogIndex {
        self.committed
            .last_key_value()
            .map_or(LogIndex::ZERO, |(index, _)| *index)
    }

    /// State machine safety: everybody has the same state at the same index.
    pub(crate) fn applies(&mut self, machine: &Machine) {
        let is = (machine.applied, machine.hash);
        let index = machine.applied.index;
        assert!(
            self.is_committed(index),
            "entry {index} was applied before it was committed"
        );
        let state = *self.states.entry(index).or_insert(is);
        assert_eq!(state, is, "state machine safety: states differ at {index}");
    }

    /// The state that a snapshot of `last` brings.
    pub(crate) fn state_at(&self, last: LogId) -> u64 {
        let Some((id, hash)) = self.states.get(&last.index) else {
            panic!("snapshot of {last}, which nobody has applied")
        };
        assert_eq!(*id, last, "snapshot of an entry that was not committed");
        *hash
    }
}
