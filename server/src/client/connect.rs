//! Reaching a member: any of the endpoints will do, and a member that is down is passed over.

use std::future::Future;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use raftwerk_transport::gather::Gather;
use tokio::net::TcpStream;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::Authority;
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
    Ok(endpoint.connect_timeout(CONNECT_MAX))
}

/// A connection to one endpoint.
///
/// # Errors
/// That nobody answers there.
pub(crate) async fn connect(text: &str) -> Result<Channel, CliError> {
    let connector = tower::service_fn(|uri: Uri| async move {
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(TokioIo::new(Gather::new(stream)))
    });
    let connected = endpoint(text)?.connect_with_connector(connector).await;
    connected.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        CliError::failed(format!("no member answers at {text}: {cause}"))
    })
}

/// Whether a request may be sent again when its fate is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing: any member may be asked again.
    Read,
    /// It changes something: once sent, it is not sent again.
    Write,
}

/// Runs `call` against the first endpoint that answers. An endpoint that is down is passed over;
/// for reads so is one that says it cannot serve now, or says nothing.
///
/// # Errors
/// What stood in the way at each endpoint, in words.
pub(crate) async fn with_cluster<T, F, Fut>(
    remote: &RemoteArgs,
    effect: Effect,
    call: F,
) -> Result<T, CliError>
where
    F: Fn(Channel) -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let seconds = remote.timeout;
    let mut failures = Vec::new();
    let mut is_down = true;
    for text in &remote.endpoints {
        let channel = match connect(text).await {
            Ok(channel) => channel,
            Err(error) if error.code() == 2 => return Err(error),
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        is_down = false;
        let answer = tokio::time::timeout(Duration::from_secs(seconds), call(channel)).await;
        let (failure, may_pass) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => (failed(text, &status), status.code() == Code::Unavailable),
            Err(_) if effect == Effect::Write => {
                let unknown = "whether it was done is not known";
                (
                    CliError::failed(format!("{text}: no answer within {seconds} s; {unknown}")),
                    false,
                )
            }
            Err(_) => (
                CliError::failed(format!("{text}: no answer within {seconds} s")),
                true,
            ),
        };
        if effect == Effect::Write || !may_pass {
            return Err(failure);
        }
        failures.push(failure.to_string());
    }
    if failures.is_empty() {
        return Err(CliError::usage("no endpoint given"));
    }
    if is_down {
        failures.push("is the cluster running? start one with: raftwerk up".to_owned());
    }
    Err(CliError::failed(failures.join("\n")))
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

    #[tokio::test]
    async fn a_write_is_sent_once_and_a_read_until_somebody_answers() {
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [listen(), listen()];
        let endpoints = listeners
            .each_ref()
            .map(|l| l.local_addr().unwrap().to_string());
        let remote = RemoteArgs {
            endpoints: endpoints.to_vec(),
            timeout: 5,
        };
        for (effect, expected) in [(Effect::Write, 1), (Effect::Read, 2)] {
            let calls = std::cell::Cell::new(0);
            let asked = with_cluster(&remote, effect, |_| {
                calls.set(calls.get() + 1);
                std::future::ready(Err::<(), _>(Status::unavailable("leader lost")))
            });
            let error = asked.await.unwrap_err().to_string();
            assert_eq!(calls.get(), expected, "{effect:?}");
            assert!(
                error.contains("leader lost") && !error.contains("raftwerk up"),
                "{error}"
            );
        }
    }
}
