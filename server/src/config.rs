//! What one member runs with: flags first, then the TOML file, then defaults; every value checked
//! before anything is touched.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use raftwerk::Member;
use raftwerk_raft::NodeId;
use raftwerk_transport::{ClusterId, check_listen, check_url};
use serde::Deserialize;

use crate::cli::CliError;
use crate::serve::folder::Stored;

/// Members that one cluster may begin with.
const MEMBERS_MAX: usize = 7;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// Where the log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogBackend {
    /// The write-ahead log: durable.
    #[default]
    Wal,
    /// A redb file: durable.
    Redb,
    /// RocksDB, where it is built in: durable.
    Rocksdb,
    /// Memory: gone with the process.
    Mem,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreBackend {
    /// A redb file.
    #[default]
    Redb,
    /// RocksDB, where it is built in.
    Rocksdb,
    /// Memory: built anew from log and snapshot at each start.
    Mem,
}

/// What to do when the log's end may have been damaged within the stated window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AmbiguousTail {
    /// Do not start.
    #[default]
    Refuse,
    /// Keep what is intact before it.
    KeepPrefix,
}

macro_rules! word {
    ($type:ty { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $type {
            /// As the flag says it.
            #[must_use]
            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}
word!(LogBackend { Wal => "wal", Redb => "redb", Rocksdb => "rocksdb", Mem => "mem" });
word!(StoreBackend { Redb => "redb", Rocksdb => "rocksdb", Mem => "mem" });

/// Whether this program was built with these backends.
///
/// # Errors
/// How to build it with them.
pub(crate) fn built_in(log: LogBackend, store: StoreBackend) -> Result<(), CliError> {
    let asked = log == LogBackend::Rocksdb || store == StoreBackend::Rocksdb;
    if asked && !cfg!(feature = "rocksdb") {
        return Err(not_built_in());
    }
    Ok(())
}

/// Says how to get what this program was built without.
pub(crate) fn not_built_in() -> CliError {
    CliError::usage(
        "this raftwerk was built without RocksDB: build it with --features rocksdb (which \
         needs libclang and a C++ compiler; on Debian: apt-get install libclang-dev g++)",
    )
}

/// The flags of `raftwerk serve`, which are also the keys of its file (with `_` for `-`).
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServeArgs {
    /// A TOML file with the same names (with _ for -); flags win
    #[arg(long)]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// This member's name in --initial-cluster [default: default]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// This member's id in hexadecimal, as `raftwerk member add` printed it (with --join)
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The member's folder, created with mode 0700 [default: NAME.raftwerk]
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Where clients are served; loopback only [default: 127.0.0.1:2379]
    #[arg(long)]
    pub(crate) listen_client: Option<String>,
    /// Where peers are served; loopback only [default: 127.0.0.1:2380]
    #[arg(long)]
    pub(crate) listen_peer: Option<String>,
    /// The members that a new cluster begins with: name=http://127.0.0.1:2380,...
    #[arg(long, conflicts_with = "join")]
    pub(crate) initial_cluster: Option<String>,
    /// Tells clusters with the same addresses apart [default: raftwerk]
    #[arg(long)]
    pub(crate) initial_cluster_token: Option<String>,
    /// Client endpoints of a running cluster that this member was added to
    #[arg(long)]
    pub(crate) join: Option<String>,
    /// Where the log is kept [default: wal]
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogBackend>,
    /// Where the state is kept [default: redb]
    #[arg(long, value_enum)]
    pub(crate) store: Option<StoreBackend>,
    /// Where /health and /metrics are served over HTTP; loopback only [default: nowhere]
    #[arg(long)]
    pub(crate) metrics: Option<String>,
    /// What to do with a log whose very end is ambiguous [default: refuse]
    #[arg(long, value_enum)]
    pub(crate) ambiguous_tail: Option<AmbiguousTail>,
    /// Milliseconds between heartbeats, 10 to 10000 [default: 100]
    #[arg(long)]
    pub(crate) heartbeat_ms: Option<u64>,
    /// Milliseconds without a leader until an election, at least 5 heartbeats [default: 1000]
    #[arg(long)]
    pub(crate) election_ms: Option<u64>,
    /// Entries applied until a snapshot is taken and the log compacted [default: 100000, and four
    /// times the last snapshot's bytes]
    #[arg(long)]
    pub(crate) snapshot_entries: Option<u64>,
    /// Entries before a snapshot that stay in the log for members a little behind [default: 10000]
    #[arg(long)]
    pub(crate) snapshot_keep: Option<u64>,
    /// Bytes of a log segment, in MiB; three of them are on disk at first, and four or more once
    /// one is full [default: 64]
    #[arg(long)]
    pub(crate) segment_mib: Option<u64>,
    /// Writes are refused while the disk has less than this left, in MiB [default: 64]
    #[arg(long)]
    pub(crate) disk_reserve_mib: Option<u64>,
    /// How much of the log is read again in the background, and checked, in KiB a second; 0: none
    /// [default: 1024]
    #[arg(long)]
    pub(crate) scrub_kib: Option<u64>,
    /// End when standard input ends: for a supervisor that may be killed
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) end_with_stdin: bool,
}

/// How a member comes into its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the cluster itself.
    Initial {
        cluster: ClusterId,
        /// In order of id.
        members: Vec<InitialMember>,
        /// By a flag; else it is this member alone.
        given: bool,
    },
    /// Into a running one.
    Join {
        endpoints: Vec<String>,
        /// As `member add` gave it; else found by this member's peer address.
        id: Option<NodeId>,
    },
}

/// One entry of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialMember {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
}

