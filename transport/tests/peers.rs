//! Members that speak with each other as they should.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod common;

use common::{
    Event, PATIENCE, forward, heartbeat, host, host_with, options, pair, pattern, send_snapshot,
};
use raftwerk::{SnapshotRefused, Transport};
use raftwerk_raft::{NodeId, SnapshotStatus};

#[test]
fn envelopes_arrive_in_order_in_both_directions() {
    let (a, b) = pair();
    for n in 0..2000 {
        a.transport.send(NodeId(2), forward(n, 100));
        b.transport.send(NodeId(1), forward(n, 10));
    }
    for n in 0..2000 {
        assert_eq!(b.next_request(), (NodeId(1), n));
        assert_eq!(a.next_request(), (NodeId(2), n));
    }
    let stats = a.transport.stats();
    assert_eq!((stats.sent, stats.send_dropped), (2000, 0));
    assert!(
        stats.sent_frames < 2000,
        "{stats:?}: frames carry several envelopes"
    );
}

#[test]
fn the_cores_messages_and_large_envelopes_pass() {
    let (a, b) = pair();
    a.transport.send(NodeId(2), heartbeat(1, 2));
    a.transport.send(NodeId(2), forward(1, 4 * 1024 * 1024));
    assert_eq!(b.next(), Event::Received(NodeId(1), heartbeat(1, 2)));
    assert_eq!(b.next_request(), (NodeId(1), 1));
}

#[test]
fn a_peer_that_is_away_is_told_and_found_again() {
    let a = host(1, 101);
    let b = host(2, 102);
    let (address, member) = (b.transport.address(), b.member(2));
    drop(b);
    a.transport.set_member(&member);
    a.transport.send(NodeId(2), forward(0, 1));
    assert_eq!(a.next_unreachable(), NodeId(2));
    let mut again = options(2, 102);
    again.listen = address;
    let b = host_with(again);
    // What was sent meanwhile may be lost; what comes after is not.
    let mut n = 1;
    while b.events.try_recv().is_err() {
        a.transport.send(NodeId(2), forward(n, 1));
        n += 1;
        std::thread::yield_now();
    }
}

#[test]
fn a_member_that_no_table_names_can_be_answered() {
    let (a, b) = (host(1, 101), host(2, 102));
    a.transport.set_member(&b.member(2));
    a.transport.send(NodeId(2), forward(5, 1));
    assert_eq!(b.next_request(), (NodeId(1), 5));
    // b learned the address from the call itself.
    b.transport.send(NodeId(1), forward(6, 1));
    assert_eq!(a.next_request(), (NodeId(2), 6));
}

#[test]
fn a_full_inbox_slows_the_stream_down_before_anything_is_lost() {
    let (a, b) = pair();
    *b.inbox.busy.lock() = 5;
    for n in 0..10 {
        a.transport.send(NodeId(2), forward(n, 1));
    }
    for n in 0..10 {
        assert_eq!(b.next_request(), (NodeId(1), n));
    }
    *b.inbox.busy.lock() = u32::MAX;
    a.transport.send(NodeId(2), forward(10, 1));
    while b.transport.stats().receive_dropped == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_removed_member_is_neither_called_nor_heard() {
    let (a, b) = pair();
    a.transport.send(NodeId(2), forward(0, 1));
    assert_eq!(b.next_request(), (NodeId(1), 0));
    b.transport.send(NodeId(1), forward(0, 1));
    assert_eq!(a.next_request(), (NodeId(2), 0));
    a.transport.remove_member(NodeId(2));
    let (by, refusal) = b.refused.recv_timeout(PATIENCE).unwrap();
    assert_eq!(by, NodeId(1));
    assert!(
        refusal.to_string().contains("has been removed"),
        "{refusal}"
    );
    let before = a.transport.stats().send_dropped;
    a.transport.send(NodeId(2), forward(1, 1));
    assert_eq!(a.transport.stats().send_dropped, before + 1);
}

#[test]
fn a_snapshot_arrives_whole() {
    let (a, b) = pair();
    let bytes = pattern(3 * 1024 * 1024 + 17);
    let (done, _) = send_snapshot(&a, 9, &bytes);
    assert_eq!(b.next(), Event::Snapshot(9, bytes));
    assert_eq!(
        done.recv_timeout(PATIENCE).unwrap(),
        SnapshotStatus::Finished
    );
    assert_eq!(a.transport.stats().snapshots_sent, 1);
    assert_eq!(b.transport.stats().snapshots_received, 1);
}

#[test]
fn an_empty_snapshot_is_one_too() {
    let (a, b) = pair();
    let (done, _) = send_snapshot(&a, 1, &[]);
    assert_eq!(b.next(), Event::Snapshot(1, Vec::new()));
    assert_eq!(
        done.recv_timeout(PATIENCE).unwrap(),
        SnapshotStatus::Finished
    );
}

#[test]
fn a_broken_snapshot_goes_on_where_it_broke() {
    let (a, b) = pair();
    let bytes = pattern(2 * 1024 * 1024);
    b.inbox.partial.lock().break_at = Some(1024 * 1024);
    let (done, _) = send_snapshot(&a, 4, &bytes);
    assert_eq!(done.recv_timeout(PATIENCE).unwrap(), SnapshotStatus::Failed);
    let there = b.inbox.partial.lock().bytes.len() as u64;
    assert_eq!(there, 1024 * 1024);
    let (done, read_from) = send_snapshot(&a, 4, &bytes);
    assert_eq!(
        done.recv_timeout(PATIENCE).unwrap(),
        SnapshotStatus::Finished
    );
    assert_eq!(
        read_from.lock().first(),
        Some(&there),
        "nothing is read twice"
    );
    assert_eq!(b.next(), Event::Snapshot(4, bytes));
}

#[test]
fn a_snapshot_that_is_not_needed_counts_as_finished_and_a_refused_one_as_failed() {
    let (a, b) = pair();
    *b.inbox.refuse.lock() = Some(SnapshotRefused::NotNeeded);
    let (done, _) = send_snapshot(&a, 1, &pattern(10));
    assert_eq!(
        done.recv_timeout(PATIENCE).unwrap(),
        SnapshotStatus::Finished
    );
    *b.inbox.refuse.lock() = Some(SnapshotRefused::Busy);
    let (done, _) = send_snapshot(&a, 1, &pattern(10));
    assert_eq!(done.recv_timeout(PATIENCE).unwrap(), SnapshotStatus::Failed);
}

#[test]
fn a_snapshot_to_nobody_fails() {
    let a = host(1, 101);
    let (done, _) = send_snapshot(&a, 1, &pattern(10));
    assert_eq!(done.recv_timeout(PATIENCE).unwrap(), SnapshotStatus::Failed);
}

#[test]
fn stopping_ends_the_calls_of_the_inbox_and_frees_the_port() {
    let (a, b) = pair();
    a.transport.send(NodeId(2), forward(0, 1));
    assert_eq!(b.next_request(), (NodeId(1), 0));
    let address = b.transport.address();
    b.transport.stop();
    while b.events.try_recv().is_ok() {}
    a.transport.send(NodeId(2), forward(1, 1));
    assert!(b.events.try_recv().is_err());
    std::net::TcpListener::bind(address).unwrap();
}
