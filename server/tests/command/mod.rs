//! The command as people run it: real processes, real folders, real ports.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

pub use raftwerk_testkit::ports::{take as ports, take_row as ports_in_a_row};
use raftwerk_testkit::processes::asked;
pub use raftwerk_testkit::processes::asked::{await_some, said};
use rustix::process::{Pid, Signal, kill_process};

pub fn raftwerk() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftwerk"));
    command.env_remove("RAFTWERK_ENDPOINTS");
    command
}

pub fn run(args: &[&str]) -> Output {
    raftwerk().args(args).output().unwrap()
}

/// Asks at `endpoint` until it works: what may be done more than once.
pub fn ask_patiently(endpoint: &str, args: &[&str]) -> String {
    let args = [args, &["--endpoints", endpoint]].concat();
    await_some(|| {
        let output = run(&args);
        match output.status.success() {
            true => Ok(said(&output)),
            false => Err(format!("{args:?}: {}", said(&output))),
        }
    })
}

/// Asks at `endpoint` for a change of the members, and gives their list once it shows it.
pub fn change_members(
    endpoint: &str,
    args: &[&str],
    words: &str,
    is_done: impl Fn(&str) -> bool,
) -> String {
    let look = |list: &str| is_done(list).then(|| list.to_owned());
    asked::change_members(run, endpoint, args, words, look)
}

/// A process that is told to end when it is dropped, and that has ended then.
pub struct Process {
    child: Child,
    end: Signal,
}

impl Process {
    /// Asks it to end, and gives its exit code.
    fn end(&mut self, with: Signal) -> Option<i32> {
        signal(i32::try_from(self.child.id()).unwrap(), with);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), self.end);
        }
        // `up` itself bounds how long it takes; a member is killed.
        let _ = self.child.wait();
    }
}

/// One member, killed when dropped.
pub struct Member {
    process: Process,
    pub client: String,
}

impl Member {
    pub fn serve(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> Self {
        let (client, peer) = (format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"));
        // A file, since a pipe that nobody reads would hold the member up once it is full.
        let mut words = tempfile::tempfile().unwrap();
        let mut child = raftwerk()
            .args(["serve", "--segment-mib", "16", "--disk-reserve-mib", "0"])
            // Alone it waits for as long before it leads.
            .args(["--election-ms", "500"])
            .args(["--listen-client", &client, "--listen-peer", &peer, "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(words.try_clone().unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let end = Signal::KILL;
        let process = Process { child, end };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "did not start: {}", all_of(&mut words));
        Self { process, client }
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
        self.process.end(Signal::TERM)
    }

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

fn all_of(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// `up`, ended when dropped, and its members before it.
pub struct Up {
    process: Process,
    said: BufReader<ChildStdout>,
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
        let end = Signal::INT;
        let process = Process { child, end };
        Self { process, said }
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
        self.process.end(Signal::INT)
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