/// Everything a member needs, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) listen_client: SocketAddr,
    pub(crate) listen_peer: SocketAddr,
    pub(crate) start: Start,
    pub(crate) log: LogBackend,
    pub(crate) store: StoreBackend,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) ambiguous_tail: AmbiguousTail,
    pub(crate) heartbeat: Duration,
    pub(crate) election_ticks: u32,
    /// Absent: the runtime's own policy.
    pub(crate) snapshot_entries: Option<u64>,
    pub(crate) snapshot_keep: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
    /// Of the log, each second; zero: none.
    pub(crate) scrub_bytes: u64,
    pub(crate) end_with_stdin: bool,
}

impl Settings {
    /// The cluster that the flags describe, if they do.
    pub(crate) fn given_cluster(&self) -> Option<ClusterId> {
        match &self.start {
            Start::Initial {
                cluster,
                given: true,
                ..
            } => Some(*cluster),
            _ => None,
        }
    }

    /// How the group of a new cluster begins: alike on all of its members.
    pub(crate) fn bootstrap(&self) -> raftwerk::Start {
        let Start::Initial { members, .. } = &self.start else {
            return raftwerk::Start::Join {
                contacts: Vec::new(),
            };
        };
        let record = |member: &InitialMember| Member {
            peer_urls: member.peer_urls.clone(),
            name: member.name.clone(),
            ..Member::new(member.id)
        };
        raftwerk::Start::Bootstrap {
            members: members.iter().map(record).collect(),
        }
    }

    /// Where the others reach this member: as the initial cluster says, else where it listens.
    pub(crate) fn peer_urls(&self, id: NodeId) -> Vec<String> {
        let initial = match &self.start {
            Start::Initial { members, .. } => members.iter().find(|member| member.id == id),
            Start::Join { .. } => None,
        };
        initial.map_or_else(
            || vec![format!("http://{}", self.listen_peer)],
            |member| member.peer_urls.clone(),
        )
    }

    /// What the folder of member `id` is to say.
    pub(crate) fn stored(&self, cluster: ClusterId, id: NodeId) -> Stored {
        Stored {
            cluster: cluster.to_string(),
            id: format!("{:x}", id.0),
            name: self.name.clone(),
            log: self.log,
            store: self.store,
            left: false,
            migrating: false,
        }
    }
}

