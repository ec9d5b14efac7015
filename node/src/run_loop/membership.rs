//! Who is a member, now and at the indexes that the state machine has not passed yet: a snapshot of
//! an older state needs the configuration of its time.

use std::collections::VecDeque;

use raftwerk_raft::{ConfChange, ConfState, LogId, LogIndex, NodeId, SnapshotMeta};

use crate::member::MemberTable;

/// The configuration and the member table from an index on.
pub(crate) struct Conf {
    since: LogIndex,
    pub(crate) conf_state: ConfState,
    pub(crate) members: MemberTable,
}

/// The configurations of one group, from what the state machine has applied to the one in force.
pub(crate) struct Membership {
    /// In force at what the state machine has applied.
    applied: Conf,
    /// Those that follow, in order.
    later: VecDeque<Conf>,
}

impl Membership {
    pub(crate) const fn new(since: LogIndex, conf_state: ConfState, members: MemberTable) -> Self {
        let applied = Conf {
            since,
            conf_state,
            members,
        };
        Self {
            applied,
            later: VecDeque::new(),
        }
    }

    /// The one in force.
    pub(crate) fn current(&self) -> &Conf {
        self.later.back().unwrap_or(&self.applied)
    }

    /// The change at `index` has led to `conf_state`.
    pub(crate) fn change(&mut self, index: LogIndex, change: &ConfChange, conf_state: ConfState) {
        let mut members = self.current().members.clone();
        // What cannot be read here cannot be read by anybody: no record changes.
        let changed = MemberTable::decode(&change.context).unwrap_or_default();
        members.update(&changed, &conf_state);
        self.later.push_back(Conf {
            since: index,
            conf_state,
            members,
        });
    }

    /// A peer's snapshot replaces everything before it.
    pub(crate) fn install(&mut self, meta: &SnapshotMeta) {
        // Here too: the ids stay, without addresses.
        let mut members = MemberTable::decode(&meta.context).unwrap_or_default();
        members.update(&MemberTable::new(), &meta.conf_state);
        self.later.push_back(Conf {
            since: meta.last.index,
            conf_state: meta.conf_state.clone(),
            members,
        });
    }

    /// The state machine has applied `index`.
    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        while self.later.front().is_some_and(|next| next.since <= index) {
            if let Some(next) = self.later.pop_front() {
                self.applied = next;
            }
        }
    }

    /// What a snapshot of the state at `last` says.
    pub(crate) fn meta_at(&self, last: LogId) -> SnapshotMeta {
        let mut before = self.later.iter().rev();
        let conf = before
            .find(|conf| conf.since <= last.index)
            .unwrap_or(&self.applied);
        SnapshotMeta {
            last,
            conf_state: conf.conf_state.clone(),
            context: conf.members.encode(),
        }
    }
}

/// True when `id` has a place in `conf_state`.
pub(crate) fn is_member(conf_state: &ConfState, id: NodeId) -> bool {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        ..
    } = conf_state;
    [voters, learners, voters_outgoing]
        .into_iter()
        .any(|list| list.contains(&id))
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::Term;

    use super::*;
    use crate::member::Member;

    fn voters(ids: &[u64]) -> ConfState {
        ConfState {
            voters: ids.iter().copied().map(NodeId).collect(),
            ..ConfState::default()
        }
    }

    #[test]
    fn snapshot_of_an_older_state_carries_the_configuration_of_its_time() {
        let mut membership = Membership::new(LogIndex(5), voters(&[1]), MemberTable::new());
        let named = Member {
            name: "second".into(),
            ..Member::new(NodeId(2))
        };
        let table: MemberTable = [named.clone()].into_iter().collect();
        let add = ConfChange {
            context: table.encode(),
            ..ConfChange::default()
        };
        membership.change(LogIndex(8), &add, voters(&[1, 2]));
        membership.change(LogIndex(12), &ConfChange::default(), voters(&[2]));
        let at = |membership: &Membership, index| {
            let meta = membership.meta_at(LogId::new(Term(1), LogIndex(index)));
            (
                meta.conf_state,
                MemberTable::decode(&meta.context).unwrap().len(),
            )
        };
        assert_eq!(at(&membership, 7), (voters(&[1]), 0));
        assert_eq!(at(&membership, 8), (voters(&[1, 2]), 2));
        membership.applied_to(LogIndex(11));
        assert_eq!(at(&membership, 11), (voters(&[1, 2]), 2));
        assert_eq!(at(&membership, 12), (voters(&[2]), 1));
        assert_eq!(membership.current().members.member(NodeId(2)), Some(&named));
    }
}
