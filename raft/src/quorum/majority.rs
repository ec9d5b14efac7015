//! A quorum of more than half.

use std::collections::BTreeSet;
use std::fmt;

use super::VoteResult;
use crate::types::{LogIndex, NodeId};

/// Up to this many voters are counted without an allocation.
const VOTERS_ON_STACK: usize = 7;

/// Voters, of whom more than half make a quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig(pub BTreeSet<NodeId>);

impl MajorityConfig {
    /// How many voters make a quorum.
    #[must_use]
    #[inline]
    pub fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// The highest index that a quorum holds, given what each voter has acknowledged. Without
    /// voters there is nobody to wait for: [`LogIndex::MAX`], so that the other half of a joint
    /// configuration decides.
    #[must_use]
    #[inline]
    pub fn committed_index(&self, acked: impl Fn(NodeId) -> Option<LogIndex>) -> LogIndex {
        held_by_quorum(self.0.len(), self.0.iter().map(|voter| acked(*voter)))
    }

    /// How the election stands. Without voters it is won, so that the other half of a joint
    /// configuration decides.
    #[must_use]
    pub fn vote_result(&self, votes: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.0.is_empty() {
            return VoteResult::Won;
        }
        let (mut granted, mut missing) = (0, 0);
        for voter in &self.0 {
            match votes(*voter) {
                Some(true) => granted += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if granted >= self.quorum() {
            VoteResult::Won
        } else if granted + missing >= self.quorum() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

/// The highest index that more than half of `voters` hold, by what each of them has acknowledged;
/// [`LogIndex::MAX`] without voters.
#[inline]
pub(crate) fn held_by_quorum(
    voters: usize,
    acked: impl Iterator<Item = Option<LogIndex>>,
) -> LogIndex {
    if voters == 0 {
        return LogIndex::MAX;
    }
    let mut acked = acked.map(Option::unwrap_or_default);
    if voters == 3 {
        // As mostly: the one in the middle.
        let [a, b, c] = std::array::from_fn(|_| acked.next().unwrap_or_default());
        return a.min(b).max(a.max(b).min(c));
    }
    let mut stack = [LogIndex::ZERO; VOTERS_ON_STACK];
    let mut heap;
    let held = match stack.get_mut(..voters) {
        Some(held) => held,
        None => {
            heap = vec![LogIndex::ZERO; voters];
            heap.as_mut_slice()
        }
    };
    for (slot, acked) in held.iter_mut().zip(acked) {
        *slot = acked;
    }
    held.sort_unstable();
    // A quorum stands at this place and behind it: half of them, less one if they are even.
    let committed = held.get((voters - 1) / 2);
    committed.copied().unwrap_or_default()
}

impl FromIterator<NodeId> for MajorityConfig {
    fn from_iter<I: IntoIterator<Item = NodeId>>(voters: I) -> Self {
        Self(voters.into_iter().collect())
    }
}

impl fmt::Display for MajorityConfig {
    /// The ids, ascending and in hex: `(1 2 a)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (place, voter) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{:x}", voter.value())?;
        }
        f.write_str(")")
    }
}
