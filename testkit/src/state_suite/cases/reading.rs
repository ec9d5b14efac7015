//! Writing and reading in one life.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use raftwerk_raft::{LogId, ScanOrder, StateOp};

use crate::dice::Dice;
use crate::state_suite::home::StateFactory;
use crate::state_suite::model::{everything, scan};
use crate::state_suite::session::{Session, delete, delete_range, id, numbered, put};

pub(super) fn new_store_is_empty_with_nothing_applied(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.verify();
    assert_eq!(session.store().durable_applied().unwrap(), LogId::ZERO);
    assert_eq!(session.store().view().unwrap().get(b"key").unwrap(), None);
    assert_eq!(session.store().persist().unwrap(), LogId::ZERO);
    session.reopen();
}

pub(super) fn batch_is_visible_with_its_applied_id(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    for round in 1..20 {
        session.write(&numbered(round..round + 5, round));
        session.verify();
    }
    session.reopen();
}

pub(super) fn operations_take_effect_in_their_order(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&[
        put("a", "1"),
        put("a", "2"),
        put("b", "1"),
        delete("b"),
        delete("missing"),
    ]);
    session.verify();
    session.write(&[delete("a"), put("a", "3"), put("c", "1"), put("d", "1")]);
    session.verify();
    session.write(&[
        delete_range("a", "d"),
        put("b", "4"),
        delete_range("bb", "z"),
        put("e", "5"),
    ]);
    session.verify();
    session.reopen();
}

pub(super) fn batch_without_operations_moves_the_applied_id(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&[put("a", "1")]);
    session.write(&[]);
    session.verify();
    assert_eq!(session.store().view().unwrap().applied(), id(2));
    session.reopen();
    session.write(&[]);
    session.reopen();
}

pub(super) fn view_keeps_its_moment(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..50, 1));
    let (before, model) = (session.store().view().unwrap(), session.model().clone());
    session.write(&numbered(20..70, 2));
    session.write(&[delete_range("key-00000", "key-00030")]);
    model.compare_view(&*before).unwrap();
    let (between, model_between) = (session.store().view().unwrap(), session.model().clone());
    session.persist();
    session.write(&numbered(0..5, 3));
    session.persist();
    model.compare_view(&*before).unwrap();
    model_between.compare_view(&*between).unwrap();
    drop((before, between));
    session.reopen();
}

pub(super) fn scan_honours_bounds_and_order(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    let keys: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"];
    let ops: Vec<StateOp> = keys
        .iter()
        .rev()
        .map(|key| put(key, [b"of ", *key].concat()))
        .collect();
    session.write(&ops);
    let view = session.store().view().unwrap();
    let bounds = || {
        let at = keys
            .iter()
            .flat_map(|key| [Bound::Included(*key), Bound::Excluded(*key)]);
        at.chain([Bound::Unbounded])
    };
    for from in bounds() {
        for to in bounds() {
            let inside = |key: &&[u8]| {
                let above = match from {
                    Bound::Included(bound) => *key >= bound,
                    Bound::Excluded(bound) => *key > bound,
                    Bound::Unbounded => true,
                };
                above
                    && match to {
                        Bound::Included(bound) => *key <= bound,
                        Bound::Excluded(bound) => *key < bound,
                        Bound::Unbounded => true,
                    }
            };
            let entry = |key: &[u8]| {
                (
                    Bytes::copy_from_slice(key),
                    Bytes::from([b"of ", key].concat()),
                )
            };
            let mut wanted: Vec<_> = keys.into_iter().filter(inside).map(entry).collect();
            assert_eq!(
                scan(&*view, from, to, ScanOrder::Ascending),
                wanted,
                "{from:?}..{to:?}"
            );
            wanted.reverse();
            assert_eq!(
                scan(&*view, from, to, ScanOrder::Descending),
                wanted,
                "{from:?}..{to:?}"
            );
        }
    }
}

pub(super) fn scan_ends_where_the_visitor_breaks(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..500, 1));
    let view = session.store().view().unwrap();
    for order in [ScanOrder::Ascending, ScanOrder::Descending] {
        for limit in [1, 2, 100, 499] {
            let mut seen = 0;
            view.scan((Bound::Unbounded, Bound::Unbounded), order, &mut |_, _| {
                seen += 1;
                if seen == limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
            assert_eq!(seen, limit, "{order:?}");
        }
    }
}

pub(super) fn range_removal_takes_the_half_open_range(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..300, 1));
    let ranges = [
        ("key-00010", "key-00020"),
        ("key-00020", "key-00020"),
        ("key-00030", "key-00025"),
        ("key-00040\0", "key-00042"),
        ("nothing", "nowhere"),
        ("", "key-00001"),
        ("key-00290", "\u{7f}"),
    ];
    for (start, end) in ranges {
        session.write(&[delete_range(start, end)]);
        session.verify();
    }
    session.reopen();
    session.write(&[delete_range("", [0xff; 20])]);
    session.verify();
    assert_eq!(everything(&*session.store().view().unwrap()), []);
    session.reopen();
}

pub(super) fn keys_and_values_of_all_sizes_come_back(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    let mut dice = Dice::new(7);
    let mut random =
        |len: usize| -> Vec<u8> { (0..len).map(|_| dice.next().to_le_bytes()[5]).collect() };
    for (number, len) in [0, 1, 100, 4096, 65_537, 1 << 20].into_iter().enumerate() {
        session.write(&[put(format!("value {number}"), random(len))]);
    }
    for len in [0, 1, 255, 256, 1000, 4000] {
        session.write(&[put(random(len), "of a key")]);
    }
    session.verify();
    session.reopen();
}

pub(super) fn stats_follow_the_contents(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    let empty = session.store().stats().unwrap();
    let ops: Vec<StateOp> = (0..256)
        .map(|key| put(format!("key {key}"), vec![b'x'; 4096]))
        .collect();
    session.write(&ops);
    session.persist();
    let full = session.store().stats().unwrap();
    assert!(
        full.live_bytes >= empty.live_bytes + (1 << 20),
        "{empty:?}, then {full:?}"
    );
    assert!(full.allocated_bytes >= full.live_bytes, "{full:?}");
    session.write(&[delete_range("", [0xff])]);
    session.persist();
    let after = session.store().stats().unwrap();
    assert!(
        after.live_bytes < full.live_bytes - (1 << 19),
        "{full:?}, then {after:?}"
    );
}

pub(super) fn views_are_whole_while_others_write(factory: &dyn StateFactory) {
    const ROUNDS: u64 = 150;
    let mut session = Session::begin(factory);
    let done = AtomicBool::new(false);
    let store = Arc::clone(session.store());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = LogId::ZERO;
                while !done.load(Ordering::Acquire) {
                    let view = store.view().expect("view");
                    let applied = view.applied();
                    assert!(applied >= before, "{applied} after {before}");
                    before = applied;
                    let round = applied.index.0;
                    let wanted = (round > 0).then(|| Bytes::from(round.to_string()));
                    assert_eq!(view.get(b"first").expect("get"), wanted);
                    assert_eq!(view.get(b"last").expect("get"), wanted);
                }
            });
        }
        for round in 1..=ROUNDS {
            let said = round.to_string();
            session.write(&[
                put("first", &said),
                put(format!("of {said}"), ""),
                put("last", &said),
            ]);
            if round % 20 == 0 {
                session.persist();
            }
        }
        done.store(true, Ordering::Release);
    });
    session.verify();
}
