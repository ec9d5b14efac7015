//! Transcripts of etcdctl: recorded against a real etcd, compared with what our members answer.
//!
//! A case file (`server/tests/golden/cases/`) is a list of commands: `$ ` runs etcdctl, `$~ ` too
//! and sorts the answer's lines (or members), whose order is that of random ids; `< ` is a line of
//! its standard input; `! ` runs only when recording; `$* ` is run until it succeeds, for what
//! needs a while to be allowed, and its JSON sorted; `+ ` starts the member that was added last and
//! waits for it. `{2}` stands for the id of the second member, `{added}` for that of the one added
//! last, `{peer4}` for a peer address, `{client2}` for a client address.
//!
//! What differs from one cluster to the next (ids, terms, log indexes, sizes, hashes, times) is
//! masked; addresses and names are replaced by whose they are, the leader being the first.
//! Everything else must be equal, line by line, and so must the number of masks. An empty answer
//! never matches.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::processes::await_some;

/// A cluster to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// The leader first.
    pub members: Vec<TargetMember>,
    /// One more, which is no member until a case adds it: numbered behind the others.
    pub joiner: Option<TargetMember>,
}

impl Target {
    /// Everybody, the joiner last.
    fn all(&self) -> impl Iterator<Item = &TargetMember> {
        self.members.iter().chain(&self.joiner)
    }
}

/// Starts the joiner of a [`Target`], which the cluster knows by this id.
pub type Join<'a> = dyn FnMut(&Target, &str) + 'a;

/// One member of a [`Target`].
#[derive(Clone, Debug)]
pub struct TargetMember {
    /// Its name.
    pub name: String,
    /// `http://host:port` for clients.
    pub client_url: String,
    /// `http://host:port` for peers.
    pub peer_url: String,
}

/// One command of a case file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The command as it stands in the file.
    pub line: String,
    /// What etcdctl gets, split as a shell would.
    pub args: Vec<String>,
    /// Its standard input.
    pub input: String,
    /// The answer has no order of its own.
    pub sorted: bool,
    /// Only for the cluster that is recorded.
    pub setup: bool,
    /// Run until it succeeds.
    pub retried: bool,
    /// Nothing to run: the joiner starts.
    pub joins: bool,
}

/// Reads a case file.
///
/// # Panics
/// When a line begins with none of the marks.
#[must_use]
pub fn parse_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "$" | "$~" | "$*" | "!" | "+" => cases.push(Case {
                line: line.to_owned(),
                args: words(rest),
                sorted: mark == "$~",
                setup: mark == "!",
                retried: mark == "$*",
                joins: mark == "+",
                ..Case::default()
            }),
            "<" => {
                let case = cases.last_mut().expect("input follows a command");
                case.input.push_str(rest);
                case.input.push('\n');
            }
            "#" | "" => {}
            _ => panic!("no mark in front of {line:?}"),
        }
    }
    cases
}

/// Splits at blanks; double quotes keep a word together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// An etcdctl and its version, `3.4` for instance.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    /// The program.
    pub path: String,
    /// Major and minor.
    pub version: String,
}

