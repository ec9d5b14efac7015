//! The services over groups of the runtime: three members of one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod common;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{is, put, range, remove};
use raftwerk::{Group, GroupConfig, Host, HostConfig, InProcessNetwork, Member, Start};
use raftwerk_raft::{GroupId, NodeId};
use raftwerk_server::api::{DiskGate, GroupReplica, Identity, services};
use raftwerk_server::kv::Machine;
use raftwerk_server::proto::etcdserverpb::cluster_client::ClusterClient;
use raftwerk_server::proto::etcdserverpb::kv_client::KvClient;
use raftwerk_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use raftwerk_server::proto::etcdserverpb::{
    HashKvRequest, Member as ApiMember, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MoveLeaderRequest, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions, MemStore};
use raftwerk_testkit::fault_vfs::FaultVfs;
use raftwerk_testkit::processes::PATIENCE;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Response, Status};

const GROUP: GroupId = GroupId(1);
/// Of a member that is added again.
const EXISTS: &str = "etcdserver: Peer URLs already exists";
/// Of a member that is told to move a leadership that it does not have.
const NOT_LEADER: &str = "etcdserver: not leader";

struct Node {
    host: Host,
    group: Group,
    vfs: FaultVfs,
    channel: Channel,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.host.stop();
    }
}

impl Node {
    async fn start(network: &InProcessNetwork, id: u64, start: Start) -> Self {
        let vfs = FaultVfs::new();
        let mut config = HostConfig::new(NodeId(id), "/snapshots");
        // Members that stand still for a while on a busy machine must not elect another leader.
        config.tick = Duration::from_millis(50);
        config.vfs = Arc::new(vfs.clone());
        let log = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
        let host = Host::start(config, log, network.join(NodeId(id))).unwrap();
        let machine = Machine::new(Arc::new(MemStore::new())).unwrap();
        let reader = machine.reader();
        let mut options = GroupConfig::new(start);
        options.raft.election_ticks = 60;
        let group = host.open_group(GROUP, options, Box::new(machine)).unwrap();
        let identity = Identity {
            cluster_id: 77,
            member_id: id,
        };
        let gate = DiskGate::new(Arc::new(vfs.clone()), "/snapshots", 1 << 20);
        let replica = Arc::new(GroupReplica::new(group.clone(), identity, gate));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let services = services(replica, reader);
        tokio::spawn(async move {
            let server = Server::builder().serve_with_incoming(services, incoming);
            server.await.unwrap();
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            host,
            group,
            vfs,
            channel: endpoint.connect().await.unwrap(),
        }
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }
}

fn member(id: u64) -> Member {
    Member {
        name: format!("m{id}"),
        peer_urls: vec![format!("http://127.0.0.1:{}", 1000 + id)],
        client_urls: vec![format!("http://127.0.0.1:{}", 2000 + id)],
        ..Member::new(NodeId(id))
    }
}

async fn cluster(size: u64) -> (InProcessNetwork, Vec<Node>) {
    let network = InProcessNetwork::new();
    let members: Vec<_> = (1..=size).map(member).collect();
    let mut nodes = Vec::new();
    for id in 1..=size {
        let start = Start::Bootstrap {
            members: members.clone(),
        };
        nodes.push(Node::start(&network, id, start).await);
    }
    nodes[0].group.campaign();
    for node in &nodes {
        let led = node.group.until(|status| status.leader.is_some());
        led.await.unwrap();
    }
    (network, nodes)
}

/// Asks until it is answered: on a busy machine a request may take longer than it is given. For
/// what may be done more than once.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => assert!(
                status.code() == Code::Unavailable && began.elapsed() < PATIENCE,
                "{status}"
            ),
        }
    }
}

async fn put_patiently(node: &Node, value: &str) -> i64 {
    let answer = patiently(|| {
        let mut kv = node.kv();
        async move { kv.put(put("key", value)).await }
    });
    answer.await.header.unwrap().revision
}

async fn get_patiently(node: &Node) -> RangeResponse {
    let answer = patiently(|| {
        let mut kv = node.kv();
        async move { kv.range(range("key", "")).await }
    });
    answer.await
}

