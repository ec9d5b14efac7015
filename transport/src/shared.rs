//! What every task of one transport sees.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raftwerk::{Envelope, Inbox};
use raftwerk_raft::NodeId;
use tokio::sync::{Semaphore, oneshot};

use crate::identity::{Hello, Refusal};
use crate::members::Members;
use crate::options::Options;
use crate::outgoing::Peer;
use crate::stats::Counters;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) members: Members,
    pub(crate) counters: Arc<Counters>,
    pub(crate) peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    pub(crate) snapshot_slots: Arc<Semaphore>,
    /// Peers that a snapshot is on its way to.
    pub(crate) sending: Mutex<std::collections::BTreeSet<NodeId>>,
    inbox: OnceLock<InboxHandle>,
    /// The stream now heard from each peer; dropping the sender ends it.
    heard: Mutex<BTreeMap<NodeId, oneshot::Sender<()>>>,
    stopped: AtomicBool,
}

struct InboxHandle(Arc<dyn Inbox>);

impl std::fmt::Debug for InboxHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        let slots = Semaphore::new(options.snapshot_streams_max);
        Self {
            options,
            members: Members::default(),
            counters: Arc::default(),
            peers: Mutex::default(),
            snapshot_slots: Arc::new(slots),
            sending: Mutex::default(),
            inbox: OnceLock::new(),
            heard: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// False when it was set before.
    pub(crate) fn set_inbox(&self, inbox: Arc<dyn Inbox>) -> bool {
        self.inbox.set(InboxHandle(inbox)).is_ok()
    }

    /// The inbox, between start and stop.
    pub(crate) fn inbox(&self) -> Option<&Arc<dyn Inbox>> {
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        self.inbox.get().map(|handle| &handle.0)
    }

    /// No call of the inbox begins after this but those already under way.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.heard.lock().clear();
    }

    /// Hands on what there is room for; the rest stays.
    pub(crate) fn receive(&self, from: NodeId, envelopes: &mut VecDeque<Envelope>) {
        if let Some(inbox) = self.inbox() {
            inbox.receive_all(from, envelopes);
        }
    }

    pub(crate) fn unreachable(&self, peer: NodeId) {
        if let Some(inbox) = self.inbox() {
            inbox.unreachable(peer);
        }
    }

    pub(crate) fn refused_by(&self, peer: NodeId, refusal: &Refusal) {
        if let Some(on_refused) = &self.options.on_refused {
            on_refused(peer, refusal);
        }
    }

    /// What this member says about itself to `to`.
    pub(crate) fn hello(&self, to: NodeId) -> Hello {
        let advertise = &self.options.advertise;
        Hello {
            cluster: self.options.cluster,
            from: self.options.id,
            to,
            store: self.options.incarnation,
            peer_url: advertise
                .clone()
                .or_else(|| Some(format!("http://{}", self.options.listen))),
        }
    }

    /// From now on the stream that holds the returned end is the one heard from `peer`; the one
    /// before it ends, so that two connections never mix their order.
    pub(crate) fn hear(&self, peer: NodeId) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        self.heard.lock().insert(peer, end);
        ended
    }

    /// Ends the streams from and to `peer`, if there are any.
    pub(crate) fn forget(&self, peer: NodeId) {
        self.deafen(peer);
        if let Some(peer) = self.peers.lock().remove(&peer) {
            peer.gone.notify_one();
        }
    }

    /// Ends the stream from `peer`, if there is one.
    pub(crate) fn deafen(&self, peer: NodeId) {
        self.heard.lock().remove(&peer);
    }
}
