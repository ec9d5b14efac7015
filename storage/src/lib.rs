//! What every Raftwerk backend shares.
#![deny(unsafe_code)]

pub mod vfs;
