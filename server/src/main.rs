//! The `raftwerk` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    raftwerk_server::cli::main()
}
