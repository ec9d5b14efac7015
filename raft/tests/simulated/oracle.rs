//! What must hold in every cluster at every moment (Raft paper, figure 3), and what was seen so
//! far.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftwerk_raft::{ConfState, Entry, EntryKind, LogId, LogIndex, NodeId, Role, Term};

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

/// What shows of a member after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) commit: LogIndex,
    pub(crate) applied: LogIndex,
    pub(crate) first: LogIndex,
    pub(crate) last: LogId,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    entries: BTreeMap<(LogIndex, Term), Seen>,
    /// The term of each committed entry, and the term of who knew it first.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    states: BTreeMap<LogIndex, (LogId, u64)>,
    /// Each member as it was seen last, since it was started.
    views: BTreeMap<NodeId, View>,
}

impl Oracle {
    /// What everybody starts from.
    pub(crate) fn begins_at(&mut self, last: LogId) {
        self.committed.insert(last.index, (last.term, Term::ZERO));
        self.states.insert(last.index, (last, 0));
    }

    /// It was killed: the next one under this name begins with what its disk has.
    pub(crate) fn stops(&mut self, id: NodeId) {
        self.views.remove(&id);
    }

    /// What happened to `id`, whose log `term_at` reads: nothing goes back, a vote stays, and a
    /// leader only appends.
    pub(crate) fn moves(
        &mut self,
        id: NodeId,
        view: View,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) {
        let before = self.views.insert(id, view).unwrap_or_default();
        assert!(view.term >= before.term, "{id}: term went back");
        assert!(view.commit >= before.commit, "{id}: commit index went back");
        assert!(
            view.applied >= before.applied,
            "{id}: applied index went back"
        );
        assert!(
            view.applied <= view.commit,
            "{id}: applied what is not committed"
        );
        assert!(
            view.commit <= view.last.index,
            "{id}: commit index beyond the log"
        );
        if view.term == before.term {
            assert!(
                before.vote.is_none() || view.vote == before.vote,
                "{id}: changed its vote in term {}",
                view.term
            );
        }
        let (leads, led) = (view.role == Role::Leader, before.role == Role::Leader);
        if leads && led && view.term == before.term {
            let kept = before.last.index < view.first
                || term_at(before.last.index) == Some(before.last.term);
            assert!(
                view.last.index >= before.last.index && kept,
                "leader append-only: {id} overwrites {}",
                before.last
            );
        } else if leads {
            self.leads(id, view.term, view.first, term_at);
        }
    }

    /// Election safety: one leader a term. Leader completeness: it has all that was committed in
    /// earlier terms. `term_at` reads its log, from `first` on.
    fn leads(
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

    /// Who leads or led that term.
    pub(crate) fn leader(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
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

    /// Somebody's log has, or had, an entry there that says this.
    pub(crate) fn holds_data(&self, id: LogId, data: &Bytes) {
        let held = self.entries.get(&(id.index, id.term));
        assert_eq!(held.map(|(_, _, data)| data), Some(data), "{id} is not it");
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

    /// What becomes committed is on the disks of a majority of each half. `on_disk` says whose.
    pub(crate) fn is_durable(conf: &ConfState, commit: LogIndex, on_disk: impl Fn(NodeId) -> bool) {
        for half in [&conf.voters, &conf.voters_outgoing] {
            let count = half.iter().filter(|id| on_disk(**id)).count();
            assert!(
                half.is_empty() || count > half.len() / 2,
                "{commit} was committed, which {count} of {half:?} have on their disks"
            );
        }
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
            self.committed.contains_key(&index),
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
