//! Writing keys: put, delete, and transactions of them.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::RESPONSE_BYTES_MAX;
use super::error::{KvError, Refusal};
use super::range::{check_revision, header, range};
use super::record::{Record, RecordRef, Span};
use super::space::{Layer, Space};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

/// Writes one key at the revision after `begin`.
pub(super) fn put(
    layer: &mut Layer<'_>,
    request: &PutRequest,
    begin: i64,
) -> Result<PutResponse, KvError> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    if request.lease != 0 {
        return Err(Refusal::LeaseNotFound.into());
    }
    let previous = layer.get(&request.key)?;
    if previous.is_none() && (request.ignore_value || request.ignore_lease) {
        return Err(Refusal::KeyNotFound.into());
    }
    let revision = begin.saturating_add(1);
    let record = Record {
        create_revision: previous
            .as_ref()
            .map_or(revision, |record| record.create_revision),
        mod_revision: revision,
        version: previous
            .as_ref()
            .map_or(0, |record| record.version)
            .saturating_add(1),
        lease: previous
            .as_ref()
            .filter(|_| request.ignore_lease)
            .map_or(0, |record| record.lease),
        value: previous
            .as_ref()
            .filter(|_| request.ignore_value)
            .map_or_else(|| request.value.clone(), |record| record.value.clone()),
    };
    layer.put(request.key.clone(), record);
    let prev_kv = previous
        .filter(|_| request.prev_kv)
        .map(|record| record.key_value(request.key.clone()));
    Ok(PutResponse {
        header: header(revision),
        prev_kv,
    })
}

/// Removes keys at the revision after `begin`; without any the revision stays.
pub(super) fn delete(
    layer: &mut Layer<'_>,
    request: &DeleteRangeRequest,
    begin: i64,
) -> Result<DeleteRangeResponse, KvError> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let (mut keys, mut prev_kvs, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    let mut remove = |key: Bytes, record: RecordRef<'_>| {
        keys.push(key.clone());
        if request.prev_kv {
            let kv = record.to_record().key_value(key);
            bytes = bytes.saturating_add(kv.encoded_len());
            prev_kvs.push(kv);
        }
        if bytes > RESPONSE_BYTES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match Span::new(&request.key, &request.range_end) {
        Span::One(key) => {
            if let Some(record) = layer.get(&key)? {
                let _ = remove(key, record.borrowed());
            }
        }
        span @ Span::Range(..) => {
            layer.scan(&span, &mut |key, record| {
                remove(Bytes::copy_from_slice(key), record)
            })?;
        }
    }
    if bytes > RESPONSE_BYTES_MAX {
        return Err(Refusal::ResponseTooLarge.into());
    }
    let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    for key in keys {
        layer.delete(key);
    }
    Ok(DeleteRangeResponse {
        header: header(after(layer, begin)),
        deleted,
        prev_kvs,
    })
}

/// The revision that a request of this layer has led to.
pub(super) fn after(layer: &Layer<'_>, begin: i64) -> i64 {
    if layer.is_changed() {
        begin.saturating_add(1)
    } else {
        begin
    }
}

/// Which branch a transaction takes, and each transaction inside that branch.
struct Path {
    succeeded: bool,
    inner: Vec<Path>,
}

/// Carries out a transaction whose form has been checked. Every condition and every operation is
/// looked at before the first of them changes anything. `layer` is this request's own: after an
/// error it is thrown away.
pub(super) fn txn(
    layer: &mut Layer<'_>,
    request: &TxnRequest,
    begin: i64,
) -> Result<TxnResponse, KvError> {
    let path = decide(layer, request)?;
    check(layer, request, &path, begin)?;
    let mut bytes = 0;
    let mut response = run(layer, request, &path, begin, &mut bytes)?;
    response.header = header(after(layer, begin));
    Ok(response)
}

/// Whether nothing in a transaction writes.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(_)) | None => true,
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
            Some(Request::RequestTxn(txn)) => is_read_only(txn),
        })
}

fn branch<'a>(request: &'a TxnRequest, path: &Path) -> &'a [RequestOp] {
    if path.succeeded {
        &request.success
    } else {
        &request.failure
    }
}

