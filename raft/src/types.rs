//! The small numbers of Raft as types of their own, so that no two of them can be swapped.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero: "before everything" for terms and indexes, "nobody" for ids.
            pub const ZERO: Self = Self(0);

            /// The number itself.
            #[must_use]
            pub const fn value(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// One member of a group. Zero is never a member; an id is never used twice.
    NodeId
}
number! {
    /// One independent Raft group. Many share one log.
    GroupId
}
number! {
    /// A term (Raft paper, section 5.1). Zero: before any election.
    Term
}
number! {
    /// Names what a follower sent on to its leader, in the answer. Zero: nobody waits for one.
    ForwardMark
}
number! {
    /// A position in a group's log. The first entry has index 1; zero stands before it.
    LogIndex
}

impl LogIndex {
    /// The largest index; a log never grows beyond it.
    pub const MAX: Self = Self(u64::MAX);

    /// The index after this one; stays at [`LogIndex::MAX`] rather than wrap.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; stays at zero rather than wrap.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// This index moved up by `count` entries; saturates.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many indexes lie in `[earlier, self)`; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Term {
    /// The next term; stays at the maximum rather than wrap.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The identity of an entry: two logs with the same `LogId` agree on everything up to it
/// (Log Matching, Raft paper, section 5.3). Ordered as logs are compared in elections
/// (section 5.4.1): by term, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term in which the entry was proposed.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        index: LogIndex::ZERO,
    };

    /// The entry of `term` at `index`.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// What a member does in its term (Raft paper, section 5.1; PreCandidate: thesis, section 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes entries from a leader.
    #[default]
    Follower,
    /// Asks whether it could win, without raising its term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Proposes entries.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}
