//! `bench`: a closed loop of puts or gets against any server of etcd's API.

mod load;
mod report;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use tonic::transport::Channel;

use crate::cli::words::{complain, progress, say};
use crate::cli::{CliError, Consistency, Signals};
use crate::client::connect::connect;
use load::{Plan, Shared};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Get(Consistency),
}

/// The load.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// Client endpoints, separated by commas; the clients are spread over all of them
    ///
    /// One alone, as by default, serves all clients, and forwards writes unless it leads. To load
    /// every member of `raftwerk up`: --endpoints 127.0.0.1:2379,127.0.0.1:2380,127.0.0.1:2381
    #[arg(
        long,
        env = "RAFTWERK_ENDPOINTS",
        default_value = "127.0.0.1:2379",
        value_delimiter = ','
    )]
    endpoints: Vec<String>,
    /// Clients, each with one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Connections that the clients share [default: 4 for each endpoint, at most one a client]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: Option<u32>,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds of load before the measurement begins
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3600))]
    warmup: u32,
    /// Bytes of a value
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(0..=1_048_576)
    )]
    value_size: u32,
    /// Different keys
    #[arg(
        long,
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    keys: u64,
    /// What the keys begin with
    #[arg(long, default_value = "bench/")]
    key_prefix: String,
    /// As JSON, without progress
    #[arg(long)]
    json: bool,
}

/// Connects, fills what gets will read, warms up, measures, reports.
pub(crate) async fn run(args: BenchArgs, op: Op) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    let channels = channels(&args).await?;
    let plan = Plan {
        op,
        keys: args.keys,
        prefix: args.key_prefix.clone(),
        value_bytes: usize::try_from(args.value_size).unwrap_or(0),
    };
    if let Op::Get(_) = op {
        load::fill(&plan, &channels, !args.json).await?;
    }
    let shared = Arc::new(Shared::default());
    let clients = start(&args, &plan, &shared, &channels);
    let warmup = Duration::from_secs(u64::from(args.warmup));
    let measured = Duration::from_secs(u64::from(args.seconds));
    let show = !args.json && std::io::stderr().is_terminal();
    let elapsed = tokio::select! {
        elapsed = observe(&shared, warmup, measured, show) => elapsed,
        _ = signals.next() => shared.measured(),
    };
    shared.stop.store(true, Ordering::Release);
    let mut merged = load::histogram()?;
    for client in clients {
        let histogram = client
            .await
            .map_err(|error| CliError::failed(error.to_string()))??;
        merged
            .add(histogram)
            .map_err(|error| CliError::failed(error.to_string()))?;
    }
    let errors = shared.errors.load(Ordering::Relaxed);
    let first_error = shared.first_error.lock().clone();
    let report = report::Report {
        args: &args,
        op,
        elapsed,
        latencies: &merged,
        errors,
    };
    say!(
        "{}",
        if args.json {
            report.json()
        } else {
            report.text()
        }
    );
    if errors > 0 {
        complain!(
            "{errors} requests failed, the first with: {}",
            first_error.unwrap_or_default()
        );
    }
    Ok(if merged.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

type Client = tokio::task::JoinHandle<Result<Histogram<u32>, CliError>>;

/// Starts the clients, spread over the channels.
fn start(args: &BenchArgs, plan: &Plan, shared: &Arc<Shared>, channels: &[Channel]) -> Vec<Client> {
    (0..args.clients)
        .zip(channels.iter().cycle())
        .map(|(number, channel)| {
            let (plan, shared) = (plan.clone(), Arc::clone(shared));
            tokio::spawn(load::client(
                plan,
                shared,
                channel.clone(),
                u64::from(number),
            ))
        })
        .collect()
}

async fn channels(args: &BenchArgs) -> Result<Vec<Channel>, CliError> {
    let endpoints = u32::try_from(args.endpoints.len()).unwrap_or(u32::MAX);
    let wanted = args
        .connections
        .unwrap_or_else(|| endpoints.saturating_mul(4));
    let count = usize::try_from(wanted.min(args.clients)).unwrap_or(1);
    let mut channels = Vec::with_capacity(count);
    for endpoint in args.endpoints.iter().cycle().take(count) {
        channels.push(connect(endpoint).await?);
    }
    Ok(channels)
}

/// Lets the load run; returns how long was measured.
async fn observe(shared: &Shared, warmup: Duration, measured: Duration, show: bool) -> Duration {
    tokio::time::sleep(warmup).await;
    let began = shared.begin();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut before = (0, began);
    loop {
        let rest = measured.saturating_sub(began.elapsed());
        if rest.is_zero() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(rest) => break,
            _ = ticks.tick() => {}
        }
        if show {
            let now = (shared.done.load(Ordering::Relaxed), Instant::now());
            let rate = report::per_second(now.0 - before.0, now.1 - before.1);
            before = now;
            progress(&format!(
                "{:>4} s  {:>9.0} ops/s  {} errors",
                began.elapsed().as_secs(),
                rate,
                shared.errors.load(Ordering::Relaxed)
            ));
        }
    }
    if show {
        progress("");
    }
    shared.measured()
}
