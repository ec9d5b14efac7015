//! Which members the transport knows: those of any group on this host.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use raftwerk_raft::{GroupId, NodeId};

use crate::member::{Member, MemberTable};
use crate::transport::Transport;

#[derive(Default)]
struct Known {
    tables: BTreeMap<GroupId, MemberTable>,
    members: BTreeMap<NodeId, Member>,
}

/// The member tables of this host's groups, taken together.
pub(crate) struct Peers {
    host: NodeId,
    known: Mutex<Known>,
}

impl Peers {
    pub(crate) fn new(host: NodeId) -> Self {
        Self {
            host,
            known: Mutex::default(),
        }
    }

    /// A group's table is `table` now: tells `transport` what that changes.
    pub(crate) fn update(&self, group: GroupId, table: MemberTable, transport: &dyn Transport) {
        let (set, removed) = self.known.lock().update(self.host, group, table);
        for member in &set {
            transport.set_member(member);
        }
        for id in removed {
            transport.remove_member(id);
        }
    }
}

impl Known {
    fn update(
        &mut self,
        host: NodeId,
        group: GroupId,
        table: MemberTable,
    ) -> (Vec<Member>, Vec<NodeId>) {
        let mut set = Vec::new();
        for member in table.iter().filter(|member| member.id != host) {
            // A record without addresses says nothing that another group's does not know better.
            let known = self.members.get(&member.id);
            let empty = member.peer_urls.is_empty() && known.is_some();
            if known != Some(member) && !empty {
                self.members.insert(member.id, member.clone());
                set.push(member.clone());
            }
        }
        self.tables.insert(group, table);
        let tables = &self.tables;
        let used = |id: &NodeId| tables.values().any(|table| table.member(*id).is_some());
        let removed: Vec<NodeId> = self
            .members
            .keys()
            .copied()
            .filter(|id| !used(id))
            .collect();
        for id in &removed {
            self.members.remove(id);
        }
        (set, removed)
    }
}
