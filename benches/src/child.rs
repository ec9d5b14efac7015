//! A measurement in a process of its own, which says what it found line by line.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::report::{Report, bench_main};

/// Tells the child what to do, as words separated by tabs.
const TASK: &str = "RAFTWERK_BENCH_TASK";

/// The whole of `main` of a bench target that starts itself again: what [`bench_main`] does, or
/// what `child` does with the words that this process was started with.
#[must_use]
pub fn bench_main_with_children(
    target: &str,
    run: impl FnOnce(&mut Report) -> Result<(), String>,
    child: impl FnOnce(&[&str]) -> Result<(), String>,
) -> ExitCode {
    let Ok(task) = std::env::var(TASK) else {
        return bench_main(target, run);
    };
    let words: Vec<&str> = task.split('\t').collect();
    // It ends without closing anything, as a process that is killed does.
    match child(&words) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{}: {error}", words.join(" "));
            std::process::exit(1)
        }
    }
}

/// What makes the C library give back freed memory at once: what is measured is what is held, and
/// not what a passing buffer left behind.
const HELD_ALONE: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Starts this program again with `words` and returns the figures that it told.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run_child(words: &[&str]) -> Result<Vec<(String, f64)>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .env(TASK, words.join("\t"))
        .envs(HELD_ALONE)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{}: {}", words.join(" "), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| {
            let (unit, value) = line.split_once('\t')?;
            Some((unit.to_owned(), value.parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("cannot understand: {text}"))
}

/// Tells the parent a figure.
pub fn tell(unit: &str, value: f64) {
    println!("{unit}\t{value}");
}

/// What this process has in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Now, in bytes.
    pub resident: u64,
    /// Of that, what is in no file, in bytes.
    pub anonymous: u64,
    /// At most so far, in bytes.
    pub peak: u64,
}

impl Memory {
    /// As the kernel says; zeros where it does not.
    #[must_use]
    pub fn now() -> Self {
        let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kib| kib << 10)
        };
        Self {
            resident: field("VmRSS:"),
            anonymous: field("RssAnon:"),
            peak: field("VmHWM:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_memory() {
        let memory = Memory::now();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
    }
}