impl Etcdctl {
    /// The program at `path`, if there is one that tells its version.
    #[must_use]
    pub fn find(path: &str) -> Option<Self> {
        let output = Command::new(path)
            .arg("version")
            .env("ETCDCTL_API", "3")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("etcdctl version: "))?;
        let mut parts = version.split('.');
        let version = format!("{}.{}", parts.next()?, parts.next()?);
        Some(Self {
            path: path.to_owned(),
            version,
        })
    }

    /// Runs one case at the first member and gives its standard output, the errors on its standard
    /// error, and the exit code.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn run(&self, target: &Target, case: &Case) -> Answer {
        let endpoint = target.members.first().expect("a member").client_url.clone();
        let mut command = Command::new(&self.path);
        // It takes them from one place only.
        if !case.args.iter().any(|arg| arg.starts_with("--endpoints")) {
            command.env("ETCDCTL_ENDPOINTS", endpoint);
        }
        let mut child = command
            .args(&case.args)
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_COMMAND_TIMEOUT", "60s")
            .env("ETCDCTL_DIAL_TIMEOUT", "60s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl");
        let mut stdin = child.stdin.take().expect("standard input");
        // It may end without reading: a broken pipe says nothing.
        let _ = stdin.write_all(case.input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("etcdctl");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            out: text(output.stdout),
            err: text(output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

/// What etcdctl said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code.
    pub code: i32,
}

/// Runs every command of a case file and writes the transcript.
///
/// # Panics
/// When a command answers nothing at all, which would match anything.
#[must_use]
pub fn transcript(
    etcdctl: &Etcdctl,
    target: &Target,
    cases: &[Case],
    recording: bool,
    join: &mut Join<'_>,
) -> String {
    let mut out = String::new();
    let mut masks = Masks::default();
    let mut ids = Ids::default();
    for case in cases {
        if case.joins {
            join(target, &ids.added);
            ids.await_named(etcdctl, target);
            continue;
        }
        let case = &ids.fill_in(etcdctl, target, case);
        if case.setup {
            if recording {
                let answer = etcdctl.run(target, case);
                assert_eq!(answer.code, 0, "{}: {}", case.line, answer.err);
            }
            continue;
        }
        let answer = if case.retried {
            await_some(&case.line, || {
                Some(etcdctl.run(target, case)).filter(|answer| answer.code == 0)
            })
        } else {
            etcdctl.run(target, case)
        };
        ids.learn(&answer);
        let lines = masks.lines(target, case, &answer);
        assert!(
            !lines.is_empty(),
            "{} answers nothing: {answer:?}",
            case.line
        );
        let _ = writeln!(out, "{}", case.line);
        for line in case.input.lines() {
            let _ = writeln!(out, "{}", format!("< {line}").trim_end());
        }
        for line in lines {
            let _ = writeln!(out, "{}", format!("  {line}").trim_end());
        }
        let _ = writeln!(out, "exit code {}\n", answer.code);
    }
    let _ = writeln!(out, "masks: {}", masks.count);
    out
}

/// The ids that cases speak of.
#[derive(Default)]
struct Ids {
    /// Of the member added last, as etcdctl writes and reads it.
    added: String,
}

impl Ids {
    fn learn(&mut self, answer: &Answer) {
        let added = answer.out.lines().find_map(|line| {
            let (id, _) = line.strip_prefix("Member ")?.split_once(" added to")?;
            Some(id.trim().to_owned())
        });
        self.added = added.unwrap_or_else(|| std::mem::take(&mut self.added));
    }

    /// The case as it is run: with ids and addresses in place of the braces.
    fn fill_in(&self, etcdctl: &Etcdctl, target: &Target, case: &Case) -> Case {
        let mut case = case.clone();
        for arg in case.args.iter_mut().filter(|arg| arg.contains('{')) {
            *arg = arg.replace("{added}", &self.added);
            for (place, member) in target.all().enumerate() {
                let number = place + 1;
                *arg = arg.replace(&format!("{{peer{number}}}"), &member.peer_url);
                *arg = arg.replace(&format!("{{client{number}}}"), &member.client_url);
                let id = format!("{{{number}}}");
                if arg.contains(&id) {
                    *arg = arg.replace(&id, &id_of(etcdctl, target, member));
                }
            }
        }
        case
    }

    /// Waits until the member added last has told its name, and its addresses.
    fn await_named(&self, etcdctl: &Etcdctl, target: &Target) {
        let list = parse_cases("$ member list").remove(0);
        let started = format!("{}, started, ", self.added);
        await_some("the joiner", || {
            let answer = etcdctl.run(target, &list);
            answer.out.contains(&started).then_some(())
        });
    }
}

/// The id of a member, from the member list.
fn id_of(etcdctl: &Etcdctl, target: &Target, member: &TargetMember) -> String {
    let list = parse_cases("$ member list").remove(0);
    let answer = etcdctl.run(target, &list);
    let line = answer
        .out
        .lines()
        .find(|line| line.contains(&format!(", {}, ", member.name)));
    let id = line.and_then(|line| line.split(',').next());
    id.unwrap_or_else(|| panic!("no {} in {}", member.name, answer.out))
        .to_owned()
}

/// Hides what no two clusters have in common, and counts how often.
#[derive(Default)]
struct Masks {
    count: usize,
    hashes: Vec<String>,
}

impl Masks {
    fn lines(&mut self, target: &Target, case: &Case, answer: &Answer) -> Vec<String> {
        let mut lines = Vec::new();
        // What etcdctl logs for itself on its standard error begins with a brace.
        let said = answer.err.lines().filter(|line| !line.starts_with('{'));
        for line in answer.out.lines().chain(said) {
            match serde_json::from_str::<Value>(line) {
                Ok(mut value) if value.is_array() || value.is_object() => {
                    self.value(target, case, &mut value);
                    let pretty = serde_json::to_string_pretty(&value).expect("JSON");
                    lines.extend(pretty.lines().map(str::to_owned));
                }
                _ => lines.push(self.line(case, &replace(target, line))),
            }
        }
        if case.sorted && !answer.out.starts_with(['{', '[']) {
            lines.sort();
        }
        lines
    }

    fn mask(&mut self, what: &str) -> String {
        self.count += 1;
        format!("<{what}>")
    }

    /// Equal hashes get equal masks: members of one revision must agree.
    fn hash(&mut self, value: &str) -> String {
        if !self.hashes.iter().any(|hash| hash == value) {
            self.hashes.push(value.to_owned());
        }
        let place = self
            .hashes
            .iter()
            .position(|hash| hash == value)
            .unwrap_or_default();
        self.mask(&format!("hash {}", place + 1))
    }

    /// A line of plain output: which fields are masked depends on the command.
    fn line(&mut self, case: &Case, line: &str) -> String {
        let command: Vec<&str> = case.args.iter().take(2).map(String::as_str).collect();
        let masked: &[(usize, &str)] = match command.as_slice() {
            ["member", "list"] => &[(0, "id")],
            ["member", _] if line.starts_with("Member ") => return self.member(line),
            ["member", "add"] => return in_order(line),
            ["endpoint", "status"] => &[
                (1, "id"),
                (3, "size"),
                (6, "term"),
                (7, "index"),
                (8, "index"),
            ],
            ["endpoint", "hashkv"] => &[(1, "hash")],
            ["endpoint", "health"] => return self.time(line),
            _ => return self.fields(line),
        };
        let mut fields: Vec<String> = line.split(", ").map(str::to_owned).collect();
        for (place, what) in masked {
            if let Some(field) = fields.get_mut(*place) {
                *field = match *what {
                    "hash" => self.hash(field),
                    what => self.mask(what),
                };
            }
        }
        fields.join(", ")
    }

    /// `Member <id> added to cluster <id>`, and what else became of it.
    fn member(&mut self, line: &str) -> String {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let last = words.len() - 1;
        for place in [1, last] {
            if let Some(word) = words.get_mut(place) {
                *word = self.mask("id");
            }
        }
        words.join(" ")
    }

    fn time(&mut self, line: &str) -> String {
        match line.split_once("took = ") {
            Some((before, _)) => format!("{before}took = {}", self.mask("time")),
            None => line.to_owned(),
        }
    }

    /// A line of `--write-out=fields`: `"Name" : value`.
    fn fields(&mut self, line: &str) -> String {
        let what = match line.split_once(" : ") {
            Some(("\"ClusterID\"" | "\"MemberID\"", _)) => "id",
            Some(("\"RaftTerm\"", _)) => "term",
            _ => return line.to_owned(),
        };
        let name = line.split(" : ").next().unwrap_or_default();
        format!("{name} : {}", self.mask(what))
    }

    fn value(&mut self, target: &Target, case: &Case, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    let what = match key.as_str() {
                        "cluster_id" | "member_id" | "ID" | "leader" => "id",
                        "raft_term" | "raftTerm" => "term",
                        "raftIndex" | "raftAppliedIndex" => "index",
                        "dbSize" | "dbSizeInUse" => "size",
                        "hash" => "hash",
                        "compact_revision" => "revision",
                        "took" => "time",
                        _ => {
                            self.value(target, case, value);
                            continue;
                        }
                    };
                    assert!(
                        !value.is_object() && !value.is_array(),
                        "{key} is a single value"
                    );
                    *value = Value::String(match what {
                        "hash" => self.hash(&value.to_string()),
                        what => self.mask(what),
                    });
                }
            }
            Value::Array(values) => {
                for value in values.iter_mut() {
                    self.value(target, case, value);
                }
                if case.sorted || case.retried {
                    values.sort_by_key(Value::to_string);
                }
            }
            Value::String(text) => *text = replace(target, text),
            _ => {}
        }
    }
}

