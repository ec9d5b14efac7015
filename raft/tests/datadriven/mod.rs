//! Reads and runs scripts: commands, each with the output that it must give, byte for byte.
//!
//! ```text
//! # a comment
//! command key key=value key=(one,two)
//! input
//! ----
//! expected output, up to a blank line
//! ```
//! Output that holds blank lines stands between two pairs of `----` lines. With
//! `RAFTWERK_REWRITE=1` in the environment, scripts of this package get the output that was given
//! written into them instead: read the diff before you commit it.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const SEPARATOR: &str = "----";

/// The core's folder, also where these files are compiled into another package.
const PACKAGE: &str = match option_env!("RAFTWERK_RAFT") {
    Some(folder) => folder,
    None => env!("CARGO_MANIFEST_DIR"),
};

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub key: String,
    /// None for `key`, one for `key=value` (it may be empty), all of them for `key=(a,b)`.
    pub vals: Vec<String>,
}

/// One command of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub cmd: String,
    pub args: Vec<Arg>,
    /// The lines between the command and `----`, trimmed.
    pub input: String,
    /// The output that it must give.
    pub expected: String,
    /// Where the command stands in its file, counted from 1.
    pub line: usize,
    /// The lines of the expected output with what encloses them, counted from 0.
    body: std::ops::Range<usize>,
}

impl Command {
    /// The argument called `key`.
    pub fn arg(&self, key: &str) -> Option<&Arg> {
        self.args.iter().find(|arg| arg.key == key)
    }

    /// The values of the argument called `key`; none when it is absent.
    pub fn vals(&self, key: &str) -> &[String] {
        self.arg(key).map_or(&[], |arg| &arg.vals)
    }

    /// The only value of the argument called `key`.
    pub fn val(&self, key: &str) -> Option<&str> {
        let arg = self.arg(key)?;
        assert_eq!(
            arg.vals.len(),
            1,
            "line {}: {key} takes one value",
            self.line
        );
        Some(&arg.vals[0])
    }

    /// The argument called `key` as a flag; false when it is absent.
    pub fn flag(&self, key: &str) -> bool {
        self.val(key).is_some_and(parse_bool)
    }
}

/// A truth value in one of the ways that Go's strconv takes.
pub fn parse_bool(text: &str) -> bool {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => panic!("{text:?} is neither true nor false"),
    }
}

/// Runs every command of the script at `path` and compares what `handle` gives with what it must.
///
/// Panics with each difference when there is one.
pub fn run_file(path: impl AsRef<Path>, mut handle: impl FnMut(&Command) -> String) {
    let path = path.as_ref();
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let commands = parse(path, &text);
    assert!(!commands.is_empty(), "{}: no commands", path.display());
    let mut report = String::new();
    let mut outputs = Vec::new();
    for command in &commands {
        let mut output = handle(command);
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        if output != command.expected {
            let place = format!("{}:{}: {}", path.display(), command.line, command.cmd);
            writeln!(report, "{place}\n{}", diff(&command.expected, &output)).unwrap();
        }
        outputs.push(output);
    }
    let ours = path.starts_with(PACKAGE);
    if ours && env::var_os("RAFTWERK_REWRITE").is_some() {
        fs::write(path, rewrite(&text, &commands, &outputs)).unwrap();
    } else {
        assert!(report.is_empty(), "\n{report}");
    }
}

/// The folders of scripts that some test runs.
const KINDS: [&str; 5] = ["confchange", "etcd", "interaction", "quorum", "random"];
/// So many scripts of its own the package has at least.
const OWN_SCRIPTS_MIN: usize = 40;

/// Every script (`*.txt`) below `root`, sorted. Panics where a file stands that nothing runs: it is
/// no script, or in no folder of a known kind. Readmes and licences may.
pub fn scripts(root: impl AsRef<Path>) -> Vec<PathBuf> {
    let root = root.as_ref();
    let (mut paths, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let listing =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in listing {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if !["README", "LICENSE", "LICENCE"].contains(&name.split('.').next().unwrap()) {
                paths.push(path);
            }
        }
    }
    for path in &paths {
        let script = path.extension().is_some_and(|extension| extension == "txt");
        let kind = path.strip_prefix(root).unwrap().parent();
        let known = kind.is_some_and(|kind| KINDS.iter().any(|known| kind.starts_with(known)));
        assert!(script && known, "{}: nothing runs it", path.display());
    }
    paths.sort();
    paths
}

fn scripts_of(root: &Path, kind: &str) -> Vec<PathBuf> {
    let folder = root.join(kind);
    let mut paths = scripts(root);
    paths.retain(|path| path.starts_with(&folder));
    assert!(!paths.is_empty(), "{}: no scripts", folder.display());
    paths
}

/// This package's own scripts in `tests/data/<kind>`: at least one.
pub fn own_scripts(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(PACKAGE).join("tests/data");
    let count = scripts(&root).len();
    assert!(count >= OWN_SCRIPTS_MIN, "only {count} scripts of our own");
    scripts_of(&root, kind)
}