impl ServeArgs {
    /// Reads the file, if there is one, and checks everything.
    ///
    /// # Errors
    /// A usage error naming the flag, what is wrong with it and what is allowed.
    pub(crate) fn settings(self) -> Result<Settings, CliError> {
        let file = match &self.config {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        self.over(file).check()
    }

    fn read(path: &Path) -> Result<Self, CliError> {
        let named = |error: &dyn std::fmt::Display| {
            CliError::usage(format!("--config {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        toml::from_str(&text).map_err(|error| named(&error))
    }

    /// These flags where they are given, the file's words elsewhere.
    fn over(self, file: Self) -> Self {
        // Either of the two ways in, given as a flag, hides both of the file's.
        let way = self.initial_cluster.is_some() || self.join.is_some();
        let (initial_cluster, join) = if way {
            (self.initial_cluster, self.join)
        } else {
            (file.initial_cluster, file.join)
        };
        Self {
            config: self.config,
            name: self.name.or(file.name),
            id: self.id.or(file.id),
            data: self.data.or(file.data),
            listen_client: self.listen_client.or(file.listen_client),
            listen_peer: self.listen_peer.or(file.listen_peer),
            initial_cluster,
            initial_cluster_token: self.initial_cluster_token.or(file.initial_cluster_token),
            join,
            log: self.log.or(file.log),
            store: self.store.or(file.store),
            metrics: self.metrics.or(file.metrics),
            ambiguous_tail: self.ambiguous_tail.or(file.ambiguous_tail),
            heartbeat_ms: self.heartbeat_ms.or(file.heartbeat_ms),
            election_ms: self.election_ms.or(file.election_ms),
            snapshot_entries: self.snapshot_entries.or(file.snapshot_entries),
            snapshot_keep: self.snapshot_keep.or(file.snapshot_keep),
            segment_mib: self.segment_mib.or(file.segment_mib),
            disk_reserve_mib: self.disk_reserve_mib.or(file.disk_reserve_mib),
            scrub_kib: self.scrub_kib.or(file.scrub_kib),
            end_with_stdin: self.end_with_stdin,
        }
    }

    fn check(self) -> Result<Settings, CliError> {
        let name = self.name.unwrap_or_else(|| "default".to_owned());
        check_name(&name)?;
        let client = self.listen_client.as_deref().unwrap_or("127.0.0.1:2379");
        let listen_client = address("--listen-client", client)?;
        let peer = self.listen_peer.as_deref().unwrap_or("127.0.0.1:2380");
        let listen_peer = address("--listen-peer", peer)?;
        let metrics = self.metrics.as_deref();
        let metrics = metrics.map(|text| address("--metrics", text)).transpose()?;
        for (flag, address) in [
            ("--listen-peer", Some(listen_peer)),
            ("--listen-client", Some(listen_client)),
            ("--metrics", metrics),
        ] {
            let checked = address.map_or(Ok(()), check_listen);
            checked.map_err(|error| CliError::usage(format!("{flag}: {error}")))?;
        }
        let (heartbeat, election_ticks) = times(self.heartbeat_ms, self.election_ms)?;
        let snapshot_entries = self
            .snapshot_entries
            .map(|entries| bounded("--snapshot-entries", entries, 100..=100_000_000))
            .transpose()?;
        let keep = self.snapshot_keep;
        let snapshot_keep = or_bounded("--snapshot-keep", keep, 10_000, 0..=100_000_000)?;
        let id = self.id.as_deref().map(parse_id).transpose()?;
        let token = self.initial_cluster_token.as_deref().unwrap_or("raftwerk");
        let start = match (self.initial_cluster, self.join) {
            (Some(_), Some(_)) => {
                return Err(CliError::usage(
                    "initial_cluster and join exclude each other",
                ));
            }
            (None, Some(join)) => {
                let endpoints = endpoints(&join)?;
                Start::Join { endpoints, id }
            }
            (Some(list), None) => initial(&list, true, token, &name, id)?,
            (None, None) => {
                let alone = format!("{name}=http://{listen_peer}");
                initial(&alone, false, token, &name, id)?
            }
        };
        let (log, store) = (self.log.unwrap_or_default(), self.store.unwrap_or_default());
        built_in(log, store)?;
        Ok(Settings {
            data: self
                .data
                .unwrap_or_else(|| PathBuf::from(format!("{name}.raftwerk"))),
            name,
            listen_client,
            listen_peer,
            start,
            log,
            store,
            metrics,
            ambiguous_tail: self.ambiguous_tail.unwrap_or_default(),
            heartbeat,
            election_ticks,
            snapshot_entries,
            snapshot_keep,
            segment_bytes: MIB * or_bounded("--segment-mib", self.segment_mib, 64, 16..=1024)?,
            disk_reserve_bytes: MIB
                * or_bounded("--disk-reserve-mib", self.disk_reserve_mib, 64, 0..=1 << 20)?,
            scrub_bytes: KIB * or_bounded("--scrub-kib", self.scrub_kib, 1024, 0..=1 << 20)?,
            end_with_stdin: self.end_with_stdin,
        })
    }
}

fn bounded(flag: &str, value: u64, range: RangeInclusive<u64>) -> Result<u64, CliError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (range.start(), range.end());
    Err(CliError::usage(format!(
        "{flag} {value} is out of range: {least} to {most}"
    )))
}

fn or_bounded(
    flag: &str,
    value: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, CliError> {
    bounded(flag, value.unwrap_or(default), range)
}

/// The heartbeat interval, and how many of them an election timeout has.
fn times(heartbeat: Option<u64>, election: Option<u64>) -> Result<(Duration, u32), CliError> {
    let heartbeat_ms = or_bounded("--heartbeat-ms", heartbeat, 100, 10..=10_000)?;
    let election_ms = election.unwrap_or(heartbeat_ms * 10);
    bounded(
        "--election-ms",
        election_ms,
        heartbeat_ms * 5..=heartbeat_ms * 100,
    )?;
    let ticks = u32::try_from(election_ms / heartbeat_ms).unwrap_or(u32::MAX);
    Ok((Duration::from_millis(heartbeat_ms), ticks))
}

fn check_name(name: &str) -> Result<(), CliError> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with('.');
    if fits {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "--name {name:?}: 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.'"
    )))
}

fn parse_id(text: &str) -> Result<NodeId, CliError> {
    match u64::from_str_radix(text.trim_start_matches("0x"), 16) {
        Ok(id) if id != 0 => Ok(NodeId(id)),
        _ => Err(CliError::usage(format!(
            "--id {text:?}: a hexadecimal number above zero"
        ))),
    }
}

/// `host:port`, with or without `http://` before it.
fn address(flag: &str, text: &str) -> Result<SocketAddr, CliError> {
    if text.starts_with("https://") {
        return Err(CliError::usage(format!(
            "{flag} {text}: TLS is not supported yet"
        )));
    }
    let authority = text
        .strip_prefix("http://")
        .unwrap_or(text)
        .trim_end_matches('/');
    let found = authority
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next());
    match found {
        Some(address) if address.port() != 0 => Ok(address),
        _ => Err(CliError::usage(format!(
            "{flag} {text:?}: write 127.0.0.1:2379, say"
        ))),
    }
}

