//! Which writes a group takes, and what they do to it: the same for every backend.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::{
    Entry, GroupId, GroupWrite, HardState, LogError, LogHealth, LogId, LogIndex, META_BYTES_MAX,
    NodeId, SnapshotMeta, SubmitError, Term, WriteBatch,
};
use raftwerk_storage::image::{GroupImage, check_batch};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

fn entries(term: u64, range: Range<u64>) -> Vec<Entry> {
    range
        .map(|index| Entry::normal(id(term, index), Bytes::from_static(b"x")))
        .collect()
}

fn append(term: u64, range: Range<u64>) -> GroupWrite {
    GroupWrite {
        append: entries(term, range),
        ..GroupWrite::default()
    }
}

fn at(term: u64, index: u64) -> Option<SnapshotMeta> {
    Some(SnapshotMeta {
        last: id(term, index),
        ..SnapshotMeta::default()
    })
}

fn snapshot(term: u64, index: u64) -> GroupWrite {
    GroupWrite {
        snapshot: at(term, index),
        ..GroupWrite::default()
    }
}

fn reset(term: u64, index: u64) -> GroupWrite {
    GroupWrite {
        reset_to: at(term, index),
        ..GroupWrite::default()
    }
}

fn compact(to: u64) -> GroupWrite {
    GroupWrite {
        compact_to: Some(LogIndex(to)),
        ..GroupWrite::default()
    }
}

fn vote(term: u64, vote: Option<u64>, commit: u64) -> GroupWrite {
    let vote = vote.map(NodeId);
    let hard_state = Some(HardState {
        term: Term(term),
        vote,
        commit: LogIndex(commit),
    });
    GroupWrite {
        hard_state,
        ..GroupWrite::default()
    }
}

fn meta(name: &[u8], value: Option<Vec<u8>>) -> GroupWrite {
    let meta = vec![(Bytes::copy_from_slice(name), value.map(Bytes::from))];
    GroupWrite {
        meta,
        ..GroupWrite::default()
    }
}

fn write(image: &mut GroupImage, write: &GroupWrite) {
    image.check(write).unwrap();
    image.apply(write);
}

/// Entries 1 to 10 (terms 1 to 5: term 1; then 2), a snapshot at 6, compacted to 4.
fn filled() -> GroupImage {
    let mut image = GroupImage::default();
    write(&mut image, &append(1, 1..6));
    write(&mut image, &append(2, 6..11));
    write(
        &mut image,
        &GroupWrite {
            compact_to: Some(LogIndex(4)),
            ..snapshot(2, 6)
        },
    );
    write(&mut image, &vote(2, Some(1), 6));
    image
}

fn refused(image: &GroupImage, write: &GroupWrite) -> String {
    let before = image.clone();
    let reason = image.check(write).unwrap_err();
    assert_eq!(*image, before);
    reason
}

#[test]
fn new_group_is_empty_and_blank() {
    let image = GroupImage::default();
    assert!(image.is_blank());
    assert_eq!((image.first(), image.last()), (LogIndex(1), LogId::ZERO));
    assert_eq!(image.term(LogIndex(0)), Ok(Term(0)));
    assert!(!filled().is_blank());
}

#[test]
fn gap_is_refused_and_one_behind_the_last_is_not() {
    let image = filled();
    assert!(refused(&image, &append(2, 12..13)).contains("gap"));
    assert_eq!(image.check(&append(2, 11..12)), Ok(()));
    assert!(refused(&GroupImage::default(), &append(1, 2..3)).contains("gap"));
}

#[test]
fn append_must_be_contiguous_and_its_terms_must_not_fall() {
    let image = filled();
    let mut holed = append(2, 11..14);
    holed.append.remove(1);
    refused(&image, &holed);
    refused(&image, &append(1, 11..12));
    refused(&image, &append(1, 7..8));
    let mut falling = append(4, 11..12);
    falling.append.extend(entries(3, 12..13));
    refused(&image, &falling);
}

#[test]
fn conflicting_append_truncates_but_never_below_the_snapshot() {
    let mut image = filled();
    refused(&image, &append(3, 4..5));
    refused(&image, &append(3, 6..7));
    write(&mut image, &append(3, 7..9));
    assert_eq!(image.last(), id(3, 8));
    assert_eq!(image.term(LogIndex(6)), Ok(Term(2)));
    assert_eq!(
        image.term(LogIndex(9)),
        Err(LogError::Unavailable { last: LogIndex(8) })
    );
}

