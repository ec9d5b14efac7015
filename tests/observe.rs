//! What a cluster tells of itself.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::{Client, await_known, fill, leader};
use raftwerk_tests::processes::{Cluster, await_some, command, contents, succeed};

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_quorum_and_metrics_are_text() {
    let mut cluster = Cluster::start(3, &[]);
    let at = leader(&cluster).await;
    fill(&cluster, "key", 20, 10, 4).await;
    for member in &cluster.members {
        await_some("health", || {
            (member.http("/health").ok()?.0 == 200).then_some(())
        });
        assert!(member.metric("raftwerk_applied_index") > 0.0);
        assert!(member.metric("raftwerk_tick_delay_max_seconds") >= 0.0);
        assert!(member.metric("raftwerk_log_sync_seconds_count") > 0.0);
        assert!(member.metric("raftwerk_log_syncs_total") > 0.0);
        assert!(member.metric("raftwerk_log_stalled") == 0.0);
        assert!(member.metric("raftwerk_log_scrub_findings") == 0.0);
    }
    assert_eq!(cluster.members[at].http("/nothing").unwrap().0, 404);
    for index in (0..3).filter(|index| *index != at) {
        cluster.members[index].kill();
    }
    let (code, body) = await_some("health to notice", || {
        let answer = cluster.members[at].http("/health").ok()?;
        (answer.0 != 200).then_some(answer)
    });
    assert_eq!(code, 503, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_draws_every_member_also_those_that_are_down() {
    let mut cluster = Cluster::start(3, &[]);
    let at = leader(&cluster).await;
    fill(&cluster, "key", 20, 10, 4).await;
    let endpoint = cluster.members[at].endpoint();
    // Until every member has told its addresses.
    let text = await_some("a table with three members that are well", || {
        let said = command(&["status", "--endpoints", &endpoint]);
        (said.code == Some(0)).then_some(said.out)
    });
    println!("{text}");
    for word in ["m1", "m2", "m3", "leader", "follower", "ok"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    await_known(&cluster);
    let down = (at + 1) % 3;
    cluster.members[down].kill();
    let said = command(&["status", "--endpoints", &endpoint]);
    println!("{}", said.out);
    assert_eq!(said.code, Some(1), "{said:?}");
    let line = said
        .out
        .lines()
        .find(|line| line.contains(&cluster.members[down].name));
    assert!(line.is_some_and(|line| line.contains("down")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_stopped_member_is_shown_and_not_touched() {
    let mut cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    fill(&cluster, "key", 50, 10, 4).await;
    let member = &mut cluster.members[0];
    let folder = member.folder.display().to_string();
    // While the member runs, its log is its own.
    let said = command(&["log", "verify", &folder]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(member.stop().success());
    let before = contents(&member.folder);
    let text = succeed(&["log", "dump", &folder]);
    assert!(text.contains("50") || text.lines().count() >= 50, "{text}");
    for line in succeed(&["log", "dump", &folder, "--json"]).lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
    let _ = succeed(&["log", "verify", &folder]);
    let said = succeed(&["log", "verify", &folder, "--json"]);
    let _: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(contents(&member.folder) == before, "the folder was touched");
    let said = command(&["log", "verify", "/nonexistent"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    cluster.start_member(0);
    assert_eq!(Client::of_all(&cluster, 0).count("key").await, 50);
}
