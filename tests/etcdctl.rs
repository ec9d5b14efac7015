//! etcdctl, unchanged, against our members: line by line what a real etcd answered.
//!
//! `RAFTWERK_ETCDCTLS` names the programs, separated by colons; without it the `etcdctl` of the
//! path is used. With `RAFTWERK_RECORD_ETCD` naming a real etcd, its answers are recorded instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use raftwerk_testkit::ports;
use raftwerk_tests::golden::{
    Case, Etcdctl, Target, TargetMember, case_files, difference, leader_first, parse_cases,
    transcript,
};
use raftwerk_tests::processes::{Cluster, await_some};
use raftwerk_tests::workspace;
use tempfile::TempDir;

fn golden() -> PathBuf {
    workspace().join("server/tests/golden")
}

/// Past the test runner, which keeps what passing tests print to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The versions of etcdctl whose answers are recorded.
const VERSIONS: [&str; 2] = ["3.4", "3.5"];

/// The etcdctl programs there are; says so loudly when there are none. Those that are named must be
/// there, of every recorded version and no other.
fn programs() -> Vec<Etcdctl> {
    let Ok(paths) = std::env::var("RAFTWERK_ETCDCTLS") else {
        let found: Vec<_> = Etcdctl::find("etcdctl").into_iter().collect();
        if found.is_empty() {
            say("SKIPPED: no etcdctl: install etcd-client or set RAFTWERK_ETCDCTLS");
        }
        return found;
    };
    let find = |path: &str| Etcdctl::find(path).unwrap_or_else(|| panic!("no etcdctl at {path}"));
    let found: Vec<_> = paths.split(':').map(find).collect();
    let versions: BTreeSet<_> = found.iter().map(|one| one.version.as_str()).collect();
    assert_eq!(
        versions,
        BTreeSet::from(VERSIONS),
        "RAFTWERK_ETCDCTLS={paths}"
    );
    found
}

/// Waits until the first member knows a leader, then puts the leader in front.
fn ready(etcdctl: &Etcdctl, target: Target) -> Target {
    let health = parse_cases("$ endpoint health --cluster").remove(0);
    await_some("a healthy cluster", || {
        let answer = etcdctl.run(&target, &health);
        let healthy =
            answer.out.matches("is healthy").count() + answer.err.matches("is healthy").count();
        (healthy == target.members.len()).then_some(())
    });
    leader_first(etcdctl, target)
}

/// The first `count` are members, the one behind them may join.
fn ours(cluster: &Cluster, count: usize) -> Target {
    let mut members = cluster.members.iter().map(|member| TargetMember {
        name: member.name.clone(),
        client_url: member.endpoint(),
        peer_url: format!("http://127.0.0.1:{}", member.peer_port),
    });
    Target {
        members: members.by_ref().take(count).collect(),
        joiner: members.next(),
    }
}