#[test]
fn compaction_stops_at_the_newest_snapshot_of_this_write_or_before() {
    let mut image = filled();
    refused(&image, &compact(7));
    refused(&GroupImage::default(), &compact(1));
    write(&mut image, &compact(3));
    assert_eq!(
        image.first(),
        LogIndex(5),
        "what is compacted already is no error"
    );
    write(
        &mut image,
        &GroupWrite {
            compact_to: Some(LogIndex(10)),
            ..snapshot(2, 10)
        },
    );
    assert_eq!((image.first(), image.last()), (LogIndex(11), id(2, 10)));
    assert_eq!(image.term(LogIndex(10)), Ok(Term(2)));
    assert_eq!(
        image.term(LogIndex(9)),
        Err(LogError::Compacted {
            first: LogIndex(11)
        })
    );
    write(&mut image, &append(2, 11..12));
}

#[test]
fn snapshot_must_stand_in_the_log_and_not_behind_the_last_one() {
    let image = filled();
    for (term, index) in [(1, 5), (1, 6), (2, 11), (3, 8)] {
        refused(&image, &snapshot(term, index));
    }
    for (term, index) in [(2, 6), (2, 7), (2, 10)] {
        assert_eq!(image.check(&snapshot(term, index)), Ok(()));
    }
    // The first snapshot of a group that was never written: who its members are.
    assert_eq!(GroupImage::default().check(&snapshot(0, 0)), Ok(()));
}

#[test]
fn snapshot_does_not_cover_what_the_same_write_appends() {
    let image = filled();
    refused(
        &image,
        &GroupWrite {
            snapshot: at(2, 11),
            ..append(2, 11..12)
        },
    );
}

#[test]
fn reset_empties_the_log_just_behind_the_snapshot() {
    for (term, index) in [(2, 6), (3, 8), (5, 100)] {
        let mut image = filled();
        write(&mut image, &reset(term, index));
        let last = id(term, index);
        assert_eq!((image.first(), image.last()), (last.index.next(), last));
        assert_eq!(image.term(last.index), Ok(last.term));
        assert_eq!(image.snapshot().unwrap().last, last);
        assert_eq!(image.hard_state(), filled().hard_state());
        write(&mut image, &append(term, index + 1..index + 3));
    }
}

#[test]
fn reset_behind_the_recorded_snapshot_is_refused() {
    let image = filled();
    for (term, index) in [(2, 5), (3, 6), (1, 20), (9, u64::MAX)] {
        refused(&image, &reset(term, index));
    }
}

#[test]
fn parts_take_effect_in_order() {
    let mut image = filled();
    write(&mut image, &meta(b"old", Some(vec![1])));
    let again = GroupWrite {
        destroy: true,
        reset_to: at(1, 3),
        append: entries(1, 4..8),
        compact_to: Some(LogIndex(3)),
        ..vote(1, Some(2), 3)
    };
    write(&mut image, &again);
    let state = image.state();
    assert_eq!((state.first, state.last), (LogIndex(4), id(1, 7)));
    assert_eq!(
        state.hard_state.term,
        Term(1),
        "a destroyed group begins anew"
    );
    assert!(state.meta.is_empty());
    write(
        &mut image,
        &GroupWrite {
            destroy: true,
            ..GroupWrite::default()
        },
    );
    assert!(image.is_blank());
}

#[test]
fn hard_state_never_goes_back_and_a_vote_is_given_once_a_term() {
    let image = filled();
    refused(&image, &vote(1, Some(1), 6));
    refused(&image, &vote(2, Some(2), 6));
    refused(&image, &vote(2, None, 6));
    for write in [
        vote(2, Some(1), 0),
        vote(2, Some(1), 99),
        vote(3, None, 6),
        vote(3, Some(2), 6),
    ] {
        assert_eq!(image.check(&write), Ok(()));
    }
    let mut image = GroupImage::default();
    write(&mut image, &vote(1, None, 0));
    write(&mut image, &vote(1, Some(3), 0));
}

