//! The key space's semantics, entry by entry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Fixture, compare, delete, entry, op, put, puts, range};
use raftwerk_raft::{
    Entry, EntryKind, LogId, LogIndex, SnapshotMeta, SnapshotReader, SnapshotSource, StateMachine,
    Term,
};
use raftwerk_server::kv::{
    Command, KvError, Machine, REQUEST_BYTES_MAX, Refusal, TXN_OPS_MAX, check_delete, check_put,
    check_range, check_txn, is_read_only,
};
use raftwerk_server::proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use raftwerk_server::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use raftwerk_server::proto::etcdserverpb::request_op::Request;
use raftwerk_server::proto::etcdserverpb::response_op::Response;
use raftwerk_server::proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
};
use raftwerk_storage_mem::MemStore;
use raftwerk_storage_redb::{RedbOptions, RedbStore};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs};

fn read(fixture: &Fixture, request: &RangeRequest) -> RangeResponse {
    fixture.machine.reader().range(request).unwrap()
}

fn keys(response: &RangeResponse) -> Vec<&[u8]> {
    response.kvs.iter().map(|kv| kv.key.as_ref()).collect()
}

fn header_revision(header: Option<&raftwerk_server::proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.unwrap().revision
}

#[test]
fn put_counts_revision_and_version() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.machine.reader().revision(), 1);
    assert_eq!(header_revision(fixture.put("a", "1").header.as_ref()), 2);
    fixture.put("b", "1");
    assert_eq!(header_revision(fixture.put("a", "2").header.as_ref()), 4);
    assert_eq!(fixture.dump(), ["a=2@2/4/2", "b=1@3/3/1"]);
    assert_eq!(fixture.machine.reader().revision(), 4);
}

#[test]
fn put_returns_and_keeps_what_was_there_when_asked() {
    let mut fixture = Fixture::new();
    let asking = PutRequest {
        prev_kv: true,
        ..put("a", "1")
    };
    let first: PutResponse = fixture.apply(Command::Put(asking.clone())).unwrap();
    assert_eq!(first.prev_kv, None);
    let second: PutResponse = fixture.apply(Command::Put(asking)).unwrap();
    assert_eq!(second.prev_kv.unwrap().mod_revision, 2);
    let keeping = PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    fixture.apply::<PutResponse>(Command::Put(keeping)).unwrap();
    assert_eq!(fixture.dump(), ["a=1@2/4/3"]);
}

#[test]
fn put_of_nothing_there_or_with_a_lease_is_refused_and_changes_nothing() {
    let mut fixture = Fixture::new();
    let mut refused = |request: PutRequest| {
        fixture
            .apply::<PutResponse>(Command::Put(request))
            .unwrap_err()
    };
    assert_eq!(
        refused(PutRequest {
            ignore_value: true,
            ..put("a", "")
        }),
        Refusal::KeyNotFound
    );
    assert_eq!(
        refused(PutRequest {
            ignore_lease: true,
            ..put("a", "1")
        }),
        Refusal::KeyNotFound
    );
    assert_eq!(
        refused(PutRequest {
            lease: 7,
            ..put("a", "1")
        }),
        Refusal::LeaseNotFound
    );
    assert_eq!(refused(put("", "1")), Refusal::EmptyKey);
    assert_eq!(fixture.dump(), Vec::<String>::new());
    assert_eq!(fixture.machine.reader().revision(), 1);
}

#[test]
fn delete_takes_one_revision_however_many_keys_and_none_without_any() {
    let mut fixture = Fixture::new();
    for key in ["a", "b", "c", "d"] {
        fixture.put(key, "1");
    }
    let gone = fixture.delete("b", "d");
    assert_eq!(
        (gone.deleted, header_revision(gone.header.as_ref())),
        (2, 6)
    );
    let none = fixture.delete("b", "d");
    assert_eq!(
        (none.deleted, header_revision(none.header.as_ref())),
        (0, 6)
    );
    assert_eq!(fixture.delete("z", "").deleted, 0);
    assert_eq!(
        fixture.delete("d", "a").deleted,
        0,
        "a range that ends before it begins is empty"
    );
    assert_eq!(fixture.dump(), ["a=1@2/2/1", "d=1@5/5/1"]);
    let mut asking = delete("\0", "\0");
    asking.prev_kv = true;
    let all = fixture
        .apply::<raftwerk_server::proto::etcdserverpb::DeleteRangeResponse>(Command::Delete(asking))
        .unwrap();
    assert_eq!(all.prev_kvs.len(), 2);
}

