//! `raftwerk up`, as somebody uses it on a first day.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use raftwerk_tests::processes::{
    PATIENCE, await_some, command, contents, free_ports, pause, raftwerk, succeed,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How far above the client ports the peer ports are.
const PEER_PORTS_ABOVE: u16 = 100;

/// A running `raftwerk up`.
struct Up {
    process: Child,
    printed: PathBuf,
    members: Vec<u32>,
}

/// A client port whose neighbours, for three members and their peers, are free.
fn ports() -> u16 {
    loop {
        let first = free_ports(3);
        let peers = first + PEER_PORTS_ABOVE;
        if (peers..peers + 3).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}

impl Up {
    /// Starts it and waits until it says what to try next.
    fn start(root: &TempDir, args: &[&str], port: u16) -> Self {
        let printed = root.path().join("printed");
        let file = File::create(&printed).unwrap();
        let process = Command::new(raftwerk())
            .arg("up")
            .args(["--data", &data(root)])
            .args(["--client-port", &port.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut up = Self {
            process,
            printed,
            members: Vec::new(),
        };
        await_some("the cluster to be announced", || {
            assert!(
                up.process.try_wait().unwrap().is_none(),
                "ended: {}",
                up.text()
            );
            up.text().contains("try: ").then_some(())
        });
        up.members = up
            .text()
            .lines()
            .filter_map(|line| {
                line.split(" pid ")
                    .nth(1)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        up
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.printed).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "does not end: {}", self.text());
            pause();
        }
    }

    /// Waits until no member's process is left.
    fn await_members_gone(&self) {
        for member in &self.members {
            await_some("a member's process to end", || {
                (!is_raftwerk(*member)).then_some(())
            });
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.text());
        }
        // Its members end when it does.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this process runs our command: a number may be given to somebody else by now.
fn is_raftwerk(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).contains("raftwerk")
}

fn data(root: &TempDir) -> String {
    root.path().join("data").display().to_string()
}

#[test]
fn up_serves_ends_all_members_at_ctrl_c_and_has_the_data_again() {
    let root = tempfile::tempdir().unwrap();
    let port = ports();
    let endpoints = format!("127.0.0.1:{port}");
    let mut up = Up::start(&root, &[], port);
    assert_eq!(up.members.len(), 3, "{}", up.text());
    assert!(up.text().contains("Ctrl-C"), "{}", up.text());
    let _ = succeed(&["put", "hello", "world", "--endpoints", &endpoints]);
    let value = succeed(&["get", "hello", "--endpoints", &endpoints]);
    assert_eq!(value.trim_end(), "world");
    assert_eq!(mode(Path::new(&data(&root))), 0o700);

    up.signal(Signal::INT);
    let status = up.wait();
    assert_eq!(status.code(), Some(0), "{}", up.text());
    up.await_members_gone();

    let up = Up::start(&root, &[], port);
    let value = succeed(&["get", "hello", "--endpoints", &endpoints]);
    assert_eq!(value.trim_end(), "world");
    // Killed outright it cannot end its members: they end by themselves.
    up.signal(Signal::KILL);
    up.await_members_gone();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_second_up_is_refused_and_touches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let port = ports();
    let up = Up::start(&root, &["--members", "1"], port);
    let names =
        |folder: &str| -> Vec<PathBuf> { contents(Path::new(folder)).into_keys().collect() };
    let before = names(&data(&root));
    let own = data(&root);
    // The same folder on other ports.
    let other_port = ports().to_string();
    let said = command(&["up", "--data", &own, "--client-port", &other_port]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("in use"), "{said:?}");
    // Another folder on the same ports.
    let other = root.path().join("other");
    let said = command(&[
        "up",
        "--data",
        other.to_str().unwrap(),
        "--client-port",
        &port.to_string(),
    ]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(&format!(":{port}")), "{said:?}");
    assert!(!other.exists());
    assert_eq!(names(&own), before);
    assert!(is_raftwerk(up.members[0]));
}

#[test]
fn a_folder_with_another_backend_is_refused_and_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let port = ports();
    let mut up = Up::start(&root, &["--members", "1"], port);
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(0), "{}", up.text());
    let own = data(&root);
    let before = contents(Path::new(&own));
    for flags in [["--log", "mem"], ["--store", "mem"], ["--members", "3"]] {
        let port = port.to_string();
        let mut args = vec!["up", "--data", &own, "--client-port", &port];
        args.extend(flags);
        let said = command(&args);
        assert_eq!(said.code, Some(1), "{flags:?}: {said:?}");
        assert!(said.err.contains(flags[0]), "{flags:?}: {said:?}");
    }
    assert!(
        contents(Path::new(&own)) == before,
        "the folder was touched"
    );
    // Somebody else's files are not ours to sit on.
    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "x").unwrap();
    let said = command(&[
        "up",
        "--data",
        foreign.to_str().unwrap(),
        "--client-port",
        &port.to_string(),
    ]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("thesis.txt"), "{said:?}");
    assert_eq!(contents(&foreign).len(), 1);
}
