//! Everything that can happen to three members within a scope: each way in which messages arrive,
//! get lost, come twice, disks write, members crash and time out, visited breadth first over the
//! core itself. States are told apart by [`raftwerk_raft::RawNode::fingerprint`], so without
//! timers, and by the set of messages under way.
//!
//! `RAFTWERK_STATES` is how many states of each scope are visited at least (20,000 if not set);
//! every scope has a million at least.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "explore/member.rs"]
mod member;
#[path = "explore/promises.rs"]
mod promises;
#[path = "explore/scope.rs"]
mod scope;
#[path = "explore/search.rs"]
mod search;
#[path = "explore/shelf.rs"]
mod shelf;

use std::time::Instant;

use member::Driver;
use scope::{
    ELECTIONS, MEMBERSHIP, OLD_ENTRIES, PIPELINE, PRE_VOTES, REMOVALS, REPLICATION, Scope,
};
use search::{Explorer, Report};

/// No scope is smaller than this.
const SCOPE_STATES_MIN: usize = 1_000_000;

fn states_max() -> usize {
    std::env::var("RAFTWERK_STATES").map_or(20_000, |text| text.parse().expect("RAFTWERK_STATES"))
}

fn explore(scope: Scope, states_max: usize) -> Report {
    let start = Instant::now();
    let report = Explorer::new(scope).run(states_max);
    let (seconds, driver) = (start.elapsed().as_secs_f64(), scope.driver);
    let Report {
        states,
        depth,
        complete,
        ..
    } = report;
    let whole = if complete { ", all there are" } else { "" };
    println!(
        "{} ({driver:?}): {states} states{whole}, depth {depth}, {seconds:.1} s",
        scope.name
    );
    report
}

fn every_promise_holds_in(scope: Scope) {
    let report = explore(scope, states_max());
    if let Some((promise, way)) = report.violation {
        panic!("{}: {promise}, after\n{}", scope.name, way.join("\n"));
    }
    // A scope that has shrunk proves little, whole as it may be.
    let (states, least) = (report.states, states_max().min(SCOPE_STATES_MIN));
    assert!(states >= least, "{}: only {states} states", scope.name);
    assert!(report.complete || states >= states_max());
}

#[test]
fn every_promise_holds_through_elections() {
    every_promise_holds_in(ELECTIONS);
}

#[test]
fn every_promise_holds_through_pre_votes() {
    every_promise_holds_in(PRE_VOTES);
}

#[test]
fn every_promise_holds_through_replication_and_a_succession() {
    every_promise_holds_in(REPLICATION);
}

#[test]
fn every_promise_holds_while_entries_are_pipelined() {
    every_promise_holds_in(PIPELINE);
}

#[test]
fn every_promise_holds_where_entries_of_old_terms_are_left() {
    every_promise_holds_in(OLD_ENTRIES);
}

#[test]
fn every_promise_holds_while_members_are_removed() {
    every_promise_holds_in(MEMBERSHIP);
}

#[test]
fn every_promise_holds_while_two_of_three_are_removed() {
    every_promise_holds_in(REMOVALS);
}

/// What a broken driver does is found among so many states.
const FOUND_WITHIN: usize = 100_000;

fn is_found(scope: Scope, driver: Driver, promises: &[&str]) {
    let report = explore(Scope { driver, ..scope }, FOUND_WITHIN);
    let (promise, way) = report.violation.expect("a broken promise");
    println!("{promise}, after\n  {}", way.join("\n  "));
    assert!(
        promises.iter().any(|known| promise.contains(known)),
        "{promise}"
    );
}

#[test]
fn a_member_that_votes_twice_is_found() {
    is_found(ELECTIONS, Driver::ForgetsVote, &["voted twice"]);
}

#[test]
fn an_answer_before_the_write_is_found() {
    is_found(REPLICATION, Driver::AnswersEarly, &["disks"]);
}

#[test]
fn a_receipt_before_the_write_is_found() {
    is_found(
        REPLICATION,
        Driver::AcknowledgesEarly,
        &["applied and not on the disk", "disks"],
    );
}
