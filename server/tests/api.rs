//! The services over the wire, on a replica without a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod common;
#[path = "common/fake.rs"]
mod fake;

use common::{Fixture, delete, is, op, put, puts, range, remove};
use fake::{connect, serve};
use raftwerk_server::api::ReplicaError;
use raftwerk_server::kv::REQUEST_BYTES_MAX;
use raftwerk_server::proto::etcdserverpb::alarm_request::AlarmAction;
use raftwerk_server::proto::etcdserverpb::auth_client::AuthClient;
use raftwerk_server::proto::etcdserverpb::cluster_client::ClusterClient;
use raftwerk_server::proto::etcdserverpb::kv_client::KvClient;
use raftwerk_server::proto::etcdserverpb::lease_client::LeaseClient;
use raftwerk_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use raftwerk_server::proto::etcdserverpb::request_op::Request;
use raftwerk_server::proto::etcdserverpb::watch_client::WatchClient;
use raftwerk_server::proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, CompactionRequest, DefragmentRequest, HashKvRequest,
    LeaseGrantRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest, SnapshotRequest,
    StatusRequest, TxnRequest, WatchRequest,
};
use tonic::Code;

#[tokio::test]
async fn answers_carry_who_answered_and_the_revision() {
    let (_, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let header = kv
        .put(put("a", "1"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    assert_eq!((header.cluster_id, header.member_id), (77, 1));
    assert_eq!((header.revision, header.raft_term), (2, 3));
    let answer = kv.range(range("a", "")).await.unwrap().into_inner();
    assert_eq!(answer.kvs[0].value.as_ref(), b"1");
    assert_eq!(answer.header.unwrap().revision, 2);
    let answer = kv.range(range("\0", "\0")).await.unwrap().into_inner();
    assert_eq!(answer.count, 1);
    let gone = kv.delete_range(delete("a", "")).await.unwrap().into_inner();
    assert_eq!((gone.deleted, gone.header.unwrap().raft_term), (1, 3));
    let txn = TxnRequest {
        success: puts(&[("b", "1")]),
        ..TxnRequest::default()
    };
    let done = kv.txn(txn).await.unwrap().into_inner();
    assert_eq!(
        (done.succeeded, done.header.unwrap().cluster_id),
        (true, 77)
    );
}

#[tokio::test]
async fn linearizable_reads_ask_the_group_and_serializable_ones_do_not() {
    let (replica, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let serializable = RangeRequest {
        serializable: true,
        ..range("a", "")
    };
    kv.range(serializable.clone()).await.unwrap();
    let local = vec![op(Request::RequestRange(serializable))];
    kv.txn(TxnRequest {
        success: local,
        ..TxnRequest::default()
    })
    .await
    .unwrap();
    assert_eq!(replica.barriers(), 0);
    kv.range(range("a", "")).await.unwrap();
    let read = vec![op(Request::RequestRange(range("a", "b")))];
    kv.txn(TxnRequest {
        success: read,
        ..TxnRequest::default()
    })
    .await
    .unwrap();
    assert_eq!(replica.barriers(), 2);
}

#[tokio::test]
async fn refusals_have_the_codes_and_words_of_the_public_api() {
    let (_, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let status = kv.put(put("", "1")).await.unwrap_err();
    is(
        &status,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let status = kv.range(range("", "")).await.unwrap_err();
    is(
        &status,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let keeping = PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    let status = kv.put(keeping).await.unwrap_err();
    is(&status, Code::InvalidArgument, "etcdserver: key not found");
    let status = kv
        .put(PutRequest {
            lease: 5,
            ..put("a", "")
        })
        .await
        .unwrap_err();
    is(
        &status,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    kv.put(put("a", "")).await.unwrap();
    let old = RangeRequest {
        revision: 1,
        ..range("a", "")
    };
    let status = kv.range(old).await.unwrap_err();
    is(
        &status,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let future = RangeRequest {
        revision: 99,
        ..range("a", "")
    };
    let status = kv.range(future).await.unwrap_err();
    is(
        &status,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
}

#[tokio::test]
async fn requests_are_refused_by_their_size_and_form() {
    let (_, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let large = PutRequest {
        value: vec![0; REQUEST_BYTES_MAX].into(),
        ..put("a", "")
    };
    let status = kv.put(large).await.unwrap_err();
    is(
        &status,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let twice = TxnRequest {
        success: puts(&[("a", "1"), ("a", "2")]),
        ..TxnRequest::default()
    };
    let status = kv.txn(twice).await.unwrap_err();
    is(
        &status,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    let largest = PutRequest {
        value: vec![0; REQUEST_BYTES_MAX - 64].into(),
        ..put("a", "")
    };
    kv.put(largest).await.unwrap();
}

#[tokio::test]
async fn oversize_messages_are_refused_before_they_are_read() {
    let (_, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let huge = PutRequest {
        value: vec![0; 4 << 20].into(),
        ..put("a", "")
    };
    let status = kv.put(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    kv.put(put("a", "1")).await.unwrap();
}

#[tokio::test]
async fn errors_of_the_group_have_the_codes_and_words_of_the_public_api() {
    let (replica, address) = serve(Fixture::new()).await;
    let mut kv = KvClient::new(connect(address).await);
    let cases = [
        (
            ReplicaError::NoLeader,
            Code::Unavailable,
            "etcdserver: no leader",
        ),
        (
            ReplicaError::Timeout,
            Code::Unavailable,
            "etcdserver: request timed out",
        ),
        (
            ReplicaError::LeaderChanged,
            Code::Unavailable,
            "etcdserver: leader changed",
        ),
        (
            ReplicaError::OutcomeUnknown,
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        (
            ReplicaError::Busy,
            Code::ResourceExhausted,
            "etcdserver: too many requests",
        ),
        (
            ReplicaError::NoSpace,
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        (
            ReplicaError::Stopped,
            Code::Unavailable,
            "etcdserver: server stopped",
        ),
        (
            ReplicaError::NotLeader,
            Code::FailedPrecondition,
            "etcdserver: not leader",
        ),
    ];
    for (error, code, message) in cases {
        replica.fail(Some(error));
        is(&kv.put(put("a", "1")).await.unwrap_err(), code, message);
        is(&kv.range(range("a", "")).await.unwrap_err(), code, message);
    }
    let serializable = RangeRequest {
        serializable: true,
        ..range("a", "")
    };
    kv.range(serializable).await.expect("local reads go on");
}

#[tokio::test]
async fn members_are_listed_added_changed_and_removed() {
    let (replica, address) = serve(Fixture::new()).await;
    let mut cluster = ClusterClient::new(connect(address).await);
    let listed = cluster
        .member_list(MemberListRequest { linearizable: true })
        .await
        .unwrap();
    let listed = listed.into_inner();
    assert_eq!(listed.members[0].client_ur_ls, ["http://127.0.0.1:2"]);
    assert_eq!(
        (listed.header.unwrap().revision, replica.barriers()),
        (0, 1)
    );
    let urls = vec!["http://127.0.0.1:3".to_owned()];
    let add = MemberAddRequest {
        peer_ur_ls: urls,
        is_learner: true,
    };
    let added = cluster.member_add(add).await.unwrap().into_inner();
    let member = added.member.unwrap();
    assert!(member.is_learner && added.members.len() == 2);
    let id = member.id;
    cluster
        .member_promote(MemberPromoteRequest { id })
        .await
        .unwrap();
    let status = cluster
        .member_promote(MemberPromoteRequest { id })
        .await
        .unwrap_err();
    is(
        &status,
        Code::FailedPrecondition,
        "etcdserver: can only promote a learner member",
    );
    let urls = vec!["http://127.0.0.1:9".to_owned()];
    let update = MemberUpdateRequest {
        id,
        peer_ur_ls: urls.clone(),
    };
    let updated = cluster.member_update(update).await.unwrap().into_inner();
    assert_eq!(updated.members[1].peer_ur_ls, urls);
    remove(&mut cluster, id, 1).await;
}

#[tokio::test]
async fn status_tells_leader_indexes_and_sizes() {
    let (replica, address) = serve(Fixture::new()).await;
    let channel = connect(address).await;
    KvClient::new(channel.clone())
        .put(put("a", "1"))
        .await
        .unwrap();
    let mut maintenance = MaintenanceClient::new(channel);
    let status = maintenance
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.leader, status.raft_term, status.raft_applied_index),
        (1, 3, 1)
    );
    assert!(
        status.db_size > 0 && status.db_size >= status.db_size_in_use,
        "{status:?}"
    );
    assert_eq!(
        (status.version.as_str(), status.header.unwrap().revision),
        ("3.5.1", 2)
    );
    assert!(status.errors.is_empty());
    replica.set_leader(0);
    let status = maintenance
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.errors, ["etcdserver: no leader"]);
}

#[tokio::test]
async fn hash_is_of_the_newest_revision_only() {
    let (_, address) = serve(Fixture::new()).await;
    let channel = connect(address).await;
    let mut kv = KvClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    let mut hash = async |revision| {
        maintenance
            .hash_kv(HashKvRequest { revision })
            .await
            .map(tonic::Response::into_inner)
    };
    kv.put(put("a", "1")).await.unwrap();
    let first = hash(0).await.unwrap();
    assert_eq!(first.header.unwrap().revision, 2);
    assert_eq!(hash(2).await.unwrap(), first);
    kv.put(put("a", "1")).await.unwrap();
    assert_ne!(hash(0).await.unwrap().hash, first.hash);
    let status = hash(2).await.unwrap_err();
    is(
        &status,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
}

#[tokio::test]
async fn leadership_is_handed_over_by_the_leader_only() {
    let (replica, address) = serve(Fixture::new()).await;
    let mut maintenance = MaintenanceClient::new(connect(address).await);
    maintenance
        .move_leader(MoveLeaderRequest { target_id: 2 })
        .await
        .unwrap();
    let status = maintenance
        .move_leader(MoveLeaderRequest { target_id: 1 })
        .await
        .unwrap_err();
    is(&status, Code::FailedPrecondition, "etcdserver: not leader");
    replica.set_leader(1);
    replica.fail(Some(ReplicaError::BadTransferee));
    let status = maintenance
        .move_leader(MoveLeaderRequest { target_id: 9 })
        .await
        .unwrap_err();
    is(
        &status,
        Code::FailedPrecondition,
        "etcdserver: bad leader transferee",
    );
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let (_, address) = serve(Fixture::new()).await;
    let channel = connect(address).await;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let none = maintenance
        .alarm(AlarmRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(none.alarms.is_empty());
    let raise = AlarmRequest {
        action: AlarmAction::Activate.into(),
        ..AlarmRequest::default()
    };
    let refused = [
        maintenance.alarm(raise).await.unwrap_err(),
        maintenance
            .defragment(DefragmentRequest {})
            .await
            .unwrap_err(),
        maintenance.snapshot(SnapshotRequest {}).await.unwrap_err(),
        KvClient::new(channel.clone())
            .compact(CompactionRequest::default())
            .await
            .unwrap_err(),
        LeaseClient::new(channel.clone())
            .lease_grant(LeaseGrantRequest::default())
            .await
            .unwrap_err(),
        AuthClient::new(channel.clone())
            .auth_status(AuthStatusRequest {})
            .await
            .unwrap_err(),
        WatchClient::new(channel)
            .watch(tokio_stream_of(WatchRequest::default()))
            .await
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("not served"), "{status}");
    }
}

fn tokio_stream_of<T>(item: T) -> impl tonic::codegen::tokio_stream::Stream<Item = T> {
    tonic::codegen::tokio_stream::once(item)
}
