//! The command as people run it: real processes, real folders, real ports.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a loaded machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn raftwerk() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftwerk"));
    command.env_remove("RAFTWERK_ENDPOINTS");
    command
}

fn run(args: &[&str]) -> Output {
    raftwerk().args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref()
        .map(|listener| listener.local_addr().unwrap().port())
}

/// One member, ended when dropped.
struct Member {
    child: Child,
    client: String,
}

impl Member {
    fn serve(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> Self {
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

    fn ask(&self, args: &[&str]) -> Output {
        run(&[args, &["--endpoints", &self.client]].concat())
    }

    /// Asks until it works: a member needs an election before it serves.
    fn ask_patiently(&self, args: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let output = self.ask(args);
            if output.status.success() {
                return said(&output);
            }
            assert!(began.elapsed() < PATIENCE, "{args:?}: {}", said(&output));
        }
    }

    fn end(mut self) -> Option<i32> {
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

#[test]
fn a_member_keeps_its_keys_from_start_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let ports = ports();
    let member = Member::serve(&data, ports, &[]);
    assert_eq!(
        member.ask_patiently(&["put", "hello", "world"]),
        "ok (revision 2)\n"
    );
    assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
    assert_eq!(member.ask(&["get", "nothing"]).status.code(), Some(1));
    let mode = std::fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let second = Member::serve_refused(&data, self::ports(), &[]);
    assert!(second.contains("is in use by another process"), "{second}");
    let busy = run(&["log", "verify", data.to_str().unwrap()]);
    assert!(
        said(&busy).contains("is in use: end the member first"),
        "{}",
        said(&busy)
    );

    assert_eq!(member.end(), Some(0));
    let verified = run(&["log", "verify", data.to_str().unwrap()]);
    assert!(
        said(&verified).starts_with("intact: "),
        "{}",
        said(&verified)
    );
    let dumped = run(&["log", "dump", data.to_str().unwrap(), "--json"]);
    assert!(
        said(&dumped).contains("\"kind\":\"entries\",\"group\":1"),
        "{}",
        said(&dumped)
    );

    for (flags, expected) in [
        (["--log", "mem"], "with --log wal, not mem"),
        (["--store", "mem"], "with --store redb, not mem"),
        (
            ["--initial-cluster", "default=http://127.0.0.1:1"],
            "of cluster",
        ),
    ] {
        let refused = Member::serve_refused(&data, ports, &flags);
        assert!(refused.contains(expected), "{flags:?}: {refused}");
    }
    let member = Member::serve(&data, ports, &[]);
    assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
    assert_eq!(member.end(), Some(0));
}

impl Member {
    /// What a member says that does not start.
    fn serve_refused(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> String {
        let output = raftwerk()
            .args(["serve", "--listen-client", &format!("127.0.0.1:{client}")])
            .args(["--listen-peer", &format!("127.0.0.1:{peer}"), "--data"])
            .arg(data)
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }
}

#[test]
fn health_and_metrics_are_served_on_a_port_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let [client, peer, metrics] = ports();
    let metrics = format!("127.0.0.1:{metrics}");
    let more = ["--metrics", &metrics, "--log", "mem", "--store", "mem"];
    let member = Member::serve(&folder.path().join("m"), [client, peer], &more);
    member.ask_patiently(&["put", "a", "b"]);
    let page = |path: &str| {
        let mut stream = TcpStream::connect(&metrics).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(
        page("/health").ends_with("{\"health\":\"true\"}"),
        "{}",
        page("/health")
    );
    let text = page("/metrics");
    assert!(text.contains("\nraftwerk_is_leader 1\n"), "{text}");
    assert!(text.contains("\nraftwerk_revision 2\n"), "{text}");
    assert!(page("/else").starts_with("HTTP/1.1 404 "));

    // All is well once the member has told the cluster of itself.
    member.ask_patiently(&["status"]);
    // Output that nobody reads ends a command without a panic.
    for args in [&["get", "a"][..], &["member", "list"], &["status"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = raftwerk();
        command
            .args(args)
            .args(["--endpoints", &member.client])
            .stdout(writer);
        assert_eq!(command.status().unwrap().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let data = folder.path().join("data");
    let output = run(&[
        "up",
        "--members",
        "1",
        "--client-port",
        &taken.min(65_000).to_string(),
        "--data",
        data.to_str().unwrap(),
    ]);
    if taken <= 65_000 {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains(&format!("127.0.0.1:{taken}")),
            "{}",
            said(&output)
        );
        assert!(!data.exists());
    }
    let [free] = ports();
    let refused = Member::serve_refused(&data, [taken, free], &[]);
    assert!(
        refused.contains("end whoever uses it or set --listen-client"),
        "{refused}"
    );
    assert!(!data.exists());
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let output = run(&["up", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("holds thesis.txt"),
        "{}",
        said(&output)
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_member_ends_with_its_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let [client, peer] = ports();
    let mut child = raftwerk()
        .args([
            "serve",
            "--end-with-stdin",
            "--log",
            "mem",
            "--store",
            "mem",
        ])
        .args(["--listen-client", &format!("127.0.0.1:{client}")])
        .args(["--listen-peer", &format!("127.0.0.1:{peer}"), "--data"])
        .arg(folder.path().join("m"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// `count` ports in a row whose peers, a hundred above, are free as well.
fn ports_in_a_row(count: u16) -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let fits = |first: &u16| (0..count).all(|n| free(first + n) && free(first + 100 + n));
    let begin = 20_000 + (std::process::id() % 10_000) as u16;
    (begin..begin + 5000).find(fits).unwrap()
}

/// `up`, ended when dropped, and its members with it.
struct Up {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Up {
    fn start(data: &Path, port: u16) -> Self {
        let mut child = raftwerk()
            .args([
                "up",
                "--store",
                "mem",
                "--client-port",
                &port.to_string(),
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next line with `what` in it.
    fn line_with(&mut self, what: &str) -> String {
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

    fn interrupt(mut self) -> Option<i32> {
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

fn signal(id: i32, signal: Signal) {
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

#[test]
fn a_cluster_comes_up_serves_brings_the_dead_back_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = ports_in_a_row(3);
    let mut up = Up::start(&data, port);
    let m1 = up.line_with("m1  id ");
    let id = m1.split(" pid ").nth(1).unwrap().split(' ').next().unwrap();
    up.line_with(" leads; log wal, store mem");
    let endpoints = format!("127.0.0.1:{},127.0.0.1:{}", port + 1, port + 2);
    let put = run(&[
        "put",
        "a",
        "b",
        "--timeout",
        "30",
        "--endpoints",
        &endpoints,
    ]);
    assert!(put.status.success(), "{}", said(&put));

    signal(id.parse().unwrap(), Signal::KILL);
    up.line_with("m1 was killed by signal 9; starting it again");
    up.line_with("m1 runs again");
    let began = Instant::now();
    let m1 = format!("127.0.0.1:{port}");
    while !run(&["get", "a", "--consistency", "s", "--endpoints", &m1])
        .status
        .success()
    {
        assert!(began.elapsed() < PATIENCE);
    }
    let other = ports_in_a_row(3).to_string();
    let second = run(&[
        "up",
        "--client-port",
        &other,
        "--data",
        data.to_str().unwrap(),
    ]);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));

    assert_eq!(up.interrupt(), Some(0));
    for n in 0..3 {
        TcpListener::bind(("127.0.0.1", port + n)).unwrap();
    }
}