#[test]
fn key_deleted_and_put_again_begins_anew() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.delete("a", "");
    fixture.put("a", "3");
    assert_eq!(fixture.dump(), ["a=3@5/5/1"]);
}

#[test]
fn range_counts_all_and_limits_what_it_returns() {
    let mut fixture = Fixture::new();
    for key in ["a", "b", "c", "d"] {
        fixture.put(key, key);
    }
    let limited = read(
        &fixture,
        &RangeRequest {
            limit: 2,
            ..range("b", "\0")
        },
    );
    assert_eq!(
        (keys(&limited), limited.count, limited.more),
        (vec![&b"b"[..], b"c"], 3, true)
    );
    let exact = read(
        &fixture,
        &RangeRequest {
            limit: 3,
            ..range("b", "\0")
        },
    );
    assert_eq!((exact.kvs.len(), exact.count, exact.more), (3, 3, false));
    let counted = read(
        &fixture,
        &RangeRequest {
            count_only: true,
            ..range("a", "d")
        },
    );
    assert_eq!((counted.kvs.len(), counted.count), (0, 3));
    let one = read(
        &fixture,
        &RangeRequest {
            keys_only: true,
            ..range("c", "")
        },
    );
    assert_eq!(
        (keys(&one), one.kvs[0].value.len(), one.count),
        (vec![&b"c"[..]], 0, 1)
    );
    assert_eq!(read(&fixture, &range("nope", "")).count, 0);
    assert_eq!(read(&fixture, &range("d", "b")).count, 0);
}

#[test]
fn range_sorts_by_every_target() {
    let mut fixture = Fixture::new();
    for (key, value) in [
        ("a", "3"),
        ("b", "2"),
        ("c", "1"),
        ("b", "4"),
        ("a", "0"),
        ("a", "9"),
    ] {
        fixture.put(key, value);
    }
    let sorted = |order: SortOrder, target: SortTarget| {
        let request = RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            ..range("\0", "\0")
        };
        let response = read(&fixture, &request);
        let keys: Vec<u8> = response.kvs.iter().map(|kv| kv.key[0]).collect();
        String::from_utf8(keys).unwrap()
    };
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Key), "cba");
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Version), "cba");
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Create), "cba");
    assert_eq!(
        sorted(SortOrder::None, SortTarget::Mod),
        "cba",
        "upwards unless told otherwise"
    );
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Value), "cba");
    assert_eq!(sorted(SortOrder::None, SortTarget::Key), "abc");
}

#[test]
fn limit_cuts_after_sorting() {
    let mut fixture = Fixture::new();
    for key in ["a", "b", "c"] {
        fixture.put(key, key);
    }
    let request = RangeRequest {
        limit: 1,
        sort_order: SortOrder::Descend.into(),
        ..range("\0", "\0")
    };
    let response = read(&fixture, &request);
    assert_eq!(
        (keys(&response), response.more, response.count),
        (vec![&b"c"[..]], true, 3)
    );
}

#[test]
fn range_filters_by_revision_and_still_counts_all() {
    let mut fixture = Fixture::new();
    for key in ["a", "b", "c"] {
        fixture.put(key, key);
    }
    let request = RangeRequest {
        min_mod_revision: 3,
        max_mod_revision: 3,
        ..range("\0", "\0")
    };
    let response = read(&fixture, &request);
    assert_eq!((keys(&response), response.count), (vec![&b"b"[..]], 3));
    let request = RangeRequest {
        max_create_revision: 2,
        limit: 5,
        ..range("\0", "\0")
    };
    assert_eq!(keys(&read(&fixture, &request)), [b"a"]);
}

