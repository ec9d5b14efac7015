//! The command line: what can be said, and where it goes.

mod error;
mod signal;
pub(crate) mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use error::CliError;
pub(crate) use signal::{Signal, Signals};

use crate::bench::BenchArgs;
use crate::config::ServeArgs;
use crate::offline::look;
use crate::offline::migrate::MigrateArgs;
use crate::up::UpArgs;
use words::complain;

/// Where clients look for a cluster that `raftwerk up` started.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:2379,127.0.0.1:2380,127.0.0.1:2381";

#[derive(Debug, Parser)]
#[command(
    name = "raftwerk",
    version,
    about = "A replicated key-value store on Raftwerk, speaking etcd's v3 API",
    after_help = "Try: raftwerk up, then in another terminal: raftwerk put hello world"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a durable cluster of real processes on this machine
    Up(UpArgs),
    /// Run one member of a cluster
    Serve(Box<ServeArgs>),
    /// Set a key
    Put {
        /// The key
        key: OsString,
        /// Its value
        value: OsString,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Print a key's value, or the keys and values of a range
    Get {
        /// The key
        key: OsString,
        #[command(flatten)]
        range: RangeArgs,
        /// At most this many keys (0: all)
        #[arg(long, default_value_t = 0)]
        limit: u32,
        /// l: linearizable, s: serializable (from this member, may be older)
        #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
        consistency: Consistency,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Delete a key or a range
    Del {
        /// The key
        key: OsString,
        #[command(flatten)]
        range: RangeArgs,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Show how each member of the cluster is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// List and change the cluster's members
    #[command(subcommand)]
    Member(MemberCommand),
    /// Snapshots of a member's state
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Measure puts or gets; works against any etcd
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Look at a stopped member's log, of any backend, read-only; save what can be read of it;
    /// shrink it
    #[command(subcommand)]
    Log(LogCommand),
    /// Copy a stopped member's log or state store into another backend
    Migrate(MigrateArgs),
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// List the members
    List {
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Add a member; start it afterwards with the command that is printed
    Add {
        /// Its peer address, http://127.0.0.1:2480 say
        peer_url: String,
        /// As a learner, which receives the log and does not vote
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Make a learner a voter
    Promote {
        /// Its id or its name
        member: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Change where the others reach a member
    Update {
        /// Its id or its name
        member: String,
        /// Its new peer address
        peer_url: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Remove a member
    Remove {
        /// Its id or its name
        member: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Make a member hand over, leave the cluster and end its process
    Leave {
        /// Its id or its name; without it, the member at the first endpoint
        member: Option<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot now and compact the log
    Take {
        /// Only this member (id or name); without it, every member
        member: Option<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Each client puts, waits for the answer, and puts again
    Put(BenchArgs),
    /// Each client gets, waits for the answer, and gets again
    Get {
        #[command(flatten)]
        args: BenchArgs,
        /// l: linearizable, s: serializable
        #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
        consistency: Consistency,
    },
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print what the log holds
    Dump {
        /// The member's folder, or its log's
        dir: PathBuf,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of the log; ends with 0: intact, 1: with a torn end that was never
    /// acknowledged, 2: damaged, 3: it cannot be looked at
    Verify {
        /// The member's folder, or its log's
        dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what can be read of a damaged log into a new folder, and name what is left out; ends
    /// with 0: nothing, 1: only a torn end that was never acknowledged, 2: more, 3: there is
    /// nothing to save
    Salvage {
        /// The member's folder, or its log's; nothing in it changes
        dir: PathBuf,
        /// The new log's folder: missing or empty
        to: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Shrink the file of a redb log, which keeps the size that it once had; other logs give
    /// their space back by themselves
    Compact {
        /// The member's folder, or its log's; the member must not run
        dir: PathBuf,
    },
    /// Say how much the log holds, of each group
    Stats {
        /// The member's folder, or its log's
        dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// Client endpoints, separated by commas; the first that answers is used
    #[arg(
        long,
        env = "RAFTWERK_ENDPOINTS",
        default_value = DEFAULT_ENDPOINTS,
        value_delimiter = ',',
        hide_default_value = true
    )]
    pub(crate) endpoints: Vec<String>,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// Which keys.
#[derive(Clone, Debug, Args)]
pub struct RangeArgs {
    /// Up to this key, which is left out
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    pub(crate) end: Option<OsString>,
    /// Every key that begins with this one
    #[arg(long, conflicts_with = "from_key")]
    pub(crate) prefix: bool,
    /// Every key from this one on
    #[arg(long)]
    pub(crate) from_key: bool,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Sees every write acknowledged before it began.
    #[value(name = "l", alias = "linearizable")]
    Linearizable,
    /// What the asked member has applied.
    #[value(name = "s", alias = "serializable")]
    Serializable,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            complain!("raftwerk: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Up(args) => crate::up::run(&args),
        Command::Serve(args) => crate::serve::run(*args),
        Command::Log(LogCommand::Dump { dir, json }) => look::dump(&dir, json),
        Command::Log(LogCommand::Verify { dir, json }) => look::verify(&dir, json),
        Command::Log(LogCommand::Stats { dir, json }) => look::stats(&dir, json),
        Command::Log(LogCommand::Compact { dir }) => crate::offline::compact::run(&dir),
        Command::Log(LogCommand::Salvage { dir, to, json }) => {
            crate::offline::salvage::run(&dir, &to, json)
        }
        Command::Migrate(args) => crate::offline::migrate::run(args),
        remote => runtime()?.block_on(run_remote(remote)),
    }
}

/// A runtime for commands that only talk to a cluster.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))
}

async fn run_remote(command: Command) -> Result<ExitCode, CliError> {
    use crate::{bench, client};
    match command {
        Command::Put { key, value, remote } => client::keys::put(&remote, key, value).await,
        Command::Get {
            key,
            range,
            limit,
            consistency,
            remote,
        } => client::keys::get(&remote, key, range, limit, consistency).await,
        Command::Del { key, range, remote } => client::keys::del(&remote, key, range).await,
        Command::Status { json, remote } => client::status::status(&remote, json).await,
        Command::Member(command) => run_member(command).await,
        Command::Snapshot(SnapshotCommand::Take { member, remote }) => {
            client::members::take_snapshot(&remote, member.as_deref()).await
        }
        Command::Bench(BenchCommand::Put(args)) => bench::run(args, bench::Op::Put).await,
        Command::Bench(BenchCommand::Get { args, consistency }) => {
            bench::run(args, bench::Op::Get(consistency)).await
        }
        Command::Up(_) | Command::Serve(_) | Command::Log(_) | Command::Migrate(_) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_member(command: MemberCommand) -> Result<ExitCode, CliError> {
    use crate::client::members;
    match command {
        MemberCommand::List { remote } => members::list(&remote).await,
        MemberCommand::Add {
            peer_url,
            learner,
            remote,
        } => members::add(&remote, peer_url, learner).await,
        MemberCommand::Promote { member, remote } => members::promote(&remote, &member).await,
        MemberCommand::Update {
            member,
            peer_url,
            remote,
        } => members::update(&remote, &member, &peer_url).await,
        MemberCommand::Remove { member, remote } => members::remove(&remote, &member).await,
        MemberCommand::Leave { member, remote } => members::leave(&remote, member.as_deref()).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_range_is_said_in_one_way_only() {
        for args in [
            &["raftwerk", "get", "a", "b", "--prefix"][..],
            &["raftwerk", "get", "a", "--prefix", "--from-key"],
            &["raftwerk", "del", "a", "b", "--from-key"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for args in [
            &["raftwerk", "up", "--members", "0"][..],
            &["raftwerk", "up", "--members", "8"],
            &["raftwerk", "up", "--client-port", "65536"],
            &["raftwerk", "bench", "put", "--clients", "0"],
            &["raftwerk", "bench", "put", "--value-size", "99999999"],
            &["raftwerk", "get", "a", "--timeout", "0"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
