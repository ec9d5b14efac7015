//! The wire's messages, generated from `proto/`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

/// Keys, and what happens to them.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users and roles as they are stored.
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The services and their requests.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// What etcd's API has no words for.
pub mod admin {
    tonic::include_proto!("raftwerk.admin.v1");
}
