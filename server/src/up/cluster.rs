//! What the cluster's folder says, and what it should say.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::UpArgs;
use super::ports::check_free;
use crate::cli::CliError;
use crate::config::{LogBackend, StoreBackend, built_in};
use crate::serve::folder::{Stored as Member, lock, write_whole};

/// The cluster's own file.
const FILE: &str = "cluster.toml";

/// What to say where a member's folder is meant and `dir` holds a whole cluster.
pub(crate) fn not_a_member(dir: &Path) -> Option<CliError> {
    dir.join(FILE).is_file().then(|| {
        CliError::failed(format!(
            "{} is the folder of a cluster; a member's is in it: {}",
            dir.display(),
            dir.join("m1").display()
        ))
    })
}

/// Held for as long as `up` runs.
const LOCK: &str = "UP.LOCK";
/// How far above its client port a member's peer port is.
const PEER_PORTS_ABOVE: u16 = 100;
const MEMBERS_DEFAULT: u8 = 3;
const MEMBERS_MAX: u8 = 7;

/// What stays the same from start to start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Tells this cluster apart from others.
    token: String,
    log: LogBackend,
    store: StoreBackend,
    /// One for each member: where its peers reach it, as the cluster knows it.
    peer_ports: Vec<u16>,
}

/// One member to be.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// `host:port`.
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) folder: PathBuf,
    /// As its folder says: it may have been migrated since the cluster began.
    pub(super) log: LogBackend,
    pub(super) store: StoreBackend,
    /// It has left the cluster in an earlier run and is not started.
    pub(super) left: bool,
}

/// The cluster to be.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) folder: PathBuf,
    pub(super) members: Vec<Planned>,
    stored: Stored,
    /// What is stored is not yet what stands in the file, if there is one.
    is_changed: bool,
}

impl Cluster {
    /// Reads what is there, compares it with what is asked, and looks whether every port is free.
    /// Touches nothing.
    ///
    /// # Errors
    /// Whatever stands in the way, and what to do.
    pub(super) fn plan(args: &UpArgs) -> Result<Self, CliError> {
        let folder = std::path::absolute(&args.data)
            .map_err(|error| CliError::failed(format!("{}: {error}", args.data.display())))?;
        let found = read(&folder)?;
        let (is_new, is_changed, stored, mut found) = match found {
            Some(found) => {
                let count = found.peer_ports.len();
                let members: Vec<Option<Member>> = (1..=count.min(usize::from(MEMBERS_MAX)))
                    .map(|number| Member::read(&folder.join(format!("m{number}"))))
                    .collect::<Result<_, CliError>>()?;
                let before = (found.log, found.store);
                let stored = agree(found, &members, args, &folder)?;
                let is_changed = (stored.log, stored.store) != before;
                (false, is_changed, stored, members)
            }
            None => (true, true, begin(args)?, Vec::new()),
        };
        let count = u8::try_from(stored.peer_ports.len()).unwrap_or(u8::MAX);
        let client_ports = ports(args, 0, count)?;
        found.resize(stored.peer_ports.len(), None);
        let members: Vec<Planned> = (1..)
            .zip(found)
            .zip(client_ports.iter().zip(&stored.peer_ports))
            .map(|((number, member), (client, peer))| {
                let name = format!("m{number}");
                Planned {
                    client: format!("127.0.0.1:{client}"),
                    peer: format!("127.0.0.1:{peer}"),
                    folder: folder.join(&name),
                    log: member.as_ref().map_or(stored.log, |member| member.log),
                    store: member.as_ref().map_or(stored.store, |member| member.store),
                    left: member.is_some_and(|member| member.left),
                    name,
                }
            })
            .collect();
        for (member, port) in members.iter().zip(&client_ports) {
            let what = format!("the clients of {}", member.name);
            check_free(*port, &what, "end whoever uses it or set --client-port")?;
        }
        for (member, port) in members.iter().zip(&stored.peer_ports) {
            let what = format!("the peers of {}", member.name);
            let advice = match is_new {
                true => "end whoever uses it or set --client-port",
                false => "end whoever uses it: the cluster's members know each other by it",
            };
            check_free(*port, &what, advice)?;
        }
        for member in &members {
            built_in(member.log, member.store)?;
        }
        Ok(Self {
            folder,
            members,
            stored,
            is_changed,
        })
    }

