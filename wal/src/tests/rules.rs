//! Each rule of recovery, broken, does harm: one test per rule.

use std::path::{Path, PathBuf};

use raftwerk_raft::{
    GroupId, GroupWrite, HardState, LogError, LogIndex, NodeId, Storage, Term, Ticket,
};
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Keep};

use super::sites::{GROUP, append, entry, vote};
use super::space::{entries, fill_segments, settle, write};
use super::workload::{DIR, keep_prefix, open, open_with, prepare};
use crate::batch::Fill;
use crate::rules::{Rule, broken};
use crate::segment::format::{FRAME_HEADER_BYTES, FrameHeader, Item, ItemKind, read_directory};
use crate::segment::header::{SegmentHeader, file_name, parse_file_name};
use crate::{SYNC_BATCH, Verdict, Wal};

/// A group beside [`GROUP`].
const OTHER: GroupId = GroupId(50);
/// Where a segment's first frame begins.
const FIRST_FRAME: u64 = 512;

fn path_of(number: u64) -> PathBuf {
    Path::new(DIR).join(file_name(number))
}

/// The disk after a power cut, with the sector zeroed in which `place` is.
fn damaged(vfs: &FaultVfs, (number, offset): (u64, u64)) -> FaultVfs {
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.zero_sector(&path_of(number), offset / 512).unwrap();
    after
}

/// The newest vote that [`GROUP`] knows of is of this term.
fn votes_in(wal: &Wal, term: u64) -> Result<(), String> {
    match wal.open_group(GROUP).unwrap().state.hard_state.term {
        found if found == Term(term) => Ok(()),
        found => Err(format!("term {found} instead of {term}")),
    }
}

/// [`OTHER`] has entries up to this one.
fn ends_with(wal: &Wal, last: u64) -> Result<(), String> {
    match wal.open_group(OTHER).unwrap().log.last().index {
        found if found == LogIndex(last) => Ok(()),
        found => Err(format!("entries up to {found} instead of {last}")),
    }
}

/// A vote of [`OTHER`], which is made by it if it is not there.
fn others_vote() -> GroupWrite {
    GroupWrite {
        hard_state: Some(HardState {
            term: Term(5),
            vote: Some(NodeId(2)),
            commit: LogIndex::ZERO,
        }),
        ..write(OTHER.0, Vec::new())
    }
}

fn others_end() -> GroupWrite {
    GroupWrite {
        destroy: true,
        ..write(OTHER.0, Vec::new())
    }
}

/// A log whose frames each take one page, and where each began.
fn log_of_votes(vfs: &FaultVfs, count: u64) -> (std::sync::Arc<Wal>, Vec<(u64, u64)>) {
    let wal = open(vfs).unwrap();
    prepare(&wal);
    let mut places = Vec::new();
    for term in 1..=count {
        places.push(wal.engine_end());
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    (wal, places)
}

/// A log in which [`OTHER`] has ten entries, under this ticket.
fn log_of_another() -> (FaultVfs, std::sync::Arc<Wal>, Ticket) {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    let mut last = Ticket(0);
    let ten = write(OTHER.0, entries(1, 1..11, 100));
    settle(&wal, vec![ten], &mut last);
    (vfs, wal, last)
}

/// Damage to what later frames prove durable is no torn tail.
fn proven_damage_is_named() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (_wal, places) = log_of_votes(&vfs, 4);
    let wal = open(&damaged(&vfs, places[1]))?;
    votes_in(&wal, 4)?;
    match wal.report().verdict() {
        Verdict::Corrupt => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Behind the last write only the slot knows that it was acknowledged.
fn slot_vouches_for_the_last_vote() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (wal, places) = log_of_votes(&vfs, 3);
    wal.step_writer();
    let wal = open(&damaged(&vfs, places[2]))?;
    match wal.open_group(GROUP).unwrap().state.health.vote_unknown {
        true => Ok(()),
        false => Err("the vote is lost, and the one before it believed".to_owned()),
    }
}

/// The slot vouches for all; what stands behind the bad place is there, and is served.
fn damage_hides_nothing_behind_it() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (wal, places) = log_of_votes(&vfs, 2);
    let behind = vec![write(OTHER.0, entries(1, 1..4, 20))];
    settle(&wal, behind, &mut Ticket(0));
    let wal = open(&damaged(&vfs, places[1]))?;
    ends_with(&wal, 3)
}

