//! Limits of bytes: each lets at least one entry through.

use raftwerk_raft::{Body, LogIndex, Message, MessageKind, NodeId, ProposeError, Standing, Term};

use crate::solo::setup;

#[test]
fn what_is_applied_at_once_is_limited_but_never_to_nothing() {
    let setup = setup().log(&[1, 1, 1]).hard_state(1, 0, 0);
    let mut solo = setup
        .options(|config| {
            config.synchronous = false;
            config.max_committed_size_per_ready = 1;
        })
        .start();
    let committed = Message {
        from: NodeId(2),
        to: NodeId(1),
        term: Term(1),
        session: 0,
        standing: Standing::Sound,
        body: Body::Heartbeat {
            commit: LogIndex(3),
            read_position: 0,
        },
    };
    // One `Ready` at a time: if there were nothing in it, there would be no end of them.
    solo.node.step(committed).unwrap();
    for index in 1..=3 {
        let ready = solo.node.ready();
        let indexes: Vec<u64> = ready.committed.iter().map(|e| e.index().0).collect();
        assert_eq!(indexes, [index]);
        solo.node.applied(ready.apply_ack.unwrap());
    }
    assert!(solo.node.ready().committed.is_empty());
}

#[test]
fn messages_keep_their_size_limit_but_take_at_least_one_entry() {
    let mut solo = setup()
        .log(&[1, 1, 1, 1])
        .hard_state(1, 0, 0)
        .options(|config| config.max_size_per_msg = 1)
        .start();
    solo.lead();
    solo.nack(2, 4, 0, 0);
    let sent = solo.sent_to(2, MessageKind::Append);
    assert!(matches!(sent[..], [Body::Append { entries, .. }] if entries.len() == 1));
    solo.take();
    solo.ack(2, 1);
    let sent = solo.sent_to(2, MessageKind::Append);
    assert_eq!(
        sent.len(),
        4,
        "the rest goes out at once, an entry in each message"
    );
}

#[test]
fn proposals_are_refused_while_too_much_is_uncommitted() {
    let mut solo = setup()
        .options(|config| config.max_uncommitted_size = 4)
        .start();
    solo.lead();
    solo.propose("larger than the limit goes when nothing else does");
    let refused = solo.node.propose("x".into());
    assert_eq!(refused, Err(ProposeError::Busy));
    assert!(
        solo.node.propose(bytes::Bytes::new()).is_ok(),
        "without payload always"
    );
    solo.drain();
    solo.ack(2, 3);
    assert!(
        solo.node.propose("x".into()).is_ok(),
        "once they are applied there is room"
    );
}
