//! `serve`: one member, from its folder to its ports and back.

mod admin;
pub(crate) mod backends;
mod ending;
pub(crate) mod folder;
mod join;
mod member;
mod publish;
mod refusals;
mod report;
mod scrub;
mod turns;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use raftwerk::Transport;
use tokio::sync::mpsc;
use tonic::transport::Server;

use crate::api::lenient;
use crate::cli::words::{complain, say};
use crate::cli::{CliError, Signals};
use crate::config::{ServeArgs, Settings};
use crate::http;
use member::{Member, Ports};

/// How long clients may take to finish when the member ends.
const CLIENTS_MAX: Duration = Duration::from_secs(2);
/// How long tasks that nobody waits for may take to let go of the stores.
const TASKS_MAX: Duration = Duration::from_secs(10);
/// Signs of life that a silent client connection is asked for.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Threads that serve clients, at most.
const WORKERS_MAX: usize = 4;

/// Why a member ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has left the cluster, as it was asked to.
    Left,
    /// The others will not have it.
    Refused(String),
}

/// Half of the machine serves clients, the other half replicates. With two threads on two
/// processors they would wake each other for single requests.
fn workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    (processors / 2).clamp(1, WORKERS_MAX)
}

/// Runs one member until a signal comes, it leaves, or the cluster refuses it.
pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, CliError> {
    let settings = args.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .thread_name("raftwerk-serve")
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(serve(settings));
    // What still runs is a client that did not finish in time, and the tasks that hold the
    // stores. RocksDB aborts a process that leaves `main` while one of its databases is being
    // closed: the stores are closed first.
    runtime.shutdown_timeout(TASKS_MAX);
    ended
}

async fn serve(settings: Settings) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    let (ending, mut ended) = mpsc::channel(1);
    let ports = Ports::bind(&settings)?;
    let orphaned = orphaned(settings.end_with_stdin);
    let member = Member::open(&settings, ports.peer, ending.clone()).await?;
    let (stop_clients, stopped) = tokio::sync::watch::channel(false);
    let clients = clients(&member, ports.client, ending, stopped)?;
    if let Some(listener) = ports.metrics {
        let member = Arc::clone(&member);
        tokio::spawn(http::serve(listener, move |path| {
            report::page(&member, path)
        }));
    }
    let publishing = tokio::spawn(publish::publish(Arc::clone(&member)));
    let scrubbing = (settings.scrub_bytes > 0).then(|| {
        let (storage, scrubbed) = (Arc::clone(&member.storage), Arc::clone(&member.scrubbed));
        tokio::spawn(scrub::scrub(storage, scrubbed, settings.scrub_bytes))
    });
    say!(
        "member {} ({:x}) of cluster {}: clients http://{}, peers http://{}, folder {}",
        member.record.name,
        member.record.id.0,
        member.cluster,
        settings.listen_client,
        settings.listen_peer,
        settings.data.display()
    );

    let end = tokio::select! {
        _ = signals.next() => None,
        () = orphaned => None,
        end = ended.recv() => end,
    };
    publishing.abort();
    if let Some(scrubbing) = scrubbing {
        scrubbing.abort();
    }
    member.hand_over().await;
    stop_clients.send_replace(true);
    // Whoever is still connected after that is cut off.
    let _ = tokio::time::timeout(CLIENTS_MAX, clients).await;
    let stopped = member.stop().await;
    match end {
        None => {}
        Some(End::Left) => say!("has left the cluster; its folder is of no use any more"),
        Some(End::Refused(reason)) => {
            if let Err(error) = stopped {
                complain!("{error}");
            }
            return Err(CliError::refused(reason));
        }
    }
    stopped.map(|()| ExitCode::SUCCESS)
}

/// Serves clients on their port until told to stop.
fn clients(
    member: &Arc<Member>,
    listener: std::net::TcpListener,
    ending: mpsc::Sender<End>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("cannot serve: {error}"));
    let limits = raftwerk_transport::listen::Limits {
        connections_max: 10_000,
        ..raftwerk_transport::listen::Limits::default()
    };
    let incoming = raftwerk_transport::listen::Incoming::new(listener, limits).map_err(failed)?;
    let services = member.services(ending);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_concurrent_streams(4096);
    Ok(tokio::spawn(async move {
        let stopped = async move {
            // An error means that nobody can say stop any more.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let incoming = lenient(incoming);
        let served = server.serve_with_incoming_shutdown(services, incoming, stopped);
        if let Err(error) = served.await {
            complain!("clients are served no more: {error}");
        }
    }))
}

/// Ends when standard input does, if that was asked for.
async fn orphaned(watch: bool) {
    if !watch {
        return std::future::pending().await;
    }
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let watching = std::thread::Builder::new()
        .name("raftwerk-stdin".to_owned())
        .spawn(move || {
            // Whatever ends the input, an error too, is its end.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(tell);
        });
    if watching.is_err() {
        return std::future::pending().await;
    }
    let _ = told.await;
}

/// Stops the transport too when the rest of opening fails.
struct StopOnDrop(Option<Arc<dyn Transport>>);

impl StopOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            transport.stop();
        }
    }
}