#[test]
fn only_the_newest_revision_can_be_read() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    fixture.put("a", "2");
    let reader = fixture.machine.reader();
    let at = |revision| {
        reader.range(&RangeRequest {
            revision,
            ..range("a", "")
        })
    };
    assert_eq!(at(3).unwrap().count, 1);
    assert!(matches!(at(2), Err(KvError::Refused(Refusal::Compacted))));
    assert!(matches!(
        at(4),
        Err(KvError::Refused(Refusal::FutureRevision))
    ));
    assert_eq!(reader.hash(3).unwrap(), reader.hash(0).unwrap());
    assert!(matches!(
        reader.hash(2),
        Err(KvError::Refused(Refusal::Compacted))
    ));
    assert!(matches!(
        reader.hash(9),
        Err(KvError::Refused(Refusal::FutureRevision))
    ));
}

#[test]
fn txn_compares_every_target_with_every_result() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let mut fixture = Fixture::new();
    fixture.put("a", "m");
    fixture.put("a", "m");
    let mut holds = |result, operand| fixture.holds(compare("a", result, operand));
    let value = |text: &'static str| TargetUnion::Value(Bytes::from_static(text.as_bytes()));
    assert!(holds(Equal, TargetUnion::Version(2)) && !holds(Equal, TargetUnion::Version(1)));
    assert!(holds(Greater, TargetUnion::CreateRevision(1)));
    assert!(!holds(Greater, TargetUnion::CreateRevision(2)));
    assert!(holds(Less, TargetUnion::ModRevision(4)) && !holds(Less, TargetUnion::ModRevision(3)));
    assert!(holds(NotEqual, value("n")) && !holds(NotEqual, value("m")));
    assert!(holds(Less, value("n")) && holds(Greater, value("")));
    assert!(holds(Equal, TargetUnion::Lease(0)));
}

#[test]
fn absent_key_compares_as_zero_and_never_by_value() {
    let mut fixture = Fixture::new();
    let mut holds = |result, operand| fixture.holds(compare("a", result, operand));
    assert!(holds(CompareResult::Equal, TargetUnion::Version(0)));
    assert!(holds(CompareResult::Less, TargetUnion::CreateRevision(1)));
    assert!(!holds(
        CompareResult::Equal,
        TargetUnion::Value(Bytes::new())
    ));
    assert!(!holds(
        CompareResult::NotEqual,
        TargetUnion::Value(Bytes::from_static(b"x"))
    ));
}

#[test]
fn compare_of_a_range_holds_for_every_key_in_it() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    fixture.put("b", "1");
    fixture.put("b", "1");
    let mut over = compare("a", CompareResult::Greater, TargetUnion::Version(0));
    over.range_end = Bytes::from_static(b"c");
    let mut strict = compare("a", CompareResult::Equal, TargetUnion::Version(1));
    strict.range_end = Bytes::from_static(b"c");
    assert!(fixture.holds(over));
    assert!(!fixture.holds(strict));
}

#[test]
fn txn_is_one_revision_and_sees_its_own_writes() {
    let mut fixture = Fixture::new();
    fixture.put("old", "1");
    let mut before = range("\0", "\0");
    before.revision = 2;
    let mut success = puts(&[("a", "1"), ("b", "2")]);
    success.push(op(Request::RequestRange(range("\0", "\0"))));
    success.push(op(Request::RequestDeleteRange(delete("old", ""))));
    success.push(op(Request::RequestRange(before)));
    let response = fixture
        .txn(TxnRequest {
            success,
            ..TxnRequest::default()
        })
        .unwrap();
    assert!(response.succeeded);
    assert_eq!(header_revision(response.header.as_ref()), 3);
    let ranges: Vec<_> = response
        .responses
        .iter()
        .filter_map(|response| match &response.response {
            Some(Response::ResponseRange(range)) => Some((range.count, range.header.unwrap())),
            _ => None,
        })
        .collect();
    assert_eq!(ranges[0].0, 3, "both new keys and the old one");
    assert_eq!(ranges[1].0, 1, "as it was before the transaction");
    assert_eq!(ranges[0].1.revision, 3);
    assert_eq!(fixture.dump(), ["a=1@3/3/1", "b=2@3/3/1"]);
}

