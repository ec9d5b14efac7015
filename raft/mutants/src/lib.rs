//! The Raft core with every mutant of the table in it, all asleep but the one that the environment
//! names. It has the core's name and surface, so that the core's tests compile against it.
#![forbid(unsafe_code)]
#![allow(
    warnings,
    clippy::all,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "generated from the core, which is checked where it stands"
)]

mod mutant;

include!(concat!(env!("OUT_DIR"), "/lib.rs"));
