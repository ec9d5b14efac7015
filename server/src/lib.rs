//! The reference store of Raftwerk: KV, Txn, Cluster and Maintenance of etcd's v3 API over a
//! replicated state machine.
#![forbid(unsafe_code)]

pub mod api;
mod bench;
pub mod cli;
mod client;
mod config;
mod http;
pub mod kv;
mod offline;
pub mod proto;
mod serve;
mod up;
