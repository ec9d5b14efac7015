//! `up`: a cluster of real processes on this machine, under one folder.

mod cluster;
mod log_file;
mod member;
mod ports;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::words::{complain, program, say};
use crate::cli::{CliError, Signal, Signals};
use crate::client::connect::connect;
use crate::config::{LogBackend, StoreBackend};
use crate::proto::admin::StatusRequest;
use crate::proto::admin::admin_client::AdminClient;
pub(crate) use cluster::not_a_member;
use cluster::{Claim, Cluster, Planned};
use member::{CODE_REFUSED, END_MAX, Ended, Member};

/// How long the cluster may take to elect a leader: on a slow disk a member's start alone takes
/// many seconds.
const READY_MAX: Duration = Duration::from_secs(300);
/// When it is told that this, or the end, takes its time.
const TOLD_AFTER: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(50);

/// The flags of `raftwerk up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// How many members [default: 3, or as many as the folder has]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) members: Option<u8>,
    /// The cluster's folder, created with mode 0700
    #[arg(long, default_value = "raftwerk-data")]
    pub(crate) data: PathBuf,
    /// Members serve clients on this port, the next, and so on
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) client_port: u16,
    /// Where the log is kept [default: wal, or what the folder has]
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogBackend>,
    /// Where the state is kept [default: redb, or what the folder has]
    #[arg(long, value_enum)]
    pub(crate) store: Option<StoreBackend>,
}

/// Starts the cluster, keeps it running until a signal comes, ends it.
pub(crate) fn run(args: &UpArgs) -> Result<ExitCode, CliError> {
    // Everything is looked at before anything is touched.
    let planned = Cluster::plan(args)?;
    let claim = Claim::take(&planned)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(supervise(planned));
    drop(claim);
    ended
}

async fn supervise(cluster: Cluster) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    cluster.record()?;
    let mut members = Vec::with_capacity(cluster.members.len());
    for planned in cluster.members.iter().filter(|planned| !planned.left) {
        match Member::start(planned, &cluster) {
            Ok(member) => members.push(member),
            Err(error) => {
                end(&mut members, &mut signals).await;
                return Err(error);
            }
        }
    }
    let ready = tokio::select! {
        ready = wait_until_ready(&mut members) => ready,
        _ = signals.next() => {
            return Ok(end(&mut members, &mut signals).await);
        }
    };
    let leader = match ready {
        Ok(leader) => leader,
        Err(error) => {
            end(&mut members, &mut signals).await;
            return Err(error);
        }
    };
    announce(&cluster, &members, &leader);
    watch(&mut members, &mut signals).await;
    say!("\nending {} members ...", members.len());
    Ok(end(&mut members, &mut signals).await)
}

/// Waits until every member runs and knows a leader; returns the leader's name. A member that the
/// cluster has refused is told of and left out.
async fn wait_until_ready(members: &mut [Member]) -> Result<String, CliError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let (mut running, mut heard, mut leader) = (0_usize, 0_usize, 0);
        for member in members.iter_mut().filter(|member| !member.is_over()) {
            match member.try_ended() {
                Some(ended) if ended.is_final() => {
                    member.handle_event();
                    continue;
                }
                Some(ended) => return Err(member.failure(&ended)),
                None => running += 1,
            }
            if let Some(known) = known_leader(member).await {
                heard += 1;
                leader = known;
            }
        }
        if running == 0 {
            return Err(CliError::failed("no member of this cluster is left to run"));
        }
        if heard == running {
            let name = members.iter().find(|member| member.id == leader);
            return Ok(name
                .map(|member| member.planned.name.clone())
                .unwrap_or_default());
        }
        if began.elapsed() > TOLD_AFTER && !told {
            told = true;
            complain!("{heard} of {running} members know a leader; waiting for the others");
        }
        if began.elapsed() > READY_MAX {
            let seconds = READY_MAX.as_secs();
            return Err(CliError::failed(format!(
                "only {heard} of {running} members know a leader after {seconds} s; their words \
                 are in the member.log of each folder"
            )));
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Whom the member takes for the leader; `None` while it knows none, stands in no table or does
/// not answer.
async fn known_leader(member: &mut Member) -> Option<u64> {
    let channel = connect(&member.planned.client).await.ok()?;
    let status = AdminClient::new(channel)
        .status(StatusRequest {})
        .await
        .ok()?
        .into_inner();
    member.id = status.member_id;
    (status.leader_id != 0 && status.listed).then_some(status.leader_id)
}

fn announce(cluster: &Cluster, members: &[Member], leader: &str) {
    for planned in cluster.members.iter().filter(|planned| planned.left) {
        say!("{} has left the cluster and is not started", planned.name);
    }
    for member in members.iter().filter(|member| !member.is_over()) {
        say!(
            "{}  id {:016x}  clients http://{}  peers http://{}  pid {}  {}",
            member.planned.name,
            member.id,
            member.planned.client,
            member.planned.peer,
            member.process_id(),
            member.planned.folder.display()
        );
    }
    // They differ when members have been migrated.
    let words = |word: &dyn Fn(&Planned) -> &'static str| {
        let words: BTreeSet<_> = members.iter().map(|member| word(&member.planned)).collect();
        words.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let (log, store) = (words(&|m| m.log.word()), words(&|m| m.store.word()));
    say!("{leader} leads; log {log}, store {store}; Ctrl-C ends the cluster");
    let first = members
        .first()
        .map(|member| member.planned.client.clone())
        .unwrap_or_default();
    let endpoints = match first.as_str() {
        "127.0.0.1:2379" => String::new(),
        other => format!(" --endpoints {other}"),
    };
    let program = program();
    say!("try: {program} put hello world{endpoints}");
    say!("     {program} status{endpoints}");
    say!("     ETCDCTL_API=3 etcdctl --endpoints {first} get hello");
}

/// Until a signal: says when a member ends by itself, and starts it again after a growing wait,
/// unless the cluster has refused it, which a restart cannot mend.
async fn watch(members: &mut [Member], signals: &mut Signals) {
    loop {
        let happened = tokio::select! {
            _ = signals.next() => return,
            happened = next_event(members) => happened,
        };
        let Some(member) = members.get_mut(happened) else {
            continue;
        };
        member.handle_event();
    }
}

/// The index of the member whose process ended, or whose wait before a restart is over.
async fn next_event(members: &mut [Member]) -> usize {
    loop {
        if let Some(index) = members.iter_mut().position(Member::has_event) {
            return index;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Asks every member to end, waits for each, and insists where asking is of no use.
async fn end(members: &mut [Member], signals: &mut Signals) -> ExitCode {
    members.iter_mut().for_each(Member::ask_to_end);
    let mut clean = true;
    let until = Instant::now() + END_MAX;
    let all = async {
        for member in members.iter_mut() {
            clean &= member.wait(until).await;
        }
    };
    let all = async {
        tokio::pin!(all);
        if tokio::time::timeout(TOLD_AFTER, &mut all).await.is_err() {
            complain!("still ending; Ctrl-C kills, which loses nothing that was acknowledged");
            all.await;
        }
    };
    let insisted = tokio::select! {
        () = all => false,
        signal = signals.next() => signal == Signal::Interrupt || signal == Signal::Terminate,
    };
    if insisted {
        complain!("killing what still runs");
        for member in members.iter_mut() {
            member.kill().await;
        }
        clean = false;
    }
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Ended {
    /// A restart cannot mend it: the member was refused, or has left.
    pub(super) const fn is_final(self) -> bool {
        matches!(self.code, Some(0 | CODE_REFUSED))
    }

    /// For the line that tells of it.
    fn words(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }
}
