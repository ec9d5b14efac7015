//! A replica of one member without a log, and errors on demand.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raftwerk_raft::StateMachine;
use raftwerk_server::api::{
    Identity, MemberRecord, Replica, ReplicaError, Standing, lenient, services,
};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use super::common::{Fixture, entry};

pub struct FakeReplica {
    inner: Mutex<Inner>,
}

struct Inner {
    fixture: Fixture,
    members: Vec<MemberRecord>,
    error: Option<ReplicaError>,
    reads: u64,
    leader: u64,
}

impl FakeReplica {
    pub fn new(fixture: Fixture) -> Self {
        let members = vec![MemberRecord {
            id: 1,
            name: "m1".to_owned(),
            peer_urls: vec!["http://127.0.0.1:1".to_owned()],
            client_urls: vec!["http://127.0.0.1:2".to_owned()],
            is_learner: false,
        }];
        let inner = Inner {
            fixture,
            members,
            error: None,
            reads: 0,
            leader: 1,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Everything fails with this from now on.
    pub fn fail(&self, error: Option<ReplicaError>) {
        self.inner.lock().error = error;
    }

    pub fn set_leader(&self, leader: u64) {
        self.inner.lock().leader = leader;
    }

    /// How many reads asked to be linearizable.
    pub fn barriers(&self) -> u64 {
        self.inner.lock().reads
    }

    fn checked(&self) -> Result<parking_lot::MutexGuard<'_, Inner>, ReplicaError> {
        let inner = self.inner.lock();
        inner.error.clone().map_or(Ok(inner), Err)
    }
}

#[tonic::async_trait]
impl Replica for FakeReplica {
    fn identity(&self) -> Identity {
        Identity {
            cluster_id: 77,
            member_id: 1,
        }
    }

    fn term(&self) -> u64 {
        3
    }

    fn standing(&self) -> Standing {
        let inner = self.inner.lock();
        let applied = inner.fixture.next - 1;
        Standing {
            term: 3,
            leader: inner.leader,
            committed: applied,
            applied,
            ..Standing::default()
        }
    }

    async fn propose(&self, command: Bytes) -> Result<Bytes, ReplicaError> {
        let mut inner = self.checked()?;
        let mut out = Vec::new();
        let next = inner.fixture.next;
        inner
            .fixture
            .machine
            .apply(&[entry(next, command)], &mut out)
            .unwrap();
        inner.fixture.next += 1;
        Ok(out.remove(0))
    }

    async fn read_barrier(&self) -> Result<(), ReplicaError> {
        self.checked()?.reads += 1;
        Ok(())
    }

    fn members(&self) -> Vec<MemberRecord> {
        self.inner.lock().members.clone()
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberRecord, ReplicaError> {
        let mut inner = self.checked()?;
        let id = inner.members.len() as u64 + 1;
        let member = MemberRecord {
            id,
            peer_urls,
            is_learner,
            ..MemberRecord::default()
        };
        inner.members.push(member.clone());
        Ok(member)
    }

    async fn remove_member(&self, id: u64) -> Result<(), ReplicaError> {
        let mut inner = self.checked()?;
        let place = inner.members.iter().position(|member| member.id == id);
        inner
            .members
            .remove(place.ok_or(ReplicaError::MemberNotFound)?);
        Ok(())
    }

    async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<(), ReplicaError> {
        let mut inner = self.checked()?;
        let member = inner.members.iter_mut().find(|member| member.id == id);
        member.ok_or(ReplicaError::MemberNotFound)?.peer_urls = peer_urls;
        Ok(())
    }

    async fn promote_member(&self, id: u64) -> Result<(), ReplicaError> {
        let mut inner = self.checked()?;
        let member = inner.members.iter_mut().find(|member| member.id == id);
        let member = member.ok_or(ReplicaError::MemberNotFound)?;
        if !member.is_learner {
            return Err(ReplicaError::NotLearner);
        }
        member.is_learner = false;
        Ok(())
    }

    async fn transfer_leader(&self, to: u64) -> Result<(), ReplicaError> {
        self.checked()?.leader = to;
        Ok(())
    }
}

/// Serves a fake replica; the fixture's state may have been filled before.
pub async fn serve(fixture: Fixture) -> (Arc<FakeReplica>, SocketAddr) {
    let reader = fixture.machine.reader();
    let replica = Arc::new(FakeReplica::new(fixture));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = lenient(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let services = services(Arc::clone(&replica) as Arc<dyn Replica>, reader);
    tokio::spawn(async move {
        Server::builder()
            .serve_with_incoming(services, incoming)
            .await
            .unwrap();
    });
    (replica, address)
}

pub async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}
