//! The command that looks at a stopped member's stores and copies them, as people run it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod command;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use command::{
    Member, Up, contents, path, ports, ports_in_a_row, raftwerk, run, said, signal, succeed,
};
use rustix::process::Signal;

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
    Member::leave_hello(&data, ports);
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

/// The page of a log's file behind the last one that is written, and where the last frame begins.
fn end_of_log(file: &Path) -> (usize, usize) {
    const PAGE: usize = 4096;
    let bytes = std::fs::read(file).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut pages = bytes.chunks(PAGE);
    let frame = pages.rposition(|page| page.starts_with(b"RWf1")).unwrap();
    ((written / PAGE + 1) * PAGE, frame * PAGE)
}

/// Changes a file from `at` on.
fn poke(file: &Path, at: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes[at..]);
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn verify_says_by_how_it_ends_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    let member = Member::serve(&data, ports(), &[]);
    member.ask_patiently(&["put", "hello", "world"]);
    let verify = |ends: i32, words: &str| {
        let before = contents(&data);
        let looked = run(&["log", "verify", path(&data)]);
        assert_eq!(looked.status.code(), Some(ends), "{}", said(&looked));
        assert!(said(&looked).contains(words), "{}", said(&looked));
        let json = run(&["log", "verify", path(&data), "--json"]);
        assert_eq!(json.status.code(), Some(ends), "{}", said(&json));
        if ends != 3 {
            assert!(contents(&data) == before, "the folder was touched");
        }
        said(&json)
    };
    verify(3, "is in use: end the member first");
    assert_eq!(member.end(), Some(0));
    let json = verify(0, "intact: ");
    assert!(json.contains("\"end\":\"clean\""), "{json}");

    // What a crash leaves of a write: the beginning of its header.
    let (file, world) = place_in_log(&data, b"world");
    let (end, frame) = end_of_log(&file);
    let whole = std::fs::read(&file).unwrap();
    let begun = &whole[frame..frame + 40];
    poke(&file, end, |bytes| bytes[..40].copy_from_slice(begun));
    let json = verify(1, "intact, with a torn end that was never acknowledged");
    assert!(json.contains("\"end\":\"torn\""), "{json}");

    // A bit of an entry, which is proven durable.
    std::fs::write(&file, &whole).unwrap();
    poke(&file, world, |bytes| bytes[0] ^= 1);
    let json = verify(2, "damaged: ");
    assert!(json.contains("\"faulty\":[{\"first\":"), "{json}");

    // A bit of the last frame, and nothing says that it was acknowledged.
    std::fs::write(&file, &whole).unwrap();
    std::fs::remove_file(data.join("log/WATERMARK")).unwrap();
    poke(&file, frame + 20, |bytes| bytes[0] ^= 1);
    let json = verify(2, "ambiguous end");
    assert!(json.contains("\"end\":\"ambiguous\""), "{json}");
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
    let words = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert!(words.starts_with("damaged: "), "{words}");
    // What is said of the copy is said of the log.
    for command in ["dump", "stats"] {
        let failed = run(&["log", command, path(&data)]);
        assert!(!failed.status.success(), "{}", said(&failed));
        let words = said(&failed);
        assert!(words.contains(path(&data.join("log"))), "{words}");
        assert!(!words.contains("raftwerk-look"), "{words}");
    }
    assert!(std::fs::read(&file).unwrap() == bytes);
}

#[test]
fn a_log_in_redb_is_shrunk_in_place_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    for (log, code, word) in [("redb", 0, " before, "), ("wal", 2, "nothing to shrink")] {
        let data = folder.path().join(log);
        let flags = ["--log", log];
        let ports = ports();
        let member = Member::serve(&data, ports, &flags);
        member.ask_patiently(&["put", "hello", "world"]);
        let busy = run(&["log", "compact", path(&data)]);
        assert!(!busy.status.success(), "{}", said(&busy));
        assert_eq!(member.end(), Some(0));
        let done = run(&["log", "compact", path(&data)]);
        assert_eq!(done.status.code(), Some(code), "{}", said(&done));
        assert!(said(&done).contains(word), "{}", said(&done));
        let member = Member::serve(&data, ports, &flags);
        assert_eq!(member.ask_patiently(&["get", "hello"]), "world\n");
        assert_eq!(member.end(), Some(0));
    }
}

#[test]
fn a_wrong_folder_is_told_where_the_right_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = folder.path().join("data");
    std::fs::create_dir(&cluster).unwrap();
    std::fs::write(cluster.join("cluster.toml"), "").unwrap();
    let member = cluster.join("m1");
    for args in [
        &["log", "verify", path(&cluster)][..],
        &[
            "log",
            "salvage",
            path(&cluster),
            path(&folder.path().join("new")),
        ],
        &["migrate", "--data", path(&cluster), "--log", "redb"],
    ] {
        let refused = run(args);
        assert!(!refused.status.success(), "{args:?}");
        assert!(said(&refused).contains(path(&member)), "{}", said(&refused));
    }
    let inside = run(&["log", "salvage", path(&member), path(&member.join("new"))]);
    assert_eq!(inside.status.code(), Some(3), "{}", said(&inside));
    assert!(said(&inside).contains("apart"), "{}", said(&inside));
    let bare = run(&["migrate"]);
    assert_eq!(bare.status.code(), Some(2));
    let words = said(&bare);
    assert!(
        words.contains("--from") && words.contains("--data"),
        "{words}"
    );
}

#[test]
fn a_migration_that_is_killed_leaves_no_store_and_is_completed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("member");
    Member::leave_hello(&data, ports());
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
