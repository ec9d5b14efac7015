//! Clusters of real `raftwerk serve` processes on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use raftwerk_testkit::ports;
pub use raftwerk_testkit::processes::PATIENCE;
use raftwerk_testkit::processes::asked::{self, PAUSE};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The `raftwerk` command, built beside the running test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn raftwerk() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/<profile>/deps/<test>: the profile's folder is two up.
        let test = std::env::current_exe().expect("own path");
        let folder = test.parent().and_then(Path::parent).expect("target folder");
        let binary = folder.join("raftwerk-tested");
        assert!(binary.is_file(), "no {}", binary.display());
        binary
    })
}

/// One member of a [`Cluster`].
#[derive(Debug)]
pub struct Member {
    /// Its name, `m1` and so on.
    pub name: String,
    /// Where clients reach it.
    pub client_port: u16,
    /// Where peers reach it.
    pub peer_port: u16,
    /// Where it says how it is.
    pub metrics_port: u16,
    /// Its data folder.
    pub folder: PathBuf,
    /// What the process printed goes here, one file for all its lives.
    pub log: PathBuf,
    /// More flags for `serve`.
    pub flags: Vec<String>,
    process: Option<Child>,
}

impl Member {
    /// `http://127.0.0.1:PORT` for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The running process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().expect("member runs"))
    }

    /// Whether a process was started and not ended by us.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signal");
    }

    /// Ends it as a crash would, and waits for the end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("member runs");
        process.kill().expect("kill");
        process.wait().expect("wait");
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it is still there after [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("member runs");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.try_wait().expect("wait") {
                self.process = None;
                return status;
            }
            assert!(Instant::now() < until, "{} does not end", self.name);
            pause();
        }
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory that is the process's own, in bytes: what stands in mapped files is the kernel's to
    /// take back and does not count.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(path).expect("status");
        let anonymous = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kib = anonymous.and_then(|rest| rest.split_whitespace().next());
        kib.expect("RssAnon").parse::<u64>().expect("number") * 1024
    }

    /// What it answers to a GET on its metrics port: the status code and the body.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn http(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, answer.clone());
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        let code = head.split_whitespace().nth(1).and_then(|c| c.parse().ok());
        Ok((code.ok_or_else(broken)?, body.to_owned()))
    }

    /// The sum of a metric's lines, whatever their labels.
    ///
    /// # Panics
    /// When the member does not answer or has no such metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let (code, body) = self.http("/metrics").expect("metrics");
        assert_eq!(code, 200, "{body}");
        let values: Vec<f64> = body
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        assert!(!values.is_empty(), "no metric {name} in\n{body}");
        values.iter().sum()
    }
}

/// Some members and the folder that holds theirs. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// In order of name.
    pub members: Vec<Member>,
    root: TempDir,
}

impl Cluster {
    /// Prepares `count` members, with `flags` for each; starts none.
    ///
    /// # Panics
    /// When the file system refuses.
    #[must_use]
    pub fn new(count: usize, flags: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("folder");
        let mut cluster = Self {
            members: Vec::new(),
            root,
        };
        for _ in 0..count {
            cluster.add_member(flags);
        }
        cluster
    }

    /// Prepares and starts `count` members.
    #[must_use]
    pub fn start(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::new(count, flags);
        for index in 0..count {
            cluster.start_member(index);
        }
        cluster
    }

    /// Prepares one more member and gives its place. Its log has small segments, which are made
    /// sooner, unless the flags say otherwise.
    pub fn add_member(&mut self, flags: &[&str]) -> usize {
        let name = format!("m{}", self.members.len() + 1);
        let mut flags = flags.to_vec();
        if !flags.contains(&"--segment-mib") {
            flags.extend(["--segment-mib", "16"]);
        }
        let [client_port, peer_port, metrics_port] = ports::take();
        self.members.push(Member {
            client_port,
            peer_port,
            metrics_port,
            folder: self.root.path().join(&name),
            log: self.root.path().join(format!("{name}.out")),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            process: None,
            name,
        });
        self.members.len() - 1
    }