    /// The value of `--initial-cluster`.
    pub(super) fn initial(&self) -> String {
        let one = |member: &Planned| format!("{}=http://{}", member.name, member.peer);
        self.members.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// The value of `--initial-cluster-token`.
    pub(super) fn token(&self) -> &str {
        &self.stored.token
    }

    /// Writes the cluster's file, where there is none or the members have other backends now.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn record(&self) -> Result<(), CliError> {
        if !self.is_changed {
            return Ok(());
        }
        let Stored {
            token,
            log,
            store,
            peer_ports,
        } = &self.stored;
        let text = format!(
            "# Written by `raftwerk up`; the members know each other by these ports.\n\
             token = \"{token}\"\nlog = \"{}\"\nstore = \"{}\"\npeer_ports = {peer_ports:?}\n",
            log.word(),
            store.word()
        );
        write_whole(&self.folder, FILE, &text).map_err(|error| {
            CliError::failed(format!(
                "cannot write {}/{FILE}: {error}",
                self.folder.display()
            ))
        })
    }
}

/// A new cluster, as asked.
fn begin(args: &UpArgs) -> Result<Stored, CliError> {
    let count = args.members.unwrap_or(MEMBERS_DEFAULT);
    Ok(Stored {
        token: token(),
        log: args.log.unwrap_or_default(),
        store: args.store.unwrap_or_default(),
        peer_ports: ports(args, PEER_PORTS_ABOVE, count)?,
    })
}

/// `count` ports from the client port plus `above` on.
fn ports(args: &UpArgs, above: u16, count: u8) -> Result<Vec<u16>, CliError> {
    let first = args.client_port.checked_add(above);
    let last = first.and_then(|first| first.checked_add(u16::from(count)));
    match (first, last) {
        (Some(first), Some(last)) => Ok((first..last).collect()),
        _ => Err(CliError::usage(
            "--client-port is too high for the ports after it",
        )),
    }
}

/// Different for every new cluster; no secret.
fn token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map(|since| since.as_nanos()).unwrap_or_default();
    format!("up-{nanos:x}-{:x}", std::process::id())
}

/// `None`: there is no cluster yet.
fn read(folder: &Path) -> Result<Option<Stored>, CliError> {
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| {
            CliError::failed(format!("{} cannot be read: {error}", path.display()))
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_empty(folder)?;
            Ok(None)
        }
        Err(error) => Err(CliError::failed(format!("{}: {error}", path.display()))),
    }
}

/// A folder with other people's files is not taken for a cluster's.
fn check_empty(folder: &Path) -> Result<(), CliError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::failed(format!("{}: {error}", folder.display()))),
    };
    let foreign = entries.flatten().find(|entry| entry.file_name() != LOCK);
    match foreign {
        None => Ok(()),
        Some(entry) => Err(CliError::failed(format!(
            "{} is not a folder of `raftwerk up` and holds {}; choose another with --data",
            folder.display(),
            entry.file_name().to_string_lossy()
        ))),
    }
}

/// What is asked must be what is there: of the backends, what each member has now, which
/// `raftwerk migrate` may have changed since the cluster began. What all have is the cluster's.
fn agree(
    mut stored: Stored,
    members: &[Option<Member>],
    args: &UpArgs,
    folder: &Path,
) -> Result<Stored, CliError> {
    let folder = folder.display();
    let count = stored.peer_ports.len();
    if !(1..=usize::from(MEMBERS_MAX)).contains(&count) {
        return Err(CliError::failed(format!(
            "{folder}/{FILE} is damaged: {count} members"
        )));
    }
    if let Some(asked) = args.members.filter(|&asked| usize::from(asked) != count) {
        return Err(CliError::failed(format!(
            "{folder} holds a cluster with --members {count}, not {asked}; leave out --members, or \
             choose another folder with --data"
        )));
    }
    let present = members.iter().flatten().filter(|member| !member.left);
    let logs: Vec<LogBackend> = present.clone().map(|member| member.log).collect();
    let stores: Vec<StoreBackend> = present.map(|member| member.store).collect();
    stored.log = common(&logs).unwrap_or(stored.log);
    stored.store = common(&stores).unwrap_or(stored.store);
    let differs = |flag: &str, asked: &str, has: &str| {
        Err(CliError::failed(format!(
            "{folder} holds a cluster with {flag} {has}, not {asked}; leave out {flag}, give the \
             members another with `raftwerk migrate`, or choose another folder with --data"
        )))
    };
    let other = |&asked: &LogBackend| logs.iter().chain([&stored.log]).any(|log| *log != asked);
    if let Some(asked) = args.log.filter(other) {
        let has = words(
            logs.iter().chain([&stored.log]).map(|log| log.word()),
            asked.word(),
        );
        return differs("--log", asked.word(), &has);
    }
    let other = |&asked: &StoreBackend| stores.iter().chain([&stored.store]).any(|s| *s != asked);
    if let Some(asked) = args.store.filter(other) {
        let all = stores.iter().chain([&stored.store]);
        let has = words(all.map(|store| store.word()), asked.word());
        return differs("--store", asked.word(), &has);
    }
    if stored.log == LogBackend::Mem {
        return Err(CliError::failed(format!(
            "{folder} belongs to a cluster that kept its log in memory, which is gone: delete the \
             folder, or choose another with --data"
        )));
    }
    Ok(stored)
}

