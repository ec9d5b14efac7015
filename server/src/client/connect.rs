//! Reaching a member: any of the endpoints will do, and a member that is down is passed over.

use std::future::Future;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cli::{CliError, RemoteArgs};

/// How long one endpoint may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// What an answer may weigh, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// An endpoint as people write it, with or without `http://`.
///
/// # Errors
/// A usage error naming what is wrong with it.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, CliError> {
    let text = text.trim().trim_end_matches('/');
    if text.starts_with("https://") {
        return Err(CliError::usage(format!(
            "{text}: TLS is not supported yet; use http://"
        )));
    }
    let authority = text.strip_prefix("http://").unwrap_or(text);
    let invalid = || {
        CliError::usage(format!(
            "{text:?} is no endpoint; write 127.0.0.1:2379, say"
        ))
    };
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        return Err(invalid());
    }
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| invalid())?;
    Ok(endpoint.tcp_nodelay(true).connect_timeout(CONNECT_MAX))
}

/// A connection to one endpoint.
///
/// # Errors
/// That nobody answers there.
pub(crate) async fn connect(text: &str) -> Result<Channel, CliError> {
    endpoint(text)?.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        CliError::failed(format!("no member answers at {text}: {cause}"))
    })
}

/// Runs `call` against the first endpoint that answers. An endpoint that is down, or that says
/// it cannot serve now, is passed over.
///
/// # Errors
/// The last failure, in words.
pub(crate) async fn with_cluster<T, F, Fut>(remote: &RemoteArgs, call: F) -> Result<T, CliError>
where
    F: Fn(Channel) -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let timeout = Duration::from_secs(remote.timeout);
    let mut failures = Vec::new();
    for text in &remote.endpoints {
        let channel = match connect(text).await {
            Ok(channel) => channel,
            Err(error) if error.code() == 2 => return Err(error),
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        match tokio::time::timeout(timeout, call(channel)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                failures.push(format!("{text}: {}", status.message()));
            }
            Ok(Err(status)) => return Err(failed(text, &status)),
            // Whether the request took effect is not known: it must not be sent again.
            Err(_) => {
                let seconds = remote.timeout;
                return Err(CliError::failed(format!(
                    "{text}: no answer within {seconds} s"
                )));
            }
        }
    }
    if failures.is_empty() {
        return Err(CliError::usage("no endpoint given"));
    }
    let hint = "is the cluster running? start one with: raftwerk up";
    Err(CliError::failed(format!("{}\n{hint}", failures.join("\n"))))
}

/// What a member answered, in words.
pub(crate) fn failed(endpoint: &str, status: &Status) -> CliError {
    let what = match status.code() {
        Code::Unimplemented => "does not offer this (is it a raftwerk member?): ",
        _ => "",
    };
    CliError::failed(format!("{endpoint}: {what}{}", status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_as_people_write_them() {
        for text in [
            "127.0.0.1:2379",
            "http://127.0.0.1:2379/",
            " localhost:1 ",
            "[::1]:2379",
        ] {
            assert!(endpoint(text).is_ok(), "{text}");
        }
        for text in ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "a b:1"] {
            assert_eq!(endpoint(text).map(|_| ()).unwrap_err().code(), 2, "{text}");
        }
        let tls = endpoint("https://127.0.0.1:1").map(|_| ()).unwrap_err();
        assert!(tls.to_string().contains("TLS is not supported yet"));
    }
}
