//! Which members there are, where they listen, and which store each id is bound to.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use raftwerk::{Incarnation, Member};
use raftwerk_raft::NodeId;

use crate::address::check_url;
use crate::identity::{Hello, Refusal};

/// Members that spoke to us and stand in no table yet: a member that was away while the table
/// changed must be able to hear, and answer, a leader it does not know. One more takes the place
/// of whoever has been silent for longest.
const STRANGERS_MAX: usize = 32;

/// Removed members that are remembered; the one removed first is forgotten first, and is a
/// stranger from then on.
const REMOVED_MAX: usize = 1024;

#[derive(Clone, Debug, Default)]
struct Known {
    /// From the table, or else from the first contact.
    store: Option<Incarnation>,
    /// `host:port`, checked.
    addresses: Vec<String>,
    /// The table names it.
    listed: bool,
    /// When it last greeted us, counted in greetings.
    greeted: u64,
}

/// What came of a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The address of a member that no table names was learned.
    pub(crate) learned: bool,
    /// A stranger whose place was taken.
    pub(crate) forgotten: Option<NodeId>,
}

/// The member table as the transport needs it.
#[derive(Debug, Default)]
pub(crate) struct Members {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<NodeId, Known>,
    removed: VecDeque<NodeId>,
    greetings: u64,
}

impl State {
    /// Makes room for one more stranger: the one that has to go for it.
    fn forget_a_stranger(&mut self) -> Option<NodeId> {
        let strangers = || self.known.iter().filter(|(_, known)| !known.listed);
        if strangers().count() < STRANGERS_MAX {
            return None;
        }
        let (&id, _) = strangers().min_by_key(|(_, known)| known.greeted)?;
        self.known.remove(&id);
        Some(id)
    }
}

impl Members {
    /// The table's word on a member. True when streams with it must start anew: its store or its
    /// addresses are others now.
    pub(crate) fn set(&self, member: &Member) -> bool {
        let mut state = self.state.lock();
        state.removed.retain(|removed| *removed != member.id);
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
        state.removed.retain(|removed| *removed != id);
        if state.removed.len() >= REMOVED_MAX {
            state.removed.pop_front();
        }
        state.removed.push_back(id);
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

    /// Checks the id against the store it is bound to; the first contact binds it.
    ///
    /// # Errors
    /// [`Refusal::Removed`], [`Refusal::Replaced`].
    pub(crate) fn admit(&self, hello: &Hello) -> Result<Admitted, Refusal> {
        let id = hello.from;
        let mut state = self.state.lock();
        if state.removed.contains(&id) {
            return Err(Refusal::Removed { id });
        }
        let forgotten = match state.known.contains_key(&id) {
            true => None,
            false => state.forget_a_stranger(),
        };
        let admitted = |learned| Ok(Admitted { learned, forgotten });
        state.greetings += 1;
        let greeted = state.greetings;
        let known = state.known.entry(id).or_default();
        known.greeted = greeted;
        match known.store {
            Some(store) if store != hello.store => return Err(Refusal::Replaced { id }),
            Some(_) => {}
            None => known.store = Some(hello.store),
        }
        if known.listed {
            return admitted(false);
        }
        let Some(address) = hello
            .peer_url
            .as_deref()
            .and_then(|url| check_url(url).ok())
        else {
            return admitted(false);
        };
        let learned = known.addresses.first() != Some(&address);
        known.addresses = vec![address];
        admitted(learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClusterId;

    const LEARNED: Result<Admitted, Refusal> = Ok(Admitted {
        learned: true,
        forgotten: None,
    });
    const KNOWN: Result<Admitted, Refusal> = Ok(Admitted {
        learned: false,
        forgotten: None,
    });

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
        assert_eq!(members.admit(&hello(2, 7)), KNOWN);
        assert_eq!(members.admit(&hello(2, 7)), KNOWN);
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
        assert_eq!(members.admit(&hello(2, 7)), KNOWN);
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
    fn a_stranger_is_heard_and_can_be_answered() {
        let members = Members::default();
        assert_eq!(members.admit(&hello(5, 1)), LEARNED);
        assert_eq!(members.addresses(NodeId(5)), ["127.0.0.1:2005"]);
        members.set(&member(5, 1));
        assert_eq!(members.addresses(NodeId(5)), ["127.0.0.1:1005"]);
        assert_eq!(members.admit(&hello(5, 1)), KNOWN);
        assert_eq!(
            members.addresses(NodeId(5)),
            ["127.0.0.1:1005"],
            "the table's word stays"
        );
    }

    #[test]
    fn one_stranger_too_many_takes_the_place_of_who_was_silent_for_longest() {
        let members = Members::default();
        members.set(&member(1, 1));
        let last = 100 + STRANGERS_MAX as u64;
        for id in 100..last {
            assert_eq!(members.admit(&hello(id, 1)), LEARNED);
        }
        assert_eq!(members.admit(&hello(100, 1)), KNOWN, "it was heard again");
        let forgotten = members.admit(&hello(last, 1)).unwrap().forgotten;
        assert_eq!(forgotten, Some(NodeId(101)));
        assert_eq!(members.addresses(NodeId(101)), [""; 0]);
        assert_eq!(members.addresses(NodeId(100)).len(), 1);
        assert_eq!(members.addresses(NodeId(1)).len(), 1, "the table's stay");
    }

    #[test]
    fn removed_members_are_remembered_up_to_a_bound() {
        let members = Members::default();
        for id in 0..=REMOVED_MAX as u64 {
            members.remove(NodeId(10 + id));
            members.remove(NodeId(10 + id));
        }
        assert_eq!(members.admit(&hello(10, 1)), LEARNED);
        assert!(members.admit(&hello(11, 1)).is_err());
    }
}
