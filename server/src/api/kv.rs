//! The KV service.

use tonic::{Request, Response, Status};

use super::{Api, in_time};
use crate::kv::{
    Answer, Command, KvError, REQUEST_BYTES_MAX, Reader, Refusal, check_delete, check_put,
    check_range, check_txn, decode_outcome,
};
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

impl Api {
    /// Replicates a command and returns what applying it answered.
    async fn change<A: Answer>(&self, command: Command) -> Result<A, Status> {
        let bytes = command.encode();
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::RequestTooLarge.into());
        }
        let outcome = in_time(self.replica.propose(bytes)).await?;
        Ok(decode_outcome::<A>(&outcome)??)
    }

    async fn read_range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        if request.range_end.is_empty() {
            return Ok(self.reader.range(&request)?);
        }
        off_worker(&self.reader, move |reader| reader.range(&request)).await
    }
}

/// Whole ranges are read where they hold up no other request.
pub(super) async fn off_worker<T: Send + 'static>(
    reader: &Reader,
    read: impl FnOnce(&Reader) -> Result<T, KvError> + Send + 'static,
) -> Result<T, Status> {
    let reader = reader.clone();
    let joined = tokio::task::spawn_blocking(move || read(&reader)).await;
    Ok(joined.map_err(|error| Status::internal(format!("read failed: {error}")))??)
}

/// A transaction of reads is linearizable as soon as one of them is.
fn is_serializable(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(Op::RequestRange(range)) => range.serializable,
            Some(Op::RequestTxn(txn)) => is_serializable(txn),
            _ => true,
        })
}

fn only_one_key(request: &TxnRequest) -> bool {
    let ops = || request.success.iter().chain(&request.failure);
    request
        .compare
        .iter()
        .all(|compare| compare.range_end.is_empty())
        && ops().all(
            |op| matches!(&op.request, Some(Op::RequestRange(range)) if range.range_end.is_empty()),
        )
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        check_range(&request)?;
        if !request.serializable {
            self.read_barrier().await?;
        }
        let mut response = self.read_range(request).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        check_put(&request)?;
        let mut response: PutResponse = self.change(Command::Put(request)).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check_delete(&request)?;
        let mut response: DeleteRangeResponse = self.change(Command::Delete(request)).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        check_txn(&request)?;
        let mut response = if crate::kv::is_read_only(&request) {
            if !is_serializable(&request) {
                self.read_barrier().await?;
            }
            if only_one_key(&request) {
                self.reader.txn(&request)?
            } else {
                off_worker(&self.reader, move |reader| reader.txn(&request)).await?
            }
        } else {
            self.change::<TxnResponse>(Command::Txn(request)).await?
        };
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        _: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented(
            "compaction is not served: raftwerk keeps no history that could be compacted",
        ))
    }
}
