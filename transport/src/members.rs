//! Which members there are, where they listen, and which store each id is bound to.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use raftwerk::{Incarnation, Member};
use raftwerk_raft::NodeId;

use crate::address::check_url;
use crate::identity::{Hello, Refusal};

/// Members that spoke to us and stand in no table yet: a member that was away while the table
/// changed must be able to hear, and answer, a leader it does not know.
const STRANGERS_MAX: usize = 32;

#[derive(Clone, Debug, Default)]
struct Known {
    /// From the table, or else from the first contact.
    store: Option<Incarnation>,
    /// `host:port`, checked.
    addresses: Vec<String>,
    /// The table names it.
    listed: bool,
}

/// The member table as the transport needs it.
#[derive(Debug, Default)]
pub(crate) struct Members {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<NodeId, Known>,
    removed: BTreeSet<NodeId>,
}

impl Members {
    /// The table's word on a member. True when streams with it must start anew: its store or its
    /// addresses are others now.
    pub(crate) fn set(&self, member: &Member) -> bool {
        let mut state = self.state.lock();
        state.removed.remove(&member.id);
        let known = state.known.entry(member.id).or_default();
        let addresses: Vec<String> = member
            .peer_urls
            .iter()
            .filter_map(|url| check_url(url).ok())
            .collect();
        let mut changed = known.addresses != addresses;
        known.addresses = addresses;
        known.listed = true;
        if member.incarnation != Incarnation::default() {
            changed |= known.store.is_some_and(|store| store != member.incarnation);
            known.store = Some(member.incarnation);
        }
        changed
    }

    /// The table no longer names the member: it is refused from now on.
    pub(crate) fn remove(&self, id: NodeId) {
        let mut state = self.state.lock();
        state.known.remove(&id);
        state.removed.insert(id);
    }

    /// Where a member can be called.
    pub(crate) fn addresses(&self, id: NodeId) -> Vec<String> {
        self.state
            .lock()
            .known
            .get(&id)
            .map(|known| known.addresses.clone())
            .unwrap_or_default()
    }

    /// Checks the id against the store it is bound to; the first contact binds it. True when the
    /// address of a member that no table names was learned.
    ///
    /// # Errors
    /// [`Refusal::Removed`], [`Refusal::Replaced`].
    pub(crate) fn admit(&self, hello: &Hello) -> Result<bool, Refusal> {
        let id = hello.from;
        let mut state = self.state.lock();
        if state.removed.contains(&id) {
            return Err(Refusal::Removed { id });
        }
        if !state.known.contains_key(&id) {
            let strangers = state.known.values().filter(|known| !known.listed).count();
            if strangers >= STRANGERS_MAX {
                let reason = format!(
                    "too many members that no table names; {:x} may retry later",
                    id.0
                );
                return Err(Refusal::Other { reason });
            }
        }
        let known = state.known.entry(id).or_default();
        match known.store {
            Some(store) if store != hello.store => return Err(Refusal::Replaced { id }),
            Some(_) => {}
            None => known.store = Some(hello.store),
        }
        if known.listed {
            return Ok(false);
        }
        let Some(address) = hello
            .peer_url
            .as_deref()
            .and_then(|url| check_url(url).ok())
        else {
            return Ok(false);
        };
        let learned = known.addresses.first() != Some(&address);
        known.addresses = vec![address];
        Ok(learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClusterId;

    fn hello(from: u64, store: u128) -> Hello {
        Hello {
            cluster: ClusterId(1),
            from: NodeId(from),
            to: NodeId(9),
            store: Incarnation(store),
            peer_url: Some(format!("http://127.0.0.1:{}", 2000 + from)),
        }
    }

    fn member(id: u64, store: u128) -> Member {
        Member {
            id: NodeId(id),
            incarnation: Incarnation(store),
            peer_urls: vec![format!("http://127.0.0.1:{}", 1000 + id)],
            client_urls: Vec::new(),
            name: String::new(),
        }
    }

    #[test]
    fn first_contact_binds_the_id_to_its_store() {
        let members = Members::default();
        members.set(&member(2, 0));
        assert_eq!(members.admit(&hello(2, 7)), Ok(false));
        assert_eq!(members.admit(&hello(2, 7)), Ok(false));
        assert_eq!(
            members.admit(&hello(2, 8)),
            Err(Refusal::Replaced { id: NodeId(2) })
        );
    }

    #[test]
    fn the_tables_store_outranks_the_first_contact() {
        let members = Members::default();
        members.set(&member(2, 0));
        members.admit(&hello(2, 8)).unwrap();
        assert!(
            members.set(&member(2, 7)),
            "streams with the other store must end"
        );
        assert_eq!(
            members.admit(&hello(2, 8)),
            Err(Refusal::Replaced { id: NodeId(2) })
        );
        assert_eq!(members.admit(&hello(2, 7)), Ok(false));
        assert!(!members.set(&member(2, 7)));
    }

    #[test]
    fn a_removed_member_is_told_so() {
        let members = Members::default();
        members.set(&member(2, 7));
        members.remove(NodeId(2));
        assert_eq!(
            members.admit(&hello(2, 7)),
            Err(Refusal::Removed { id: NodeId(2) })
        );
    }

    #[test]
    fn a_stranger_is_heard_and_can_be_answered_but_not_in_any_number() {
        let members = Members::default();
        assert_eq!(members.admit(&hello(5, 1)), Ok(true));
        assert_eq!(members.addresses(NodeId(5)), ["127.0.0.1:2005"]);
        members.set(&member(5, 1));
        assert_eq!(members.addresses(NodeId(5)), ["127.0.0.1:1005"]);
        assert_eq!(members.admit(&hello(5, 1)), Ok(false));
        assert_eq!(
            members.addresses(NodeId(5)),
            ["127.0.0.1:1005"],
            "the table's word stays"
        );
        let admitted = (100..200)
            .filter(|&id| members.admit(&hello(id, 1)).is_ok())
            .count();
        assert_eq!(admitted, STRANGERS_MAX);
    }
}