/// Of a group that voted in a lost frame and nowhere else nothing is left: its vote is in doubt.
fn stranger_may_have_voted() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 1);
    let place = wal.engine_end();
    settle(&wal, vec![others_vote()], &mut Ticket(0));
    wal.wait(vote(&wal, 2, 1)).unwrap();
    let wal = open(&damaged(&vfs, place))?;
    match wal.open_group(OTHER).unwrap().state.health.vote_unknown {
        true => Ok(()),
        false => Err("it may vote again".to_owned()),
    }
}

/// A segment of one timeline behind one of another: each is sound, together they are no log.
fn clones_do_not_mix() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    while wal.engine_segments() < 2 {
        wal.wait(append(&wal, next_entry(&wal, 1, 2000))).unwrap();
        prepare(&wal);
    }
    drop(wal);
    let start = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let image = start.image();
    let (one, other) = (image.after(&CrashPlan::Kill), image.after(&CrashPlan::Kill));
    // The same life of the same segment: only what is written differs.
    for (vfs, node) in [(&one, 1), (&other, 2)] {
        let wal = open(vfs).unwrap();
        prepare(&wal);
        wal.wait(vote(&wal, 3, node)).unwrap();
        wal.wait(vote(&wal, 4, node)).unwrap();
        wal.step_writer();
    }
    let life = |vfs: &FaultVfs| newest(vfs);
    let (mine, theirs) = (life(&one), life(&other));
    if mine != theirs {
        return Err("the clones are in different segments".to_owned());
    }
    // One frame of the other timeline at its own place.
    let bytes = other.read_file(&path_of(mine)).unwrap();
    let frames = frames(&bytes);
    let place = frames[frames.len() - 2];
    one.poke(
        &path_of(mine),
        place,
        &bytes[place as usize..place as usize + 512],
    )
    .unwrap();
    let wal = open_with(&one.crash(&CrashPlan::Kill), keep_prefix())?;
    match wal.report().verdict() {
        Verdict::Corrupt => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn next_entry(wal: &Wal, term: u64, size: usize) -> raftwerk_raft::Entry {
    let last = wal.open_group(GROUP).unwrap().log.last().index;
    entry(term, last.0 + 1, size)
}

/// The segments that there are, prepared ones included.
fn segments(vfs: &FaultVfs) -> Vec<u64> {
    let files = vfs.files().into_iter();
    files
        .filter_map(|path| parse_file_name(path.file_name()?.to_str()?))
        .collect()
}

fn newest(vfs: &FaultVfs) -> u64 {
    let has_frames = |number: &u64| !frames(&vfs.read_file(&path_of(*number)).unwrap()).is_empty();
    segments(vfs).into_iter().filter(has_frames).max().unwrap()
}

/// The prepared segment that is used last.
fn prepared(vfs: &FaultVfs) -> u64 {
    segments(vfs).into_iter().max().unwrap()
}

/// What a lost write leaves of another segment in a prepared one is no part of the log.
fn stale_frame_is_not_the_log() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    let (number, end) = wal.engine_end();
    let bytes = vfs.read_file(&path_of(number)).unwrap();
    let stale = &bytes[FIRST_FRAME as usize..end as usize];
    prepare(&wal);
    for term in 1..=3 {
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let path = path_of(prepared(&after));
    after.poke(&path, FIRST_FRAME, stale).unwrap();
    // It stands where the next write goes: what it hides, if anything, is not known.
    let wal = open_with(&after, keep_prefix())?;
    votes_in(&wal, 3)
}

/// A segment of another store under the name of one of this log's is no part of it.
fn segment_of_another_store_is_not_the_log() -> Result<(), String> {
    let (vfs, other) = (FaultVfs::new(), FaultVfs::new());
    log_of_votes(&vfs, 3);
    let path = path_of(prepared(&vfs));
    let theirs = open(&other).unwrap();
    while theirs.engine_end().0 < prepared(&vfs) {
        prepare(&theirs);
        let next = next_entry(&theirs, 1, 2000);
        theirs.wait(append(&theirs, next)).unwrap();
    }
    theirs.wait(vote(&theirs, 9, 2)).unwrap();
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after
        .poke(&path, 0, &other.read_file(&path).unwrap())
        .unwrap();
    let wal = open(&after)?;
    votes_in(&wal, 3)
}

/// A bit of a header flipped hides nothing of what stands behind it.
fn header_is_not_believed_without_its_checksum() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (_wal, places) = log_of_votes(&vfs, 4);
    let (number, offset) = places[2];
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    for bit in 0..FRAME_HEADER_BYTES as u64 * 8 {
        let after = image.after(&CrashPlan::Kill);
        after
            .flip_bit(&path_of(number), offset + bit / 8, (bit % 8) as u8)
            .unwrap();
        let shown = open(&after).and_then(|wal| votes_in(&wal, 4));
        shown.map_err(|reason| format!("bit {bit}: {reason}"))?;
    }
    Ok(())
}

