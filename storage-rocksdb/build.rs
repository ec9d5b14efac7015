//! Does nothing: it is there so that Cargo builds `raftwerk-rocksdb-tools` before this crate, and
//! that crate says why.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
