//! A key space to send commands to, without a cluster.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raftwerk_raft::{Entry, LogId, LogIndex, StateMachine, StateStore, Term};
use raftwerk_server::kv::{Answer, Command, Machine, Refusal, decode_outcome};
use raftwerk_server::proto::etcdserverpb::cluster_client::ClusterClient;
use raftwerk_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use raftwerk_server::proto::etcdserverpb::request_op::Request;
use raftwerk_server::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, MemberRemoveRequest, PutRequest, PutResponse,
    RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use raftwerk_storage_mem::MemStore;
use raftwerk_testkit::processes::PATIENCE;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A machine and the index of its next entry.
pub struct Fixture {
    pub machine: Machine,
    pub next: u64,
}

impl Fixture {
    pub fn new() -> Self {
        Self::over(Arc::new(MemStore::new()))
    }

    pub fn over(store: Arc<dyn StateStore>) -> Self {
        let machine = Machine::new(store).unwrap();
        let next = machine.applied().index.0 + 1;
        Self { machine, next }
    }

    pub fn apply_all(&mut self, commands: &[Command]) -> Vec<Bytes> {
        let entries: Vec<_> = commands
            .iter()
            .zip(self.next..)
            .map(|(command, index)| entry(index, command.encode()))
            .collect();
        self.next += entries.len() as u64;
        let mut out = Vec::new();
        self.machine.apply(&entries, &mut out).unwrap();
        assert_eq!(out.len(), entries.len());
        out
    }

    pub fn apply<A: Answer>(&mut self, command: Command) -> Result<A, Refusal> {
        decode_outcome(&self.apply_all(&[command])[0]).unwrap()
    }

    pub fn put(&mut self, key: &str, value: &str) -> PutResponse {
        self.apply(Command::Put(put(key, value))).unwrap()
    }

    pub fn delete(&mut self, key: &str, end: &str) -> DeleteRangeResponse {
        self.apply(Command::Delete(delete(key, end))).unwrap()
    }

    pub fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Refusal> {
        self.apply(Command::Txn(request))
    }

    /// Whether a transaction that only compares succeeds.
    pub fn holds(&mut self, compare: Compare) -> bool {
        let request = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        self.txn(request).unwrap().succeeded
    }

    /// `key=value@create/mod/version` of every key.
    pub fn dump(&self) -> Vec<String> {
        let all = self.machine.reader().range(&range("\0", "\0")).unwrap();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        all.kvs
            .iter()
            .map(|kv| {
                let (key, value) = (text(&kv.key), text(&kv.value));
                let (create, modified) = (kv.create_revision, kv.mod_revision);
                format!("{key}={value}@{create}/{modified}/{}", kv.version)
            })
            .collect()
    }
}

pub fn entry(index: u64, data: Bytes) -> Entry {
    Entry::normal(LogId::new(Term(1), LogIndex(index)), data)
}

pub fn is(status: &Status, code: Code, message: &str) {
    assert_eq!((status.code(), status.message()), (code, message));
}

/// Removes a member, which leaves `left`, until it is not found any more.
pub async fn remove(cluster: &mut ClusterClient<Channel>, id: u64, left: usize) {
    let request = MemberRemoveRequest { id };
    let began = Instant::now();
    let (mut may_be_gone, mut is_gone) = (false, false);
    loop {
        match cluster.member_remove(request).await {
            Ok(answer) => {
                assert!(!is_gone, "it was removed twice");
                assert_eq!(answer.into_inner().members.len(), left);
                is_gone = true;
            }
            // A busy machine may not answer in time.
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => {
                assert!(may_be_gone, "{status}");
                return is(&status, Code::NotFound, "etcdserver: member not found");
            }
        }
        may_be_gone = true;
        assert!(began.elapsed() < PATIENCE, "removed: {is_gone}");
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

pub fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

pub fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub fn puts(pairs: &[(&str, &str)]) -> Vec<RequestOp> {
    pairs
        .iter()
        .map(|(key, value)| op(Request::RequestPut(put(key, value))))
        .collect()
}

pub fn compare(key: &str, result: CompareResult, operand: TargetUnion) -> Compare {
    let target = match operand {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(operand),
        ..Compare::default()
    }
}
