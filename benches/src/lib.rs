//! The harness that all benches share.
//!
//! Subjects of one bench take turns in slices of at most half a second within one process, so that
//! a slow moment of the machine hits all of them. What is compared is the ratio within each round;
//! reported are the median and the quartiles of those ratios. Beside the clock stand the figures
//! that do not wobble: syncs, bytes, system calls and CPU time per operation.
//!
//! A bench target builds a [`Bench`] per load, hands them to [`run`], and that prints the table and
//! writes `target/bench/summary.json`.
#![forbid(unsafe_code)]

mod cost;
mod run;
mod stats;
mod summary;

pub use cost::Cost;
pub use run::{Bench, Plan, Slice, Subject, run};
pub use stats::Quartiles;
pub use summary::{Row, summary_path};
