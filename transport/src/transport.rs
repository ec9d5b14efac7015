//! The transport itself: a listening socket, a task per peer, a runtime of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftwerk::{Envelope, Inbox, Member, OutgoingSnapshot, Transport, TransportError};
use raftwerk_raft::NodeId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc, watch};
use tonic::transport::Server;

use crate::incoming;
use crate::listen;
use crate::options::{OpenError, Options};
use crate::outgoing::{self, CONNECTION_WINDOW_BYTES, Peer, STREAM_WINDOW_BYTES};
use crate::proto::peer_server::PeerServer;
use crate::queue::{Bounds, SendQueue};
use crate::shared::Shared;
use crate::snapshot;
use crate::stats::Stats;

/// How long stopping waits for what is under way.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Members that were just learned of and whose streams are not begun yet.
const LEARNED_MAX: usize = 64;

/// Members of one cluster over gRPC. See the crate's documentation.
#[derive(Debug)]
pub struct GrpcTransport {
    shared: Arc<Shared>,
    address: SocketAddr,
    handle: Handle,
    stop: watch::Sender<bool>,
    runtime: Mutex<Option<Runtime>>,
    listener: Mutex<Option<TcpListener>>,
}

impl GrpcTransport {
    /// Takes the port; nothing is accepted before [`Transport::start`].
    ///
    /// # Errors
    /// [`OpenError`]: an option, the address or the port cannot be had.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let address = options.listen;
        let listener =
            TcpListener::bind(address).map_err(|source| OpenError::Listen { address, source })?;
        Self::with_listener(options, listener)
    }

    /// The same on a port that the caller has taken already; `options.listen` becomes its address.
    ///
    /// # Errors
    /// [`OpenError`]: an option or the address cannot be had.
    pub fn with_listener(options: Options, listener: TcpListener) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Listen {
            address: options.listen,
            source,
        };
        let address = listener.local_addr().map_err(failed)?;
        let options = Options {
            listen: address,
            ..options
        };
        options.check()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("raftwerk-peers")
            .enable_all()
            .build()
            .map_err(OpenError::Runtime)?;
        let handle = runtime.handle().clone();
        let options = Options {
            listen: address,
            ..options
        };
        Ok(Self {
            shared: Arc::new(Shared::new(options)),
            address,
            handle,
            stop: watch::channel(false).0,
            runtime: Mutex::new(Some(runtime)),
            listener: Mutex::new(Some(listener)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// Begins the stream to a peer; one that exists begins anew if asked to.
    fn call(&self, id: NodeId, anew: bool) {
        call(&self.shared, &self.handle, id, anew);
    }

    fn send_some(&self, to: NodeId, envelopes: impl IntoIterator<Item = Envelope>) {
        if to == self.shared.options.id {
            return envelopes.into_iter().for_each(drop);
        }
        let existing = self.shared.peers.lock().get(&to).cloned();
        let Some(peer) = existing else {
            // No table and no call ever named it.
            let dropped = envelopes.into_iter().count();
            return self.shared.counters.send_dropped.add(dropped);
        };
        if peer.queue.push(envelopes) {
            let shared = Arc::clone(&self.shared);
            self.handle.spawn(async move { shared.unreachable(to) });
        }
    }

    fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        let _entered = self.handle.enter();
        let incoming = listen::Incoming::new(listener, self.shared.options.limits)?;
        let (learned, mut learning) = mpsc::channel(LEARNED_MAX);
        let service = incoming::Incoming {
            shared: Arc::clone(&self.shared),
            learned,
        };
        let service =
            PeerServer::new(service).max_decoding_message_size(self.shared.options.frame_bytes_max);
        let keepalive = Some(self.shared.options.keepalive);
        let server = Server::builder()
            .http2_keepalive_interval(keepalive)
            .http2_keepalive_timeout(keepalive)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(16)
            .http2_max_header_list_size(16 * 1024)
            .add_service(service);
        let mut stopped = self.stop.subscribe();
        self.handle.spawn(async move {
            let stopped = async move {
                // An error means that the transport is gone, which is a stop as well.
                drop(stopped.wait_for(|stop| *stop).await);
            };
            // Ends by the signal alone: the incoming stream never fails.
            drop(server.serve_with_incoming_shutdown(incoming, stopped).await);
        });
        let shared = Arc::clone(&self.shared);
        self.handle.spawn(async move {
            while let Some(id) = learning.recv().await {
                // Nobody is called who has been forgotten since.
                if !shared.members.addresses(id).is_empty() {
                    call(&shared, &Handle::current(), id, true);
                }
            }
        });
        Ok(())
    }
}

fn call(shared: &Arc<Shared>, handle: &Handle, id: NodeId, anew: bool) {
    let mut peers = shared.peers.lock();
    if let Some(peer) = peers.get(&id) {
        if anew {
            peer.changed.notify_one();
        }
        return;
    }
    let options = &shared.options;
    let bounds = Bounds {
        messages_max: options.queue_messages_max,
        bytes_max: options.queue_bytes_max,
        batch_bytes: options.batch_bytes,
        frame_bytes_max: options.frame_bytes_max,
    };
    let peer = Arc::new(Peer {
        id,
        queue: Arc::new(SendQueue::new(bounds, Arc::clone(&shared.counters))),
        changed: Notify::new(),
        gone: Notify::new(),
    });
    peers.insert(id, Arc::clone(&peer));
    drop(peers);
    handle.spawn(outgoing::run(Arc::clone(shared), peer));
}

impl Transport for GrpcTransport {
    fn start(&self, inbox: Arc<dyn Inbox>) -> Result<(), TransportError> {
        let Some(listener) = self.listener.lock().take() else {
            return Err(TransportError::Started);
        };
        if !self.shared.set_inbox(inbox) {
            return Err(TransportError::Started);
        }
        let address = self.address.to_string();
        self.serve(listener)
            .map_err(|source| TransportError::Listen { address, source })
    }

    fn send(&self, to: NodeId, envelope: Envelope) {
        self.send_some(to, [envelope]);
    }

    fn send_all(&self, envelopes: &mut Vec<(NodeId, Envelope)>) {
        // A stable sort: the order per peer stays.
        envelopes.sort_by_key(|(to, _)| *to);
        let mut rest = envelopes.drain(..).peekable();
        while let Some(to) = rest.peek().map(|(to, _)| *to) {
            let same = std::iter::from_fn(|| rest.next_if(|(other, _)| *other == to));
            self.send_some(to, same.map(|(_, envelope)| envelope));
        }
    }

    fn send_snapshot(&self, to: NodeId, outgoing: OutgoingSnapshot) {
        self.handle
            .spawn(snapshot::send::send(Arc::clone(&self.shared), to, outgoing));
    }

    fn set_member(&self, member: &Member) {
        if member.id == self.shared.options.id || member.id == NodeId::ZERO {
            return;
        }
        let changed = self.shared.members.set(member);
        if changed {
            self.shared.deafen(member.id);
        }
        self.call(member.id, changed);
    }

    fn remove_member(&self, id: NodeId) {
        self.shared.members.remove(id);
        self.shared.forget(id);
    }

    fn stop(&self) {
        self.shared.stop();
        self.stop.send_replace(true);
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        // On a thread of its own: a runtime may not be waited for from inside of another one.
        let ending = std::thread::Builder::new()
            .name("raftwerk-peers-end".to_owned())
            .spawn(move || runtime.shutdown_timeout(STOP_MAX));
        if let Ok(ending) = ending {
            // Joining fails only when that thread panicked, and then it has ended too.
            drop(ending.join());
        }
    }
}

impl Drop for GrpcTransport {
    fn drop(&mut self) {
        self.stop();
    }
}
