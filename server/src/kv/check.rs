//! What a request must be before anybody looks at the keys.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::error::Refusal;
use super::record::Span;
use super::{REQUEST_BYTES_MAX, TXN_OPS_MAX};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

type Checked = Result<(), Refusal>;

/// Checks a read's form.
///
/// # Errors
/// The [`Refusal`] that its sender gets.
pub fn check_range(request: &RangeRequest) -> Checked {
    check_key(&request.key)?;
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Refusal::InvalidSort)
    }
}

/// Checks a write's form.
///
/// # Errors
/// The [`Refusal`] that its sender gets.
pub fn check_put(request: &PutRequest) -> Checked {
    check_put_form(request)?;
    check_size(request)
}

/// Checks a removal's form.
///
/// # Errors
/// The [`Refusal`] that its sender gets.
pub fn check_delete(request: &DeleteRangeRequest) -> Checked {
    check_key(&request.key)?;
    check_size(request)
}

/// Checks a transaction's form: its operations', how many they are, and that no key is written
/// twice.
///
/// # Errors
/// The [`Refusal`] that its sender gets.
pub fn check_txn(request: &TxnRequest) -> Checked {
    check_txn_form(request, TXN_OPS_MAX)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    check_size(request)
}

fn check_size(request: &impl Message) -> Checked {
    if request.encoded_len() > REQUEST_BYTES_MAX {
        return Err(Refusal::RequestTooLarge);
    }
    Ok(())
}

fn check_key(key: &Bytes) -> Checked {
    if key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

fn check_put_form(request: &PutRequest) -> Checked {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// A level's operations count by its longest list, and what is inside has only the rest left.
fn check_txn_form(request: &TxnRequest, ops_max: usize) -> Checked {
    let lists = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let longest = lists.into_iter().max().unwrap_or(0);
    let Some(rest) = ops_max.checked_sub(longest) else {
        return Err(Refusal::TooManyOps);
    };
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put_form(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_key(&delete.key)?,
            Some(Request::RequestTxn(txn)) => check_txn_form(txn, rest)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes. A key may be put once, and never both put and removed;
/// the two branches of a nested transaction exclude each other and may put the same key.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<Span>,
}

impl Writes {
    fn of(ops: &[RequestOp]) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                all.deletes.push(Span::new(&delete.key, &delete.range_end));
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                let mut branches = Self::of(&txn.success)?;
                let mut other = Self::of(&txn.failure)?;
                branches.puts.append(&mut other.puts);
                for key in branches.puts {
                    all.put(key)?;
                }
                all.deletes.append(&mut branches.deletes);
                all.deletes.append(&mut other.deletes);
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                all.put(put.key.clone())?;
            }
        }
        Ok(all)
    }

    fn put(&mut self, key: Bytes) -> Result<(), Refusal> {
        if self.deletes.iter().any(|span| span.contains(&key)) || !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}