#[test]
fn refused_txn_leaves_nothing() {
    let mut fixture = Fixture::new();
    fixture.put("k", "1");
    let late = |request| TxnRequest {
        success: puts(&[("a", "1")])
            .into_iter()
            .chain([op(request)])
            .collect(),
        ..TxnRequest::default()
    };
    let missing = PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    let cases = [
        (late(Request::RequestPut(missing)), Refusal::KeyNotFound),
        (
            late(Request::RequestRange(RangeRequest {
                revision: 1,
                ..range("k", "")
            })),
            Refusal::Compacted,
        ),
        (
            late(Request::RequestRange(RangeRequest {
                revision: 99,
                ..range("k", "")
            })),
            Refusal::FutureRevision,
        ),
        (
            late(Request::RequestPut(PutRequest {
                lease: 1,
                ..put("l", "")
            })),
            Refusal::LeaseNotFound,
        ),
    ];
    for (request, refusal) in cases {
        assert_eq!(fixture.txn(request).unwrap_err(), refusal);
        assert_eq!(fixture.dump(), ["k=1@2/2/1"]);
    }
    assert_eq!(fixture.machine.reader().revision(), 2);
}

#[test]
fn nested_txn_decides_before_anything_is_written() {
    let mut fixture = Fixture::new();
    let inner = TxnRequest {
        compare: vec![compare("a", CompareResult::Equal, TargetUnion::Version(0))],
        success: puts(&[("inner", "absent")]),
        failure: puts(&[("inner", "present")]),
    };
    let mut success = puts(&[("a", "1")]);
    success.push(op(Request::RequestTxn(inner)));
    fixture
        .txn(TxnRequest {
            success,
            ..TxnRequest::default()
        })
        .unwrap();
    assert_eq!(fixture.dump(), ["a=1@2/2/1", "inner=absent@2/2/1"]);
}

#[test]
fn requests_are_refused_by_their_form() {
    assert_eq!(check_range(&range("", "")), Err(Refusal::EmptyKey));
    for request in [
        RangeRequest {
            sort_order: 3,
            ..range("a", "")
        },
        RangeRequest {
            sort_target: -1,
            ..range("a", "")
        },
    ] {
        assert_eq!(check_range(&request), Err(Refusal::InvalidSort));
    }
    assert_eq!(check_put(&put("", "1")), Err(Refusal::EmptyKey));
    assert_eq!(check_delete(&delete("", "")), Err(Refusal::EmptyKey));
    let both = PutRequest {
        ignore_value: true,
        ..put("a", "1")
    };
    assert_eq!(check_put(&both), Err(Refusal::ValueProvided));
    let both = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("a", "1")
    };
    assert_eq!(check_put(&both), Err(Refusal::LeaseProvided));
    let large = PutRequest {
        value: vec![0; REQUEST_BYTES_MAX].into(),
        ..put("a", "")
    };
    assert_eq!(check_put(&large), Err(Refusal::RequestTooLarge));
    let fits = PutRequest {
        value: vec![0; REQUEST_BYTES_MAX - 16].into(),
        ..put("a", "")
    };
    assert_eq!(check_put(&fits), Ok(()));
}

#[test]
fn txn_is_refused_when_it_writes_a_key_twice() {
    let txn = |success| TxnRequest {
        success,
        ..TxnRequest::default()
    };
    let nested = |success, failure| {
        op(Request::RequestTxn(TxnRequest {
            success,
            failure,
            ..TxnRequest::default()
        }))
    };
    let erase = |key, end| op(Request::RequestDeleteRange(delete(key, end)));
    let with = |mut ops: Vec<_>, op| {
        ops.push(op);
        ops
    };
    let duplicates = [
        puts(&[("a", "1"), ("a", "2")]),
        with(puts(&[("b", "1")]), erase("a", "c")),
        with(puts(&[("a", "1")]), nested(puts(&[("a", "2")]), Vec::new())),
        vec![
            nested(vec![erase("a", "")], Vec::new()),
            puts(&[("a", "1")]).remove(0),
        ],
        vec![
            nested(puts(&[("a", "1")]), Vec::new()),
            nested(Vec::new(), puts(&[("a", "1")])),
        ],
    ];
    for ops in duplicates {
        assert_eq!(
            check_txn(&txn(ops.clone())),
            Err(Refusal::DuplicateKey),
            "{ops:?}"
        );
    }
    let allowed = [
        vec![erase("a", "c"), erase("a", "c")],
        vec![nested(puts(&[("a", "1")]), puts(&[("a", "2")]))],
        with(puts(&[("c", "1")]), erase("a", "c")),
    ];
    for ops in allowed {
        assert_eq!(check_txn(&txn(ops.clone())), Ok(()), "{ops:?}");
    }
}

