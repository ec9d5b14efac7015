//! Reading the log again in pieces.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use raftwerk_raft::{ByteBudget, Storage};
use raftwerk_storage::vfs::CountingVfs;
use raftwerk_testkit::fault_vfs::FaultVfs;

use super::sites::{GROUP, append, entry};
use super::workload::{DIR, options, prepare};
use crate::Wal;
use crate::recovery::scan::{Event, Expect, Scan};
use crate::segment::header::file_name;

/// A log of some sealed segments, on a disk whose reads are counted.
fn log() -> (FaultVfs, CountingVfs, Wal) {
    let vfs = FaultVfs::new();
    let counting = CountingVfs::new(Arc::new(vfs.clone()));
    let wal = Wal::open(Arc::new(counting.clone()), DIR, options()).unwrap();
    let sizes = [30, 200, 1500, 40, 900].into_iter().cycle();
    for (index, size) in (1..).zip(sizes) {
        prepare(&wal);
        wal.wait(append(&wal, entry(1, index, size))).unwrap();
        if wal.engine_segments() == 4 {
            break;
        }
    }
    (vfs, counting, wal)
}

/// Of each sealed segment its number, and where its frames begin and end.
fn sealed(wal: &Wal) -> Vec<(u64, Vec<(u64, u64)>)> {
    let state = wal.engine_state();
    let segments = state.segments.iter().filter(|(_, segment)| segment.sealed);
    let frames = segments.map(|(number, segment)| {
        let mut frames = Vec::new();
        let mut scan = Scan::new(segment.file.as_ref(), state.uuid, segment.header);
        scan.walk(Expect::default(), Some(segment.end), &mut |event| {
            let Event::Frame(frame) = event else {
                panic!("{event:?}")
            };
            frames.push((frame.header.offset, frame.end));
            ControlFlow::Continue(())
        });
        (*number, frames)
    });
    frames.collect()
}

/// Goes through the whole log: how much each step checked, and what was found.
fn pass(wal: &Wal, budget: u64) -> (Vec<u64>, Vec<String>) {
    let (mut steps, mut damage) = (Vec::new(), Vec::new());
    loop {
        let report = wal.scrub(ByteBudget(budget)).unwrap();
        steps.push(report.checked_bytes);
        damage.extend(report.damage);
        assert!(steps.len() < 10_000, "it comes to its end");
        if report.completed {
            return (steps, damage);
        }
    }
}

#[test]
fn no_step_of_a_scrub_reads_more_than_it_may_or_one_frame() {
    let (_vfs, counting, wal) = log();
    let sealed = sealed(&wal);
    let frames = sealed.iter().flat_map(|(_, frames)| frames);
    let largest = frames
        .clone()
        .map(|(begin, end)| end - begin)
        .max()
        .unwrap();
    let whole: u64 = sealed
        .iter()
        .map(|(_, frames)| frames.last().unwrap().1)
        .sum();
    assert!(sealed.len() >= 3 && frames.count() > 20, "{sealed:?}");
    for budget in [0, 1, 600, 2048, 5000, 1 << 20, u64::MAX] {
        let before = counting.counts();
        let (steps, damage) = pass(&wal, budget);
        assert_eq!(damage, [] as [String; 0]);
        assert_eq!(steps.iter().sum::<u64>(), whole, "{budget}");
        let most = *steps.iter().max().unwrap();
        assert!(most <= budget.max(largest), "{budget}: {most} at once");
        let read = counting.counts().since(&before).read_bytes;
        // A frame that is too much is looked at, and again by the next step.
        let may = steps.len() as u64 * 2 * budget.max(largest).min(whole) + whole;
        assert!(read <= may, "{budget}: {read} bytes read for {whole}");
    }
}

#[test]
fn damage_at_every_frame_is_found_piece_by_piece() {
    let (vfs, _, wal) = log();
    for (number, frames) in sealed(&wal) {
        let path = Path::new(DIR).join(file_name(number));
        let headers = frames.iter().map(|(begin, _)| (*begin, begin + 20));
        let contents = frames.iter().map(|(begin, _)| (*begin, begin + 81));
        for (begin, byte) in headers.chain(contents).chain([(0, 10)]) {
            vfs.flip_bit(&path, byte, 3).unwrap();
            for budget in [1, 1024, u64::MAX] {
                let (_, damage) = pass(&wal, budget);
                let wanted = format!("segment {number} is damaged at byte {begin}");
                assert_eq!(damage, [wanted], "{budget}: byte {byte}");
            }
            vfs.flip_bit(&path, byte, 3).unwrap();
        }
    }
    assert_eq!(pass(&wal, 1024).1, [] as [String; 0]);
}

/// What is found behind a damaged place is not looked for again by step after step: the next step
/// begins there, and takes it whatever its budget is.
#[test]
fn place_that_is_larger_than_the_budget_is_searched_twice_at_most() {
    let (vfs, counting, wal) = log();
    let sealed = sealed(&wal);
    let whole: u64 = sealed
        .iter()
        .map(|(_, frames)| frames.last().unwrap().1)
        .sum();
    let (number, frames) = &sealed[1];
    let (begin, end) = (frames[0].0, frames.last().unwrap().1);
    let path = Path::new(DIR).join(file_name(*number));
    let rot = vec![b'x'; (end - begin) as usize];
    vfs.poke(&path, begin, &rot).unwrap();
    for budget in [0, 600, 2048, 5000] {
        let before = counting.counts();
        let (steps, damage) = pass(&wal, budget);
        let wanted = format!("segment {number} is damaged at byte {begin}");
        assert_eq!(damage, [wanted], "{budget}");
        assert_eq!(steps.iter().sum::<u64>(), whole, "{budget}");
        let read = counting.counts().since(&before).read_bytes;
        let largest = budget.max(2048);
        let may = 2 * rot.len() as u64 + steps.len() as u64 * 2 * largest + whole;
        assert!(
            read <= may,
            "{budget}: {read} bytes read, at most {may} may be"
        );
    }
}

#[test]
fn a_pass_ends_in_a_log_that_is_written_faster_than_it_is_read() {
    let (_vfs, _, wal) = log();
    for step in 0..1000 {
        let sealed = wal.engine_segments();
        while wal.engine_segments() == sealed {
            prepare(&wal);
            let next = wal.open_group(GROUP).unwrap().log.last().index.next();
            wal.wait(append(&wal, entry(1, next.0, 1500))).unwrap();
        }
        if wal.scrub(ByteBudget(1)).unwrap().completed {
            assert!(step > 20, "{step} steps");
            return;
        }
    }
    panic!("it has no end");
}
