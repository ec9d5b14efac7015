//! What proves a Raftwerk backend right.
//!
//! - [`fault_vfs::FaultVfs`]: a file system in memory that forgets what was not synced, tears at
//!   sectors, fails any call and ignores any named sync.
//! - [`crash::crash_points`]: cuts the power at every call of a workload, in every way, and again
//!   during recovery.
//! - [`faults::fault_points`]: fails every call of a workload and of its recovery, in every way.
//! - [`history::History`]: random batches for those, and what a log must hold after each.
//! - [`damage::damage_points`]: flips every bit, zeroes, swaps and breaks every sector.
//! - [`verdict::judge`]: whether a damaged log gives what is right and names what is missing.
//! - [`FolderHome`]: a folder on the real disk, for the suites.
//! - [`processes::Writer`]: processes that are killed at any system call, and
//!   [`processes::Disk`], whose power is cut.
//! - [`ports`]: where servers that tests start may listen.
//! - [`storage_suite!`] and [`state_store_suite!`]: the tests that every backend passes.
#![forbid(unsafe_code)]

pub mod crash;
pub mod damage;
mod dice;
pub mod fault_vfs;
pub mod faults;
mod folder_home;
pub mod history;
mod lives;
pub mod log_suite;
pub mod ports;
pub mod processes;
mod shrink;
mod skipped;
pub mod state_suite;
pub mod verdict;

pub use folder_home::FolderHome;