#[test]
fn txn_is_refused_when_it_has_too_many_operations_or_an_empty_one() {
    let many = |count| TxnRequest {
        success: (0..count)
            .map(|n| op(Request::RequestPut(put(&n.to_string(), ""))))
            .collect(),
        ..TxnRequest::default()
    };
    assert_eq!(check_txn(&many(TXN_OPS_MAX)), Ok(()));
    assert_eq!(check_txn(&many(TXN_OPS_MAX + 1)), Err(Refusal::TooManyOps));
    let mut nested = many(TXN_OPS_MAX - 1);
    nested.success.push(op(Request::RequestTxn(many(1))));
    assert_eq!(check_txn(&nested), Err(Refusal::TooManyOps));
    let empty = TxnRequest {
        success: vec![raftwerk_server::proto::etcdserverpb::RequestOp { request: None }],
        ..TxnRequest::default()
    };
    assert_eq!(check_txn(&empty), Err(Refusal::KeyNotFound));
    assert!(is_read_only(&TxnRequest::default()) && !is_read_only(&many(1)));
}

#[test]
fn entries_that_are_no_commands_only_move_the_applied_index() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    let change = Entry {
        kind: EntryKind::ConfChange,
        ..entry(3, Bytes::from_static(b"not a command"))
    };
    let mut out = Vec::new();
    fixture
        .machine
        .apply(&[entry(2, Bytes::new()), change], &mut out)
        .unwrap();
    assert_eq!(out, [Bytes::new(), Bytes::new()]);
    assert_eq!(fixture.machine.persist().unwrap().index, LogIndex(3));
    assert_eq!(fixture.dump(), ["a=1@2/2/1"]);
}

#[test]
fn entry_applied_twice_has_no_second_effect() {
    let mut fixture = Fixture::new();
    let first = Command::Put(put("a", "1"));
    fixture.apply_all(&[first.clone(), first]);
    let mut out = Vec::new();
    let again = entry(2, Command::Put(put("a", "1")).encode());
    let next = entry(3, Command::Put(put("a", "1")).encode());
    fixture.machine.apply(&[again, next], &mut out).unwrap();
    assert_eq!(fixture.dump(), ["a=1@2/4/3"]);
}

#[test]
fn gap_or_unknown_command_halts() {
    let mut fixture = Fixture::new();
    let mut out = Vec::new();
    let halt = fixture
        .machine
        .apply(&[entry(2, Bytes::new())], &mut out)
        .unwrap_err();
    assert!(halt.to_string().contains("does not follow"), "{halt}");
    let newer = entry(1, Bytes::from_static(b"\x09\x01body"));
    let halt = fixture.machine.apply(&[newer], &mut out).unwrap_err();
    assert!(halt.to_string().contains("newer version"), "{halt}");
    assert_eq!(fixture.machine.reader().revision(), 1);
}

/// The same commands, drawn from a seed.
fn history(seed: u64, length: u64) -> Vec<Command> {
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..length)
        .map(|number| {
            let key = format!("k{}", draw(12));
            let value = format!("v{number}");
            match draw(10) {
                0 => Command::Delete(delete(&key, "")),
                1 => Command::Delete(delete(&key, &format!("k{}", draw(12)))),
                2 | 3 => {
                    let version = i64::try_from(draw(3)).unwrap();
                    let mut success = puts(&[(&key, &value)]);
                    success.push(op(Request::RequestRange(range("\0", "\0"))));
                    Command::Txn(TxnRequest {
                        compare: vec![compare(
                            &key,
                            CompareResult::Equal,
                            TargetUnion::Version(version),
                        )],
                        success,
                        failure: vec![op(Request::RequestDeleteRange(delete(&key, "k7")))],
                    })
                }
                4 => Command::Put(PutRequest {
                    ignore_value: true,
                    ..put(&key, "")
                }),
                _ => Command::Put(PutRequest {
                    prev_kv: true,
                    ..put(&key, &value)
                }),
            }
        })
        .collect()
}

