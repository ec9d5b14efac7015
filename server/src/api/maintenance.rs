//! The Maintenance service: how a member stands, hashes, and handing over leadership.

use std::pin::Pin;

use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::kv::off_worker;
use super::{Api, ReplicaError, in_time};
use crate::kv::KeySpaceHash;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};

/// The version of the API that is spoken here: what [`StatusResponse::version`] is about.
const API_VERSION: &str = "3.5.1";

#[tonic::async_trait]
impl Maintenance for Api {
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    /// There are no alarms, so the list of them is empty; none can be raised or ended by hand.
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        if request.into_inner().action != AlarmAction::Get as i32 {
            return Err(Status::unimplemented(
                "raising and ending alarms is not served",
            ));
        }
        let header = Some(self.header(self.reader.revision()));
        Ok(Response::new(AlarmResponse {
            header,
            alarms: Vec::new(),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let stats = off_worker(&self.reader, |reader| Ok(reader.stats()?)).await?;
        let standing = self.replica.standing();
        let mut errors = standing.errors;
        if standing.leader == 0 {
            errors.push(ReplicaError::NoLeader.to_string());
        }
        Ok(Response::new(StatusResponse {
            header: Some(self.header(self.reader.revision())),
            version: API_VERSION.to_owned(),
            db_size: i64::try_from(stats.allocated_bytes).unwrap_or(i64::MAX),
            leader: standing.leader,
            raft_index: standing.committed,
            raft_term: standing.term,
            raft_applied_index: standing.applied,
            errors,
            db_size_in_use: i64::try_from(stats.live_bytes).unwrap_or(i64::MAX),
            is_learner: standing.is_learner,
        }))
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(Status::unimplemented("defragmentation is not served"))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let KeySpaceHash { hash, revision } = off_worker(&self.reader, |r| r.hash(0)).await?;
        Ok(Response::new(HashResponse {
            header: Some(self.header(revision)),
            hash,
        }))
    }

    /// The history is not kept, so what the API calls compacted is everything before `revision`.
    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let asked = request.into_inner().revision;
        let KeySpaceHash { hash, revision } =
            off_worker(&self.reader, move |reader| reader.hash(asked)).await?;
        let header = Some(self.header(revision));
        Ok(Response::new(HashKvResponse {
            header,
            hash,
            compact_revision: revision,
        }))
    }

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented(
            "saving a snapshot over the API is not served",
        ))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        if self.replica.standing().leader != self.replica.identity().member_id {
            return Err(ReplicaError::NotLeader.into());
        }
        in_time(self.replica.transfer_leader(request.into_inner().target_id)).await?;
        let header = Some(self.header(self.reader.revision()));
        Ok(Response::new(MoveLeaderResponse { header }))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented("downgrades are not served"))
    }
}
