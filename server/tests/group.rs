//! The services over groups of the runtime: three members of one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{is, put, range, remove};
use raftwerk::{Group, GroupConfig, Host, HostConfig, InProcessNetwork, Member, Start};
use raftwerk_raft::{GroupId, NodeId};
use raftwerk_server::api::{DiskGate, GroupReplica, Identity, services};
use raftwerk_server::kv::Machine;
use raftwerk_server::proto::etcdserverpb::cluster_client::ClusterClient;
use raftwerk_server::proto::etcdserverpb::kv_client::KvClient;
use raftwerk_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use raftwerk_server::proto::etcdserverpb::{
    HashKvRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MoveLeaderRequest,
    RangeRequest, StatusRequest,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions, MemStore};
use raftwerk_testkit::fault_vfs::FaultVfs;
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

const GROUP: GroupId = GroupId(1);

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

#[tokio::test(flavor = "multi_thread")]
async fn write_at_any_member_is_read_at_every_member() {
    let (_network, nodes) = cluster(3).await;
    for (number, node) in nodes.iter().enumerate() {
        let revision = node
            .kv()
            .put(put("key", "value"))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(revision.header.unwrap().revision, number as i64 + 2);
    }
    let mut hashes = Vec::new();
    for node in &nodes {
        let answer = node
            .kv()
            .range(range("key", ""))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (answer.kvs[0].version, answer.header.unwrap().revision),
            (3, 4)
        );
        assert!(answer.header.unwrap().raft_term > 0);
        let hash = node
            .maintenance()
            .hash_kv(HashKvRequest { revision: 4 })
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
    nodes[0].kv().put(put("key", "value")).await.unwrap();
    nodes[2].kv().range(range("key", "")).await.unwrap();
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
    nodes[0].kv().put(put("key", "newer")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn member_is_added_as_a_learner_promoted_and_removed() {
    let (network, nodes) = cluster(3).await;
    nodes[0].kv().put(put("key", "value")).await.unwrap();
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
    is(
        &status,
        Code::FailedPrecondition,
        "etcdserver: Peer URLs already exists",
    );

    let added = cluster
        .member_add(add("http://127.0.0.1:9", true))
        .await
        .unwrap()
        .into_inner();
    let id = added.member.unwrap().id;
    assert_eq!(added.members.len(), 4);
    let promote = MemberPromoteRequest { id };
    let status = cluster.member_promote(promote).await.unwrap_err();
    let behind = "etcdserver: can only promote a learner member which is in sync with leader";
    is(&status, Code::FailedPrecondition, behind);
    let contacts = vec![member(1), member(2), member(3)];
    let node = Node::start(&network, id, Start::Join { contacts }).await;
    // Linearizable, so the learner holds everything when it has answered.
    let read = node.kv().range(range("key", "")).await.unwrap();
    assert_eq!(read.into_inner().count, 1);
    while let Err(status) = cluster.member_promote(promote).await {
        is(&status, Code::FailedPrecondition, behind);
    }
    // It never told its name, so the leader looks how far it is first, as of the last tick.
    let voter = "etcdserver: can only promote a learner member";
    loop {
        let status = cluster.member_promote(promote).await.unwrap_err();
        if status.message() == voter {
            break;
        }
        is(&status, Code::FailedPrecondition, behind);
    }
    remove(&mut cluster, id, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_never_started_may_not_become_a_majority() {
    let (_network, nodes) = cluster(1).await;
    let mut cluster = nodes[0].cluster();
    let listed = cluster
        .member_list(MemberListRequest { linearizable: true })
        .await
        .unwrap();
    assert_eq!(listed.into_inner().members[0].name, "m1");
    let add = |port: u16| MemberAddRequest {
        peer_ur_ls: vec![format!("http://127.0.0.1:{port}")],
        is_learner: false,
    };
    // The second member may be added before it runs, which costs the quorum until it does.
    let added = cluster.member_add(add(9)).await.unwrap().into_inner();
    assert_eq!(added.members.len(), 2);
    let status = cluster.member_add(add(10)).await.unwrap_err();
    let refused = "etcdserver: re-configuration failed due to not enough started members";
    is(&status, Code::FailedPrecondition, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_where_it_is_told() {
    let (_network, nodes) = cluster(3).await;
    nodes[0].kv().put(put("key", "value")).await.unwrap();
    let status = nodes[0]
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let leader = status.leader;
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
    maintenance
        .move_leader(MoveLeaderRequest { target_id: next })
        .await
        .unwrap();
    let status = at(next)
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.leader, next);
    assert!(
        status.raft_applied_index > 0 && status.errors.is_empty(),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_the_disk_is_full_and_reads_are_not() {
    let (_network, nodes) = cluster(1).await;
    nodes[0].kv().put(put("key", "value")).await.unwrap();
    nodes[0].vfs.set_capacity(Some(1024));
    let status = loop {
        match nodes[0].kv().put(put("key", "value")).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => break status,
        }
    };
    is(
        &status,
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded",
    );
    nodes[0].kv().range(range("key", "")).await.unwrap();
    let standing = nodes[0]
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        standing.errors,
        ["etcdserver: mvcc: database space exceeded"]
    );
    nodes[0].vfs.set_capacity(None);
    while nodes[0].kv().put(put("key", "value")).await.is_err() {
        tokio::task::yield_now().await;
    }
}