fn endpoints(list: &str) -> Result<Vec<String>, CliError> {
    let all: Vec<String> = list
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    if all.is_empty() {
        return Err(CliError::usage("--join: no endpoint given"));
    }
    for text in &all {
        crate::client::connect::endpoint(text)
            .map_err(|error| CliError::usage(format!("--join: {error}")))?;
    }
    Ok(all)
}

/// Reads `name=url,name=url,...`; a name may come several times, once for each of its addresses.
fn initial(
    list: &str,
    given: bool,
    token: &str,
    name: &str,
    id: Option<NodeId>,
) -> Result<Start, CliError> {
    let wrong = |what: String| Err(CliError::usage(format!("--initial-cluster: {what}")));
    let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((member, url)) = part.split_once('=') else {
            return wrong(format!("{part:?} is not name=url"));
        };
        check_name(member)?;
        if let Err(error) = check_url(url) {
            return wrong(error.to_string());
        }
        urls.entry(member)
            .or_default()
            .push(url.trim_end_matches('/').to_owned());
    }
    if urls.len() > MEMBERS_MAX {
        return wrong(format!("{} members; at most {MEMBERS_MAX}", urls.len()));
    }
    if !urls.contains_key(name) {
        return wrong(format!(
            "this member ({name}) is not among {list:?}; set --name"
        ));
    }
    let mut members: Vec<InitialMember> = urls
        .into_iter()
        .map(|(name, peer_urls)| InitialMember {
            id: member_id(token, &peer_urls),
            name: name.to_owned(),
            peer_urls,
        })
        .collect();
    members.sort_by_key(|member| member.id);
    let twice = members
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.id == b.id));
    if twice {
        return wrong("two members have the same address".to_owned());
    }
    let own = members
        .iter()
        .find(|member| member.name == name)
        .map(|member| member.id);
    if id.is_some() && id != own {
        return Err(CliError::usage(
            "--id goes with --join; with --initial-cluster ids follow from the addresses",
        ));
    }
    let mut hash = Fnv::new(token);
    members
        .iter()
        .for_each(|member| hash.add(&member.id.0.to_be_bytes()));
    Ok(Start::Initial {
        cluster: ClusterId(hash.end()),
        members,
        given,
    })
}

