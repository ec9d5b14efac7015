//! Some members whose messages arrive at once, in order, unless somebody is cut off.

use std::collections::{BTreeMap, BTreeSet};

use raftwerk_raft::{
    Body, ConfChange, Config, LogId, Message, MessageKind, NodeId, Role, StepError,
};

use crate::solo::{Setup, Solo, setup, voters};

pub(crate) const YES: Body = Body::VoteResponse { reject: false };
pub(crate) const NO: Body = Body::VoteResponse { reject: true };

pub(crate) fn vote(term: u64, index: u64) -> Body {
    Body::Vote {
        last: crate::solo::id(term, index),
        transfer: false,
    }
}

pub(crate) fn acked(index: u64) -> Body {
    Body::AppendResponse {
        index: index.into(),
        reject: None,
    }
}

pub(crate) fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat {
        commit: commit.into(),
        read_position: 0,
    }
}

/// The process ends and starts again with what it had written.
pub(crate) fn restarted(solo: &Solo, change: impl Fn(&mut Config)) -> Solo {
    let status = solo.node.status();
    let id = status.id;
    let mut again = setup()
        .conf(status.conf_state)
        .applied(status.applied.0)
        .options(|config| config.id = id)
        .options(change);
    again.restart.hard_state = status.hard_state;
    again.log = solo.log.clone();
    again.start()
}

pub(crate) struct Group {
    members: BTreeMap<u64, Solo>,
    /// Who hears nobody and is heard by nobody.
    pub(crate) cut: BTreeSet<u64>,
    /// Everything that arrived.
    pub(crate) arrived: Vec<Message>,
}

impl Group {
    /// Voters 1 to `count` with empty logs.
    pub(crate) fn of(count: u64, change: impl Fn(&mut Config)) -> Self {
        let ids: Vec<u64> = (1..=count).collect();
        let conf = voters(&ids);
        let member = |id: &u64| (*id, setup().conf(conf.clone()).options(&change));
        Self::made_of(ids.iter().map(member))
    }

    /// Voters with logs of these terms, in the term of their last entry.
    pub(crate) fn with_logs(logs: &[&[u64]]) -> Self {
        let ids: Vec<u64> = (1..=logs.len() as u64).collect();
        let conf = voters(&ids);
        let member = |(id, log): (&u64, &&[u64])| {
            let term = log.last().copied().unwrap_or_default();
            let setup = setup().conf(conf.clone()).log(log);
            (*id, setup.hard_state(term, 0, 0))
        };
        Self::made_of(ids.iter().zip(logs).map(member))
    }

    pub(crate) fn made_of(setups: impl Iterator<Item = (u64, Setup)>) -> Self {
        let start = |(id, setup): (u64, Setup)| {
            let own = |config: &mut Config| {
                config.id = NodeId(id);
                config.seed = id;
            };
            (id, setup.options(own).start())
        };
        Self {
            members: setups.map(start).collect(),
            cut: BTreeSet::new(),
            arrived: Vec::new(),
        }
    }

    pub(crate) fn at(&mut self, id: u64) -> &mut Solo {
        self.members.get_mut(&id).unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// Adds a member that was not there.
    pub(crate) fn join(&mut self, id: u64, setup: Setup) {
        let mut joined = Self::made_of(std::iter::once((id, setup)));
        self.members.append(&mut joined.members);
    }

    /// Until nobody has anything to say.
    pub(crate) fn deliver(&mut self) {
        for _ in 0..1000 {
            let sent: Vec<Message> = self.members.values_mut().flat_map(Solo::take).collect();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                let (from, to) = (message.from.0, message.to.0);
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                let Some(member) = self.members.get_mut(&to) else {
                    continue;
                };
                self.arrived.push(message.clone());
                let result = member.node.step(message);
                member.drain();
                match result {
                    Ok(()) | Err(StepError::PeerNotFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        panic!("they talk for ever");
    }

    /// Lets `id` win an election now.
    pub(crate) fn elect(&mut self, id: u64) {
        self.at(id).campaign();
        self.deliver();
        assert_eq!(self.at(id).node.role(), Role::Leader);
    }

    pub(crate) fn propose(&mut self, id: u64, data: &'static str) {
        self.at(id).propose(data);
        self.deliver();
    }

    pub(crate) fn change(&mut self, id: u64, change: ConfChange) {
        self.at(id).node.propose_conf_change(change).unwrap();
        self.at(id).drain();
        self.deliver();
    }

    /// So many ticks for each, with what follows.
    pub(crate) fn tick(&mut self, count: u32) {
        for _ in 0..count {
            for id in self.ids() {
                self.at(id).tick(1);
            }
            self.deliver();
        }
    }

    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leads = |(_, solo): &(&u64, &Solo)| solo.node.role() == Role::Leader;
        let leaders = self.members.iter().filter(leads);
        leaders.map(|(id, _)| *id).collect()
    }

    pub(crate) fn log(&self, id: u64) -> Vec<LogId> {
        let entries = self.members[&id].log.all();
        entries.iter().map(|entry| entry.id).collect()
    }

    /// What `id` has applied, as text; what terms begin with is left out.
    pub(crate) fn applied(&self, id: u64) -> Vec<String> {
        let applied = self.members[&id].committed.iter();
        applied
            .filter(|entry| !entry.data.is_empty())
            .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
            .collect()
    }

    /// How many messages of this kind have arrived.
    pub(crate) fn count(&self, kind: MessageKind) -> usize {
        let of_kind = |message: &&Message| message.body.kind() == kind;
        self.arrived.iter().filter(of_kind).count()
    }
}
