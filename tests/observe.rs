//! What a cluster tells of itself.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeSet;

use raftwerk_tests::client::{Client, await_known, entries, fill, leader, number, report};
use raftwerk_tests::processes::{Cluster, await_some, command, contents, succeed};
use serde_json::Value;

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
        // A disk that is busy with others may make it wait for a while.
        await_some("a log that is not stalled", || {
            (member.metric("raftwerk_log_stalled") == 0.0).then_some(())
        });
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
    let words = ["m1", "m2", "m3", "leader", "follower", "ok"];
    let text = await_some("a table with three members that are well", || {
        let said = command(&["status", "--endpoints", &endpoint]);
        let well = said.code == Some(0) && words.iter().all(|word| said.out.contains(word));
        well.then_some(said.out)
    });
    println!("{text}");
    await_known(&cluster);
    columns_say_what_json_says(&endpoint);
    let down = (at + 1) % 3;
    cluster.members[down].kill();
    let said = command(&["status", "--timeout", "60", "--endpoints", &endpoint]);
    println!("{}", said.out);
    assert_eq!(said.code, Some(1), "{said:?}");
    let line = said
        .out
        .lines()
        .find(|line| line.contains(&cluster.members[down].name));
    assert!(line.is_some_and(|line| line.contains("down")), "{said:?}");
}

/// The table's line of each member that is well, column by column against the JSON.
fn columns_say_what_json_says(endpoint: &str) {
    // What is asked one after the other may differ for a moment.
    await_some("a table and JSON that agree", || {
        let text = command(&["status", "--endpoints", endpoint]);
        let json = command(&["status", "--json", "--endpoints", endpoint]);
        if (text.code, json.code) != (Some(0), Some(0)) {
            return None;
        }
        let text = text.out;
        let json: Vec<Value> = serde_json::from_str(&json.out).unwrap();
        let mut rows = text.lines().map(cells);
        let heads = rows.next()?;
        assert_eq!(
            heads,
            [
                "member", "id", "role", "term", "applied", "lag", "log", "log size", "store",
                "snapshot", "endpoint", "health"
            ]
        );
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), json.len(), "{text}");
        let agree = rows.iter().zip(&json).all(|(row, one)| {
            let string = |name: &str| one[name].as_str().unwrap().to_owned();
            let count = |name: &str| number(one, name).to_string();
            let range = format!("{}..{}", number(one, "log_first"), number(one, "log_last"));
            let snapshot = match number(one, "snapshot_index") {
                0 => "-".to_owned(),
                index => index.to_string(),
            };
            row.len() == heads.len()
                && row[..7]
                    == [
                        string("name"),
                        string("id"),
                        string("role"),
                        count("term"),
                        count("applied"),
                        count("lag"),
                        range,
                    ]
                && row[9..] == [snapshot, string("endpoint"), string("health")]
        });
        agree.then_some(())
    });
}

/// A line of a table, whose columns are two blanks or more apart.
fn cells(line: &str) -> Vec<String> {
    let parts = line.split("  ").map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
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
    let told = report(member);
    let all: Vec<u64> = (number(&told, "log_first")..=number(&told, "log_last")).collect();
    assert!(all.len() > 50, "{told}");
    assert!(member.stop().success());
    let before = contents(&member.folder);
    let dumped = entries(&succeed(&["log", "dump", &folder, "--json"]));
    assert_eq!(dumped.into_keys().collect::<Vec<_>>(), all);
    // "entries FIRST to LAST" in the lines for people.
    let mut shown = BTreeSet::new();
    for line in succeed(&["log", "dump", &folder]).lines() {
        let Some((_, rest)) = line.rsplit_once(" entries ") else {
            continue;
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (first, last): (u64, u64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
        shown.extend(first..=last);
    }
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), all);
    let _ = succeed(&["log", "verify", &folder]);
    let said = succeed(&["log", "verify", &folder, "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["verdict"], "intact", "{said}");
    assert!(contents(&member.folder) == before, "the folder was touched");
    let said = command(&["log", "verify", "/nonexistent"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    cluster.start_member(0);
    assert_eq!(Client::of_all(&cluster, 0).count("key").await, 50);
}