/// The cluster in `ETCD_INITIAL_CLUSTER="name=address,..."` comes in the order of random ids.
fn in_order(line: &str) -> String {
    match line.split_once("=\"") {
        Some((name @ "ETCD_INITIAL_CLUSTER", list)) => {
            let mut members: Vec<&str> = list.trim_end_matches('"').split(',').collect();
            members.sort_unstable();
            format!("{name}=\"{}\"", members.join(","))
        }
        _ => line.to_owned(),
    }
}

/// Puts in place of addresses and names whose they are.
fn replace(target: &Target, text: &str) -> String {
    let mut text = text.to_owned();
    for (place, member) in target.all().enumerate() {
        let number = place + 1;
        let bare = |url: &str| url.trim_start_matches("http://").to_owned();
        text = text
            .replace(&member.client_url, &format!("<client {number}>"))
            .replace(&member.peer_url, &format!("<peer {number}>"))
            .replace(&bare(&member.client_url), &format!("<client {number}>"));
        // Names stand alone between commas, or as a whole string.
        let named = format!("<name {number}>");
        if text == member.name {
            text.clone_from(&named);
        }
        text = text
            .replace(&format!(", {}, ", member.name), &format!(", {named}, "))
            .replace(
                &format!("{}=<peer {number}>", member.name),
                &format!("{named}=<peer {number}>"),
            )
            .replace(&format!("\"{}\"", member.name), &format!("\"{named}\""));
    }
    text
}

