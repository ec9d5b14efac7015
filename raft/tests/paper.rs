//! What the Raft paper and the thesis claim, a test for each claim and named by it: figure 2 and
//! sections 5 to 7 of "In Search of an Understandable Consensus Algorithm" (extended version),
//! sections 3.10, 4, 6.4 and 9.6 of "Consensus: Bridging Theory and Practice". Where the core does
//! something else on purpose, the test says what and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/solo.rs"]
mod solo;
mod support;

#[path = "paper/compaction.rs"]
mod compaction;
#[path = "paper/elections.rs"]
mod elections;
#[path = "paper/figure2.rs"]
mod figure2;
#[path = "paper/group.rs"]
mod group;
#[path = "paper/membership.rs"]
mod membership;
#[path = "paper/prevote.rs"]
mod prevote;
#[path = "paper/reads.rs"]
mod reads;
#[path = "paper/replication.rs"]
mod replication;
#[path = "paper/safety.rs"]
mod safety;
#[path = "paper/transfer.rs"]
mod transfer;
