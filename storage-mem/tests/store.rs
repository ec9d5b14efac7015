//! The state store: atomic with the applied id, views that never change, restores that are whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use raftwerk_raft::{
    KeyRange, LogId, LogIndex, ScanOrder, SnapshotReader, SnapshotSource, StateOp, StateStore,
    Term, View,
};
use raftwerk_storage_mem::MemStore;

const EVERYTHING: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

fn id(index: u64) -> LogId {
    LogId::new(Term(1), LogIndex(index))
}

fn put(key: &str, value: &str) -> StateOp {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    StateOp::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn delete_range(start: &'static str, end: &'static str) -> StateOp {
    StateOp::DeleteRange {
        start: Bytes::from(start),
        end: Bytes::from(end),
    }
}

fn listed(view: &dyn View, range: KeyRange<'_>, order: ScanOrder) -> String {
    let mut out = Vec::new();
    view.scan(range, order, &mut |key, value| {
        out.extend([key, b"=", value, b" "].concat());
        ControlFlow::Continue(())
    })
    .unwrap();
    String::from_utf8(out).unwrap()
}

fn all(store: &MemStore) -> String {
    listed(
        store.view().unwrap().as_ref(),
        EVERYTHING,
        ScanOrder::Ascending,
    )
}

fn filled() -> MemStore {
    let store = MemStore::new();
    let ops = [put("a", "1"), put("b", "2"), put("c", "3"), put("d", "4")];
    store.write(&ops, id(4)).unwrap();
    store
}

#[test]
fn operations_of_one_write_take_effect_in_order() {
    let store = filled();
    let ops = [
        put("b", "9"),
        delete_range("b", "d"),
        put("c", "5"),
        StateOp::Delete {
            key: Bytes::from("d"),
        },
        StateOp::Delete {
            key: Bytes::from("absent"),
        },
        delete_range("z", "a"),
    ];
    store.write(&ops, id(5)).unwrap();
    assert_eq!(all(&store), "a=1 c=5 ");
    let view = store.view().unwrap();
    assert_eq!(view.applied(), id(5));
    assert_eq!(view.get(b"c").unwrap(), Some(Bytes::from("5")));
    assert_eq!(view.get(b"b").unwrap(), None);
    assert_eq!(store.stats().unwrap().live_bytes, 4);
}

#[test]
fn view_does_not_change_under_later_writes() {
    let store = filled();
    let view = store.view().unwrap();
    store
        .write(&[delete_range("a", "d"), put("e", "6")], id(5))
        .unwrap();
    drop(store);
    assert_eq!(
        listed(view.as_ref(), EVERYTHING, ScanOrder::Ascending),
        "a=1 b=2 c=3 d=4 "
    );
    assert_eq!(view.applied(), id(4));
}

#[test]
fn scan_keeps_to_its_range_order_and_end() {
    let store = filled();
    let view = store.view().unwrap();
    let range = (
        Bound::Excluded(b"a".as_slice()),
        Bound::Included(b"c".as_slice()),
    );
    assert_eq!(
        listed(view.as_ref(), range, ScanOrder::Ascending),
        "b=2 c=3 "
    );
    assert_eq!(
        listed(view.as_ref(), range, ScanOrder::Descending),
        "c=3 b=2 "
    );
    let mut seen = 0;
    view.scan(EVERYTHING, ScanOrder::Descending, &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn crash_goes_back_to_the_last_durable_point_whole() {
    let store = filled();
    assert_eq!(store.durable_applied().unwrap(), LogId::ZERO);
    assert_eq!(store.persist().unwrap(), id(4));
    store.write(&[put("a", "lost")], id(5)).unwrap();
    assert_eq!(store.durable_applied().unwrap(), id(4));
    let store = store.crash();
    assert_eq!(all(&store), "a=1 b=2 c=3 d=4 ");
    assert_eq!(store.view().unwrap().applied(), id(4));
}

struct Pipe(Box<dyn SnapshotSource>, u64);

impl SnapshotReader for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(usize::try_from(self.1).unwrap());
        let count = self.0.read(&mut out[..most])?;
        self.1 -= count as u64;
        Ok(count)
    }
}

#[test]
fn restore_replaces_everything_and_is_durable() {
    let source = filled().checkpoint().unwrap();
    assert_eq!(source.applied(), id(4));
    let store = MemStore::new();
    store.write(&[put("x", "old")], id(9)).unwrap();
    assert_eq!(store.restore(&mut Pipe(source, u64::MAX)).unwrap(), id(4));
    let store = store.crash();
    assert_eq!(all(&store), "a=1 b=2 c=3 d=4 ");
    assert_eq!(store.durable_applied().unwrap(), id(4));
}

#[test]
fn broken_restore_leaves_the_old_state() {
    let store = MemStore::new();
    store.write(&[put("x", "old")], id(9)).unwrap();
    for cut in [0, 10, 40, 60, 100] {
        let source = filled().checkpoint().unwrap();
        assert!(
            store.restore(&mut Pipe(source, cut)).is_err(),
            "cut at {cut}"
        );
        assert_eq!(all(&store), "x=old ");
        assert_eq!(store.view().unwrap().applied(), id(9));
    }
}

#[test]
fn failed_sync_makes_nothing_durable_from_there_on() {
    let store = filled();
    store.persist().unwrap();
    store.write(&[put("a", "lost")], id(5)).unwrap();
    store.fail_next_sync("bad sector");
    for _ in 0..2 {
        assert!(store.persist().is_err());
        assert!(
            store
                .restore(&mut Pipe(filled().checkpoint().unwrap(), u64::MAX))
                .is_err()
        );
    }
    assert_eq!(store.durable_applied().unwrap(), id(4));
    assert_eq!(all(&store), "a=lost b=2 c=3 d=4 ");
    let store = store.crash();
    assert_eq!(all(&store), "a=1 b=2 c=3 d=4 ");
    assert_eq!(store.persist().unwrap(), id(4));
}

#[test]
fn checkpoints_keep_their_bytes() {
    let mut stream = filled().checkpoint().unwrap();
    let mut found = vec![0; 256];
    let mut len = 0;
    loop {
        match stream.read(&mut found[len..]).unwrap() {
            0 => break,
            count => len += count,
        }
    }
    let expected = b"RWKSTATE\x01\0\0\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0j\x8c\xdd\xc9\
        \x01\0\0\0\0\0\0\0\0(\0\0\0\xd6\x18d\xb7\
        \x01\0\0\0\x01\0\0\0a1\x01\0\0\0\x01\0\0\0b2\
        \x01\0\0\0\x01\0\0\0c3\x01\0\0\0\x01\0\0\0d4\xf2\xb1$$\
        \x02\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\xd4\x88\xf8\x91^h\xdc\xde";
    assert_eq!(Bytes::copy_from_slice(&found[..len]), expected.as_slice());
}