/// A bit of an entry flipped is never served.
fn section_is_not_believed_without_its_checksum() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    let (number, offset) = wal.engine_end();
    wal.wait(append(&wal, entry(1, 1, 300))).unwrap();
    wal.wait(vote(&wal, 1, 1)).unwrap();
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    after.flip_bit(&path_of(number), offset + 200, 3).unwrap();
    let log = open(&after)?.open_group(GROUP).unwrap().log;
    match log.read(LogIndex(1)..LogIndex(2), u64::MAX) {
        Err(LogError::Faulty { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The front of a log moves behind its end, which stays.
fn moved_entries_truncate_nothing() -> Result<(), String> {
    let (vfs, wal, mut last) = log_of_another();
    fill_segments(&wal, &mut last, |wal| {
        (wal.engine_segments() > 6).then_some(())
    });
    settle(
        &wal,
        vec![write(OTHER.0, entries(1, 11..15, 20))],
        &mut last,
    );
    let moved = wal.stats().rewritten_entries;
    if moved < 10 {
        return Err(format!("{moved} entries were moved"));
    }
    let wal = open(&vfs.crash(&CrashPlan::LOSE_UNSYNCED))?;
    ends_with(&wal, 14)
}

/// A group is destroyed in a frame that is lost, and made again.
fn group_made_again_has_nothing_of_its_namesake() -> Result<(), String> {
    let (vfs, wal, mut last) = log_of_another();
    let place = wal.engine_end();
    settle(&wal, vec![others_end()], &mut last);
    settle(&wal, vec![others_vote()], &mut last);
    let wal = open(&damaged(&vfs, place))?;
    ends_with(&wal, 0)
}

/// A frame is whole but for what it says of the group, which it ended and began anew: of the life
/// before nothing is left, and what is known of the new one is that it is in doubt.
#[test]
fn group_whose_new_beginning_is_damaged_has_nothing_of_its_namesake() {
    let (vfs, wal, mut last) = log_of_another();
    let (segment, offset) = wal.engine_end();
    let again = GroupWrite {
        destroy: true,
        ..others_vote()
    };
    settle(&wal, vec![again], &mut last);
    for term in 1..=2 {
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let body = offset + FRAME_HEADER_BYTES as u64;
    after.flip_bit(&path_of(segment), body, 0).unwrap();
    let wal = open(&after).unwrap();
    let in_doubt = wal.open_group(OTHER).unwrap().state.health.vote_unknown;
    assert!(in_doubt, "how it voted is not known");
    ends_with(&wal, 0).unwrap();
}

/// A group is destroyed in a frame that is lost, and what tells of its later life is an entry that
/// a rotation carried over: what the new segment's checkpoint says of the group is damaged.
fn entry_of_a_later_life_ends_the_one_before() -> Result<(), String> {
    let (vfs, wal, mut last) = log_of_another();
    let place = wal.engine_end();
    let again = GroupWrite {
        destroy: true,
        ..write(OTHER.0, entries(1, 1..3, 30))
    };
    settle(&wal, vec![again], &mut last);
    fill_until(&wal, 4000);
    settle(
        &wal,
        vec![write(OTHER.0, entries(1, 3..4, 5000))],
        &mut last,
    );
    assert!(wal.engine_end().0 > place.0, "it rotated");
    let after = damaged_with_checkpoint(&vfs, &wal, place, OTHER);
    let wal = open(&after)?;
    let in_doubt = wal.open_group(OTHER).unwrap().state.health.vote_unknown;
    assert!(in_doubt, "what it had is not known");
    ends_with(&wal, 0)
}

/// A group is destroyed in a frame that is lost; the checkpoint that knows it, of another group,
/// is damaged too, and so the frames before it are repeated.
fn destroyed_group_stays_destroyed() -> Result<(), String> {
    let (vfs, wal, mut last) = log_of_another();
    let place = wal.engine_end();
    settle(&wal, vec![others_end()], &mut last);
    while wal.engine_end().0 == place.0 {
        wal.wait(append(&wal, next_entry(&wal, 1, 2000))).unwrap();
        prepare(&wal);
    }
    let after = damaged_with_checkpoint(&vfs, &wal, place, GROUP);
    match open(&after)?.groups().unwrap().contains(&OTHER) {
        true => Err("it is back".to_owned()),
        false => Ok(()),
    }
}

/// [`damaged`] when later frames prove that place durable; what the newest segment's checkpoint
/// says of `group` is rotten as well.
fn damaged_with_checkpoint(
    vfs: &FaultVfs,
    wal: &Wal,
    place: (u64, u64),
    group: GroupId,
) -> FaultVfs {
    for term in 1..=2 {
        wal.wait(vote(wal, term, 1)).unwrap();
    }
    let after = damaged(vfs, place);
    let is_it = |item: &Item| item.kind == ItemKind::Checkpoint && item.group == group;
    flip_in_first_frame(&after, wal, is_it);
    after
}

/// Where in its segment the first frame has the first item that is it.
fn place_of(segment: &[u8], is_it: impl Fn(&Item) -> bool) -> u64 {
    let uuid = SegmentHeader::decode(segment).unwrap().uuid;
    let frame = &segment[FIRST_FRAME as usize..];
    let (header, _) = FrameHeader::decode(frame, uuid).unwrap();
    let directory = FRAME_HEADER_BYTES + header.body_bytes as usize;
    let directory = &frame[directory..directory + header.directory_bytes as usize];
    let items = read_directory(&header, uuid, directory).unwrap();
    let before = items.iter().take_while(|item| !is_it(item));
    let before: u64 = before.map(|item| u64::from(item.bytes)).sum();
    FIRST_FRAME + FRAME_HEADER_BYTES as u64 + before
}

/// Flips a bit of the first item that is it of the newest segment's first frame.
fn flip_in_first_frame(vfs: &FaultVfs, wal: &Wal, is_it: impl Fn(&Item) -> bool) {
    let path = path_of(wal.engine_end().0);
    let place = place_of(&vfs.read_file(&path).unwrap(), is_it);
    vfs.flip_bit(&path, place, 0).unwrap();
}

/// Writes to [`GROUP`] until the active segment has no more than `left` bytes left.
fn fill_until(wal: &Wal, left: u64) {
    let now = |wal: &Wal| wal.engine_state().active_left(&Fill::default());
    while now(wal).is_some_and(|now| now > left) {
        wal.wait(append(wal, next_entry(wal, 1, 1000))).unwrap();
    }
}

/// A group ends and begins anew in one write, which a rotation carries over: its old entries do
/// not stand in for a new one that is damaged there.
#[test]
fn entry_that_was_appended_before_its_group_ended_is_not_carried_into_the_next_life() {
    let (vfs, wal, mut last) = log_of_another();
    fill_until(&wal, 4000);
    let before = wal.engine_end().0;
    let old = GroupWrite {
        destroy: true,
        ..write(OTHER.0, entries(1, 1..4, 1000))
    };
    let new = GroupWrite {
        destroy: true,
        ..write(OTHER.0, entries(1, 1..4, 900))
    };
    for write in [old, new] {
        let batch = raftwerk_raft::WriteBatch {
            groups: vec![write],
            ..Default::default()
        };
        last = super::workload::submit(&wal, batch, last).unwrap();
    }
    wal.wait(last).unwrap();
    assert!(wal.engine_end().0 > before, "it rotated");
    for term in 1..=2 {
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let bytes = after.read_file(&path_of(wal.engine_end().0)).unwrap();
    let is_moved =
        |item: &Item| matches!(item.kind, ItemKind::Relocated { .. }) && item.group == OTHER;
    let new = place_of(&bytes, |item| is_moved(item) && item.bytes < 3 * 1000);
    after
        .flip_bit(&path_of(wal.engine_end().0), new + 100, 0)
        .unwrap();
    let opened = open(&after).unwrap();
    let log = opened.open_group(OTHER).unwrap().log;
    let read = log.read(LogIndex(1)..LogIndex(4), u64::MAX);
    assert!(matches!(read, Err(LogError::Faulty { .. })), "{read:?}");
    assert_eq!(place_of(&bytes, is_moved), new, "nothing else was carried");
}

/// A group is destroyed, and a later frame is lost: it is in doubt as whoever appears nowhere is,
/// and not there again.
#[test]
fn destroyed_group_is_not_made_again_by_a_frame_that_is_lost_later() {
    let (vfs, wal, mut last) = log_of_another();
    settle(
        &wal,
        vec![others_end(), write(3, entries(1, 1..2, 10))],
        &mut last,
    );
    let place = wal.engine_end();
    for term in 1..=3 {
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    let wal = open(&damaged(&vfs, place)).unwrap();
    assert_eq!(wal.groups().unwrap(), [GROUP, GroupId(3)]);
    let in_doubt = |group| wal.open_group(group).unwrap().state.health.vote_unknown;
    assert!(in_doubt(OTHER) && in_doubt(GroupId(3)) && !in_doubt(GROUP));
}

/// A group is destroyed and begins anew in frames that are lost, in as many steps as its life
/// before had: what follows on those does not pass for a group that lost nothing.
#[test]
fn group_whose_beginning_is_lost_is_in_doubt_whatever_its_namesake_was() {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 1);
    let mut last = Ticket(0);
    for step in [others_vote(), others_end()] {
        settle(&wal, vec![step], &mut last);
    }
    let mut places = Vec::new();
    for node in [2, 3] {
        places.push(wal.engine_end());
        let hard_state = HardState {
            term: Term(5 + node),
            vote: Some(NodeId(node)),
            commit: LogIndex::ZERO,
        };
        let vote = GroupWrite {
            hard_state: Some(hard_state),
            ..others_vote()
        };
        settle(&wal, vec![vote], &mut last);
    }
    is_in_doubt_without(&vfs, &wal, &places, last);
}

/// The other group goes on; then the frames at two places are lost, and its vote is in doubt.
fn is_in_doubt_without(vfs: &FaultVfs, wal: &Wal, places: &[(u64, u64)], mut last: Ticket) {
    settle(wal, vec![write(OTHER.0, entries(1, 1..2, 10))], &mut last);
    wal.wait(vote(wal, 2, 1)).unwrap();
    let after = damaged(vfs, places[0]);
    let (number, offset) = places[1];
    after.zero_sector(&path_of(number), offset / 512).unwrap();
    let wal = open(&after).unwrap();
    let state = wal.open_group(OTHER).unwrap().state;
    assert!(state.health.vote_unknown, "{state:?}");
}

/// The same where the end of the life before is lost too, so that it seems to go on.
#[test]
fn group_that_ended_and_began_in_what_is_lost_is_in_doubt() {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 1);
    let mut last = Ticket(0);
    settle(&wal, vec![others_vote()], &mut last);
    let mut places = Vec::new();
    for step in [others_end(), others_vote()] {
        places.push(wal.engine_end());
        settle(&wal, vec![step], &mut last);
    }
    is_in_doubt_without(&vfs, &wal, &places, last);
}

/// The frame in which a group began is lost, and what the next segment says of the whole log: the
/// number of that life is not drawn again.
#[test]
fn generation_that_only_a_checkpoint_tells_of_is_not_drawn_again() {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 1);
    let place = wal.engine_end();
    settle(&wal, vec![others_vote()], &mut Ticket(0));
    while wal.engine_end().0 == place.0 {
        wal.wait(append(&wal, next_entry(&wal, 1, 2000))).unwrap();
        prepare(&wal);
    }
    for term in 1..=2 {
        wal.wait(vote(&wal, term, 1)).unwrap();
    }
    let after = damaged(&vfs, place);
    flip_in_first_frame(&after, &wal, |item| item.kind == ItemKind::Log);
    let wal = open(&after).unwrap();
    let state = wal.engine_state();
    let drawn = state.groups[&OTHER].generation;
    assert!(drawn > 1 && state.record.next_generation > drawn, "{drawn}");
}

/// Where frames begin.
fn frames(bytes: &[u8]) -> Vec<u64> {
    let pages = bytes.chunks(512).enumerate();
    let begins = pages.filter(|(_, page)| page.starts_with(b"RWf1"));
    begins.map(|(number, _)| number as u64 * 512).collect()
}

/// A bit of a directory flipped never moves an entry to another group.
fn directory_is_not_believed_without_its_checksum() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let wal = open(&vfs).unwrap();
    prepare(&wal);
    wal.wait(vote(&wal, 1, 1)).unwrap();
    let (number, offset) = wal.engine_end();
    wal.wait(vote(&wal, 2, 1)).unwrap();
    wal.wait(vote(&wal, 3, 1)).unwrap();
    let image = vfs.crash(&CrashPlan::LOSE_UNSYNCED).image();
    let page = &vfs.read_file(&path_of(number)).unwrap()[offset as usize..][..512];
    let written = page.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    for bit in 0..written * 8 {
        let after = image.after(&CrashPlan::Kill);
        after
            .flip_bit(&path_of(number), offset + bit / 8, (bit % 8) as u8)
            .unwrap();
        let wal = open(&after)?;
        let groups = wal.groups().unwrap();
        if groups != [GROUP] {
            return Err(format!("bit {bit}: groups {groups:?}"));
        }
        let stranger = wal.open_group(GroupId(0)).unwrap().log.last().index;
        if stranger != LogIndex::ZERO {
            return Err(format!("bit {bit}: a stranger has {stranger}"));
        }
    }
    Ok(())
}

/// What an open shows is durable, whatever it found in the page cache.
fn open_makes_durable_what_it_shows() -> Result<(), String> {
    let vfs = FaultVfs::new();
    let (wal, _) = log_of_votes(&vfs, 2);
    vfs.disable_sync(SYNC_BATCH);
    wal.wait(vote(&wal, 7, 2)).unwrap();
    vfs.enable_sync(SYNC_BATCH);
    let second = vfs.crash(&CrashPlan::Kill);
    let shown = open(&second)?.open_group(GROUP).unwrap().state.hard_state;
    let third = second.crash(&CrashPlan::LOSE_UNSYNCED);
    let kept = open(&third)?.open_group(GROUP).unwrap().state.hard_state;
    if shown == kept {
        Ok(())
    } else {
        Err(format!("{shown:?} shown, {kept:?} kept"))
    }
}

/// A successor with a frame proves its predecessor whole, footer included.
fn footer_is_durable_before_the_successor_begins() -> Result<(), String> {
    for data in [Keep::All, Keep::AllBut(0), Keep::AllBut(1), Keep::Nothing] {
        for call in 0..200 {
            let vfs = FaultVfs::new();
            let wal = open(&vfs).unwrap();
            prepare(&wal);
            vfs.crash_at(vfs.calls() + call);
            let mut finished = true;
            for index in 1..=8 {
                let write = raftwerk_raft::GroupWrite {
                    group: GROUP,
                    append: vec![entry(1, index, 2000)],
                    ..raftwerk_raft::GroupWrite::default()
                };
                let batch = raftwerk_raft::WriteBatch {
                    groups: vec![write],
                    ..Default::default()
                };
                let Ok(ticket) = wal.submit(batch) else { break };
                finished = wal.wait(ticket).is_ok();
                if !finished {
                    break;
                }
            }
            let plan = CrashPlan::PowerLoss {
                data,
                names: Keep::All,
            };
            let wal = open(&vfs.crash(&plan))?;
            if wal.report().verdict() == Verdict::Corrupt {
                return Err(format!("call {call}, {data:?}: {:?}", wal.report()));
            }
            if finished {
                break;
            }
        }
    }
    Ok(())
}

type Scenario = fn() -> Result<(), String>;

fn scenario(rule: Rule) -> Scenario {
    match rule {
        Rule::Watermark => proven_damage_is_named,
        Rule::Slot => slot_vouches_for_the_last_vote,
        Rule::FullScan => damage_hides_nothing_behind_it,
        Rule::Strangers => stranger_may_have_voted,
        Rule::Chain => clones_do_not_mix,
        Rule::Place => stale_frame_is_not_the_log,
        Rule::Seed => segment_of_another_store_is_not_the_log,
        Rule::HeaderChecksum => header_is_not_believed_without_its_checksum,
        Rule::DirectoryChecksum => directory_is_not_believed_without_its_checksum,
        Rule::SectionChecksum => section_is_not_believed_without_its_checksum,
        Rule::Relocation => moved_entries_truncate_nothing,
        Rule::Generation => group_made_again_has_nothing_of_its_namesake,
        Rule::Destroyed => destroyed_group_stays_destroyed,
        Rule::RewriteAtOpen => open_makes_durable_what_it_shows,
        Rule::SealOrder => footer_is_durable_before_the_successor_begins,
    }
}

fn matters(rule: Rule) {
    matters_to(rule, scenario(rule));
}

fn matters_to(rule: Rule, scenario: Scenario) {
    broken(None, scenario).unwrap();
    let harm = broken(Some(rule), scenario).expect_err("nobody noticed that it is broken");
    println!("without {rule:?}: {harm}");
}

#[test]
fn watermark_tells_damage_from_a_torn_tail() {
    matters(Rule::Watermark);
}

#[test]
fn scan_goes_on_behind_a_bad_place() {
    matters(Rule::FullScan);
}

#[test]
fn chain_keeps_timelines_apart() {
    matters(Rule::Chain);
}

#[test]
fn slot_is_a_witness() {
    matters(Rule::Slot);
}

#[test]
fn lost_frame_may_hold_a_vote_of_anybody() {
    matters(Rule::Strangers);
}

#[test]
fn frame_counts_only_in_its_life_and_at_its_place() {
    matters(Rule::Place);
}

#[test]
fn checksums_begin_with_whose_frame_it_is_and_where_it_stands() {
    matters(Rule::Seed);
}

#[test]
fn header_has_a_checksum_of_its_own() {
    matters(Rule::HeaderChecksum);
}

#[test]
fn directory_has_a_checksum_of_its_own() {
    matters(Rule::DirectoryChecksum);
}

#[test]
fn section_has_a_checksum_of_its_own() {
    matters(Rule::SectionChecksum);
}

#[test]
fn relocation_is_no_append() {
    matters(Rule::Relocation);
}

#[test]
fn generation_parts_a_group_from_its_namesake() {
    matters(Rule::Generation);
}

#[test]
fn generation_of_a_moved_entry_parts_a_group_from_its_namesake() {
    matters_to(Rule::Generation, entry_of_a_later_life_ends_the_one_before);
}

#[test]
fn checkpoint_leaves_out_what_is_destroyed() {
    matters(Rule::Destroyed);
}

#[test]
fn open_rewrites_what_is_not_proven() {
    matters(Rule::RewriteAtOpen);
}

#[test]
fn footer_comes_before_the_successor() {
    matters(Rule::SealOrder);
}

#[test]
fn every_rule_has_its_test() {
    let source = include_str!("rules.rs");
    for rule in Rule::ALL {
        assert!(
            source.contains(&format!("    matters(Rule::{rule:?});")),
            "{rule:?}"
        );
    }
}
