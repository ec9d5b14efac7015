//! Reads sealed segments again, a bounded piece at a time, and checks every byte.

use std::ops::ControlFlow;

use parking_lot::Mutex;
use raftwerk_raft::{ByteBudget, ScrubReport};

use crate::recovery::scan::{Event, Expect, Scan};
use crate::state::State;

/// Where the next scrub goes on.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    next: u64,
}

impl Scrub {
    /// Checks whole segments until `budget` is used up, at least one.
    pub(crate) fn step(&mut self, state: &Mutex<State>, budget: ByteBudget) -> ScrubReport {
        let mut report = ScrubReport::default();
        loop {
            let (uuid, segment) = {
                let state = state.lock();
                let active = state
                    .segments
                    .last_key_value()
                    .map_or(0, |(number, _)| *number);
                // Of what is not sealed, the end may stand only in memory.
                let mut next = state.segments.range(self.next..active);
                let next = next.find(|(_, segment)| segment.sealed);
                (
                    state.uuid,
                    next.map(|(number, segment)| (*number, segment.clone())),
                )
            };
            let Some((number, segment)) = segment else {
                self.next = 0;
                report.completed = true;
                return report;
            };
            self.next = number + 1;
            report.checked_bytes += segment.end;
            let mut scan = Scan::new(segment.file.as_ref(), uuid, segment.header);
            let mut damage = Vec::new();
            scan.walk(Expect::default(), Some(segment.end), &mut |event| {
                match event {
                    Event::Frame(frame) if frame.is_whole() => {}
                    Event::Frame(frame) => damage.push(frame.header.offset),
                    Event::Gap(gap) => damage.push(gap.offset),
                }
                ControlFlow::Continue(())
            });
            // It may have been reused meanwhile.
            if state.lock().segments.contains_key(&number) {
                let say = |offset| format!("segment {number} is damaged at byte {offset}");
                report.damage.extend(damage.into_iter().map(say));
            }
            if report.checked_bytes >= budget.0 {
                return report;
            }
        }
    }
}
