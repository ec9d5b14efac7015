//! Which members the transport knows: those of any group on this host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use raftwerk_raft::{GroupId, NodeId};

use crate::member::{Member, MemberTable};
use crate::transport::Transport;

/// What the transport is to be told.
enum Change {
    Set(Member),
    Remove(NodeId),
}

#[derive(Default)]
struct Known {
    /// Whom a group that joins was told of. Until its table names this host itself, that table is
    /// history: it may not name those who lead now, or only where they were then.
    contacts: BTreeMap<GroupId, BTreeSet<NodeId>>,
    tables: BTreeMap<GroupId, MemberTable>,
    members: BTreeMap<NodeId, Member>,
    /// Not told yet, in order.
    changes: VecDeque<Change>,
    /// Somebody is telling them.
    telling: bool,
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

    /// A group is about to be opened that can reach these.
    pub(crate) fn contacts(&self, group: GroupId, members: &[Member], transport: &dyn Transport) {
        self.known.lock().contacts(self.host, group, members);
        self.tell(transport);
    }

    /// A group's table is `table` now: tells `transport` what that changes.
    pub(crate) fn update(&self, group: GroupId, table: MemberTable, transport: &dyn Transport) {
        self.known.lock().update(self.host, group, table);
        self.tell(transport);
    }

    /// One thread at a time, under no lock: the transport hears of the changes in their order.
    fn tell(&self, transport: &dyn Transport) {
        if std::mem::replace(&mut self.known.lock().telling, true) {
            return;
        }
        while let Some(change) = self.next() {
            match change {
                Change::Set(member) => transport.set_member(&member),
                Change::Remove(id) => transport.remove_member(id),
            }
        }
    }

    fn next(&self) -> Option<Change> {
        let mut known = self.known.lock();
        let next = known.changes.pop_front();
        known.telling = next.is_some();
        next
    }
}

impl Known {
    fn contacts(&mut self, host: NodeId, group: GroupId, members: &[Member]) {
        for member in members.iter().filter(|member| member.id != host) {
            self.contacts.entry(group).or_default().insert(member.id);
            self.set(member);
        }
    }

    fn update(&mut self, host: NodeId, group: GroupId, table: MemberTable) {
        if table.member(host).is_some() {
            self.contacts.remove(&group);
        }
        let contacts = self.contacts.get(&group).cloned().unwrap_or_default();
        for member in table.iter().filter(|member| member.id != host) {
            if !contacts.contains(&member.id) {
                self.set(member);
            }
        }
        let before = self.tables.insert(group, table).unwrap_or_default();
        for id in before.iter().map(|member| member.id) {
            self.leave(group, id);
        }
    }

    fn set(&mut self, member: &Member) {
        // A record without addresses says nothing that another group's does not know better.
        let known = self.members.get(&member.id);
        let empty = member.peer_urls.is_empty() && known.is_some();
        if known != Some(member) && !empty {
            self.members.insert(member.id, member.clone());
            self.changes.push_back(Change::Set(member.clone()));
        }
    }

    /// `id` was in the group's table before: if it is gone from there, and no other group has to
    /// do with it, it is gone for good. Whom no table has named is never removed.
    fn leave(&mut self, group: GroupId, id: NodeId) {
        let names = |table: &MemberTable| table.member(id).is_some();
        if self.tables.get(&group).is_some_and(names) {
            return;
        }
        if let Some(contacts) = self.contacts.get_mut(&group) {
            contacts.remove(&id);
        }
        let mut contacts = self.contacts.values();
        let used = self.tables.values().any(names) || contacts.any(|ids| ids.contains(&id));
        if !used && self.members.remove(&id).is_some() {
            self.changes.push_back(Change::Remove(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::envelope::Envelope;
    use crate::transport::{Inbox, OutgoingSnapshot, TransportError};

    const HOST: NodeId = NodeId(4);

    /// Knows whom it was told of.
    #[derive(Default)]
    struct Recording {
        urls: Mutex<BTreeMap<NodeId, String>>,
        removed: Mutex<Vec<u64>>,
    }

    impl Transport for Recording {
        fn start(&self, _inbox: Arc<dyn Inbox>) -> Result<(), TransportError> {
            Ok(())
        }
        fn send(&self, _to: NodeId, _envelope: Envelope) {}
        fn send_snapshot(&self, _to: NodeId, _outgoing: OutgoingSnapshot) {}
        fn set_member(&self, member: &Member) {
            self.urls
                .lock()
                .insert(member.id, member.peer_urls.concat());
        }
        fn remove_member(&self, id: NodeId) {
            self.urls.lock().remove(&id);
            self.removed.lock().push(id.0);
        }
        fn stop(&self) {}
    }

    impl Recording {
        fn url(&self, id: u64) -> Option<String> {
            self.urls.lock().get(&NodeId(id)).cloned()
        }

        fn removed(&self) -> Vec<u64> {
            std::mem::take(&mut self.removed.lock())
        }
    }

    fn member(id: u64, url: &str) -> Member {
        Member {
            peer_urls: vec![url.to_owned()],
            ..Member::new(NodeId(id))
        }
    }

    fn table(ids: &[u64]) -> MemberTable {
        ids.iter().map(|id| member(*id, "table")).collect()
    }

    #[test]
    fn joiner_that_replays_history_keeps_its_contacts_and_where_they_are() {
        let (peers, transport) = (Peers::new(HOST), Recording::default());
        let group = GroupId(1);
        let contacts = [member(2, "contact"), member(3, "contact")];
        peers.contacts(group, &contacts, &transport);
        for ids in [&[1][..], &[1, 2], &[1, 2, 3], &[2, 3]] {
            peers.update(group, table(ids), &transport);
            assert_eq!(transport.url(2).as_deref(), Some("contact"), "{ids:?}");
            assert_eq!(transport.url(3).as_deref(), Some("contact"), "{ids:?}");
        }
        assert_eq!(transport.removed(), [1]);
        peers.update(group, table(&[2, 3, HOST.0]), &transport);
        assert_eq!(transport.url(3).as_deref(), Some("table"));
        peers.update(group, table(&[2, HOST.0]), &transport);
        assert_eq!(transport.removed(), [3]);
    }

    #[test]
    fn member_that_one_group_removes_stays_known_while_another_needs_it() {
        let (peers, transport) = (Peers::new(HOST), Recording::default());
        peers.update(GroupId(1), table(&[1, 2]), &transport);
        peers.update(GroupId(2), table(&[1, 2]), &transport);
        peers.contacts(GroupId(3), &[member(2, "contact")], &transport);
        peers.update(GroupId(1), table(&[1]), &transport);
        peers.update(GroupId(2), table(&[1]), &transport);
        assert_eq!(transport.removed(), [0; 0]);
        peers.update(GroupId(3), table(&[2]), &transport);
        peers.update(GroupId(3), table(&[1]), &transport);
        assert_eq!(transport.removed(), [2]);
    }
}