/// What all have.
fn common<T: Copy + PartialEq>(all: &[T]) -> Option<T> {
    let (first, rest) = all.split_first()?;
    rest.iter().all(|other| other == first).then_some(*first)
}

/// Each word once, without the one that was asked for.
fn words(all: impl Iterator<Item = &'static str>, asked: &str) -> String {
    let words: BTreeSet<&str> = all.filter(|word| *word != asked).collect();
    words.into_iter().collect::<Vec<_>>().join(" and ")
}

/// The right to run the cluster of a folder; given up when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

impl Claim {
    /// Creates the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// Another `up` runs there, or the system refuses.
    pub(super) fn take(cluster: &Cluster) -> Result<Self, CliError> {
        let folder = cluster.folder.display();
        let failed = |error: std::io::Error| CliError::failed(format!("{folder}: {error}"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cluster.folder)
            .map_err(failed)?;
        match lock(&cluster.folder, LOCK).map_err(failed)? {
            Some(lock) => Ok(Self { _lock: lock }),
            None => Err(CliError::failed(format!(
                "{folder} is in use by another `raftwerk up`; end it, or choose another folder \
                 with --data"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(log: LogBackend) -> Stored {
        Stored {
            token: "t".to_owned(),
            log,
            store: StoreBackend::Redb,
            peer_ports: vec![2479, 2480, 2481],
        }
    }

    fn args() -> UpArgs {
        UpArgs {
            members: None,
            data: PathBuf::from("x"),
            client_port: 2379,
            log: None,
            store: None,
        }
    }

    #[test]
    fn a_cluster_is_not_started_as_another_one() {
        let folder = Path::new("x");
        let wal = || stored(LogBackend::Wal);
        assert_eq!(agree(wal(), &[], &args(), folder).unwrap(), wal());
        let same = UpArgs {
            members: Some(3),
            log: Some(LogBackend::Wal),
            ..args()
        };
        assert!(agree(wal(), &[], &same, folder).is_ok());
        for other in [
            UpArgs {
                members: Some(5),
                ..args()
            },
            UpArgs {
                log: Some(LogBackend::Mem),
                ..args()
            },
            UpArgs {
                store: Some(StoreBackend::Mem),
                ..args()
            },
        ] {
            let error = agree(wal(), &[None], &other, folder)
                .unwrap_err()
                .to_string();
            assert!(error.contains("choose another folder"), "{error}");
        }
        let gone = agree(stored(LogBackend::Mem), &[], &args(), folder).unwrap_err();
        assert!(gone.to_string().contains("kept its log in memory"));
    }

    fn member(log: LogBackend, left: bool) -> Option<Member> {
        Some(Member {
            cluster: "1".to_owned(),
            id: "1".to_owned(),
            name: "m".to_owned(),
            log,
            store: StoreBackend::Redb,
            left,
            migrating: false,
        })
    }

    #[test]
    fn a_migrated_cluster_is_started_as_what_its_members_have_now() {
        let folder = Path::new("x");
        let asking = |log| UpArgs {
            log: Some(log),
            ..args()
        };
        let (wal, redb) = (asking(LogBackend::Wal), asking(LogBackend::Redb));
        let all = [
            member(LogBackend::Redb, false),
            member(LogBackend::Wal, true),
            member(LogBackend::Redb, false),
        ];
        for asked in [&redb, &args()] {
            let stored = agree(stored(LogBackend::Wal), &all, asked, folder).unwrap();
            assert_eq!(stored.log, LogBackend::Redb);
        }
        let refusal = agree(stored(LogBackend::Wal), &all, &wal, folder).unwrap_err();
        assert!(
            refusal.to_string().contains("--log redb, not wal"),
            "{refusal}"
        );
        let some = [
            member(LogBackend::Redb, false),
            member(LogBackend::Wal, false),
        ];
        for asked in [&wal, &redb] {
            let refusal = agree(stored(LogBackend::Wal), &some, asked, folder).unwrap_err();
            assert!(
                refusal.to_string().contains("raftwerk migrate"),
                "{refusal}"
            );
        }
        let kept = agree(stored(LogBackend::Wal), &some, &args(), folder).unwrap();
        assert_eq!(kept.log, LogBackend::Wal);
    }

    #[test]
    fn tests_keep_the_ports_free_that_peers_are_given() {
        assert_eq!(PEER_PORTS_ABOVE, raftwerk_testkit::ports::PEERS_ABOVE);
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        let high = UpArgs {
            client_port: 65_000,
            ..args()
        };
        assert!(ports(&high, 0, 7).is_ok());
        assert!(
            ports(
                &UpArgs {
                    client_port: 65_530,
                    ..args()
                },
                0,
                7
            )
            .is_err()
        );
    }
}