#[test]
fn named_values_are_set_removed_and_bounded() {
    let mut image = GroupImage::default();
    let most = META_BYTES_MAX - 1;
    refused(&image, &meta(b"n", Some(vec![0; most + 1])));
    write(&mut image, &meta(b"n", Some(vec![0; most])));
    write(&mut image, &meta(b"n", Some(vec![1; most])));
    refused(&image, &meta(b"m", Some(Vec::new())));
    // What goes in the same write makes room, since only the result counts.
    let mut swap = meta(b"m", Some(vec![2]));
    swap.meta.push((Bytes::from_static(b"n"), None));
    write(&mut image, &swap);
    let wanted = [(Bytes::from_static(b"m"), Bytes::from_static(&[2]))];
    assert_eq!(image.state().meta, wanted);
}

#[test]
fn group_stands_in_a_batch_once() {
    let step = GroupWrite {
        group: GroupId(4),
        ..append(1, 1..2)
    };
    let batch = WriteBatch {
        groups: vec![step.clone(), step],
        ..WriteBatch::default()
    };
    let refused = check_batch(&batch, |_| None).unwrap_err();
    assert!(
        matches!(
            refused,
            SubmitError::Invalid {
                group: GroupId(4),
                ..
            }
        ),
        "{refused}"
    );
}

fn readable(image: &GroupImage, range: Range<u64>) -> Result<Range<u64>, LogError> {
    let range = image.readable(LogIndex(range.start)..LogIndex(range.end))?;
    Ok(range.start.0..range.end.0)
}

#[test]
fn reads_are_told_what_they_can_have() {
    let mut image = filled();
    assert_eq!(readable(&image, 5..8), Ok(5..8));
    assert_eq!(readable(&image, 5..99), Ok(5..11));
    assert_eq!(
        readable(&image, 4..6),
        Err(LogError::Compacted { first: LogIndex(5) })
    );
    assert_eq!(
        readable(&image, 11..12),
        Err(LogError::Unavailable { last: LogIndex(10) })
    );
    assert_eq!(readable(&image, 3..3), Ok(3..3));
    let faulty = LogIndex(7)..LogIndex(9);
    let damaged = std::slice::from_ref(&faulty).to_vec();
    image.set_health(LogHealth {
        faulty: damaged,
        vote_unknown: true,
    });
    assert_eq!(readable(&image, 5..11), Ok(5..7));
    assert_eq!(
        readable(&image, 8..11),
        Err(LogError::Faulty { range: faulty })
    );
    assert_eq!(readable(&image, 9..11), Ok(9..11));
}

#[test]
fn damage_ends_where_entries_are_replaced_compacted_or_reset() {
    let faulty = |image: &GroupImage| {
        let ranges = image.health().faulty.iter();
        ranges
            .map(|range| (range.start.0, range.end.0))
            .collect::<Vec<_>>()
    };
    let ranges = || vec![LogIndex(5)..LogIndex(7), LogIndex(8)..LogIndex(10)];
    let damaged = |image: &mut GroupImage| {
        image.set_health(LogHealth {
            faulty: ranges(),
            vote_unknown: true,
        });
    };
    let mut image = filled();
    damaged(&mut image);
    write(&mut image, &append(2, 9..12));
    assert_eq!(faulty(&image), [(5, 7), (8, 9)]);
    write(&mut image, &append(2, 7..8));
    assert_eq!(faulty(&image), [(5, 7)]);
    write(&mut image, &compact(5));
    assert_eq!(faulty(&image), [(6, 7)]);
    write(&mut image, &reset(2, 8));
    assert!(image.health().faulty.is_empty() && image.health().vote_unknown);
    write(
        &mut image,
        &GroupWrite {
            destroy: true,
            ..GroupWrite::default()
        },
    );
    assert!(image.health().is_intact());
}

#[test]
fn image_comes_back_from_its_parts() {
    let image = filled();
    let again = GroupImage::from_parts(image.state(), image.terms().clone()).unwrap();
    assert_eq!(again, image);
    let mut lying = image.state();
    lying.snapshot = at(2, 11);
    assert!(GroupImage::from_parts(lying, image.terms().clone()).is_err());
    let mut lying = image.state();
    lying.first = LogIndex(6);
    assert!(GroupImage::from_parts(lying, image.terms().clone()).is_err());
}
