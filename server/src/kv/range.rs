//! Reading keys.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::RESPONSE_BYTES_MAX;
use super::error::{KvError, Refusal};
use super::record::{RecordRef, Span};
use super::space::Space;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::proto::mvccpb::KeyValue;

/// A header that holds the revision alone; the service fills in who answers.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The history is not kept: only the newest revision can be read.
pub(super) fn check_revision(asked: i64, current: i64) -> Result<(), Refusal> {
    match asked.cmp(&current) {
        _ if asked <= 0 => Ok(()),
        Ordering::Less => Err(Refusal::Compacted),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Refusal::FutureRevision),
    }
}

/// Carries out `request` on `space`, whose state is that of `revision`. What `request.revision`
/// says has been checked.
pub(super) fn range(
    space: &dyn Space,
    request: &RangeRequest,
    revision: i64,
) -> Result<RangeResponse, KvError> {
    let (mut kvs, count) = match Span::new(&request.key, &request.range_end) {
        Span::One(key) => read_one(space, request, key)?,
        span @ Span::Range(..) => read_span(space, request, &span)?,
    };
    sort(&mut kvs, request);
    let limit = usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    if let Some(limit) = limit {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    Ok(RangeResponse {
        header: header(revision),
        kvs,
        more,
        count,
    })
}

fn read_one(
    space: &dyn Space,
    request: &RangeRequest,
    key: Bytes,
) -> Result<(Vec<KeyValue>, i64), KvError> {
    let Some(record) = space.get(&key)? else {
        return Ok((Vec::new(), 0));
    };
    let wanted = !request.count_only && is_wanted(request, &record.borrowed());
    Ok((
        wanted.then(|| record.key_value(key)).into_iter().collect(),
        1,
    ))
}

/// The keys of a range and how many it has. One more than the limit is read, so that the answer
/// can tell that there is more; sorting and filtering need all of them.
fn read_span(
    space: &dyn Space,
    request: &RangeRequest,
    span: &Span,
) -> Result<(Vec<KeyValue>, i64), KvError> {
    let all = request.sort_order != SortOrder::None as i32 || is_filtered(request);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let limit = if limit == 0 || all {
        usize::MAX
    } else {
        limit.saturating_add(1)
    };
    let (mut kvs, mut count, mut bytes) = (Vec::new(), 0_i64, 0_usize);
    let with_values = !request.keys_only || request.sort_target == SortTarget::Value as i32;
    space.scan(span, &mut |key, record| {
        count = count.saturating_add(1);
        if request.count_only || kvs.len() >= limit || !is_wanted(request, &record) {
            return ControlFlow::Continue(());
        }
        let value = if with_values { record.value } else { &[] };
        let kv = RecordRef { value, ..record }
            .to_record()
            .key_value(Bytes::copy_from_slice(key));
        bytes = bytes.saturating_add(kv.encoded_len());
        kvs.push(kv);
        if bytes > RESPONSE_BYTES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if bytes > RESPONSE_BYTES_MAX {
        return Err(Refusal::ResponseTooLarge.into());
    }
    Ok((kvs, count))
}

fn is_filtered(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_wanted(request: &RangeRequest, record: &RecordRef<'_>) -> bool {
    let within = |number: i64, min: i64, max: i64| {
        (min == 0 || number >= min) && (max == 0 || number <= max)
    };
    within(
        record.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        record.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// Keys come in their own order; every other target sorts upwards unless told otherwise. Equal
/// ones keep the order of their keys.
fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let compare = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None) {
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
        SortOrder::None if target == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
    }
}
