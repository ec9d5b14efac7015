//! The codec given any value, damaged bytes and arbitrary ones.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use raftwerk_raft::codec::{self, DecodeError};
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Entry,
    EntryKind, ForwardMark, HardState, LogId, LogIndex, Message, NodeId, ProposalDropped,
    ReadDropped, SnapshotMeta, Standing, Term,
};

use crate::{encoded, hex, id};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 100..300_u64, any::<u64>(), Just(u64::MAX)]
}

fn data() -> impl Strategy<Value = Bytes> {
    // Mostly short; some so long that the length takes two bytes.
    prop_oneof![15 => 0..40_usize, 1 => 120..300_usize]
        .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
        .prop_map(Bytes::from)
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (number(), number()).prop_map(|(term, index)| id(term, index))
}

/// Of an entry that exists.
fn real_log_id() -> impl Strategy<Value = LogId> {
    (1..200_u64, 1..1_u64 << 40).prop_map(|(term, index)| id(term, index))
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::Normal),
        Just(EntryKind::ConfChangeSingle),
        Just(EntryKind::ConfChange)
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (any_log_id(), kind(), data()).prop_map(|(id, kind, data)| Entry { id, kind, data })
}

fn any_hard_state() -> impl Strategy<Value = HardState> {
    (number(), number(), number()).prop_map(|(term, vote, commit)| HardState {
        term: Term(term),
        vote: Some(NodeId(vote)).filter(|vote| *vote != NodeId::ZERO),
        commit: LogIndex(commit),
    })
}

fn any_conf_state() -> impl Strategy<Value = ConfState> {
    let list = || {
        let set = prop::collection::btree_set(number().prop_map(|id| NodeId(id.max(1))), 0..6);
        set.prop_map(|set| set.into_iter().collect::<Vec<_>>())
    };
    (list(), list(), list(), list(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    )
}

fn any_conf_change() -> impl Strategy<Value = ConfChange> {
    let kind = prop_oneof![
        Just(ConfChangeKind::AddVoter),
        Just(ConfChangeKind::AddLearner),
        Just(ConfChangeKind::Remove),
        Just(ConfChangeKind::Update),
    ];
    let step = (kind, number()).prop_map(|(kind, id)| ConfChangeStep {
        kind,
        node: NodeId(id),
    });
    let transition = prop_oneof![
        Just(ConfChangeTransition::Auto),
        Just(ConfChangeTransition::JointImplicit),
        Just(ConfChangeTransition::JointExplicit),
    ];
    (transition, prop::collection::vec(step, 0..6), data()).prop_map(
        |(transition, steps, context)| ConfChange {
            transition,
            steps,
            context,
        },
    )
}

fn any_snapshot_meta() -> impl Strategy<Value = SnapshotMeta> {
    (real_log_id(), any_conf_state(), data()).prop_map(|(last, conf_state, context)| SnapshotMeta {
        last,
        conf_state,
        context,
    })
}

fn any_append() -> impl Strategy<Value = Body> {
    let entry = (kind(), data(), 0..2_u64);
    (real_log_id(), number(), prop::collection::vec(entry, 0..6)).prop_map(
        |(prev, commit, parts)| {
            let mut last = prev;
            let entries = parts.into_iter().map(|(kind, data, later)| {
                last = id(last.term.value() + later, last.index.value() + 1);
                Entry {
                    id: last,
                    kind,
                    data,
                }
            });
            Body::Append {
                prev,
                commit: LogIndex(commit),
                entries: entries.collect(),
            }
        },
    )
}

fn any_body() -> impl Strategy<Value = Body> {
    let proposal = (kind(), data()).prop_map(|(kind, data)| Entry {
        id: LogId::ZERO,
        kind,
        data,
    });
    let index = || number().prop_map(LogIndex);
    prop_oneof![
        (any_log_id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|reject| Body::VoteResponse { reject }),
        any_log_id().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|reject| Body::PreVoteResponse { reject }),
        any_append(),
        (index(), prop::option::of(any_log_id()))
            .prop_map(|(index, reject)| Body::AppendResponse { index, reject }),
        (index(), number()).prop_map(|(commit, read_position)| Body::Heartbeat {
            commit,
            read_position
        }),
        index().prop_map(|index| Body::Commit { index }),
        number().prop_map(|read_position| Body::HeartbeatResponse { read_position }),
        any_snapshot_meta().prop_map(|meta| Body::Snapshot { meta: meta.into() }),
        Just(Body::TimeoutNow),
        (number(), prop::collection::vec(proposal, 1..5)).prop_map(|(mark, entries)| {
            Body::Propose {
                mark: ForwardMark(mark),
                entries: entries.into(),
            }
        }),
        (number(), prop::option::of(any_log_id())).prop_map(|(mark, last)| {
            Body::ProposeResponse {
                mark: ForwardMark(mark),
                result: last.ok_or(ProposalDropped::Busy),
            }
        }),
        data().prop_map(|context| Body::ReadIndex { context }),
        (index(), data()).prop_map(|(index, context)| Body::ReadIndexResponse { index, context }),
        any_log_id().prop_map(|last| Body::Committed { last }),
        any_log_id().prop_map(|kept| Body::Lost { kept }),
        any_log_id().prop_map(|last| Body::WantSnapshot { last }),
        data().prop_map(|context| Body::ReadIndexDropped {
            context,
            reason: ReadDropped::Busy,
        }),
        number().prop_map(|index| Body::Acked {
            index: LogIndex(index)
        }),
        number().prop_map(|to| Body::TransferLeader {
            to: NodeId(to.max(1))
        }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    // A term that no entry above exceeds.
    let head = (
        number(),
        number(),
        1000..u64::MAX,
        prop_oneof![Just(0), number().prop_map(|n| n.max(1))],
    );
    let standings = [Standing::Sound, Standing::Voteless, Standing::Uncounted];
    let whole = (head, select(standings.to_vec()), any_body());
    whole.prop_map(|((from, to, term, session), standing, body)| Message {
        from: NodeId(from.max(1)),
        to: NodeId(to.max(1)),
        term: Term(term),
        session,
        standing: match body.kind().is_answer() {
            true => standing,
            false => Standing::Sound,
        },
        body,
    })
}

/// Comes back as it went in, and no part of it is taken for the whole.
fn round_trip<T: Debug + PartialEq>(
    value: &T,
    encode: fn(&T, &mut Vec<u8>),
    decode: fn(Bytes) -> Result<T, DecodeError>,
) -> Result<(), TestCaseError> {
    let bytes = encoded(value, encode);
    let back = decode(bytes.clone());
    prop_assert_eq!(back.as_ref(), Ok(value));
    for len in 0..bytes.len() {
        match decode(bytes.slice(..len)) {
            Err(DecodeError::Truncated) => {}
            // The empty change is no bytes at all.
            Ok(_) if len == 0 => {}
            other => prop_assert!(false, "{} of {} bytes: {:?}", len, bytes.len(), other),
        }
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    if longer.len() > 1 {
        prop_assert_eq!(
            decode(longer.into()),
            Err(DecodeError::Trailing { bytes: 1 })
        );
    }
    Ok(())
}

/// Whatever is accepted has no other encoding.
fn canonical<T: Debug>(
    input: &Bytes,
    encode: fn(&T, &mut Vec<u8>),
    decode: fn(Bytes) -> Result<T, DecodeError>,
) -> Result<(), TestCaseError> {
    if let Ok(value) = decode(input.clone()) {
        prop_assert_eq!(hex(&encoded(&value, encode)), hex(input), "{:?}", value);
    }
    Ok(())
}

fn all_canonical(input: &Bytes) -> Result<(), TestCaseError> {
    canonical(input, codec::encode_message, codec::decode_message)?;
    canonical(input, codec::encode_entry, codec::decode_entry)?;
    canonical(input, codec::encode_hard_state, codec::decode_hard_state)?;
    canonical(input, codec::encode_conf_state, codec::decode_conf_state)?;
    canonical(input, codec::encode_conf_change, codec::decode_conf_change)?;
    canonical(
        input,
        codec::encode_snapshot_meta,
        codec::decode_snapshot_meta,
    )
}

/// How valid bytes are damaged.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: prop::sample::Index, bit: u8 },
    Set { at: prop::sample::Index, byte: u8 },
    Remove { at: prop::sample::Index },
    Insert { at: prop::sample::Index, byte: u8 },
    Cut { at: prop::sample::Index },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set { at, byte }),
        at().prop_map(|at| Damage::Remove { at }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert { at, byte }),
        at().prop_map(|at| Damage::Cut { at }),
    ]
}

