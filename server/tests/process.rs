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
    /// What a member says that does not start, and how it ends.
    fn serve_in_vain(data: &Path, [client, peer]: [u16; 2], more: &[&str]) -> Output {
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

    fn serve_refused(data: &Path, ports: [u16; 2], more: &[&str]) -> String {
        said(&Self::serve_in_vain(data, ports, more))
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
    fn start(data: &Path, port: u16, more: &[&str]) -> Self {
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
    let mut up = Up::start(&data, port, &["--store", "mem"]);
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

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that must work.
fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

#[test]
fn a_stopped_member_goes_on_with_another_log_and_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let ports = ports();
    let member = Member::serve(&data, ports, &[]);
    member.ask_patiently(&["put", "hello", "world"]);
    let busy = run(&["migrate", "--data", path(&data), "--log", "redb"]);
    assert!(said(&busy).contains("in use"), "{}", said(&busy));
    assert_eq!(member.end(), Some(0));

    let done = succeed(&["migrate", "--data", path(&data), "--log", "redb"]);
    assert!(done.contains("reading back: 100 %"), "{done}");
    assert!(done.contains("log.wal: delete it"), "{done}");
    let refused = Member::serve_refused(&data, ports, &[]);
    assert!(refused.contains("with --log redb, not wal"), "{refused}");
    let member = Member::serve(&data, ports, &["--log", "redb"]);
    assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
    member.ask_patiently(&["put", "after", "wards"]);
    assert_eq!(member.end(), Some(0));

    // And back.
    let done = run(&["migrate", "--data", path(&data), "--log", "wal"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let member = Member::serve(&data, ports, &[]);
    assert_eq!(member.ask_patiently(&["get", "after"]), "wards\n");
    assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
    assert_eq!(member.end(), Some(0));
}

#[test]
fn a_migrated_cluster_comes_up_as_what_its_members_have_now() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = ports_in_a_row(1);
    let up = |more: &[&str], says: &str| {
        let mut up = Up::start(&data, port, more);
        up.line_with(says);
        assert_eq!(up.interrupt(), Some(0));
    };
    up(&["--members", "1"], " leads; log wal, store redb");
    succeed(&["migrate", "--data", path(&data.join("m1")), "--log", "redb"]);
    // The cluster began with another log, and its folder says so until now.
    up(&["--log", "redb"], " leads; log redb, store redb");
    let record = std::fs::read_to_string(data.join("cluster.toml")).unwrap();
    assert!(record.contains("log = \"redb\""), "{record}");
    up(&[], " leads; log redb, store redb");
    let port = port.to_string();
    let args = ["up", "--data", path(&data), "--client-port", &port];
    let refused = run(&[&args[..], &["--log", "wal"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("--log redb, not wal"),
        "{}",
        said(&refused)
    );
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_stopped_member_goes_on_with_log_and_state_in_rocksdb() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let ports = ports();
    let member = Member::serve(&data, ports, &[]);
    member.ask_patiently(&["put", "hello", "world"]);
    assert_eq!(member.end(), Some(0));
    let flags = ["--log", "rocksdb", "--store", "rocksdb"];
    succeed(&[&["migrate", "--data", path(&data)][..], &flags].concat());
    let member = Member::serve(&data, ports, &flags);
    assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
    member.ask_patiently(&["put", "after", "wards"]);
    assert_eq!(member.end(), Some(0));
    let before = contents(&data);
    for command in ["dump", "verify", "stats"] {
        succeed(&["log", command, path(&data), "--json"]);
    }
    assert!(contents(&data) == before);
}

/// Flips a bit at each of `places` of every file with that ending below `data`, and expects of the
/// member that it does not start, says why, and ends in the way that nobody starts it again after.
fn refused_once_rotten(
    data: &Path,
    flags: &[&str],
    ending: &str,
    places: impl Fn(usize) -> Vec<usize>,
) -> String {
    let files = contents(data).into_iter();
    let rotten = files.filter(|(path, _)| path.extension().is_some_and(|found| found == ending));
    let mut flipped = 0;
    for (path, mut bytes) in rotten {
        for place in places(bytes.len()) {
            bytes[place] ^= 4;
            flipped += 1;
        }
        std::fs::write(path, bytes).unwrap();
    }
    assert!(flipped > 0, "nothing is stored in a file of {ending}");
    let ended = Member::serve_in_vain(data, ports(), flags);
    assert_eq!(ended.status.code(), Some(3), "{}", said(&ended));
    let why = said(&ended);
    assert!(why.contains("remove this member from the cluster"), "{why}");
    why
}

#[test]
fn a_rotten_state_store_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let member = Member::serve(&data, ports(), &[]);
    member.ask_patiently(&["put", "hello", "world"]);
    assert_eq!(member.end(), Some(0));
    // Behind the header, a bit of each sector.
    let sectors = |len| (4096..len).step_by(512).collect();
    let why = refused_once_rotten(&data, &[], "redb", sectors);
    assert!(why.contains("state store: "), "{why}");
    assert!(why.contains("state.redb"), "{why}");
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_log_in_rocksdb_whose_group_is_in_doubt_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let flags = ["--log", "rocksdb"];
    let ports = ports();
    let large = "x".repeat(20_000);
    // The second life brings what the first wrote into tables, in more than one block.
    for name in ["first", "second"] {
        let member = Member::serve(&data, ports, &flags);
        member.ask_patiently(&["put", name, &large]);
        member.ask_patiently(&["put", name, &large]);
        assert_eq!(member.end(), Some(0));
    }
    let why = refused_once_rotten(&data, &flags, "sst", |_| vec![100]);
    assert!(why.contains("group 1 lost records"), "{why}");
}

/// Every file below `dir` with its bytes.
fn contents(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
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

/// The first file of a log below `dir` that holds `bytes`, and where.
fn place_in_log(dir: &Path, bytes: &[u8]) -> (std::path::PathBuf, usize) {
    let is_log = |path: &Path| path.extension().is_some_and(|end| end == "wal");
    let files = contents(dir).into_iter().filter(|(path, _)| is_log(path));
    let mut places = files.filter_map(|(path, content)| {
        let mut windows = content.windows(bytes.len());
        Some((path, windows.position(|window| window == bytes)?))
    });
    places.next().unwrap()
}

#[test]
fn salvage_saves_what_can_be_read_and_names_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let member = Member::serve(&data, ports(), &[]);
    for number in 0..30 {
        let value = format!("the value of number {number}");
        member.ask_patiently(&["put", &format!("key{number}"), &value]);
    }
    assert_eq!(member.end(), Some(0));
    let new = folder.path().join("new");
    let whole = succeed(&["log", "salvage", path(&data), path(&new)]);
    assert!(!whole.contains("left out"), "{whole}");
    let stats = |dir: &Path| succeed(&["log", "stats", path(dir), "--json"]);
    let groups = |text: &str| text.split("\"groups\":[").nth(1).unwrap().to_owned();
    assert_eq!(groups(&stats(&new)), groups(&stats(&data)));
    // It never writes over anything.
    let again = run(&["log", "salvage", path(&data), path(&new)]);
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    assert!(said(&again).contains("is not empty"), "{}", said(&again));

    let (file, at) = place_in_log(&data, b"the value of number 20");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at + 4] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let before = contents(&data);
    let saved = folder.path().join("saved");
    let salvaged = run(&["log", "salvage", path(&data), path(&saved)]);
    assert_eq!(salvaged.status.code(), Some(2), "{}", said(&salvaged));
    let text = said(&salvaged);
    assert!(text.contains("left out: group 1: entries "), "{text}");
    assert!(text.contains(" cannot be read"), "{text}");
    assert!(text.contains(" stand behind what cannot be read"), "{text}");
    assert!(contents(&data) == before, "the source was touched");
    // What is saved is a log like any other, up to the damage.
    let verified = succeed(&["log", "verify", path(&saved)]);
    assert!(verified.starts_with("intact: "), "{verified}");
    let held = contents(&saved);
    let holds = |text: &str| {
        let mut all = held.values();
        all.any(|bytes| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
    };
    assert!(holds("the value of number 19"));
    assert!(!holds("the value of number 21"));
    let json = folder.path().join("json");
    let json = run(&["log", "salvage", path(&data), path(&json), "--json"]);
    assert!(
        said(&json).contains("\"left_out\":[{\"group\":1,"),
        "{}",
        said(&json)
    );
}

#[test]
fn a_log_in_redb_is_looked_at_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let member = Member::serve(&data, ports(), &["--log", "redb"]);
    member.ask_patiently(&["put", "hello", "world"]);
    let busy = run(&["log", "verify", path(&data)]);
    assert_eq!(busy.status.code(), Some(3), "{}", said(&busy));
    assert!(said(&busy).contains("is in use: end the member first"));
    // Killed, so that opening has something to write.
    signal(i32::try_from(member.child.id()).unwrap(), Signal::KILL);
    drop(member);

    let before = contents(&data);
    let verified = succeed(&["log", "verify", path(&data)]);
    assert!(verified.starts_with("intact: 1 groups, "), "{verified}");
    let dumped = succeed(&["log", "dump", path(&data.join("log"))]);
    assert!(dumped.starts_with("group 1  term 2  commit "), "{dumped}");
    assert!(dumped.contains("\n      entry 1  term "), "{dumped}");
    let stats = succeed(&["log", "stats", path(&data), "--json"]);
    assert!(stats.contains("\"backend\":\"log-redb\""), "{stats}");
    assert!(contents(&data) == before, "the folder was touched");

    let state = run(&["log", "verify", path(&data.join("state"))]);
    assert_eq!(state.status.code(), Some(3));
    let state = said(&state);
    assert!(
        state.contains("holds a redb state store, not a log"),
        "{state}"
    );

    // A page of the file is gone.
    let file = data.join("log/log.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[8192..middle].fill(0x55);
    std::fs::write(&file, &bytes).unwrap();
    let damaged = run(&["log", "verify", path(&data)]);
    assert_eq!(damaged.status.code(), Some(2), "{}", said(&damaged));
    assert!(
        said(&damaged).starts_with("damaged: "),
        "{}",
        said(&damaged)
    );
    assert!(std::fs::read(&file).unwrap() == bytes);
}

#[test]
fn a_migration_that_is_killed_leaves_no_store_and_is_completed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let member = Member::serve(&data, ports(), &[]);
    member.ask_patiently(&["put", "hello", "world"]);
    assert_eq!(member.end(), Some(0));
    let copy = folder.path().join("copy");
    let from = format!("wal:{}", path(&data.join("log")));
    let to = format!("redb:{}", path(&copy));
    let args = ["migrate", "--from", &from, "--to", &to];
    let before = contents(&data);
    for stage in ["copying", "writing", "reading", "settling"] {
        let _ = std::fs::remove_dir_all(&copy);
        let mut child = raftwerk()
            .args(args)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().starts_with(stage)),
            "{stage}"
        );
        signal(i32::try_from(child.id()).unwrap(), Signal::KILL);
        child.wait().unwrap();
        // It may have been faster than the signal.
        if copy.join("MIGRATION").exists() {
            let looked = run(&["log", "stats", path(&copy)]);
            assert!(!looked.status.success(), "{stage}: {}", said(&looked));
            let done = succeed(&args);
            assert!(done.contains("read back and compared"), "{done}");
        }
        succeed(&["log", "verify", path(&copy)]);
        assert!(contents(&data) == before, "{stage}");
    }
    let again = run(&args);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        said(&again).contains("choose an empty folder"),
        "{}",
        said(&again)
    );
}
