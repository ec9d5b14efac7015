//! The thread around a turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use raftwerk_raft::Storage;

use super::{Stage, Workers};
use crate::apply::Actor;
use crate::mailbox::Mailbox;

/// One run loop.
pub(crate) struct Loop {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) workers: Workers,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) tick: Duration,
    pub(crate) batch_bytes_max: usize,
    /// The longest that a tick came late, in microseconds.
    pub(crate) late_micros: Arc<AtomicU64>,
}

impl Loop {
    /// Runs it in a thread, which ends with the state machines it had.
    pub(crate) fn start(self, name: String) -> io::Result<JoinHandle<Vec<Arc<Actor>>>> {
        thread::Builder::new().name(name).spawn(move || self.run())
    }

    fn run(self) -> Vec<Arc<Actor>> {
        let _closes = Closes(Arc::clone(&self.mailbox));
        let mut stage = Box::new(Stage::new(
            Arc::clone(&self.storage),
            self.batch_bytes_max,
            Arc::clone(&self.mailbox),
            self.workers,
        ));
        let notify = Arc::clone(&self.mailbox);
        let subscription = self
            .storage
            .on_durable(Box::new(move |mark| notify.durable(mark)));
        let mut next_tick = Instant::now() + self.tick;
        while !stage.has_stopped() {
            let rests_until = (!stage.is_ready()).then_some(next_tick);
            let Some(taken) = self.mailbox.exchange(stage, rests_until) else {
                return Vec::new();
            };
            stage = taken;
            if stage.has_stopped() {
                // In another's hands.
                break;
            }
            let now = Instant::now();
            let ticks = now >= next_tick;
            if ticks {
                let late = now.duration_since(next_tick).as_micros();
                let late = u64::try_from(late).unwrap_or(u64::MAX);
                self.late_micros.fetch_max(late, Ordering::Relaxed);
                // Missed ticks are not made up for: after a pause nobody's lease has run out twice.
                next_tick = now + self.tick;
            }
            stage.run(ticks);
        }
        drop(subscription);
        let (last, actors) = stage.end();
        // A poisoned store has told every group before.
        let _ = self.storage.wait(last);
        actors
    }
}

/// Closes a loop's mailbox when the loop ends, by a panic too: nobody waits for what is gone.
struct Closes(Arc<Mailbox>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}
