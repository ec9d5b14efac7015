//! The service behind `status`, `member leave` and `snapshot take`.

use std::sync::Arc;

use raftwerk::SnapshotError;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::folder::Stored;
use super::member::Member;
use super::{End, ending, report};
use crate::cli::words::complain;
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::{
    LeaveRequest, LeaveResponse, StatusRequest, StatusResponse, TakeSnapshotRequest,
    TakeSnapshotResponse,
};

/// One member's service.
pub(crate) struct AdminService {
    pub(crate) member: Arc<Member>,
    pub(crate) ending: mpsc::Sender<End>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        // Sizes are read from the disk.
        let member = Arc::clone(&self.member);
        let answer = tokio::task::spawn_blocking(move || report::status(&member)).await;
        answer
            .map(Response::new)
            .map_err(|error| Status::internal(error.to_string()))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let member = &self.member;
        let own = member.record.id;
        if member.group.status().conf_state.voters == [own] {
            return Err(Status::failed_precondition(
                "the only voter cannot leave: end it with SIGTERM and delete its folder",
            ));
        }
        // The others may stop speaking with this member before the answer comes through.
        let removed = member.refusals.removed.notified();
        ending::leave(&member.group, own, removed, ending::LEAVE_MAX).await?;
        let folder = member.folder.path();
        let marked = Stored::read(folder).and_then(|stored| match stored {
            Some(stored) => Stored {
                left: true,
                ..stored
            }
            .write(folder),
            None => Ok(()),
        });
        if let Err(error) = marked {
            // It has left all the same: the others will refuse it.
            complain!("{error}");
        }
        // A full channel means that the member is ending already.
        let _ = self.ending.try_send(End::Left);
        Ok(Response::new(LeaveResponse { member_id: own.0 }))
    }

    async fn take_snapshot(
        &self,
        _: Request<TakeSnapshotRequest>,
    ) -> Result<Response<TakeSnapshotResponse>, Status> {
        let taken = self.member.group.snapshot().await.map_err(|error| {
            let text = error.to_string();
            match error {
                SnapshotError::Busy => Status::unavailable(text),
                _ => Status::internal(text),
            }
        })?;
        let (index, term) = (taken.index.0, taken.term.0);
        Ok(Response::new(TakeSnapshotResponse {
            index,
            term,
            bytes: 0,
        }))
    }
}
