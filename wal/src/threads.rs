//! The two threads: one writes what nobody waits for, one prepares segments.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::engine::{Engine, Rest, Written};
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
        let mut threads = Self {
            engine: Arc::clone(engine),
            handles: Vec::new(),
        };
        threads.spawn("wal-writer", write)?;
        threads.spawn("wal-preparer", prepare)?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, run: fn(&Engine)) -> io::Result<()> {
        let engine = Arc::clone(&self.engine);
        let builder = Builder::new().name(name.to_owned());
        self.handles.push(builder.spawn(move || run(&engine))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.engine.stop();
        for handle in self.handles.drain(..) {
            // A thread that panicked has nothing left to say.
            let _ = handle.join();
        }
    }
}

fn write(engine: &Engine) {
    loop {
        // First said, then looked: who changes something afterwards sees it and wakes.
        engine.asleep.store(true, Ordering::SeqCst);
        let rest = engine.rest();
        let mut wishes = engine.wishes.lock();
        if !wishes.stop && !wishes.write && !wishes.look {
            match rest {
                Rest::Unlimited => engine.write_wished.wait(&mut wishes),
                Rest::Moment(_) => {
                    engine.asleep.store(false, Ordering::SeqCst);
                    let _ = engine.write_wished.wait_for(&mut wishes, SLOT_AFTER);
                }
                Rest::None => {}
            }
        }
        engine.asleep.store(false, Ordering::SeqCst);
        let asked = std::mem::take(&mut wishes.write) | std::mem::take(&mut wishes.look);
        let stop = wishes.stop;
        drop(wishes);
        // While frames follow each other, the newest vouches for those before it.
        let idle = rest == Rest::Moment(engine.durable_lsn());
        let written = match stop || (idle && !asked) {
            true => engine.step_writer(),
            false => engine.write(),
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
                let _ = engine.prepare_wished.wait_for(&mut wishes, RETRY_AFTER);
            }
            Prepared::Idle if !wishes.prepare => engine.prepare_wished.wait(&mut wishes),
            Prepared::Idle => {}
        }
        wishes.prepare = false;
    }
}
