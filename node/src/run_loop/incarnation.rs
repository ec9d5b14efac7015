//! Binding this host's id to the store that its log is in, so that a wiped disk which comes back
//! under the old id is told by the member table itself.

use raftwerk_raft::ConfChange;

use crate::group::MembershipChange;
use crate::member::{Incarnation, Member};

/// What is to be done about this host's record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It names this store, or there is nobody to tell, or nothing to say.
    Settled,
    /// It names no store: this change binds it.
    Propose(ConfChange),
    /// It names another store.
    Replaced,
}

/// This host's store, and when the table was last told of it.
#[derive(Debug)]
pub(crate) struct OwnStore {
    incarnation: Incarnation,
    /// Ticks between tries: only one change of members is under way at once.
    every_ticks: u64,
    retry_at: u64,
}

impl OwnStore {
    pub(crate) const fn new(incarnation: Incarnation, every_ticks: u64) -> Self {
        Self {
            incarnation,
            every_ticks,
            retry_at: 0,
        }
    }

    /// `record` is what the table in force says of this host.
    pub(crate) fn check(&mut self, record: Option<&Member>, led: bool, now: u64) -> Binding {
        let Some(record) = record.filter(|_| !self.incarnation.is_unbound()) else {
            return Binding::Settled;
        };
        if record.incarnation == self.incarnation {
            return Binding::Settled;
        }
        if !record.incarnation.is_unbound() {
            return Binding::Replaced;
        }
        if !led || now < self.retry_at {
            return Binding::Settled;
        }
        self.retry_at = now.saturating_add(self.every_ticks);
        let bound = Member {
            incarnation: self.incarnation,
            ..record.clone()
        };
        Binding::Propose(MembershipChange::new().update(bound).into_conf_change())
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::NodeId;

    use super::*;

    #[test]
    fn unbound_record_is_bound_once_in_a_while_and_only_with_a_leader() {
        let mut own = OwnStore::new(Incarnation(7), 10);
        let unbound = Member::new(NodeId(1));
        let bound = |incarnation| Member {
            incarnation: Incarnation(incarnation),
            ..unbound.clone()
        };
        assert_eq!(own.check(None, true, 1), Binding::Settled);
        assert_eq!(own.check(Some(&unbound), false, 1), Binding::Settled);
        let change = MembershipChange::new().update(bound(7)).into_conf_change();
        let propose = Binding::Propose(change);
        assert_eq!(own.check(Some(&unbound), true, 1), propose);
        assert_eq!(own.check(Some(&unbound), true, 10), Binding::Settled);
        assert_eq!(own.check(Some(&unbound), true, 11), propose);
        assert_eq!(own.check(Some(&bound(7)), true, 99), Binding::Settled);
        assert_eq!(own.check(Some(&bound(8)), true, 99), Binding::Replaced);
    }
}
