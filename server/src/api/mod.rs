//! The services of the v3 API, over one group's replica.
//!
//! KV, Cluster and Maintenance are served by a [`Replica`], which is all they know of the runtime,
//! and by the key space's [`Reader`]. What is not served says so.

mod cluster;
mod gate;
mod group;
mod incoming;
mod kv;
mod maintenance;
mod replica;
mod services;
mod status;
mod unserved;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

pub use gate::DiskGate;
pub use group::GroupReplica;
pub use incoming::{Lenient, lenient};
pub use replica::{Identity, MemberRecord, Replica, ReplicaError, Standing};
pub use services::Services;

use crate::kv::Reader;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;

/// How long a request may take before its sender is told that it timed out.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// Bytes of one incoming message: a request of the largest size, and what is around it.
const MESSAGE_BYTES_MAX: usize = crate::kv::REQUEST_BYTES_MAX + 512 * 1024;

/// Every service of one member, ready to be served.
#[must_use]
pub fn services(replica: Arc<dyn Replica>, reader: Reader) -> Services {
    let api = Api { replica, reader };
    let others =
        Routes::new(ClusterServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(
                MaintenanceServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(WatchServer::new(unserved::Unserved))
            .add_service(LeaseServer::new(unserved::Unserved))
            .add_service(AuthServer::new(unserved::Unserved));
    let kv = KvServer::new(api).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Services::new(kv, others)
}

/// What the services share.
#[derive(Clone)]
struct Api {
    replica: Arc<dyn Replica>,
    reader: Reader,
}

impl Api {
    /// The header of an answer as of `revision`; zero where the API leaves it out.
    fn header(&self, revision: i64) -> ResponseHeader {
        let Identity {
            cluster_id,
            member_id,
        } = self.replica.identity();
        ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term: self.replica.term(),
        }
    }

    /// Completes the header of what the key space answered.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// Returns once what is applied here is as new as when the call began.
    async fn read_barrier(&self) -> Result<(), ReplicaError> {
        in_time(self.replica.read_barrier()).await
    }
}

/// Bounds the time that a request waits for the group.
async fn in_time<T>(
    work: impl Future<Output = Result<T, ReplicaError>>,
) -> Result<T, ReplicaError> {
    tokio::time::timeout(REQUEST_TIMEOUT, work)
        .await
        .unwrap_or(Err(ReplicaError::Timeout))
}
