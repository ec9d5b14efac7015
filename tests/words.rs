//! The commands for somebody without etcdctl.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use raftwerk_tests::client::leader;
use raftwerk_tests::processes::{Cluster, command, succeed_patiently};

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_put_read_and_deleted_by_words() {
    let cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    let at = cluster.members[0].endpoint();
    let with = |args: &[&'static str]| -> Vec<String> {
        args.iter()
            .map(|&arg| arg.to_owned())
            .chain(["--endpoints".to_owned(), at.clone()])
            .collect()
    };
    let run = |args: &[&'static str]| {
        let all = with(args);
        succeed_patiently(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (key, value) in [("a/1", "one"), ("a/2", "two"), ("b", "three")] {
        run(&["put", key, value]);
    }
    assert_eq!(run(&["get", "a/1"]).trim_end(), "one");
    assert_eq!(run(&["get", "a/1", "--consistency", "s"]).trim_end(), "one");
    let range = run(&["get", "a/", "--prefix"]);
    assert!(
        range.contains("one") && range.contains("two") && !range.contains("three"),
        "{range}"
    );
    run(&["del", "a/", "--prefix"]);
    let all = with(&["get", "a/1", "--timeout", "60"]);
    let said = command(&all.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(run(&["get", "b"]).trim_end(), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_counts_and_reports_as_json() {
    let cluster = Cluster::start(1, &[]);
    leader(&cluster).await;
    let at = cluster.members[0].endpoint();
    for op in ["put", "get"] {
        let said = succeed_patiently(&[
            "bench",
            op,
            "--endpoints",
            &at,
            "--clients",
            "4",
            "--seconds",
            "1",
            "--value-size",
            "64",
            "--keys",
            "100",
            "--json",
        ]);
        let found: serde_json::Value = serde_json::from_str(&said).unwrap();
        println!("{op}: {found}");
        let rate = found["ops_per_second"]
            .as_f64()
            .unwrap_or_else(|| panic!("{found}"));
        assert!(rate > 0.0, "{found}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_named_with_what_to_do() {
    let said = command(&["get", "a", "--endpoints", "127.0.0.1:9", "--timeout", "1"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("127.0.0.1:9") && said.err.contains("raftwerk up"),
        "{said:?}"
    );
}
