//! Reads sealed segments again, a bounded piece at a time, and checks every byte.

use std::ops::ControlFlow;

use parking_lot::Mutex;
use raftwerk_raft::{ByteBudget, ScrubReport};
use raftwerk_storage::folder::StoreUuid;

use crate::recovery::scan::{Event, Expect, Scan};
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::state::{Segment, State};

/// Where the next scrub goes on.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// In this segment or, if the log has it no more, in the next one.
    segment: u64,
    /// At this byte of it; zero at its beginning.
    offset: u64,
    /// What stands there.
    expect: Expect,
    /// The segment that was written when this pass began, and ends it; none before.
    until: Option<u64>,
}

impl Scrub {
    /// Checks frame by frame until `budget` is used up. One is checked in any case.
    pub(crate) fn step(&mut self, state: &Mutex<State>, budget: ByteBudget) -> ScrubReport {
        let mut report = ScrubReport::default();
        loop {
            let (uuid, segment) = self.next(&state.lock());
            let Some(segment) = segment else {
                *self = Self::default();
                report.completed = true;
                return report;
            };
            let number = segment.header.id.number;
            if number != self.segment {
                self.go_to(number);
            }
            let left = budget.0.saturating_sub(report.checked_bytes);
            let mut piece = Piece {
                left,
                checked: report.checked_bytes,
                damage: Vec::new(),
            };
            let whole = self.check(&mut piece, uuid, &segment);
            report.checked_bytes = piece.checked;
            // It may have been reused meanwhile.
            if state.lock().segments.contains_key(&number) {
                let say = |offset| format!("segment {number} is damaged at byte {offset}");
                report.damage.extend(piece.damage.into_iter().map(say));
            }
            if !whole {
                return report;
            }
            self.go_to(number + 1);
        }
    }

    fn go_to(&mut self, segment: u64) {
        *self = Self {
            segment,
            until: self.until,
            ..Self::default()
        };
    }

    /// The segment to go on with.
    fn next(&mut self, state: &State) -> (StoreUuid, Option<Segment>) {
        let active = state.segments.last_key_value();
        let active = active.map_or(0, |(number, _)| *number);
        // What is sealed meanwhile is for the next pass: this one would have no end in a log that
        // is written faster than it is read.
        let until = *self.until.get_or_insert(active);
        // Of what is not sealed, the end may stand only in memory.
        let mut later = state.segments.range(self.segment.min(until)..until);
        let next = later.find(|(_, segment)| segment.sealed);
        (state.uuid, next.map(|(_, segment)| segment.clone()))
    }

    /// Checks a piece of `segment`; true at its end.
    fn check(&mut self, piece: &mut Piece, uuid: StoreUuid, segment: &Segment) -> bool {
        let (file, header) = (segment.file.as_ref(), segment.header);
        if self.offset == 0 {
            let bytes = u64::from(header.page_bytes);
            if piece.take(bytes).is_break() {
                return false;
            }
            self.offset = bytes;
            let mut page = [0; HEADER_BYTES];
            let read = file.read_at(0, &mut page).ok();
            let found = read.and_then(|_| SegmentHeader::decode(&page).ok());
            if found != Some(header) {
                piece.damage.push(0);
            }
        }
        let mut whole = true;
        let begin = self.offset;
        let expect = self.expect;
        let mut scan = Scan::without_bodies(file, uuid, header).reading_at_most(piece.left);
        scan.walk_from(begin, expect, Some(segment.end), &mut |event| {
            let (offset, end, sound, expect) = match &event {
                Event::Frame(frame) => {
                    let next = Expect::after(frame);
                    (frame.header.offset, frame.end, frame.is_whole(), next)
                }
                Event::Gap(gap) => (gap.offset, gap.until, false, gap.after(self.expect)),
            };
            if piece.take(end - offset).is_break() {
                whole = false;
                return ControlFlow::Break(());
            }
            if !sound {
                piece.damage.push(offset);
            }
            (self.offset, self.expect) = (end, expect);
            ControlFlow::Continue(())
        });
        whole
    }
}

/// What a step does.
#[derive(Debug)]
struct Piece {
    /// How many bytes more it may check.
    left: u64,
    /// How many it has checked.
    checked: u64,
    /// Where something was wrong.
    damage: Vec<u64>,
}

impl Piece {
    /// Takes `bytes` off the budget, if that has so much left or they are the first.
    fn take(&mut self, bytes: u64) -> ControlFlow<()> {
        if bytes > self.left && self.checked > 0 {
            return ControlFlow::Break(());
        }
        self.left = self.left.saturating_sub(bytes);
        self.checked += bytes;
        ControlFlow::Continue(())
    }
}