    /// The folder that holds the members' folders.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.root.path()
    }

    /// What `--initial-cluster` says for the first `count` members.
    #[must_use]
    pub fn initial(&self, count: usize) -> String {
        let all: Vec<String> = self
            .members
            .iter()
            .take(count)
            .map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port))
            .collect();
        all.join(",")
    }

    /// Starts a member of the initial cluster (again).
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_member(&mut self, index: usize) {
        let initial = self.initial(self.members.len());
        self.start_with(index, &["--initial-cluster", &initial]);
    }

    /// Starts a member with these flags beside its own.
    ///
    /// # Panics
    /// When it runs already, or the process cannot be started.
    pub fn start_with(&mut self, index: usize, flags: &[&str]) {
        let member = self.members.get_mut(index).expect("member");
        assert!(member.process.is_none(), "{} runs already", member.name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&member.log)
            .expect("log");
        let process = Command::new(raftwerk())
            .arg("serve")
            .args(["--name", &member.name])
            .args(["--data", &member.folder.display().to_string()])
            .args([
                "--listen-client",
                &format!("127.0.0.1:{}", member.client_port),
            ])
            .args(["--listen-peer", &format!("127.0.0.1:{}", member.peer_port)])
            .args(["--metrics", &format!("127.0.0.1:{}", member.metrics_port)])
            // Should this process be killed, the members end too.
            .arg("--end-with-stdin")
            .args(flags)
            .args(&member.flags)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("raftwerk serve");
        member.process = Some(process);
    }

    /// Kills all members at the same time and waits for their ends.
    ///
    /// # Panics
    /// When one does not run.
    pub fn kill_all(&mut self) {
        self.members.iter().for_each(|m| m.signal(Signal::KILL));
        self.members.iter_mut().for_each(Member::kill);
    }

    /// The endpoints of all members, comma separated.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.members
            .iter()
            .map(Member::endpoint)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// What the members have printed, for a failing test.
    #[must_use]
    pub fn outputs(&self) -> String {
        self.members
            .iter()
            .map(|m| format!("--- {}\n{}\n", m.name, m.output()))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("{}", self.outputs());
        }
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

fn output(args: &[&str]) -> Output {
    let mut command = Command::new(raftwerk());
    let command = command.args(args).stdin(Stdio::null());
    command.output().expect("raftwerk")
}

/// Runs the command with `args`.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn command(args: &[&str]) -> Said {
    let output = output(args);
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the command with `args` and gives what it printed.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn succeed(args: &[&str]) -> String {
    let said = command(args);
    assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    said.out
}

/// As [`succeed`], again and again until it does: what may be done more than once, asked of members
/// that may be electing.
///
/// # Panics
/// When it still fails after [`PATIENCE`].
#[must_use]
pub fn succeed_patiently(args: &[&str]) -> String {
    asked::await_some(|| {
        let said = command(args);
        match said.code {
            Some(0) => Ok(said.out),
            _ => Err(format!("{args:?}: {said:?}")),
        }
    })
}

/// Asks at `endpoint` for a change of the members until `look` finds what it looks for in their
/// list; says `words` when it is made.
///
/// # Panics
/// When it has not after [`PATIENCE`], or no command said so.
pub fn change_members<T>(
    endpoint: &str,
    args: &[&str],
    words: &str,
    look: impl FnMut(&str) -> Option<T>,
) -> T {
    asked::change_members(output, endpoint, args, words, look)
}

/// Looks until `look` finds something.
///
/// # Panics
/// When it has not after [`PATIENCE`].
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    asked::await_some(|| look().ok_or_else(|| what.to_owned()))
}

/// A short wait between two looks at another process, which has no event to await.
pub fn pause() {
    std::thread::sleep(PAUSE);
}

/// How long another process is asked again and again.
#[derive(Debug)]
pub struct Patience(Instant);

impl Patience {
    /// From now on, for `max`.
    #[must_use]
    pub fn new(max: Duration) -> Self {
        Self(Instant::now() + max)
    }

    /// # Panics
    /// With `why` once it is at its end.
    fn check(&self, why: impl FnOnce() -> String) {
        assert!(Instant::now() < self.0, "{}", why());
    }

    /// Lets a moment pass before the other process is asked again, as [`pause`] does.
    ///
    /// # Panics
    /// With `why` once it is at its end.
    pub async fn again(&self, why: impl FnOnce() -> String) {
        self.check(why);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every file below `folder` with its bytes: two of these are equal when nothing was touched.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("file");
                found.insert(path, bytes);
            }
        }
    }
    found
}