fn damaged(bytes: &[u8], damages: Vec<Damage>) -> Bytes {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match damage {
            Damage::Flip { at, bit } => bytes[at.index(len)] ^= 1 << bit,
            Damage::Set { at, byte } => bytes[at.index(len)] = byte,
            Damage::Remove { at } => drop(bytes.drain(at.index(len)..=at.index(len))),
            Damage::Insert { at, byte } => bytes.insert(at.index(len), byte),
            Damage::Cut { at } => bytes.truncate(at.index(len)),
        }
    }
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_back_as_it_went_in(
        entry in any_entry(),
        hard_state in any_hard_state(),
        conf_state in any_conf_state(),
        change in any_conf_change(),
        meta in any_snapshot_meta(),
    ) {
        round_trip(&entry, codec::encode_entry, codec::decode_entry)?;
        prop_assert_eq!(codec::entry_len(&entry), encoded(&entry, codec::encode_entry).len());
        round_trip(&hard_state, codec::encode_hard_state, codec::decode_hard_state)?;
        round_trip(&conf_state, codec::encode_conf_state, codec::decode_conf_state)?;
        round_trip(&change, codec::encode_conf_change, codec::decode_conf_change)?;
        round_trip(&meta, codec::encode_snapshot_meta, codec::decode_snapshot_meta)?;
    }

    #[test]
    fn every_message_comes_back_as_it_went_in(message in any_message()) {
        round_trip(&message, codec::encode_message, codec::decode_message)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_bytes_are_refused_or_mean_exactly_what_they_say(
        message in any_message(),
        change in any_conf_change(),
        meta in any_snapshot_meta(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        all_canonical(&damaged(&encoded(&message, codec::encode_message), damages.clone()))?;
        all_canonical(&damaged(&encoded(&change, codec::encode_conf_change), damages.clone()))?;
        all_canonical(&damaged(&encoded(&meta, codec::encode_snapshot_meta), damages))?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_mean_exactly_what_they_say(
        mut bytes in prop::collection::vec(prop_oneof![0..16_u8, any::<u8>()], 0..64),
        versioned in any::<bool>(),
    ) {
        if let (true, Some(version)) = (versioned, bytes.first_mut()) {
            *version = 1;
        }
        all_canonical(&bytes.into())?;
    }
}
