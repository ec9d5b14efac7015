//! One table of everything that has been measured, each target's last run. Cargo runs the targets
//! in order of their names, so this one ends a run.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    raftwerk_benches::print_whole()
}
