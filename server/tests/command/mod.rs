//! The command as people run it: real processes, real folders, real ports.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn raftwerk() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftwerk"));
    command.env_remove("RAFTWERK_ENDPOINTS");
    command
}

pub fn run(args: &[&str]) -> Output {
    raftwerk().args(args).output().unwrap()
}

/// Asks at `endpoint` until it works.
pub fn ask_patiently(endpoint: &str, args: &[&str]) -> String {
    let args = [args, &["--endpoints", endpoint]].concat();
    let began = Instant::now();
    loop {
        let output = run(&args);
        if output.status.success() {
            return said(&output);
        }
        assert!(began.elapsed() < PATIENCE, "{args:?}: {}", said(&output));
    }
}

pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Ports that were free a moment ago.
pub fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref()
        .map(|listener| listener.local_addr().unwrap().port())
}

/// One member, ended when dropped.
pub struct Member {
    pub child: Child,
    pub client: String,
}

impl Member {
    pub fn serve(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> Self {
        let (client, peer) = (format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"));
        let mut child = raftwerk()
            .args(["serve", "--segment-mib", "16", "--disk-reserve-mib", "0"])
            .args(["--listen-client", &client, "--listen-peer", &peer, "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            let mut error = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            panic!("did not start: {error}");
        }
        Self { child, client }
    }

    /// What a member that has ended leaves at `data`: one key.
    pub fn leave_hello(data: &Path, ports: [u16; 2]) {
        let member = Self::serve(data, ports, &[]);
        member.ask_patiently(&["put", "hello", "world"]);
        assert_eq!(member.end(), Some(0));
    }

    pub fn ask(&self, args: &[&str]) -> Output {
        run(&[args, &["--endpoints", &self.client]].concat())
    }

    /// Asks until it works: a member needs an election before it serves.
    pub fn ask_patiently(&self, args: &[&str]) -> String {
        ask_patiently(&self.client, args)
    }

    pub fn end(mut self) -> Option<i32> {
        signal(i32::try_from(self.child.id()).unwrap(), Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    /// What a member says that does not start, and how it ends.
    pub fn serve_in_vain(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> Output {
        let output = raftwerk()
            .args(["serve", "--listen-client", &format!("127.0.0.1:{client}")])
            .args(["--listen-peer", &format!("127.0.0.1:{peer}"), "--data"])
            .arg(data)
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        output
    }

    pub fn serve_refused(data: &Path, ports: [u16; 2], more: &[&str]) -> String {
        said(&Self::serve_in_vain(data, ports, more))
    }
}

/// `count` ports in a row whose peers, a hundred above, are free as well.
pub fn ports_in_a_row(count: u16) -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let fits = |first: &u16| (0..count).all(|n| free(first + n) && free(first + 100 + n));
    // Tests that run at the same time begin at different places.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + (std::process::id() % 5_000) as u16;
    let begin = begin + 300 * NEXT.fetch_add(1, Ordering::Relaxed);
    (begin..begin + 5000).find(fits).unwrap()
}

/// `up`, ended when dropped, and its members with it.
pub struct Up {
    pub child: Child,
    pub said: BufReader<std::process::ChildStdout>,
}

impl Up {
    pub fn start(data: &Path, port: u16, more: &[&str]) -> Self {
        let mut child = raftwerk()
            .args(["up", "--client-port", &port.to_string(), "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next line with `what` in it.
    pub fn line_with(&mut self, what: &str) -> String {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(
                self.said.read_line(&mut line).unwrap(),
                0,
                "ended before {what:?}"
            );
        }
        line
    }

    pub fn interrupt(mut self) -> Option<i32> {
        signal(i32::try_from(self.child.id()).unwrap(), Signal::INT);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(id: i32, signal: Signal) {
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that must work.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

/// Every file below `dir` with its bytes.
pub fn contents(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}
