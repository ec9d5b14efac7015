//! The parts of a member, put together and taken apart again.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use raftwerk::{
    Group, GroupConfig, Host, HostConfig, Incarnation, Limits, SnapshotPolicy, Transport,
};
use raftwerk_raft::{Config, GroupId, NodeId, StateMachine, Storage};
use raftwerk_transport::{ClusterId, GrpcTransport, OnRefused, Options};
use raftwerk_wal::Wal;
use tokio::sync::mpsc;

use super::backends::{OpenLog, SNAPSHOT_DIR, STATE_DIR, disk, open_log, open_store};
use super::folder::{MemberFolder, Stored};
use super::refusals::Refusals;
use super::scrub::Scrubbed;
use super::turns::Turns;
use super::{End, StopOnDrop, admin, ending, join};
use crate::api::{DiskGate, GroupReplica, Identity, Services, services};
use crate::cli::CliError;
use crate::config::{LogBackend, Settings, Start, StoreBackend};
use crate::kv::{Machine, Reader};
use crate::proto::admin::admin_server::AdminServer;

/// The store's one group.
const GROUP: GroupId = GroupId(1);
/// The ports, taken before anything else is touched.
pub(crate) struct Ports {
    pub(crate) client: TcpListener,
    pub(crate) peer: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
}

impl Ports {
    /// # Errors
    /// Which port cannot be had, for what, and what to do.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, CliError> {
        let bind = |flag: &str, address: SocketAddr| {
            TcpListener::bind(address).map_err(|error| {
                CliError::failed(format!(
                    "cannot listen on {address}: {error}; end whoever uses it or set {flag}"
                ))
            })
        };
        Ok(Self {
            client: bind("--listen-client", settings.listen_client)?,
            peer: bind("--listen-peer", settings.listen_peer)?,
            metrics: settings
                .metrics
                .map(|address| bind("--metrics", address))
                .transpose()?,
        })
    }
}

/// One running member.
pub(crate) struct Member {
    pub(crate) cluster: ClusterId,
    /// What it tells the others about itself.
    pub(crate) record: raftwerk::Member,
    pub(crate) host: Host,
    pub(crate) group: Group,
    pub(crate) storage: Arc<dyn Storage>,
    /// The log, if it is one that counts what it does.
    pub(crate) wal: Option<Arc<Wal>>,
    pub(crate) transport: Arc<GrpcTransport>,
    pub(crate) replica: Arc<GroupReplica>,
    pub(crate) reader: Reader,
    pub(crate) folder: MemberFolder,
    pub(crate) log: LogBackend,
    pub(crate) store: StoreBackend,
    pub(crate) ending: mpsc::Sender<End>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) scrubbed: Arc<Scrubbed>,
    pub(crate) started: Instant,
}

/// Who this member is and how its group begins.
struct Origin {
    cluster: ClusterId,
    id: NodeId,
    start: raftwerk::Start,
}

