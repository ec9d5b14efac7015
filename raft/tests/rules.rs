//! One rule a test, each at a single member whose peers are the test: what the traces do not show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/solo.rs"]
mod solo;
mod support;

#[path = "rules/election.rs"]
mod election;
#[path = "rules/fates.rs"]
mod fates;
#[path = "rules/forward.rs"]
mod forward;
#[path = "rules/lease.rs"]
mod lease;
#[path = "rules/limits.rs"]
mod limits;
#[path = "rules/loss.rs"]
mod loss;
#[path = "rules/membership.rs"]
mod membership;
#[path = "rules/persistence.rs"]
mod persistence;
#[path = "rules/promotion.rs"]
mod promotion;
#[path = "rules/reads.rs"]
mod reads;
#[path = "rules/replication.rs"]
mod replication;
#[path = "rules/request.rs"]
mod request;
#[path = "rules/restart.rs"]
mod restart;
#[path = "rules/session.rs"]
mod session;
#[path = "rules/snapshots.rs"]
mod snapshots;
#[path = "rules/standing.rs"]
mod standing;
#[path = "rules/transfer.rs"]
mod transfer;
