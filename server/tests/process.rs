//! The command that runs members and clusters, as people run it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod command;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use command::{
    Member, Up, ask_patiently, await_some, change_members, contents, ports, ports_in_a_row,
    raftwerk, run, said, signal,
};
use rustix::process::Signal;

#[test]
fn a_member_keeps_its_keys_from_start_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let ports = ports();
    let member = Member::serve(&data, ports, &[]);
    // Of a put that took too long it is not known whether it was done; then it is done again.
    let put = member.ask_patiently(&["put", "hello", "world"]);
    assert!(put.starts_with("ok (revision "), "{put}");
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

/// The backends that are built in.
fn backends() -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut logs, mut stores) = (vec!["wal", "redb", "mem"], vec!["redb", "mem"]);
    if cfg!(feature = "rocksdb") {
        logs.push("rocksdb");
        stores.push("rocksdb");
    }
    (logs, stores)
}

#[test]
fn every_log_goes_with_every_store() {
    let (logs, stores) = backends();
    let mut ran = 0;
    for log in &logs {
        for store in &stores {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("member");
            let ports = ports();
            let flags = ["--log", log, "--store", store];
            let member = Member::serve(&data, ports, &flags);
            let value = format!("{log} and {store}");
            member.ask_patiently(&["put", "hello", &value]);
            assert_eq!(
                member.ask_patiently(&["get", "hello"]),
                format!("{value}\n")
            );
            assert_eq!(member.end(), Some(0), "{value}");
            ran += 1;
            if *log == "mem" {
                // Whoever has forgotten what it promised is not to promise again.
                let refused = Member::serve_refused(&data, ports, &flags);
                assert!(refused.contains("in memory"), "{value}: {refused}");
                continue;
            }
            let member = Member::serve(&data, ports, &flags);
            assert_eq!(
                member.ask_patiently(&["get", "hello"]),
                format!("{value}\n")
            );
            assert_eq!(member.end(), Some(0), "{value}");
        }
    }
    let wanted = if cfg!(feature = "rocksdb") { 12 } else { 6 };
    assert_eq!(ran, wanted);
}

/// RocksDB aborts a process that leaves `main` while another thread closes its database.
#[cfg(feature = "rocksdb")]
#[test]
fn a_member_with_rocksdb_ends_in_order_as_soon_as_it_runs_and_after_a_put() {
    let folder = tempfile::tempdir().unwrap();
    let ports = ports();
    for round in 0..10 {
        for store in ["mem", "rocksdb"] {
            let flags = ["--log", "rocksdb", "--store", store];
            let member = Member::serve(&folder.path().join(store), ports, &flags);
            if round % 2 == 0 {
                member.ask_patiently(&["put", "hello", "world"]);
            }
            assert_eq!(member.end(), Some(0), "round {round}, {store}");
        }
    }
}

#[test]
fn a_learner_is_promoted_and_a_member_gets_another_address() {
    let folder = tempfile::tempdir().unwrap();
    let port = ports_in_a_row(2);
    let up = ["--members", "2", "--log", "mem", "--store", "mem"];
    let mut up = Up::start(&folder.path().join("up"), port, &up);
    up.line_with(" leads; log mem");
    let at = format!("127.0.0.1:{port}");
    let [client, peer, elsewhere] = ports();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    // What it says to type works from anywhere.
    let serve = format!("  {} serve --id ", env!("CARGO_BIN_EXE_raftwerk"));
    let add = ["member", "add", &url(elsewhere), "--learner"];
    let list = change_members(&at, &add, &serve, |list| list.contains(&url(elsewhere)));
    let id = list.lines().find(|line| line.contains(&url(elsewhere)));
    let id = id.unwrap().split(' ').next().unwrap();
    let moved = format!("at {} now", url(peer));
    let update = ["member", "update", id, &url(peer)];
    change_members(&at, &update, &moved, |list| list.contains(&url(peer)));
    let more = [
        "--name", "m3", "--id", id, "--join", &at, "--log", "mem", "--store", "mem",
    ];
    let learner = Member::serve(&folder.path().join("m3"), [client, peer], &more);
    let promote = ["member", "promote", id];
    let vote = "is a voter now";
    change_members(&learner.client, &promote, vote, |list| {
        list.contains(&url(peer)) && !list.contains("learner")
    });
    let again = learner.ask(&["member", "promote", id]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    let wrong = learner.ask(&["member", "update", id, "http://10.0.0.1:1"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
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
    let mut lines = text.lines();
    let revision = lines.find_map(|line| line.strip_prefix("raftwerk_revision "));
    let revision: Option<u64> = revision.and_then(|revision| revision.parse().ok());
    // It is 1 where nothing was written.
    assert!(revision > Some(1), "{text}");
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
            .args(["--timeout", "60", "--endpoints", &member.client])
            .stdout(writer);
        assert_eq!(command.status().unwrap().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let [taken, free] = ports();
    let _holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let data = folder.path().join("data");
    let output = run(&[
        "up",
        "--members",
        "1",
        "--client-port",
        &taken.to_string(),
        "--data",
        data.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("127.0.0.1:{taken}")),
        "{}",
        said(&output)
    );
    assert!(!data.exists());
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

#[test]
fn a_cluster_comes_up_serves_brings_the_dead_back_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = ports_in_a_row(3);
    let mut up = Up::start(&data, port, &["--store", "mem"]);
    let m1 = up.line_with("m1  id ");
    let id = m1.split(" pid ").nth(1).unwrap().split(' ').next().unwrap();
    up.line_with(" leads; log wal, store mem");
    let tried = up.line_with("try: ");
    let program = env!("CARGO_BIN_EXE_raftwerk");
    assert!(
        tried.starts_with(&format!("try: {program} put ")),
        "{tried}"
    );
    let endpoints = format!("127.0.0.1:{},127.0.0.1:{}", port + 1, port + 2);
    ask_patiently(&endpoints, &["put", "a", "b"]);

    signal(id.parse().unwrap(), Signal::KILL);
    up.line_with("m1 was killed by signal 9; starting it again");
    up.line_with("m1 runs again");
    let m1 = format!("127.0.0.1:{port}");
    await_some(|| {
        let got = run(&["get", "a", "--consistency", "s", "--endpoints", &m1]);
        got.status.success().then_some(()).ok_or(said(&got))
    });
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
    Member::leave_hello(&data, ports());
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
