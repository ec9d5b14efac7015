//! A replicated counter: three nodes, three groups, one log per node, all in this process.
use std::path::Path;

use bytes::Bytes;
use raftwerk::raft::{GroupId, NodeId, StateError};
use raftwerk::{Group, GroupConfig, Host, HostConfig};
use raftwerk::{InMemory, InProcessNetwork, Member, MemoryState};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Counter(u64);

impl MemoryState for Counter {
    fn apply(&mut self, _proposal: &[u8]) -> Bytes {
        self.0 += 1;
        self.0.to_string().into()
    }
    fn save(&self) -> Bytes {
        self.0.to_string().into()
    }
    fn load(&mut self, saved: &[u8]) -> std::result::Result<(), StateError> {
        let corrupt = |_| StateError::Corrupt {
            reason: "not a number".into(),
        };
        self.0 = String::from_utf8_lossy(saved).parse().map_err(corrupt)?;
        Ok(())
    }
}

/// Node `id`: its log in `dir`, its place on the network, a handle to each of its groups.
pub(crate) fn node(id: u64, net: &InProcessNetwork, dir: &Path) -> Result<(Host, Vec<Group>)> {
    let (id, dir) = (NodeId(id), dir.join(id.to_string()));
    let log = raftwerk::open_log(&dir.join("log"))?;
    let host = Host::start(
        HostConfig::new(id, dir.join("snapshots")),
        log,
        net.join(id),
    )?;
    let members: Vec<Member> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
    let mut groups = Vec::new();
    for group in 1..=3 {
        let config = GroupConfig::bootstrap(members.clone());
        let machine = Box::new(InMemory::new(Counter::default()));
        groups.push(host.open_group(GroupId(group), config, machine)?);
    }
    Ok((host, groups))
}

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("raftwerk-quickstart-{}", std::process::id()));
    let net = InProcessNetwork::new();
    let nodes: Vec<_> = (1..=3)
        .map(|id| node(id, &net, &dir))
        .collect::<Result<_>>()?;
    for (host, groups) in &nodes {
        for group in groups {
            // Any node takes a proposal: who does not lead forwards it and gets the answer.
            let applied = group.propose("count").wait()?;
            let count = String::from_utf8_lossy(&applied.response);
            println!("node {}, group {}: {count}", host.id(), group.id());
        }
    }
    nodes.iter().for_each(|(host, _)| host.stop());
    Ok(())
}