impl Member {
    /// Opens the folder and starts everything but the ports for clients.
    ///
    /// # Errors
    /// What is wrong, and what to do; nothing runs then.
    pub(crate) async fn open(
        settings: &Settings,
        peers: TcpListener,
        ending: mpsc::Sender<End>,
    ) -> Result<Arc<Self>, CliError> {
        let stored = Stored::read(&settings.data)?;
        if let Some(stored) = &stored {
            stored.check(settings)?;
        }
        let origin = origin(settings, stored.as_ref()).await?;
        let folder = MemberFolder::claim(&settings.data)?;
        if stored.is_none() {
            refuse_leftovers(settings)?;
        }
        let OpenLog {
            storage,
            wal,
            incarnation,
        } = open_log(settings, folder.path())?;
        let store = open_store(settings, folder.path())?;
        if stored.is_none() {
            settings
                .stored(origin.cluster, origin.id)
                .write(folder.path())?;
        }
        let machine = Machine::new(store)
            .map_err(|error| CliError::failed(format!("state store: {error}")))?;
        let reader = machine.reader();

        let known: Arc<OnceLock<Group>> = Arc::default();
        let refusals: Arc<Refusals> = Arc::default();
        let mut options = transport_options(settings, &origin, incarnation);
        options.on_refused = Some(end_when_refused(origin.id, &refusals, &known, &ending));
        let transport = GrpcTransport::with_listener(options, peers)
            .map_err(|error| CliError::failed(error.to_string()))?;
        let transport = Arc::new(transport);
        let guard = StopOnDrop(Some(Arc::clone(&transport) as Arc<dyn Transport>));
        let (host, group) =
            start(settings, &origin, &storage, &transport, Box::new(machine)).await?;
        guard.keep();
        // Set once, here.
        let _ = known.set(group.clone());
        let identity = Identity {
            cluster_id: origin.cluster.0,
            member_id: origin.id.0,
        };
        let gate = DiskGate::new(disk(), folder.path(), settings.disk_reserve_bytes);
        let record = record(settings, origin.id, incarnation);
        Ok(Arc::new(Self {
            cluster: origin.cluster,
            record,
            host,
            replica: Arc::new(GroupReplica::new(group.clone(), identity, gate)),
            group,
            storage,
            wal,
            transport,
            reader,
            folder,
            log: settings.log,
            store: settings.store,
            ending,
            refusals,
            scrubbed: Arc::default(),
            started: Instant::now(),
        }))
    }

    /// Everything that clients may call.
    pub(crate) fn services(self: &Arc<Self>, ending: mpsc::Sender<End>) -> Services {
        let replica = Arc::clone(&self.replica);
        let admin = admin::AdminService {
            member: Arc::clone(self),
            ending,
        };
        services(replica, self.reader.clone())
            .and(|others| others.add_service(AdminServer::new(admin)))
    }

    /// Lets another member lead if this one does.
    pub(crate) async fn hand_over(&self) {
        ending::hand_over(&self.group).await;
    }

    /// Ends the group, the log and the network, in this order, and waits for it.
    ///
    /// # Errors
    /// What it holds in memory does not come to disk.
    pub(crate) async fn stop(self: Arc<Self>) -> Result<(), CliError> {
        ending::stop(self.host.clone(), ending::STOP_MAX).await
    }
}

/// What a member tells the others about itself.
fn record(settings: &Settings, id: NodeId, incarnation: Incarnation) -> raftwerk::Member {
    raftwerk::Member {
        id,
        incarnation,
        peer_urls: settings.peer_urls(id),
        client_urls: vec![format!("http://{}", settings.listen_client)],
        name: settings.name.clone(),
    }
}

/// What the folder says, else what the flags say, else what the cluster says.
async fn origin(settings: &Settings, stored: Option<&Stored>) -> Result<Origin, CliError> {
    if let Some(stored) = stored {
        let number = |text: &str| {
            u64::from_str_radix(text, 16).map_err(|_| {
                let folder = settings.data.display();
                CliError::failed(format!("{folder}/member.toml is damaged: {text:?}"))
            })
        };
        let (cluster, id) = (
            ClusterId(number(&stored.cluster)?),
            NodeId(number(&stored.id)?),
        );
        // A first start may have ended before the group began: then it begins now.
        let start = match &settings.start {
            Start::Initial { cluster: given, .. } if *given == cluster => settings.bootstrap(),
            _ => raftwerk::Start::Join {
                contacts: Vec::new(),
            },
        };
        return Ok(Origin { cluster, id, start });
    }
    match &settings.start {
        Start::Initial {
            cluster, members, ..
        } => {
            let own = members.iter().find(|member| member.name == settings.name);
            let id = own.map(|member| member.id).unwrap_or_default();
            Ok(Origin {
                cluster: *cluster,
                id,
                start: settings.bootstrap(),
            })
        }
        Start::Join { endpoints, id } => {
            let found = join::find(settings, endpoints, *id).await?;
            let start = raftwerk::Start::Join {
                contacts: found.others,
            };
            Ok(Origin {
                cluster: found.cluster,
                id: found.id,
                start,
            })
        }
    }
}

