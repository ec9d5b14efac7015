//! A cluster in one process, on logs in memory.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk::raft::{
    GroupId, LogIndex, NodeId, SnapshotMeta, SnapshotReader, StateMachine as _, Storage,
};
use raftwerk::{
    Group, GroupConfig, GroupError, GroupEvent, Host, HostConfig, InMemory, InProcessNetwork,
    Member, MemoryState, ReadError, Start,
};
use raftwerk_storage_mem::{MemDisk, MemLog, MemLogOptions};

pub const G: GroupId = GroupId(1);

/// What a state machine was given, in order; shared with the test.
pub type Seen = Arc<Mutex<Vec<Bytes>>>;

/// Remembers its proposals and answers how many they are.
pub struct Journal(pub Seen);

impl MemoryState for Journal {
    fn apply(&mut self, data: &[u8]) -> Bytes {
        assert_ne!(data, b"panic", "as the test asked for");
        let mut seen = self.0.lock();
        seen.push(Bytes::copy_from_slice(data));
        seen.len().to_string().into()
    }

    fn save(&self) -> Bytes {
        let mut out = Vec::new();
        for data in self.0.lock().iter() {
            out.extend_from_slice(&(data.len() as u32).to_le_bytes());
            out.extend_from_slice(data);
        }
        out.into()
    }

    fn load(&mut self, mut saved: &[u8]) -> Result<(), String> {
        let mut seen = Vec::new();
        while let Some((len, rest)) = saved.split_first_chunk::<4>() {
            let (data, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
            seen.push(Bytes::copy_from_slice(data));
            saved = rest;
        }
        *self.0.lock() = seen;
        Ok(())
    }
}

pub struct Node {
    pub host: Host,
    pub log: Arc<MemLog>,
    pub group: Group,
    pub seen: Seen,
}

pub struct Cluster {
    pub net: InProcessNetwork,
    pub nodes: BTreeMap<u64, Node>,
    pub disks: BTreeMap<u64, MemDisk>,
    pub config: GroupConfig,
    pub options: MemLogOptions,
    dir: tempfile::TempDir,
}

pub fn members(count: u64) -> Vec<Member> {
    (1..=count).map(|id| Member::new(NodeId(id))).collect()
}

impl Cluster {
    /// `count` nodes with one group, led by the first.
    pub fn start(count: u64) -> Self {
        Self::start_with(count, |_| {})
    }

    pub fn start_with(count: u64, configure: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = GroupConfig::bootstrap(members(count));
        configure(&mut config);
        let mut cluster = Self::without_nodes(config);
        (1..=count).for_each(|id| cluster.boot(id));
        cluster.lead(1);
        cluster
    }

    pub fn without_nodes(config: GroupConfig) -> Self {
        Self {
            net: InProcessNetwork::new(),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            config,
            options: MemLogOptions::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts node `id` on its disk, which is new the first time.
    pub fn boot(&mut self, id: u64) {
        self.boot_with(id, self.config.clone());
    }

    pub fn boot_with(&mut self, id: u64, config: GroupConfig) {
        self.try_boot_with(id, config).unwrap();
    }

    pub fn try_boot(&mut self, id: u64) -> Result<(), GroupError> {
        self.try_boot_with(id, self.config.clone())
    }

    fn try_boot_with(&mut self, id: u64, config: GroupConfig) -> Result<(), GroupError> {
        let disk = self.disks.entry(id).or_default();
        let log = Arc::new(MemLog::open(disk, self.options.clone()).unwrap());
        let host = self.host(id, Arc::clone(&log) as Arc<dyn Storage>);
        let seen = Seen::default();
        let machine = InMemory::new(Journal(Arc::clone(&seen)));
        self.open(id, (host, log, seen), config, machine)
    }

    /// Starts node `id` on its disk with a state that may be ahead of that.
    pub fn boot_ahead(&mut self, id: u64, meta: &SnapshotMeta, state: Bytes) {
        let disk = self.disks.entry(id).or_default();
        let log = Arc::new(MemLog::open(disk, self.options.clone()).unwrap());
        let host = self.host(id, Arc::clone(&log) as Arc<dyn Storage>);
        let seen = Seen::default();
        let mut machine = InMemory::new(Journal(Arc::clone(&seen)));
        machine
            .restore(meta, &mut Saved(Cursor::new(state)))
            .unwrap();
        self.open(id, (host, log, seen), self.config.clone(), machine)
            .unwrap();
    }

    fn open(
        &mut self,
        id: u64,
        (host, log, seen): (Host, Arc<MemLog>, Seen),
        config: GroupConfig,
        machine: InMemory<Journal>,
    ) -> Result<(), GroupError> {
        let group = host.open_group(G, config, Box::new(machine))?;
        self.nodes.insert(
            id,
            Node {
                host,
                log,
                group,
                seen,
            },
        );
        Ok(())
    }

    pub fn snapshot_dir(&self, id: u64) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub fn host(&self, id: u64, log: Arc<dyn Storage>) -> Host {
        let mut config = HostConfig::new(NodeId(id), self.snapshot_dir(id));
        config.tick = Duration::from_millis(50);
        Host::start(config, log, self.net.join(NodeId(id))).unwrap()
    }

    /// Adds a node that waits to be told of the group.
    pub fn boot_joining(&mut self, id: u64) {
        let contacts = members(self.nodes.len() as u64);
        let config = GroupConfig {
            start: Start::Join { contacts },
            ..self.config.clone()
        };
        self.boot_with(id, config);
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub fn group(&self, id: u64) -> &Group {
        &self.nodes[&id].group
    }

    /// Has `id` lead, and waits until it knows. Whoever else was faster hands over.
    pub fn lead(&self, id: u64) {
        let group = self.group(id);
        let mut events = group.events();
        loop {
            match group.leader() {
                Some(leader) if leader == NodeId(id) => break,
                Some(_) => drop(group.transfer_leader(NodeId(id)).wait()),
                None => {
                    group.campaign();
                    let led = |event: &GroupEvent| {
                        matches!(
                            event,
                            GroupEvent::Leadership {
                                leader: Some(_),
                                ..
                            }
                        )
                    };
                    wait_for(&mut events, led);
                }
            }
        }
        // Its first entry is committed and applied everywhere it can be.
        group.read_index().wait().unwrap();
    }

    /// Stops a node in order; its disk stays.
    pub fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().host.stop();
    }

    /// What node `id` has applied, once it has applied everything acknowledged so far.
    pub fn caught_up(&self, id: u64) -> Vec<Bytes> {
        while self.group(id).read_index().wait() == Err(ReadError::NoLeader) {}
        self.node(id).seen.lock().clone()
    }

    pub fn propose(&self, id: u64, data: impl Into<Bytes>) -> u64 {
        let applied = self.group(id).propose(data).wait().unwrap();
        String::from_utf8_lossy(&applied.response).parse().unwrap()
    }
}

pub fn wait_for(events: &mut raftwerk::Events, wanted: impl Fn(&GroupEvent) -> bool) -> GroupEvent {
    loop {
        let event = events.recv().wait().expect("the group goes on");
        if wanted(&event) {
            return event;
        }
    }
}

/// Waits until `group` has committed `index`.
pub fn wait_for_commit(group: &Group, index: LogIndex) {
    let committed = group.until(move |status| status.commit >= index).wait();
    committed.expect("the group goes on");
}

struct Saved(Cursor<Bytes>);

impl SnapshotReader for Saved {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(&mut self.0, out)
    }
}
