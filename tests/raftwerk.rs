//! The `raftwerk` command, for the tests here.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    raftwerk_server::cli::main()
}
