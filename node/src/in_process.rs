//! A network within one process: for tests, examples and single-process clusters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use raftwerk_raft::{NodeId, SnapshotStatus};

use crate::envelope::Envelope;
use crate::member::Member;
use crate::transport::{
    Inbox, OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotRefused, Transport, TransportError,
};

/// Envelopes that a held link keeps before it loses the oldest.
const HELD_MAX: usize = 64 * 1024;

type Link = (NodeId, NodeId);
type Filter = Arc<dyn Fn(NodeId, NodeId, &Envelope) -> bool + Send + Sync>;

#[derive(Default)]
struct Net {
    hosts: BTreeMap<NodeId, Arc<dyn Inbox>>,
    cut: BTreeSet<Link>,
    held: BTreeMap<Link, VecDeque<Envelope>>,
    filter: Option<Filter>,
}

/// Connects hosts of one process: an envelope is in the receiver's queue when `send` returns. Links
/// can be cut, held back and filtered.
#[derive(Clone, Default)]
pub struct InProcessNetwork {
    net: Arc<Mutex<Net>>,
}

impl InProcessNetwork {
    /// A network without hosts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of host `id`; on the network once its host starts.
    #[must_use]
    pub fn join(&self, id: NodeId) -> Arc<dyn Transport> {
        Arc::new(InProcess {
            id,
            network: self.clone(),
        })
    }

    /// Loses everything between `a` and `b`, both ways, until [`InProcessNetwork::heal`].
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.net.lock().cut.extend([(a, b), (b, a)]);
    }

    /// Cuts `id` off from everybody, as far as they are on the network now.
    pub fn isolate(&self, id: NodeId) {
        let others: Vec<NodeId> = self.net.lock().hosts.keys().copied().collect();
        others
            .into_iter()
            .filter(|other| *other != id)
            .for_each(|other| self.cut(id, other));
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.net.lock().cut.clear();
    }

    /// Keeps back what `from` sends to `to` until [`InProcessNetwork::release`].
    pub fn hold(&self, from: NodeId, to: NodeId) {
        self.net.lock().held.entry((from, to)).or_default();
    }

    /// Delivers, in order, what was kept back, and ends it.
    pub fn release(&self, from: NodeId, to: NodeId) {
        let held = self.net.lock().held.remove(&(from, to)).unwrap_or_default();
        held.into_iter()
            .for_each(|envelope| self.deliver(from, to, envelope));
    }

    /// Loses the envelopes for which `keep` (sender, receiver, envelope) says false; replaces an
    /// earlier filter. Called under no lock.
    pub fn filter(&self, keep: impl Fn(NodeId, NodeId, &Envelope) -> bool + Send + Sync + 'static) {
        self.net.lock().filter = Some(Arc::new(keep));
    }

    fn deliver(&self, from: NodeId, to: NodeId, envelope: Envelope) {
        let filter = self.net.lock().filter.clone();
        if filter.is_some_and(|keep| !keep(from, to, &envelope)) {
            return;
        }
        let mut net = self.net.lock();
        if net.cut.contains(&(from, to)) {
            return;
        }
        if let Some(held) = net.held.get_mut(&(from, to)) {
            if held.len() >= HELD_MAX {
                held.pop_front();
            }
            return held.push_back(envelope);
        }
        let (receiver, sender) = (net.hosts.get(&to).cloned(), net.hosts.get(&from).cloned());
        drop(net);
        match (receiver, sender) {
            // What a full queue refuses is lost, as on any network.
            (Some(receiver), _) => drop(receiver.receive(from, envelope)),
            (None, Some(sender)) => sender.unreachable(to),
            (None, None) => {}
        }
    }

    fn receiver(&self, from: NodeId, to: NodeId) -> Option<Arc<dyn Inbox>> {
        let net = self.net.lock();
        if net.cut.contains(&(from, to)) {
            None
        } else {
            net.hosts.get(&to).cloned()
        }
    }

    fn stream(&self, from: NodeId, to: NodeId, snapshot: &mut OutgoingSnapshot) -> io::Result<()> {
        let away = || io::Error::from(io::ErrorKind::NotConnected);
        let inbox = self.receiver(from, to).ok_or_else(away)?;
        let mut sink = match inbox.snapshot(from, snapshot.header.clone()) {
            Ok(sink) => sink,
            Err(SnapshotRefused::NotNeeded) => return Ok(()),
            Err(refused) => return Err(io::Error::other(refused)),
        };
        let mut offset = sink.resume_at();
        let mut chunk = vec![0; SNAPSHOT_CHUNK_BYTES_MAX];
        loop {
            self.receiver(from, to).ok_or_else(away)?;
            let read = snapshot.bytes.read_at(offset, &mut chunk)?;
            match chunk.get(..read).filter(|bytes| !bytes.is_empty()) {
                Some(bytes) => sink.write(bytes)?,
                None => return sink.finish(),
            }
            offset += read as u64;
        }
    }
}

impl fmt::Debug for InProcessNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<NodeId> = self.net.lock().hosts.keys().copied().collect();
        f.debug_struct("InProcessNetwork")
            .field("hosts", &hosts)
            .finish_non_exhaustive()
    }
}

struct InProcess {
    id: NodeId,
    network: InProcessNetwork,
}

impl Transport for InProcess {
    fn start(&self, inbox: Arc<dyn Inbox>) -> Result<(), TransportError> {
        let mut net = self.network.net.lock();
        if net.hosts.contains_key(&self.id) {
            return Err(TransportError::Started);
        }
        net.hosts.insert(self.id, inbox);
        Ok(())
    }

    fn send(&self, to: NodeId, envelope: Envelope) {
        self.network.deliver(self.id, to, envelope);
    }

    /// Runs to its end: the caller's thread is there for it.
    fn send_snapshot(&self, to: NodeId, mut outgoing: OutgoingSnapshot) {
        let sent = self.network.stream(self.id, to, &mut outgoing);
        let status = if sent.is_ok() {
            SnapshotStatus::Finished
        } else {
            SnapshotStatus::Failed
        };
        outgoing.done.report(status);
    }

    fn set_member(&self, _member: &Member) {}

    fn remove_member(&self, _id: NodeId) {}

    fn stop(&self) {
        self.network.net.lock().hosts.remove(&self.id);
    }
}