fn decide(space: &dyn Space, request: &TxnRequest) -> Result<Path, KvError> {
    let mut path = Path {
        succeeded: true,
        inner: Vec::new(),
    };
    for compare in &request.compare {
        if !holds(space, compare)? {
            path.succeeded = false;
            break;
        }
    }
    for op in branch(request, &path) {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            path.inner.push(decide(space, inner)?);
        }
    }
    Ok(path)
}

/// An absent key compares as one whose numbers are all zero, and never by value.
fn holds(space: &dyn Space, compare: &Compare) -> Result<bool, KvError> {
    let (mut found, mut all) = (false, true);
    let mut visit = |record: RecordRef<'_>| {
        found = true;
        all = record_holds(compare, record);
        if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    match Span::new(&compare.key, &compare.range_end) {
        Span::One(key) => {
            if let Some(record) = space.get(&key)? {
                let _ = visit(record.borrowed());
            }
        }
        span @ Span::Range(..) => space.scan(&span, &mut |_, record| visit(record))?,
    }
    if found {
        return Ok(all);
    }
    let absent = RecordRef {
        create_revision: 0,
        mod_revision: 0,
        version: 0,
        lease: 0,
        value: &[],
    };
    Ok(compare.target != CompareTarget::Value as i32 && record_holds(compare, absent))
}

/// A target without its own operand compares with zero; what the wire does not know holds.
fn record_holds(compare: &Compare, record: RecordRef<'_>) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let operand = match union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            record.value.cmp(operand)
        }
        Ok(CompareTarget::Version) => record.version.cmp(&match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => record.create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => record.mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => record.lease.cmp(&match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Err(_) => true,
    }
}

fn check(space: &dyn Space, request: &TxnRequest, path: &Path, begin: i64) -> Result<(), KvError> {
    let mut inner = path.inner.iter();
    for op in branch(request, path) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_revision(range.revision, begin)?,
            Some(Request::RequestPut(put)) => {
                if put.lease != 0 {
                    return Err(Refusal::LeaseNotFound.into());
                }
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && space.get(&put.key)?.is_none() {
                    return Err(Refusal::KeyNotFound.into());
                }
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
            Some(Request::RequestTxn(txn)) => {
                if let Some(path) = inner.next() {
                    check(space, txn, path, begin)?;
                }
            }
        }
    }
    Ok(())
}

fn run(
    layer: &mut Layer<'_>,
    request: &TxnRequest,
    path: &Path,
    begin: i64,
    bytes: &mut usize,
) -> Result<TxnResponse, KvError> {
    let mut inner = path.inner.iter();
    let mut responses = Vec::new();
    for op in branch(request, path) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                Response::ResponseRange(read(layer, range, begin)?)
            }
            Some(Request::RequestPut(request)) => {
                Response::ResponsePut(put(layer, request, begin)?)
            }
            Some(Request::RequestDeleteRange(request)) => {
                Response::ResponseDeleteRange(delete(layer, request, begin)?)
            }
            Some(Request::RequestTxn(txn)) => match inner.next() {
                Some(path) => Response::ResponseTxn(run(layer, txn, path, begin, bytes)?),
                None => continue,
            },
            None => return Err(Refusal::KeyNotFound.into()),
        };
        if !matches!(response, Response::ResponseTxn(_)) {
            *bytes = bytes.saturating_add(response.encoded_len());
        }
        if *bytes > RESPONSE_BYTES_MAX {
            return Err(Refusal::ResponseTooLarge.into());
        }
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(TxnResponse {
        header: header(0),
        succeeded: path.succeeded,
        responses,
    })
}

/// A read inside a transaction sees what was written before it in the same one, unless it asks for
/// the revision from before.
fn read(
    layer: &Layer<'_>,
    request: &RangeRequest,
    begin: i64,
) -> Result<crate::proto::etcdserverpb::RangeResponse, KvError> {
    let space: &dyn Space = if request.revision > 0 {
        layer.base()
    } else {
        layer
    };
    range(space, request, after(layer, begin))
}