#[test]
fn batches_of_any_size_lead_to_the_same_state_and_answers() {
    for seed in 1..20 {
        let commands = history(seed, 200);
        let mut single = Fixture::new();
        let answers: Vec<_> = commands
            .iter()
            .flat_map(|command| single.apply_all(std::slice::from_ref(command)))
            .collect();
        for size in [2, 7, 200] {
            let mut batched = Fixture::new();
            let batched_answers: Vec<_> = commands
                .chunks(size)
                .flat_map(|chunk| batched.apply_all(chunk))
                .collect();
            assert_eq!(answers, batched_answers, "seed {seed}, batches of {size}");
            assert_eq!(single.dump(), batched.dump());
            let hash = |fixture: &Fixture| fixture.machine.reader().hash(0).unwrap();
            assert_eq!(hash(&single), hash(&batched));
        }
    }
}

#[test]
fn hash_tells_any_difference() {
    let mut one = Fixture::new();
    let mut other = Fixture::new();
    one.put("a", "1");
    other.put("a", "2");
    let hash = |fixture: &Fixture| fixture.machine.reader().hash(0).unwrap();
    assert_eq!(hash(&one).revision, hash(&other).revision);
    assert_ne!(hash(&one).hash, hash(&other).hash);
}

struct Incoming(Box<dyn SnapshotSource>);

impl SnapshotReader for Incoming {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

#[test]
fn snapshot_carries_the_whole_state_to_another_store() {
    let mut fixture = Fixture::new();
    fixture.apply_all(&history(3, 100));
    let source = fixture.machine.snapshot().unwrap();
    let last = source.applied();
    fixture.put("after", "1");

    let vfs = FaultVfs::new();
    let store = RedbStore::open(Arc::new(vfs), &RedbOptions::new("/state")).unwrap();
    let mut other = Fixture::over(Arc::new(store));
    let meta = SnapshotMeta {
        last,
        ..SnapshotMeta::default()
    };
    other.machine.restore(&meta, &mut Incoming(source)).unwrap();
    assert_eq!(other.machine.applied(), last);
    other.next = last.index.0 + 1;
    other.put("after", "1");
    assert_eq!(fixture.dump(), other.dump());

    let wrong = SnapshotMeta {
        last: LogId::new(Term(9), LogIndex(9)),
        ..SnapshotMeta::default()
    };
    let source = fixture.machine.snapshot().unwrap();
    assert!(
        other
            .machine
            .restore(&wrong, &mut Incoming(source))
            .is_err()
    );
}

#[test]
fn replay_after_a_crash_leads_to_the_same_state() {
    let commands = history(5, 120);
    let mut whole = Fixture::new();
    whole.apply_all(&commands);
    let vfs = FaultVfs::new();
    let open = |vfs: &FaultVfs| -> Arc<RedbStore> {
        Arc::new(RedbStore::open(Arc::new(vfs.clone()), &RedbOptions::new("/state")).unwrap())
    };
    let mut fixture = Fixture::over(open(&vfs));
    fixture.apply_all(&commands[..50]);
    fixture.machine.persist().unwrap();
    fixture.apply_all(&commands[50..90]);
    let left = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let mut replayed = Fixture::over(open(&left));
    assert_eq!(replayed.machine.applied().index, LogIndex(50));
    replayed.apply_all(&commands[50..]);
    assert_eq!(whole.dump(), replayed.dump());
}

#[test]
fn store_of_an_unknown_format_is_refused() {
    use raftwerk_raft::{StateOp, StateStore};
    let store = MemStore::new();
    let op = StateOp::Put {
        key: Bytes::from_static(b"\x01revision"),
        value: Bytes::from_static(b"\x02whatever"),
    };
    store.write(&[op], LogId::ZERO).unwrap();
    assert!(Machine::new(Arc::new(store)).is_err());
}