/// A folder without its member file, but with a state, is no folder to begin in.
fn refuse_leftovers(settings: &Settings) -> Result<(), CliError> {
    let state = settings.data.join(STATE_DIR);
    if settings.log == LogBackend::Mem && state.exists() {
        return Err(CliError::failed(format!(
            "{} is left over from an earlier member: delete it, or choose another folder with \
             --data",
            state.display()
        )));
    }
    Ok(())
}

fn transport_options(settings: &Settings, origin: &Origin, incarnation: Incarnation) -> Options {
    let own = origin.id;
    let mut options = Options::new(origin.cluster, own, incarnation, settings.listen_peer);
    options.advertise = settings.peer_urls(own).first().cloned();
    options
}

/// Ends the member once the others' words leave no doubt.
fn end_when_refused(
    own: NodeId,
    refusals: &Arc<Refusals>,
    group: &Arc<OnceLock<Group>>,
    ending: &mpsc::Sender<End>,
) -> OnRefused {
    let (refusals, group, ending) = (Arc::clone(refusals), Arc::clone(group), ending.clone());
    Arc::new(move |peer, refusal| {
        let members = group
            .get()
            .map_or(usize::MAX, |group| group.members().len());
        let others = members.saturating_sub(1).max(1);
        if let Some(reason) = refusals.take(own, others, peer, refusal, Instant::now()) {
            // A full channel means that the member is ending already.
            let _ = ending.try_send(End::Refused(reason));
        }
    })
}

/// Starts the host and opens the group, on a thread that may block.
async fn start(
    settings: &Settings,
    origin: &Origin,
    storage: &Arc<dyn Storage>,
    transport: &Arc<GrpcTransport>,
    machine: Box<dyn StateMachine>,
) -> Result<(Host, Group), CliError> {
    let mut config = HostConfig::new(origin.id, settings.data.join(SNAPSHOT_DIR));
    config.tick = settings.heartbeat;
    let turns = Arc::new(Turns::default());
    config.on_request = Some(Waker::from(Arc::clone(&turns)));
    let mut group = GroupConfig::new(origin.start.clone());
    group.raft = Config {
        election_ticks: settings.election_ticks,
        ..group.raft
    };
    let defaults = SnapshotPolicy::default();
    group.snapshot = SnapshotPolicy {
        entries: settings.snapshot_entries.unwrap_or(defaults.entries),
        // Whoever names a number means it.
        growth: match settings.snapshot_entries {
            Some(_) => 0,
            None => defaults.growth,
        },
        trailing_entries: settings.snapshot_keep,
        ..defaults
    };
    let ticks = |seconds: u128| {
        let ticks = seconds * 1000 / settings.heartbeat.as_millis().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
    };
    group.limits = Limits {
        leader_wait_ticks: ticks(5),
        proposal_ticks: ticks(7),
        read_ticks: ticks(5),
        ..group.limits
    };
    let storage = Arc::clone(storage);
    let transport: Arc<dyn Transport> = Arc::clone(transport) as Arc<dyn Transport>;
    let opened = tokio::task::spawn_blocking(move || {
        let host = Host::start(config, storage, transport).map_err(|error| error.to_string())?;
        match host.open_group(GROUP, group, machine) {
            Ok(group) => Ok((host, group)),
            Err(error) => {
                host.stop();
                Err(error.to_string())
            }
        }
    });
    let opened = opened.await.unwrap_or_else(|error| Err(error.to_string()));
    let (host, group) = opened.map_err(CliError::failed)?;
    tokio::spawn(turns.run(host.clone()));
    Ok((host, group))
}
