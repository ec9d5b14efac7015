//! put, get, del.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use bytes::Bytes;

use crate::cli::words::{complain, say};
use crate::cli::{CliError, Consistency, RangeArgs, RemoteArgs};
use crate::client::connect::{ANSWER_BYTES_MAX, Effect, with_cluster};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

/// Sets a key.
pub(crate) async fn put(
    remote: &RemoteArgs,
    key: OsString,
    value: OsString,
) -> Result<ExitCode, CliError> {
    let request = PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    };
    let answer = with_cluster(remote, Effect::Write, |channel| {
        let request = request.clone();
        async move { KvClient::new(channel).put(request).await }
    })
    .await?;
    let revision = answer
        .into_inner()
        .header
        .map_or(0, |header| header.revision);
    say!("ok (revision {revision})");
    Ok(ExitCode::SUCCESS)
}

/// Prints a value, or the keys and values of a range. Exit code 1 when there is nothing.
pub(crate) async fn get(
    remote: &RemoteArgs,
    key: OsString,
    range: RangeArgs,
    limit: u32,
    consistency: Consistency,
) -> Result<ExitCode, CliError> {
    let single = range.end.is_none() && !range.prefix && !range.from_key;
    let name = key.to_string_lossy().into_owned();
    let (key, range_end) = range_of(bytes(key), range);
    let request = RangeRequest {
        key,
        range_end,
        limit: i64::from(limit),
        serializable: consistency == Consistency::Serializable,
        ..RangeRequest::default()
    };
    let answer = with_cluster(remote, Effect::Read, |channel| {
        let request = request.clone();
        let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        async move { client.range(request).await }
    })
    .await?
    .into_inner();
    if answer.kvs.is_empty() {
        let what = if single {
            "no such key"
        } else {
            "no key in this range"
        };
        return Err(CliError::failed(format!("{what}: {name}")));
    }
    let mut out = std::io::stdout().lock();
    let written = answer.kvs.iter().try_for_each(|kv| {
        if !single {
            out.write_all(&kv.key)?;
            out.write_all(b"\t")?;
        }
        out.write_all(&kv.value)?;
        out.write_all(b"\n")
    });
    match written.and_then(|()| out.flush()) {
        // Whoever read the beginning has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        result => result.map_err(|error| CliError::failed(error.to_string()))?,
    }
    if answer.more {
        complain!("({} of {} keys)", answer.kvs.len(), answer.count);
    }
    Ok(ExitCode::SUCCESS)
}

/// Deletes a key or a range.
pub(crate) async fn del(
    remote: &RemoteArgs,
    key: OsString,
    range: RangeArgs,
) -> Result<ExitCode, CliError> {
    let (key, range_end) = range_of(bytes(key), range);
    let request = DeleteRangeRequest {
        key,
        range_end,
        ..DeleteRangeRequest::default()
    };
    let answer = with_cluster(remote, Effect::Write, |channel| {
        let request = request.clone();
        async move { KvClient::new(channel).delete_range(request).await }
    })
    .await?
    .into_inner();
    let plural = if answer.deleted == 1 { "key" } else { "keys" };
    say!("deleted {} {plural}", answer.deleted);
    Ok(ExitCode::SUCCESS)
}

fn bytes(text: OsString) -> Bytes {
    Bytes::from(text.into_vec())
}

/// A range as etcd's API words it: one key has no end, and an end of one zero byte is none.
fn range_of(key: Bytes, range: RangeArgs) -> (Bytes, Bytes) {
    let open = Bytes::from_static(&[0]);
    if let Some(end) = range.end {
        return (key, bytes(end));
    }
    match (range.prefix, range.from_key) {
        (true, _) if key.is_empty() => (open.clone(), open),
        (true, _) => {
            let end = prefix_end(&key).unwrap_or(open);
            (key, end)
        }
        (false, true) if key.is_empty() => (open.clone(), open),
        (false, true) => (key, open),
        (false, false) => (key, Bytes::new()),
    }
}

/// The first key behind all that begin with `prefix`; `None` when there is none.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    let last = end.last_mut()?;
    *last = last.saturating_add(1);
    Some(Bytes::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end(b"ab"), Some(Bytes::from_static(b"ac")));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(prefix_end(b"\xff"), None);
    }

    #[test]
    fn an_empty_prefix_is_every_key() {
        let all = RangeArgs {
            end: None,
            prefix: true,
            from_key: false,
        };
        let open = Bytes::from_static(&[0]);
        assert_eq!(range_of(Bytes::new(), all), (open.clone(), open));
    }
}
