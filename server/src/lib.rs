//! The reference store of Raftwerk: KV, Txn, Cluster and Maintenance of etcd's v3 API over a
//! replicated state machine.
#![forbid(unsafe_code)]

pub mod api;
pub mod kv;
pub mod proto;
