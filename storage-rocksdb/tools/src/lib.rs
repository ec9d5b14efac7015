//! Nothing to call: what counts is this crate's build script, which looks for what RocksDB's own
//! build wants and names what is missing in one sentence.
//!
//! The sentence has to come before RocksDB's build script fails, since Cargo starts nothing
//! more after a failure. `raftwerk-storage-rocksdb` cannot come before what it depends on, and
//! RocksDB does not depend on us. But of what is ready Cargo starts first what most waits for,
//! counted through all that it leads to. Behind RocksDB's build script stand its two crates and
//! `raftwerk-storage-rocksdb`; behind the one here stand this crate, the build script of
//! `raftwerk-storage-rocksdb` (compiled, then run) and `raftwerk-storage-rocksdb`, one more.
//! That is why this is a crate of its own, and a build dependency. It depends on nothing, so
//! that it is ready long before the generator of RocksDB's bindings is compiled.
#![forbid(unsafe_code)]
