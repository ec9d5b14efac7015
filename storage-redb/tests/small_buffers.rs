//! A write buffer of a few bytes loses nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use raftwerk_raft::{LogId, LogIndex, StateOp, StateStore, Term};
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::fault_vfs::FaultVfs;

fn put(key: &'static str, value: &'static str) -> StateOp {
    StateOp::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
    }
}

#[test]
fn batches_of_no_bytes_move_no_table_out_of_the_world() {
    for write_buffer_bytes in 0..10 {
        let mut options = RedbOptions::new("/state");
        options.write_buffer_bytes = write_buffer_bytes;
        let store = RedbStore::open(Arc::new(FaultVfs::new()), &options).unwrap();
        let batches = [
            vec![put("", "")],
            vec![],
            vec![put("a", "12345")],
            vec![put("b", "")],
            vec![],
            vec![],
            vec![put("c", "1")],
            vec![],
        ];
        for (index, ops) in (1..).zip(&batches) {
            let id = LogId::new(Term(1), LogIndex(index));
            store.write(ops, id).unwrap();
        }
        let view = store.view().unwrap();
        for (key, value) in [("", ""), ("a", "12345"), ("b", ""), ("c", "1")] {
            let found = view.get(key.as_bytes()).unwrap();
            assert_eq!(
                found.as_deref(),
                Some(value.as_bytes()),
                "{key:?} with a buffer of {write_buffer_bytes}"
            );
        }
    }
}
