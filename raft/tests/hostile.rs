//! Whatever a peer sends, and whatever bytes come: no panic, no allocation by declaration, and an
//! honest member keeps what it owes to the others.
//!
//! `RAFTWERK_STEPS` is how many steps each body takes at least; a fuzzer of one's own calls the
//! functions of `hostile/bodies.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/solo.rs"]
mod solo;
mod support;

#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/member.rs"]
mod member;
#[path = "hostile/mutator.rs"]
mod mutator;
#[path = "hostile/words.rs"]
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutator::Mutator;
use raftwerk_raft::{LogId, LogIndex, LogReader as _, Role, Term};
use solo::setup;

fn steps_min(default: u64) -> u64 {
    std::env::var("RAFTWERK_STEPS").map_or(default, |text| text.parse().expect("RAFTWERK_STEPS"))
}

/// Feeds `body` until it has taken enough steps; two threads with a seed each.
fn feed(name: &str, body: fn(&[u8]) -> u64, kept: &[Vec<u8>], len_max: usize, steps_min: u64) {
    let run = |seed: u64| {
        let mut mutator = Mutator::new(seed, kept.to_vec());
        let mut steps = 0;
        while steps < steps_min / 2 {
            let input = mutator.input(len_max);
            match catch_unwind(AssertUnwindSafe(|| body(&input))) {
                Ok(more) => steps += more,
                Err(_) => panic!("{name} fails on {input:?}"),
            }
        }
        steps
    };
    let steps: u64 = std::thread::scope(|scope| {
        let threads = [1, 2].map(|seed| scope.spawn(move || run(seed)));
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    println!("{name}: {steps} steps");
    assert!(steps >= steps_min - steps_min % 2);
}

#[test]
fn an_honest_member_bears_every_message_in_every_role() {
    feed("member", bodies::member, &[], 600, steps_min(1_000_000));
}

/// One message of each kind.
fn messages() -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    for first in 0..=u8::MAX {
        // Bytes that choose what is said; the rest is zero.
        let bytes = [
            first, 3, 1, 5, 2, 1, 1, 4, 2, 0, 7, 1, 2, 3, 1, 2, 9, 1, 2, 40,
        ];
        kept.push(words::encoded(&bytes));
    }
    kept
}

#[test]
fn the_codec_takes_any_bytes() {
    feed(
        "codec",
        bodies::codec,
        &messages(),
        400,
        steps_min(1_000_000),
    );
}

#[test]
fn a_leader_takes_no_entry_where_the_indexes_end() {
    let before = LogIndex(u64::MAX - 4);
    let setup = setup();
    setup.log.reset_to(LogId::new(Term(1), before));
    let mut solo = setup.hard_state(1, 0, before.0).applied(before.0).start();
    solo.lead();
    solo.propose("last");
    assert!(solo.node.propose("too many".into()).is_err());
    assert_eq!(solo.log.last().index, before.plus(2));
}

#[test]
fn nobody_leads_where_the_indexes_end() {
    let before = LogIndex(u64::MAX - 2);
    let setup = setup();
    setup.log.reset_to(LogId::new(Term(1), before));
    let mut solo = setup.hard_state(1, 0, before.0).applied(before.0).start();
    solo.campaign();
    assert_eq!(solo.node.role(), Role::Follower);
}
