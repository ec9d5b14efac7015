//! The two threads: one writes what nobody waits for, one prepares segments.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::engine::{Engine, Written};
use crate::preparer::Prepared;

/// How long the watermark slot may lag behind an idle log.
const SLOT_AFTER: Duration = Duration::from_millis(5);
/// How long to wait before a full disk is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Stops and joins when dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    engine: Arc<Engine>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn start(engine: &Arc<Engine>) -> io::Result<Self> {
        let spawn = |name: &str, run: fn(&Engine)| {
            let engine = Arc::clone(engine);
            Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&engine))
        };
        let handles = vec![spawn("wal-writer", write)?, spawn("wal-preparer", prepare)?];
        Ok(Self {
            engine: Arc::clone(engine),
            handles,
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.engine.wish(|wishes| wishes.stop = true);
        for handle in self.handles.drain(..) {
            // A thread that panicked has nothing left to say.
            let _ = handle.join();
        }
    }
}

fn write(engine: &Engine) {
    loop {
        let lags = engine.slot_lags();
        let mut wishes = engine.wishes.lock();
        if !wishes.stop && !wishes.write {
            engine.asleep.store(!lags, Ordering::Relaxed);
            if lags {
                let _ = engine.wished.wait_for(&mut wishes, SLOT_AFTER);
            } else {
                engine.wished.wait(&mut wishes);
            }
            engine.asleep.store(false, Ordering::Relaxed);
        }
        let (stop, asked) = (wishes.stop, std::mem::take(&mut wishes.write));
        drop(wishes);
        let written = match asked {
            true => engine.write(),
            false => engine.step_writer(),
        };
        // Before the end everything goes out, as far as it can.
        if stop && matches!(written, Written::Idle | Written::Poisoned) {
            return;
        }
    }
}

fn prepare(engine: &Engine) {
    loop {
        let step = engine.step_preparer();
        let mut wishes = engine.wishes.lock();
        if wishes.stop {
            return;
        }
        match step {
            Prepared::Progress => continue,
            Prepared::NoSpace => {
                let _ = engine.wished.wait_for(&mut wishes, RETRY_AFTER);
            }
            Prepared::Idle if !wishes.prepare => engine.wished.wait(&mut wishes),
            Prepared::Idle => {}
        }
        wishes.prepare = false;
    }
}
