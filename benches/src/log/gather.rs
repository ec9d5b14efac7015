//! Many writers on an engine that takes one batch at a time, as somebody would do it by hand: they
//! hand their steps to one thread, which commits all that wait with one sync and wakes each.

use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};

use parking_lot::{Condvar, Mutex};

use super::{Append, LogTarget};

/// A log whose writers come in threads of their own.
struct Gathered {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    log: Box<dyn LogTarget>,
    queue: Mutex<Queue>,
    /// Tells the writer of work, and of the end.
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    steps: Vec<Append>,
    waiting: Vec<Waiter>,
    closing: bool,
}

type Answer = Result<(), String>;

struct Waiter {
    thread: Thread,
    answer: Arc<OnceLock<Answer>>,
}

/// Puts such a thread before `log`.
pub(super) fn gathered(log: Box<dyn LogTarget>) -> Box<dyn LogTarget> {
    let shared = Arc::new(Shared {
        log,
        queue: Mutex::default(),
        work: Condvar::new(),
    });
    let writing = Arc::clone(&shared);
    Box::new(Gathered {
        shared,
        writer: Some(thread::spawn(move || writing.run())),
    })
}

impl Shared {
    fn run(&self) {
        loop {
            let (steps, waiting) = {
                let mut queue = self.queue.lock();
                while queue.steps.is_empty() && !queue.closing {
                    self.work.wait(&mut queue);
                }
                let steps = std::mem::take(&mut queue.steps);
                (steps, std::mem::take(&mut queue.waiting))
            };
            if steps.is_empty() {
                return;
            }
            let answer = self.log.append(&steps, true);
            for waiter in waiting {
                // Nobody else answers it.
                let _ = waiter.answer.set(answer.clone());
                waiter.thread.unpark();
            }
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl LogTarget for Gathered {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        if !durable {
            return self.shared.log.append(steps, false);
        }
        let answer = Arc::new(OnceLock::new());
        let first = {
            let mut queue = self.shared.queue.lock();
            let first = queue.steps.is_empty();
            queue.steps.extend_from_slice(steps);
            queue.waiting.push(Waiter {
                thread: thread::current(),
                answer: Arc::clone(&answer),
            });
            first
        };
        if first {
            self.shared.work.notify_one();
        }
        loop {
            if let Some(answer) = answer.get() {
                return answer.clone();
            }
            thread::park();
        }
    }

    fn settle(&self) -> Result<(), String> {
        self.shared.log.settle()
    }

    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String> {
        self.shared.log.read(group, first, last)
    }

    fn syncs(&self) -> Option<u64> {
        self.shared.log.syncs()
    }

    fn fed_by_one(&self) -> bool {
        false
    }

    fn upkeep(&self) -> Result<(), String> {
        self.shared.log.upkeep()
    }
}
