//! `raftwerk up`, as somebody uses it on a first day.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use raftwerk_testkit::ports::take_row;
use raftwerk_tests::processes::{
    PATIENCE, await_some, command, contents, pause, raftwerk, succeed_patiently,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `raftwerk up`.
struct Up {
    process: Child,
    printed: PathBuf,
    members: Vec<u32>,
}

/// The first client port of three members.
fn ports() -> u16 {
    take_row(3)
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
        // In good order, so that no member lives longer than the folder it writes to.
        if let Ok(None) = self.process.try_wait() {
            let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
            // A test that failed may have left all of it standing still.
            let members = self.members.iter().copied().filter(|id| is_raftwerk(*id));
            for id in members.chain([self.process.id()]) {
                let id = i32::try_from(id).ok().and_then(Pid::from_raw);
                let _ = id.map(|id| kill_process(id, Signal::CONT));
            }
        }
        let until = Instant::now() + PATIENCE;
        while let Ok(None) = self.process.try_wait() {
            if Instant::now() > until {
                let _ = self.process.kill();
            }
            pause();
        }
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
    let _ = succeed_patiently(&["put", "hello", "world", "--endpoints", &endpoints]);
    let value = succeed_patiently(&["get", "hello", "--endpoints", &endpoints]);
    assert_eq!(value.trim_end(), "world");
    assert_eq!(mode(Path::new(&data(&root))), 0o700);

    up.signal(Signal::INT);
    let status = up.wait();
    assert_eq!(status.code(), Some(0), "{}", up.text());
    up.await_members_gone();

    let up = Up::start(&root, &[], port);
    let value = succeed_patiently(&["get", "hello", "--endpoints", &endpoints]);
    assert_eq!(value.trim_end(), "world");
    // Killed outright it cannot end its members: they end by themselves.
    up.signal(Signal::KILL);
    up.await_members_gone();
}

/// All below a folder, and of each what a write to it or a file made in it changes: its length and
/// when it was changed last, in seconds and nanoseconds.
fn standing(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let seen = fs::metadata(&path).unwrap();
        if seen.is_dir() {
            found.extend(standing(&path));
        }
        found.insert(path, (seen.len(), seen.ctime(), seen.ctime_nsec()));
    }
    found
}

/// Whether each thread of a process stands still.
fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // "1234 (name) T ...", and the name may hold anything.
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    })
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
    let own = data(&root);
    // A member that runs writes as it likes: whatever changes now is not its doing.
    let others = [up.process.id(), up.members[0]];
    let tell_all = |told: Signal| {
        for id in others {
            let id = Pid::from_raw(id.try_into().unwrap()).unwrap();
            kill_process(id, told).unwrap();
        }
    };
    tell_all(Signal::STOP);
    await_some("the cluster to stand still", || {
        others.into_iter().all(is_stopped).then_some(())
    });
    let before = standing(root.path());
    assert!(
        before
            .keys()
            .any(|path| path.ends_with("data/m1/member.toml"))
    );
    // The same folder on other ports.
    let other_port = ports().to_string();
    let said = command(&["up", "--data", &own, "--client-port", &other_port]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("for the peers of m1"), "{said:?}");
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
    assert_eq!(standing(root.path()), before);
    tell_all(Signal::CONT);
    assert!(is_raftwerk(up.members[0]));
}

/// Leaves the folder of a cluster of one that has ended.
fn run_and_end(root: &TempDir, port: u16) {
    let mut up = Up::start(root, &["--members", "1"], port);
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(0), "{}", up.text());
}

#[test]
fn a_folder_that_another_up_holds_is_refused_and_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let port = ports();
    run_and_end(&root, port);
    // As one that begins or ends holds it, whose ports are free.
    let own = data(&root);
    let held = File::open(Path::new(&own).join("UP.LOCK")).unwrap();
    held.lock().unwrap();
    let before = standing(root.path());
    let said = command(&["up", "--data", &own, "--client-port", &port.to_string()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let why = "is in use by another `raftwerk up`";
    assert!(said.err.contains(why), "{said:?}");
    assert_eq!(standing(root.path()), before);
}

#[test]
fn a_folder_with_another_backend_is_refused_and_not_touched() {
    let root = tempfile::tempdir().unwrap();
    let port = ports();
    run_and_end(&root, port);
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