/// Puts the leader in front.
///
/// # Panics
/// When nobody leads.
#[must_use]
pub fn leader_first(etcdctl: &Etcdctl, mut target: Target) -> Target {
    let case = parse_cases("$ endpoint status -w json").remove(0);
    let leads = |member: &TargetMember| {
        let alone = Target {
            members: vec![member.clone()],
            joiner: None,
        };
        let answer = etcdctl.run(&alone, &case);
        let status: Value = serde_json::from_str(&answer.out).unwrap_or_default();
        let status = status.pointer("/0/Status").cloned().unwrap_or_default();
        let leader = status.get("leader").cloned();
        leader.is_some() && leader == status.pointer("/header/member_id").cloned()
    };
    let place = await_some("a leader", || target.members.iter().position(leads));
    target.members.swap(0, place);
    target
}

/// The lines in which two transcripts differ, `None` when they are equal.
#[must_use]
pub fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found && !expected.trim().is_empty() {
        return None;
    }
    let mut out = String::new();
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut command = "";
    loop {
        let (wanted, got) = (expected.next(), found.next());
        if let Some(line) = wanted.filter(|line| line.starts_with('$')) {
            command = line;
        }
        if wanted.is_none() && got.is_none() {
            return Some(out);
        }
        if wanted != got {
            let _ = writeln!(
                out,
                "after {command}\n  wanted {wanted:?}\n  found  {got:?}"
            );
        }
        if out.len() > 4096 {
            return Some(out);
        }
    }
}

/// Every case file of `folder`, by name.
///
/// # Panics
/// When the folder cannot be read or holds none.
#[must_use]
pub fn case_files(folder: &Path) -> Vec<(String, Vec<Case>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("case files")
        .map(|entry| entry.expect("case file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no case files in {}", folder.display());
    let read = |path: &std::path::PathBuf| {
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        (
            name,
            parse_cases(&std::fs::read_to_string(path).expect("case file")),
        )
    };
    files.iter().map(read).collect()
}