/// A member's id follows from where it listens, so that all members agree without talking.
fn member_id(token: &str, peer_urls: &[String]) -> NodeId {
    let mut hash = Fnv::new(token);
    let mut sorted: Vec<&String> = peer_urls.iter().collect();
    sorted.sort();
    sorted.iter().for_each(|url| hash.add(url.as_bytes()));
    NodeId(hash.end())
}

/// FNV-1a with 64 bits and a finishing mix: names, not secrets.
struct Fnv(u64);

impl Fnv {
    fn new(token: &str) -> Self {
        let mut hash = Self(0xcbf2_9ce4_8422_2325);
        hash.add(token.as_bytes());
        hash
    }

    /// The length goes first, so that the border between two parts counts.
    fn add(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
        for &byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn end(&self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

    fn args(name: &str, list: &str) -> ServeArgs {
        ServeArgs {
            name: Some(name.to_owned()),
            initial_cluster: Some(list.to_owned()),
            ..ServeArgs::default()
        }
    }

    fn initial_of(args: ServeArgs) -> (ClusterId, Vec<InitialMember>) {
        match args.settings().unwrap().start {
            Start::Initial {
                cluster, members, ..
            } => (cluster, members),
            Start::Join { .. } => panic!("not a join"),
        }
    }

    #[test]
    fn all_members_come_to_the_same_ids() {
        let a = initial_of(args("a", THREE));
        let b = initial_of(args(
            "b",
            "c=http://127.0.0.1:3,b=http://127.0.0.1:2,a=http://127.0.0.1:1",
        ));
        assert_eq!(a, b);
        assert_eq!(a.1.len(), 3);
        let other = ServeArgs {
            initial_cluster_token: Some("x".to_owned()),
            ..args("a", THREE)
        };
        assert_ne!(initial_of(other).0, a.0, "the token tells clusters apart");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |change: fn(&mut ServeArgs)| {
            let mut args = args("a", THREE);
            change(&mut args);
            args.settings().unwrap_err().to_string()
        };
        type Case = (fn(&mut ServeArgs), &'static str);
        let cases: [Case; 11] = [
            (|args| args.name = Some("z".to_owned()), "not among"),
            (|args| args.name = Some("a/b".to_owned()), "--name"),
            (
                |args| args.listen_peer = Some("0.0.0.0:1".to_owned()),
                "until TLS is there",
            ),
            (
                |args| args.metrics = Some("0.0.0.0:1".to_owned()),
                "until TLS is there",
            ),
            (
                |args| args.listen_client = Some("x".to_owned()),
                "--listen-client",
            ),
            (|args| args.heartbeat_ms = Some(0), "10 to 10000"),
            (|args| args.election_ms = Some(100), "500 to 10000"),
            (|args| args.snapshot_entries = Some(1), "--snapshot-entries"),
            (
                |args| args.initial_cluster = Some("a".to_owned()),
                "is not name=url",
            ),
            (
                |args| args.initial_cluster = Some("a=http://10.0.0.1:1".to_owned()),
                "until TLS",
            ),
            (|args| args.id = Some("g".to_owned()), "hexadecimal"),
        ];
        for (change, expected) in cases {
            let said = with(change);
            assert!(said.contains(expected), "{expected:?} in {said:?}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: ServeArgs = toml::from_str(
            "name = 'b'\ninitial_cluster = 'b=http://127.0.0.1:2'\nlog = 'mem'\n\
             ambiguous_tail = 'keep-prefix'\nheartbeat_ms = 50",
        )
        .unwrap();
        let settings = args("a", THREE).over(file).check().unwrap();
        assert_eq!(settings.name, "a");
        assert!(matches!(settings.start, Start::Initial { members, .. } if members.len() == 3));
        assert_eq!(settings.log, LogBackend::Mem);
        assert_eq!(settings.ambiguous_tail, AmbiguousTail::KeepPrefix);
        assert_eq!(settings.heartbeat, Duration::from_millis(50));
        assert!(
            toml::from_str::<ServeArgs>("nmae = 'b'").is_err(),
            "a typo is an error"
        );
    }
}
