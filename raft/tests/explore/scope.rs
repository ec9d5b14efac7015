//! What an exploration covers: where it begins and how much may happen.

use super::member::Driver;

/// The state of a disk to begin with: the terms of its entries, its term and its vote.
pub(crate) type Disk = (&'static [u64], u64, u8);

/// Three members, where they begin, and how often each thing may happen on one path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) driver: Driver,
    pub(crate) disks: [Disk; 3],
    /// Who led before: terms and members.
    pub(crate) leaders: &'static [(u8, u8)],
    /// Before the exploration the first of these is elected by all of them.
    pub(crate) electorate: &'static [u8],
    /// When that is done everything that is under way among them arrives.
    pub(crate) settles: bool,
    /// A write takes until it is done; otherwise it is done at once.
    pub(crate) slow_disks: bool,
    pub(crate) pre_vote: bool,
    /// Nobody campaigns for a later term.
    pub(crate) term_max: u8,
    /// Whom a leader may be told to remove.
    pub(crate) removable: &'static [u8],
    pub(crate) budget: Budget,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) timeouts: u8,
    pub(crate) proposals: u8,
    pub(crate) removals: u8,
    pub(crate) beats: u8,
    pub(crate) crashes: u8,
    /// Messages that are lost and of whose loss the sender is told. Not told, a lost message is
    /// one that stays under way: that is always explored.
    pub(crate) drops: u8,
    pub(crate) duplicates: u8,
}

const EMPTY: [Disk; 3] = [(&[], 0, 0); 3];

/// Everybody at the very beginning: two terms.
pub(crate) const ELECTIONS: Scope = Scope {
    name: "elections",
    driver: Driver::Sound,
    disks: EMPTY,
    leaders: &[],
    electorate: &[],
    settles: false,
    slow_disks: true,
    pre_vote: false,
    term_max: 2,
    removable: &[],
    budget: Budget {
        timeouts: 3,
        proposals: 1,
        removals: 0,
        beats: 0,
        crashes: 1,
        drops: 0,
        duplicates: 1,
    },
};

/// The same, asking before.
pub(crate) const PRE_VOTES: Scope = Scope {
    name: "pre-votes",
    pre_vote: true,
    ..ELECTIONS
};

/// A leader with two entries to bring to the others, and one who wants to succeed it.
pub(crate) const REPLICATION: Scope = Scope {
    name: "replication",
    electorate: &[1, 2, 3],
    settles: true,
    budget: Budget {
        timeouts: 1,
        proposals: 2,
        removals: 0,
        beats: 1,
        crashes: 1,
        drops: 1,
        duplicates: 1,
    },
    ..ELECTIONS
};

/// The same leader undisturbed: how two entries in a row, one of them twice, come to be committed.
pub(crate) const PIPELINE: Scope = Scope {
    name: "pipeline",
    budget: Budget {
        timeouts: 0,
        proposals: 2,
        removals: 0,
        beats: 1,
        crashes: 0,
        drops: 0,
        duplicates: 1,
    },
    ..REPLICATION
};

/// Raft paper, figure 8: member 1 led term 1, member 2 term 2, each kept its entry for itself, and
/// now member 1 is elected by member 3 into term 3.
pub(crate) const OLD_ENTRIES: Scope = Scope {
    name: "old entries",
    disks: [(&[1], 2, 0), (&[2], 2, 2), (&[], 2, 2)],
    leaders: &[(1, 1), (2, 2)],
    electorate: &[1, 3],
    settles: false,
    slow_disks: false,
    term_max: 4,
    budget: Budget {
        timeouts: 2,
        proposals: 1,
        removals: 0,
        beats: 0,
        crashes: 1,
        drops: 0,
        duplicates: 0,
    },
    ..ELECTIONS
};

/// A leader that is told to remove the two others, and goes on alone.
pub(crate) const MEMBERSHIP: Scope = Scope {
    name: "membership",
    electorate: &[1, 2, 3],
    settles: true,
    slow_disks: false,
    removable: &[1, 2, 3],
    budget: Budget {
        timeouts: 1,
        proposals: 1,
        removals: 2,
        beats: 1,
        crashes: 1,
        drops: 0,
        duplicates: 0,
    },
    ..ELECTIONS
};

/// The same without mishap: two removals and a succession.
pub(crate) const REMOVALS: Scope = Scope {
    name: "removals",
    removable: &[2, 3],
    budget: Budget {
        timeouts: 1,
        proposals: 1,
        removals: 2,
        beats: 0,
        crashes: 0,
        drops: 0,
        duplicates: 0,
    },
    ..MEMBERSHIP
};
