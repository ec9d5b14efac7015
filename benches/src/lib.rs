//! The harness that all benches share.
//!
//! Subjects of one bench take turns in slices of at most half a second within one process, so that
//! a slow moment of the machine hits all of them. What is compared is the ratio within each round;
//! reported are the median and the quartiles of those ratios. Beside the clock stand the figures
//! that do not wobble: syncs, bytes, system calls and CPU time per operation.
//!
//! A bench target is a function over a [`Report`], run by [`bench_main`]: it hands a [`Bench`] for
//! each load to [`Report::measure`], and what is not measured in turns to [`Report::say`]. The
//! logs and stores that are measured stand in [`log::logs`] and [`state::states`], one line each.
#![forbid(unsafe_code)]

pub mod child;
pub mod core;
mod cost;
mod latency;
pub mod log;
mod machine;
mod page;
mod place;
mod plan;
mod random;
mod report;
mod run;
pub mod state;
mod stats;
mod table;

pub use cost::Cost;
pub use latency::{Latencies, PERCENTILES};
pub use machine::Machine;
pub use place::{allocated_bytes, bench_folder, scratch, target_folder};
pub use plan::{Mode, Plan};
pub use random::{Payloads, Random};
pub use report::{Curve, Report, Row, bench_main, print_whole};
pub use run::{Bench, Slice, Subject, Wanted, repeat, wal_before_backends};
pub use stats::Quartiles;