/// The scripts in the folder `kind` of where `RAFTWERK_TRACES` points; none when that is not set.
///
/// Panics when it is set and there are none. A relative path counts from the workspace's root,
/// wherever the test runs.
pub fn extra_traces(kind: &str) -> Vec<PathBuf> {
    let Some(root) = env::var_os("RAFTWERK_TRACES").filter(|root| !root.is_empty()) else {
        return Vec::new();
    };
    scripts_of(&Path::new(PACKAGE).join("..").join(root), kind)
}

/// Reads a whole script.
fn parse(path: &Path, text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text.lines().collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let mut directive = lines[at].trim().to_owned();
        at += 1;
        if directive.is_empty() || directive.starts_with('#') {
            continue;
        }
        while directive.ends_with('\\') && at < lines.len() {
            directive.pop();
            directive = format!("{directive} {}", lines[at].trim());
            at += 1;
        }
        let (cmd, args) = parse_directive(&directive)
            .unwrap_or_else(|reason| panic!("{}:{line}: {reason}", path.display()));
        if cmd == "subtest" {
            continue;
        }
        let length = lines[at..]
            .iter()
            .position(|line| *line == SEPARATOR)
            .unwrap_or_else(|| panic!("{}:{line}: no {SEPARATOR} follows", path.display()));
        let input = lines[at..at + length].join("\n").trim().to_owned();
        let start = at + length + 1;
        let (expected, end) = parse_expected(&lines, start)
            .unwrap_or_else(|| panic!("{}:{line}: output has no end", path.display()));
        commands.push(Command {
            cmd,
            args,
            input,
            expected,
            line,
            body: start..end,
        });
        at = end;
    }
    commands
}

/// The expected output that begins at `start`, and where it ends with what encloses it.
fn parse_expected(lines: &[&str], start: usize) -> Option<(String, usize)> {
    let join = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let rest = &lines[start..];
    if rest.first() == Some(&SEPARATOR) {
        let length = rest[1..]
            .windows(2)
            .position(|pair| pair == [SEPARATOR, SEPARATOR])?;
        return Some((join(&rest[1..=length]), start + length + 3));
    }
    let length = rest
        .iter()
        .position(|line| line.trim().is_empty())
        .unwrap_or(rest.len());
    Some((join(&rest[..length]), start + length))
}

/// A command's name and its arguments.
fn parse_directive(text: &str) -> Result<(String, Vec<Arg>), String> {
    let (cmd, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut args = Vec::new();
    loop {
        rest = rest.trim_start_matches(' ');
        if rest.is_empty() {
            return Ok((cmd.to_owned(), args));
        }
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let (vals, after) = match after.strip_prefix('=') {
            None => (Vec::new(), after),
            Some(value) => parse_value(value)?,
        };
        if !after.is_empty() && !after.starts_with(' ') {
            return Err(format!("no space after the argument {key}"));
        }
        args.push(Arg {
            key: key.to_owned(),
            vals,
        });
        rest = after;
    }
}

/// What follows `key=`: its values, and the rest of the line.
fn parse_value(text: &str) -> Result<(Vec<String>, &str), String> {
    let Some(list) = text.strip_prefix('(') else {
        let (value, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        return Ok((vec![value.to_owned()], rest));
    };
    let (mut vals, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ')' | ',' if depth == 0 => {
                let value = list[start..at].trim_start_matches(' ');
                if c == ',' || !(vals.is_empty() && value.is_empty()) {
                    vals.push(value.to_owned());
                }
                if c == ')' {
                    return Ok((vals, &list[at + 1..]));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    Err("a list without its end".to_owned())
}

/// The lines of both, marked by which side they are on.
fn diff(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let same = expected
        .iter()
        .zip(&actual)
        .take_while(|(a, b)| a == b)
        .count();
    let left = expected.len().min(actual.len()) - same;
    let tail = expected.iter().rev().zip(actual.iter().rev()).take(left);
    let tail = tail.take_while(|(a, b)| a == b).count();
    let mut out = String::new();
    let mut put = |mark: char, lines: &[&str]| {
        for line in lines {
            writeln!(out, "  {mark} {line}").unwrap();
        }
    };
    put(' ', &expected[..same]);
    put('-', &expected[same..expected.len() - tail]);
    put('+', &actual[same..actual.len() - tail]);
    put(' ', &expected[expected.len() - tail..]);
    out
}

/// The script's text with `outputs` in the place of what was expected.
fn rewrite(text: &str, commands: &[Command], outputs: &[String]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    for (command, output) in commands.iter().zip(outputs) {
        for line in &lines[at..command.body.start] {
            writeln!(out, "{line}").unwrap();
        }
        if output.lines().any(|line| line.trim().is_empty()) {
            write!(out, "{SEPARATOR}\n{output}{SEPARATOR}\n{SEPARATOR}\n").unwrap();
        } else {
            out.push_str(output);
        }
        at = command.body.end;
    }
    for line in &lines[at..] {
        writeln!(out, "{line}").unwrap();
    }
    out
}
