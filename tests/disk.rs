//! Folders that are damaged, in use, or another cluster's.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};

use raftwerk_tests::client::{Client, fill, key, leader, value, verify};
use raftwerk_tests::processes::{Cluster, command, contents};

/// The file of the log that holds `bytes`, and where.
fn place_in_log(folder: &Path, bytes: &[u8]) -> (PathBuf, usize) {
    contents(folder)
        .into_iter()
        .filter(|(path, _)| path.extension().is_none_or(|end| end != "redb"))
        .find_map(|(path, content)| {
            let at = content
                .windows(bytes.len())
                .position(|window| window == bytes)?;
            Some((path, at))
        })
        .expect("the value stands in the log")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_in_the_log_is_named_and_nothing_is_cut() {
    let mut cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    fill(&cluster, "key", 500, 100, 8).await;
    let folder = cluster.members[0].folder.clone();
    assert!(cluster.members[0].stop().success(), "{}", cluster.outputs());
    let (segment, at) = place_in_log(&folder, &value(&key("key", 250), 100));
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[at + 50] ^= 1;
    fs::write(&segment, &damaged).unwrap();

    let name = segment.file_stem().unwrap().to_string_lossy().into_owned();
    let number = u64::from_str_radix(name.trim_start_matches("segment-"), 16).unwrap();
    let place = format!("segment {number} at byte ");
    let names_it = |words: &str| {
        let byte = words.split(&place).nth(1).and_then(|w| w.split(':').next());
        let byte: usize = byte
            .and_then(|b| b.parse().ok())
            .unwrap_or_else(|| panic!("{words}"));
        assert!((at - 4096..at + 100).contains(&byte), "byte {at}: {words}");
        assert!(words.contains("entries "), "{words}");
    };
    let verified = command(&["log", "verify", &folder.display().to_string()]);
    assert_eq!(verified.code, Some(2), "{verified:?}");
    names_it(&verified.out);

    cluster.start_member(0);
    let status = cluster.members[0].wait();
    let said = cluster.members[0].output();
    println!("{said}");
    assert_eq!(status.code(), Some(3), "{said}");
    names_it(&said);
    let after = fs::read(&segment).unwrap();
    assert!(after == damaged, "the damaged segment was touched");

    // With the byte as it was, everything is there.
    fs::write(&segment, &whole).unwrap();
    cluster.start_member(0);
    leader(&cluster).await;
    let mut client = Client::of_all(&cluster, 0);
    verify(&mut client, "key", 500, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_in_use_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    Client::of_all(&cluster, 0).put("a", b"1").await;
    let second = cluster.add_member(&[]);
    cluster.members[second].folder = cluster.members[0].folder.clone();
    cluster.members[second].name = cluster.members[0].name.clone();
    cluster.start_with(second, &[]);
    let status = cluster.members[second].wait();
    let said = cluster.members[second].output();
    assert!(!status.success(), "{said}");
    assert!(
        said.contains("in use") || said.contains("held by"),
        "{said}"
    );
    Client::of(&cluster.members[0]).put("b", b"2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_cluster_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    Client::of_all(&cluster, 0).put("a", b"1").await;
    assert!(cluster.members[0].stop().success(), "{}", cluster.outputs());
    let before = contents(&cluster.members[0].folder);
    let initial = cluster.initial(1);
    cluster.start_with(
        0,
        &[
            "--initial-cluster",
            &initial,
            "--initial-cluster-token",
            "other",
        ],
    );
    let status = cluster.members[0].wait();
    let said = cluster.members[0].output();
    assert!(!status.success(), "{said}");
    assert!(said.contains("cluster"), "{said}");
    assert!(
        contents(&cluster.members[0].folder) == before,
        "the folder was touched: {said}"
    );
}
