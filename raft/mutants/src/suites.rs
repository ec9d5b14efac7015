//! The core's test programs, compiled against the library that holds the mutants.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, thread};

/// A part of a test program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// The program.
    pub(crate) program: &'static str,
    /// What the tests' names contain; empty for all.
    pub(crate) filter: &'static str,
    /// Values of the environment.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// It takes its time, and is asked only by name.
    pub(crate) heavy: bool,
}

const fn all(program: &'static str) -> Suite {
    Suite {
        program,
        filter: "",
        env: &[],
        heavy: false,
    }
}

/// What is asked for each mutant, the cheapest first: the first test that fails ends it.
pub(crate) const SUITES: &[Suite] = &[
    all("paper"),
    all("rules"),
    all("tracker"),
    all("quorum"),
    all("confchange"),
    Suite {
        filter: "own_scripts",
        ..all("interaction")
    },
    Suite {
        filter: "every_promise",
        env: &[("RAFTWERK_SEEDS", "0..20")],
        ..all("cluster")
    },
    Suite {
        filter: "traces",
        ..all("interaction")
    },
    Suite {
        filter: "every_promise",
        heavy: true,
        ..all("explore")
    },
];

/// The bugs that the exploration has to find within a million states: each with the scope that
/// leads there.
pub(crate) const PLANTED: [(u32, Suite); 5] = [
    (1, explored("old_terms")),
    (21, explored("succession")),
    (28, explored("two_of_three")),
    (43, explored("pipelined")),
    (102, explored("through_elections")),
];

const fn explored(filter: &'static str) -> Suite {
    Suite {
        filter,
        env: &[("RAFTWERK_STATES", "1000000")],
        heavy: true,
        ..all("explore")
    }
}

/// No suite takes this long, on a busy machine either; a mutant that goes round in circles does.
const SUITE_TIME_MAX: Duration = Duration::from_secs(120);
const HEAVY_TIME_MAX: Duration = Duration::from_secs(300);
/// After a test has failed, the rest may still say why.
const REASON_TIME_MAX: Duration = Duration::from_secs(2);
/// A mutant that goes round in circles may also collect without end.
const MEMORY_KIB_MAX: u64 = 2 * 1024 * 1024;
const HEAVY_MEMORY_KIB_MAX: u64 = 8 * 1024 * 1024;
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The programs of these suites by name, built if they are not.
pub(crate) fn programs(suites: &[Suite]) -> Result<BTreeMap<String, PathBuf>, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    // The tests are built as this program was.
    let folder = own.parent().and_then(Path::file_name);
    let profile = match folder.and_then(|folder| folder.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let names: BTreeSet<&str> = suites.iter().map(|suite| suite.program).collect();
    let output = Command::new(cargo)
        .args(["test", "--package", env!("CARGO_PKG_NAME")])
        .args(names.iter().flat_map(|name| ["--test", *name]))
        .args(["--no-run", "--message-format=json", "--profile", profile])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not compile".to_owned());
    }
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let name = message
            .pointer("/target/name")
            .and_then(|name| name.as_str());
        let path = message
            .pointer("/executable")
            .and_then(|path| path.as_str());
        if let (Some(name), Some(path)) = (name, path) {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(programs)
}

fn command(suite: &Suite, program: &Path, mutant: Option<u32>) -> Command {
    let memory_kib_max = if suite.heavy {
        HEAVY_MEMORY_KIB_MAX
    } else {
        MEMORY_KIB_MAX
    };
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -v {memory_kib_max}; exec \"$0\" \"$@\""),
        ])
        .arg(program)
        .args(["--test-threads", "1", suite.filter])
        .envs(suite.env.iter().copied())
        .env("RUST_BACKTRACE", "0")
        .env_remove("RAFTWERK_MUTANT")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(id) = mutant {
        command.env("RAFTWERK_MUTANT", format!("M{id:03}"));
    }
    command
}

/// Runs a suite with a mutant switched on, or none. Gives what failed, if anything did, and how
/// many tests passed.
pub(crate) fn run(
    suite: &Suite,
    program: &Path,
    mutant: Option<u32>,
) -> Result<(Option<String>, usize), String> {
    let time_max = if suite.heavy {
        HEAVY_TIME_MAX
    } else {
        SUITE_TIME_MAX
    };
    let mut command = command(suite, program, mutant);
    let mut child = command.spawn().map_err(|error| format!("sh: {error}"))?;
    let mut pipe = child.stdout.take().ok_or("no pipe")?;
    let (send, chunks) = channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            let chunk = buffer.get(..read).unwrap_or_default().to_vec();
            if send.send(chunk).is_err() {
                break;
            }
        }
    });
    let mut output = Vec::new();
    let mut deadline = Instant::now() + time_max;
    let mut failing = false;
    let ended = loop {
        match chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => output.extend(chunk),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
        if !failing && output.windows(10).any(|part| part == b"... FAILED") {
            failing = true;
            deadline = deadline.min(Instant::now() + REASON_TIME_MAX);
        }
        if output.len() > OUTPUT_BYTES_MAX {
            break false;
        }
    };
    if !ended {
        let _ = child.kill();
    }
    drop(chunks);
    let status = child.wait().map_err(|error| error.to_string())?;
    let _ = reader.join();
    let output = String::from_utf8_lossy(&output);
    let passed = output
        .lines()
        .filter(|line| line.ends_with("... ok"))
        .count();
    if ended && status.success() {
        return Ok((None, passed));
    }
    let failed = failed(&output, ended);
    let failed = failed.ok_or_else(|| format!("{} did not run: {status}", suite.program))?;
    Ok((Some(format!("{}: {failed}", suite.program)), passed))
}

/// The first test that failed, or that was running when the program was lost.
fn failed(output: &str, ended: bool) -> Option<String> {
    let test = |line: &str| line.strip_prefix("test ").map(str::to_owned);
    let name = |line: &str, end: &str| test(line.strip_suffix(end)?);
    let mut lines = output.lines();
    let Some(failed) = lines.find_map(|line| name(line, " ... FAILED")) else {
        let last = output.lines().last().and_then(test)?;
        let running = last.strip_suffix(" ... ")?;
        let how = if ended { "is aborted" } else { "does not end" };
        return Some(format!("{running} ({how})"));
    };
    // Of scripts, which.
    let mut lines = output.lines().skip_while(|line| !line.ends_with("differ:"));
    let script = lines.nth(1).and_then(|line| Path::new(line).file_name());
    Some(match script {
        Some(script) => format!("{failed} ({})", script.display()),
        None => failed,
    })
}
