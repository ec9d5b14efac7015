//! A replicated counter: three nodes, three groups, one log per node, all in this process.
use std::{error::Error, path::Path};

use bytes::Bytes;
use raftwerk::raft::{GroupId, NodeId};
use raftwerk::{Group, GroupConfig, Host, HostConfig};
use raftwerk::{InMemory, InProcessNetwork, Member, MemoryState};

struct Counter(u64);

impl MemoryState for Counter {
    fn apply(&mut self, _proposal: &[u8]) -> Bytes {
        self.0 += 1;
        self.0.to_string().into()
    }
    fn save(&self) -> Bytes {
        self.0.to_string().into()
    }
    fn load(&mut self, saved: &[u8]) -> Result<(), String> {
        self.0 = String::from_utf8_lossy(saved)
            .parse()
            .map_err(|_| "not a number")?;
        Ok(())
    }
}

pub(crate) type Node = (Host, Vec<Group>);

/// Node `id`: its log in `dir`, its place on the network, a handle to each of its groups.
pub(crate) fn node(id: u64, net: &InProcessNetwork, dir: &Path) -> Result<Node, Box<dyn Error>> {
    let (id, dir) = (NodeId(id), dir.join(id.to_string()));
    let log = raftwerk::open_log(&dir.join("log"))?;
    let config = HostConfig::new(id, dir.join("snapshots"));
    let host = Host::start(config, log, net.join(id))?;
    let group = |group| {
        let members = (1..=3).map(|id| Member::new(NodeId(id))).collect();
        let machine = Box::new(InMemory::new(Counter(0)));
        host.open_group(GroupId(group), GroupConfig::bootstrap(members), machine)
    };
    let groups = (1..=3).map(group).collect::<Result<_, _>>()?;
    Ok((host, groups))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("raftwerk-{}", std::process::id()));
    let net = InProcessNetwork::new();
    let start = |id| node(id, &net, &dir);
    let nodes: Vec<Node> = (1..=3).map(start).collect::<Result<_, _>>()?;
    for (host, groups) in &nodes {
        for group in groups {
            // Any node takes a proposal: who does not lead forwards it and gets the answer.
            let count = group.propose("count").wait()?.response;
            println!("node {}, group {}: {count:?}", host.id(), group.id());
        }
    }
    nodes.into_iter().for_each(|(host, _)| host.stop());
    Ok(std::fs::remove_dir_all(dir)?)
}
