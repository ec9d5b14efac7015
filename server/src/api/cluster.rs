//! The Cluster service: who the members are.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::{Api, MemberRecord, REQUEST_TIMEOUT, ReplicaError, in_time};
use crate::client::connect::endpoint;
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};

/// Marks a request that another member passes on: it is not passed on again.
const FORWARDED: &str = "raftwerk-forwarded";

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            peer_ur_ls: record.peer_urls,
            client_ur_ls: record.client_urls,
            is_learner: record.is_learner,
        }
    }
}

impl Api {
    fn member_list(&self) -> Vec<Member> {
        self.replica
            .members()
            .into_iter()
            .map(Member::from)
            .collect()
    }

    /// Only the leader knows how far a learner is: asks it, as the client would have to.
    async fn promote_at_leader(&self, id: u64) -> Result<Response<MemberPromoteResponse>, Status> {
        let leader = self.replica.standing().leader;
        let members = self.replica.members();
        let record = members.iter().find(|member| member.id == leader);
        for url in record.iter().flat_map(|record| &record.client_urls) {
            let Ok(endpoint) = endpoint(url) else {
                continue;
            };
            let Ok(channel) = endpoint.timeout(REQUEST_TIMEOUT).connect().await else {
                continue;
            };
            let mut request = Request::new(MemberPromoteRequest { id });
            let mark = MetadataValue::from_static("1");
            request.metadata_mut().insert(FORWARDED, mark);
            return ClusterClient::new(channel).member_promote(request).await;
        }
        Err(ReplicaError::NotLeader.into())
    }
}

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest {
            peer_ur_ls,
            is_learner,
        } = request.into_inner();
        let added = in_time(self.replica.add_member(peer_ur_ls, is_learner)).await?;
        Ok(Response::new(MemberAddResponse {
            header: Some(self.header(0)),
            member: Some(added.into()),
            members: self.member_list(),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        in_time(self.replica.remove_member(request.into_inner().id)).await?;
        Ok(Response::new(MemberRemoveResponse {
            header: Some(self.header(0)),
            members: self.member_list(),
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        in_time(self.replica.update_member(id, peer_ur_ls)).await?;
        Ok(Response::new(MemberUpdateResponse {
            header: Some(self.header(0)),
            members: self.member_list(),
        }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.read_barrier().await?;
        }
        Ok(Response::new(MemberListResponse {
            header: Some(self.header(0)),
            members: self.member_list(),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let forwarded = request.metadata().contains_key(FORWARDED);
        let id = request.into_inner().id;
        match in_time(self.replica.promote_member(id)).await {
            Err(ReplicaError::NotLeader) if !forwarded => return self.promote_at_leader(id).await,
            answer => answer?,
        }
        Ok(Response::new(MemberPromoteResponse {
            header: Some(self.header(0)),
            members: self.member_list(),
        }))
    }
}