async fn status_patiently(node: &Node) -> StatusResponse {
    let answer = patiently(|| {
        let mut maintenance = node.maintenance();
        async move { maintenance.status(StatusRequest {}).await }
    });
    answer.await
}

/// Adds a member until the list shows it, and gives the list and its id.
async fn add_patiently(node: &Node, add: &MemberAddRequest) -> (Vec<ApiMember>, u64) {
    let began = Instant::now();
    let mut may_be_added = false;
    loop {
        let asked = node.cluster().member_add(add.clone()).await;
        if let Err(status) = &asked {
            let exists = status.message() == EXISTS && may_be_added;
            assert!(exists || status.code() == Code::Unavailable, "{status}");
        }
        may_be_added = true;
        let list = patiently(|| {
            let mut cluster = node.cluster();
            async move {
                let request = MemberListRequest { linearizable: true };
                cluster.member_list(request).await
            }
        });
        let members = list.await.members;
        let added = members.iter().find(|m| m.peer_ur_ls == add.peer_ur_ls);
        if let Some(id) = added.map(|member| member.id) {
            return (members, id);
        }
        assert!(began.elapsed() < PATIENCE, "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_at_any_member_is_done_once_and_read_at_every_member() {
    let (_network, nodes) = cluster(3).await;
    // A key for each try: one that took too long may be done, and none may be done twice.
    let tries = AtomicUsize::new(0);
    let mut newest = 1;
    for node in &nodes {
        let answer = patiently(|| {
            let mut kv = node.kv();
            let key = format!("key {}", tries.fetch_add(1, Ordering::Relaxed));
            async move { kv.put(put(&key, "value")).await }
        });
        let revision = answer.await.header.unwrap().revision;
        assert!(revision > newest, "{revision} after {newest}");
        newest = revision;
    }
    let mut hashes = Vec::new();
    for node in &nodes {
        let answer = patiently(|| {
            let mut kv = node.kv();
            async move { kv.range(range("key ", "key!")).await }
        });
        let answer = answer.await;
        let header = answer.header.unwrap();
        assert!((3..=tries.load(Ordering::Relaxed)).contains(&answer.kvs.len()));
        let versions: Vec<i64> = answer.kvs.iter().map(|kv| kv.version).collect();
        assert!(versions.iter().all(|version| *version == 1), "{versions:?}");
        assert_eq!(header.revision, 1 + answer.count);
        assert!(header.revision >= newest && header.raft_term > 0);
        let hash = node
            .maintenance()
            .hash_kv(HashKvRequest { revision: newest })
            .await
            .unwrap();
        hashes.push(hash.into_inner().hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn member_cut_off_answers_local_reads_only() {
    let (network, nodes) = cluster(3).await;
    put_patiently(&nodes[0], "value").await;
    get_patiently(&nodes[2]).await;
    network.isolate(NodeId(3));
    let local = RangeRequest {
        serializable: true,
        ..range("key", "")
    };
    assert_eq!(
        nodes[2].kv().range(local).await.unwrap().into_inner().count,
        1
    );
    let status = nodes[2].kv().range(range("key", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    put_patiently(&nodes[0], "newer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn member_is_added_as_a_learner_promoted_and_removed() {
    let (network, nodes) = cluster(3).await;
    put_patiently(&nodes[0], "value").await;
    let add = |url: &str, is_learner| MemberAddRequest {
        peer_ur_ls: vec![url.to_owned()],
        is_learner,
    };
    let mut cluster = nodes[0].cluster();
    let status = cluster.member_add(add("nonsense", true)).await.unwrap_err();
    is(
        &status,
        Code::InvalidArgument,
        "etcdserver: given member URLs are invalid",
    );
    let status = cluster
        .member_add(add("http://127.0.0.1:1002", true))
        .await
        .unwrap_err();
    is(&status, Code::FailedPrecondition, EXISTS);

    let (members, id) = add_patiently(&nodes[0], &add("http://127.0.0.1:9", true)).await;
    assert_eq!(members.len(), 4);
    let promote = MemberPromoteRequest { id };
    let status = cluster.member_promote(promote).await.unwrap_err();
    let behind = "etcdserver: can only promote a learner member which is in sync with leader";
    is(&status, Code::FailedPrecondition, behind);
    let contacts = vec![member(1), member(2), member(3)];
    let node = Node::start(&network, id, Start::Join { contacts }).await;
    // Linearizable, so the learner holds everything when it has answered.
    assert_eq!(get_patiently(&node).await.count, 1);
    // It never told its name, so the leader looks how far it is first, as of the last tick; once it
    // is a voter, it says so.
    let voter = "etcdserver: can only promote a learner member";
    let began = Instant::now();
    loop {
        match cluster.member_promote(promote).await {
            Err(status) if status.message() == voter => break,
            Err(status) if status.code() == Code::FailedPrecondition => {
                assert_eq!(status.message(), behind);
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            Ok(answer) => assert!(answer.into_inner().members.iter().all(|m| !m.is_learner)),
        }
        assert!(began.elapsed() < PATIENCE, "it stays a learner");
    }
    remove(&mut cluster, id, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_never_started_may_not_become_a_majority() {
    let (_network, nodes) = cluster(1).await;
    let add = |port: u16| MemberAddRequest {
        peer_ur_ls: vec![format!("http://127.0.0.1:{port}")],
        is_learner: false,
    };
    // The second member may be added before it runs, which costs the quorum until it does: nothing
    // can be read at this one then but its own table.
    let mut cluster = nodes[0].cluster();
    let listed = cluster.member_list(MemberListRequest { linearizable: true });
    assert_eq!(listed.await.unwrap().into_inner().members[0].name, "m1");
    let added = cluster.member_add(add(9)).await.unwrap().into_inner();
    assert_eq!(added.members.len(), 2);
    let status = cluster.member_add(add(10)).await.unwrap_err();
    let refused = "etcdserver: re-configuration failed due to not enough started members";
    is(&status, Code::FailedPrecondition, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_where_it_is_told() {
    let (_network, nodes) = cluster(3).await;
    put_patiently(&nodes[0], "value").await;
    let leader = status_patiently(&nodes[0]).await.leader;
    let at = |id: u64| &nodes[usize::try_from(id).unwrap() - 1];
    let next = leader % 3 + 1;
    let mut maintenance = at(leader).maintenance();
    let status = maintenance
        .move_leader(MoveLeaderRequest { target_id: 99 })
        .await
        .unwrap_err();
    is(
        &status,
        Code::FailedPrecondition,
        "etcdserver: bad leader transferee",
    );
    let began = Instant::now();
    let mut may_have_moved = false;
    let status = loop {
        let request = MoveLeaderRequest { target_id: next };
        let moved = maintenance.move_leader(request).await;
        match &moved {
            Ok(_) => may_have_moved = true,
            Err(status) if status.message() == NOT_LEADER => {}
            // After one that was given up none is taken for a while.
            Err(status) if may_have_moved && status.code() == Code::ResourceExhausted => {}
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                // What was not answered in time may be done all the same.
                may_have_moved = true;
            }
        }
        let status = status_patiently(at(next)).await;
        if status.leader == next {
            break status;
        }
        // Whoever took the lead in between would have to be asked.
        assert!(began.elapsed() < PATIENCE, "{moved:?}");
    };
    assert!(may_have_moved, "it leads without having been told to");
    assert!(
        status.raft_applied_index > 0 && status.errors.is_empty(),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_the_disk_is_full_and_reads_are_not() {
    let (_network, nodes) = cluster(1).await;
    put_patiently(&nodes[0], "value").await;
    nodes[0].vfs.set_capacity(Some(1024));
    let began = Instant::now();
    let status = loop {
        match nodes[0].kv().put(put("key", "value")).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => break status,
        }
        assert!(began.elapsed() < PATIENCE, "writes are not refused");
    };
    is(
        &status,
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded",
    );
    get_patiently(&nodes[0]).await;
    let standing = status_patiently(&nodes[0]).await;
    assert_eq!(
        standing.errors,
        ["etcdserver: mvcc: database space exceeded"]
    );
    nodes[0].vfs.set_capacity(None);
    let began = Instant::now();
    while let Err(status) = nodes[0].kv().put(put("key", "value")).await {
        assert!(began.elapsed() < PATIENCE, "{status}");
        tokio::task::yield_now().await;
    }
}
