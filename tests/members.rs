//! Members leave, are lost, and come back as new ones.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::{
    Client, agreed_hash, await_known, entries, fill, leader, number, report,
};
use raftwerk_tests::processes::{
    Cluster, await_some, change_members, command, succeed, succeed_patiently,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_refused_and_comes_back_as_a_new_one() {
    let mut cluster = Cluster::start(3, &[]);
    let at = leader(&cluster).await;
    fill(&cluster, "key", 20, 10, 4).await;
    agreed_hash(&cluster).await;
    await_known(&cluster);
    let (lost, stays) = ((at + 1) % 3, at);
    cluster.members[lost].kill();
    std::fs::remove_dir_all(&cluster.members[lost].folder).unwrap();
    cluster.start_member(lost);
    let status = cluster.members[lost].wait();
    assert_eq!(status.code(), Some(3), "{}", cluster.members[lost].output());
    let said = cluster.members[lost].output();
    assert!(said.contains("add it again as a new member"), "{said}");
    Client::of_all(&cluster, stays).put("meanwhile", b"1").await;

    // Out with the old one, in with a new one at the same address.
    let endpoint = cluster.members[stays].endpoint();
    let name = cluster.members[lost].name.clone();
    let peer = format!("http://127.0.0.1:{}", cluster.members[lost].peer_port);
    let remove = ["member", "remove", &name];
    change_members(&endpoint, &remove, "removed member", |list| {
        (!list.contains(&peer)).then_some(())
    });
    let add = ["member", "add", &peer];
    let id = change_members(&endpoint, &add, "added member", |list| {
        let line = list.lines().find(|line| line.contains(&peer))?;
        Some(line.split(' ').next()?.to_owned())
    });
    std::fs::remove_dir_all(&cluster.members[lost].folder).unwrap();
    cluster.start_with(lost, &["--id", &id, "--join", &endpoint]);
    agreed_hash(&cluster).await;
    assert_eq!(Client::of(&cluster.members[lost]).count("key").await, 20);
    // It counts: without one of the others, its vote is needed.
    cluster.members[stays].kill();
    Client::of_all(&cluster, lost).put("after", b"2").await;
    // And it is known after a restart without being told anything.
    assert!(
        cluster.members[lost].stop().success(),
        "{}",
        cluster.outputs()
    );
    cluster.start_with(lost, &["--id", &id, "--join", &endpoint]);
    let mut client = Client::of_all(&cluster, lost);
    assert_eq!(client.get("after").await.as_deref(), Some(b"2".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_told_to_leave_hands_over_and_ends_in_good_order() {
    let mut cluster = Cluster::start(3, &[]);
    let at = leader(&cluster).await;
    fill(&cluster, "key", 20, 10, 4).await;
    // Each member's own record is a change, too, and one is made at a time.
    await_known(&cluster);
    let endpoint = cluster.members[at].endpoint();
    let term = number(&report(&cluster.members[at]), "term");
    // It says that it could not in time while nobody takes over; asked again, it goes on. It may
    // be gone before it has answered.
    await_some("the member to leave", || {
        let said = command(&["member", "leave", "--endpoints", &endpoint]);
        let left = said.code == Some(0) && said.out.contains("has left");
        (left || said.err.contains("no member answers")).then_some(())
    });
    let began = std::time::Instant::now();
    let mut client = Client::of_all(&cluster, at + 1);
    client.put("after", b"1").await;
    println!(
        "the next write was acknowledged after {:?}",
        began.elapsed()
    );
    let status = cluster.members[at].wait();
    assert!(
        status.success(),
        "{status}: {}",
        cluster.members[at].output()
    );
    // It handed over before it was removed: its log goes on in the term of another leader. One
    // that is removed while it leads has no entry of a later term than its own.
    let folder = cluster.members[at].folder.display().to_string();
    let last = entries(&succeed(&["log", "dump", &folder, "--json"]));
    let (_, last_term) = last.last_key_value().unwrap();
    assert!(*last_term > term, "led in term {term}, ends in {last_term}");
    let other = cluster.members[(at + 1) % 3].endpoint();
    let gone = format!(":{}", cluster.members[at].peer_port);
    // The members that stay learn of it one after the other.
    await_some("the member to be off the list", || {
        let list = command(&["member", "list", "--endpoints", &other]);
        (list.code == Some(0) && !list.out.contains(&gone)).then_some(())
    });
    assert_eq!(client.count("key").await, 20);
    agreed_hash(&cluster).await;
    // It is not a member any more, and says so when it is started again.
    cluster.start_member(at);
    let status = cluster.members[at].wait();
    assert_eq!(status.code(), Some(3), "{}", cluster.members[at].output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_taken_by_hand_is_told_and_survives_a_crash() {
    let mut cluster = Cluster::start(3, &[]);
    leader(&cluster).await;
    fill(&cluster, "key", 100, 10, 8).await;
    let (revision, hash) = agreed_hash(&cluster).await;
    await_known(&cluster);
    let said = succeed_patiently(&["snapshot", "take", "--endpoints", &cluster.endpoints()]);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(
        said.lines().all(|line| line.contains("snapshot at index")),
        "{said}"
    );
    for member in &cluster.members {
        let report = report(member);
        assert!(number(&report, "snapshot_index") >= 100, "{report}");
    }
    cluster.kill_all();
    (0..3).for_each(|index| cluster.start_member(index));
    leader(&cluster).await;
    assert_eq!(agreed_hash(&cluster).await, (revision, hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_nobody_knows_is_not_removed() {
    let cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    let endpoint = cluster.members[0].endpoint();
    let remove = ["member", "remove", "beef", "--timeout", "60"];
    let said = command(&[&remove[..], &["--endpoints", &endpoint]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no member beef"), "{said:?}");
}