#[test]
fn etcdctl_shows_what_it_shows_of_a_real_etcd() {
    if std::env::var_os("RAFTWERK_RECORD_ETCD").is_some() {
        return record();
    }
    let mut differences = String::new();
    for etcdctl in programs() {
        let folder = golden().join(&etcdctl.version);
        if !folder.is_dir() {
            say(&format!(
                "SKIPPED: nothing was recorded with etcdctl {}",
                etcdctl.version
            ));
            continue;
        }
        // Transcripts are of one leader, however long a busy machine lets it stand still.
        let patient = ["--election-ms", "5000"];
        let mut cluster = Cluster::start(3, &patient);
        let joiner = cluster.add_member(&patient);
        let target = ready(&etcdctl, ours(&cluster, joiner));
        let mut join = |target: &Target, id: &str| {
            let endpoint = &target.members.first().expect("a member").client_url;
            cluster.start_with(joiner, &["--id", id, "--join", endpoint]);
        };
        for (name, cases) in case_files(&golden().join("cases")) {
            let expected = std::fs::read_to_string(folder.join(&name)).expect("recorded");
            let found = transcript(&etcdctl, &target, &cases, false, &mut join);
            if let Some(difference) = difference(&expected, &found) {
                differences += &format!("--- {}/{name}\n{difference}", etcdctl.version);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_is_not_served_fails_and_says_so() {
    for etcdctl in programs() {
        let cluster = Cluster::start(1, &[]);
        let target = ready(&etcdctl, ours(&cluster, 1));
        let commands = "$ watch key\n$ lease grant 60\n$ lease list\n$ compact 1\n$ defrag\n\
                        $ auth enable\n$ user list\n$ role list\n$ snapshot save /dev/null\n";
        for case in parse_cases(commands) {
            let answer = etcdctl.run(&target, &case);
            let said = format!("{}{}", answer.out, answer.err);
            assert!(said.contains("not served"), "{}: {said}", case.line);
            assert_ne!(answer.code, 0, "{}: {said}", case.line);
        }
    }
}

/// Three members of a real etcd.
struct RealEtcd {
    program: String,
    processes: Vec<Child>,
    target: Target,
    folder: TempDir,
}

impl RealEtcd {
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut members: Vec<_> = (1..=4)
            .map(|number| {
                let [client, peer] = ports::take();
                TargetMember {
                    name: format!("m{number}"),
                    client_url: format!("http://127.0.0.1:{client}"),
                    peer_url: format!("http://127.0.0.1:{peer}"),
                }
            })
            .collect();
        let joiner = members.pop();
        let target = Target { members, joiner };
        let mut etcd = Self {
            program: program.to_owned(),
            processes: Vec::new(),
            target: target.clone(),
            folder,
        };
        let initial = initial(target.members.iter());
        for member in &target.members {
            etcd.start_member(member, &initial, "new");
        }
        etcd
    }

    fn join(&mut self, target: &Target, _id: &str) {
        let joiner = target.joiner.as_ref().expect("a joiner");
        let initial = initial(target.members.iter().chain([joiner]));
        self.start_member(joiner, &initial, "existing");
    }

    fn start_member(&mut self, member: &TargetMember, initial: &str, state: &str) {
        let process = Command::new(&self.program)
            .args(["--name", &member.name])
            .args(["--logger", "zap", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.folder.path().join(&member.name))
            .args(["--listen-client-urls", &member.client_url])
            .args(["--advertise-client-urls", &member.client_url])
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(["--initial-cluster", initial])
            .args(["--initial-cluster-state", state])
            .stdin(Stdio::null())
            .spawn()
            .expect("etcd");
        self.processes.push(process);
    }
}

/// What `--initial-cluster` says of these.
fn initial<'a>(members: impl Iterator<Item = &'a TargetMember>) -> String {
    let each: Vec<_> = members
        .map(|member| format!("{}={}", member.name, member.peer_url))
        .collect();
    each.join(",")
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Writes the transcripts anew, from a real etcd.
fn record() {
    let program = std::env::var("RAFTWERK_RECORD_ETCD").expect("path of etcd");
    for etcdctl in programs() {
        let folder = golden().join(&etcdctl.version);
        std::fs::create_dir_all(&folder).expect("folder");
        let mut etcd = RealEtcd::start(&program);
        let target = ready(&etcdctl, etcd.target.clone());
        let mut join = |target: &Target, id: &str| etcd.join(target, id);
        for (name, cases) in case_files(&golden().join("cases")) {
            let recorded = transcript(&etcdctl, &target, &cases, true, &mut join);
            std::fs::write(folder.join(&name), recorded).expect("transcript");
            say(&format!("recorded {}/{name}", etcdctl.version));
        }
    }
}

#[test]
fn case_files_are_read_as_a_shell_would() {
    let cases = parse_cases("# about\n$~ get \"\" --prefix\n< a b\n<\n! compact 3\n");
    let expected = Case {
        line: "$~ get \"\" --prefix".to_owned(),
        args: ["get", "", "--prefix"].map(str::to_owned).to_vec(),
        input: "a b\n\n".to_owned(),
        sorted: true,
        ..Case::default()
    };
    assert_eq!(cases.first(), Some(&expected));
    assert!(cases.len() == 2 && cases.last().is_some_and(|case| case.setup));
}

#[test]
fn transcripts_differ_when_one_line_or_the_number_of_masks_does() {
    assert_eq!(
        difference("$ a\n  1\nmasks: 0\n", "$ a\n  1\nmasks: 0\n"),
        None
    );
    assert!(difference("$ a\n  1\nmasks: 0\n", "$ a\n  1\nmasks: 1\n").is_some());
    assert!(difference("$ a\n  1\n", "$ a\n").is_some());
    assert!(difference("", "").is_some(), "nothing matches nothing");
}

#[test]
fn recorded_transcripts_hold_every_case() {
    for version in VERSIONS {
        for (name, cases) in case_files(&golden().join("cases")) {
            let text =
                std::fs::read_to_string(golden().join(version).join(&name)).expect("recorded");
            let recorded: Vec<_> = text.lines().filter(|line| line.starts_with('$')).collect();
            let wanted: Vec<_> = cases
                .iter()
                .filter(|case| !case.setup && !case.joins)
                .map(|case| case.line.as_str())
                .collect();
            assert_eq!(recorded, wanted, "{version}/{name}: record it again");
        }
    }
}
