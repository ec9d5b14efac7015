//! Threads for work that must not run on a run loop.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Tasks {
    waiting: VecDeque<Task>,
    stopped: bool,
}

#[derive(Default)]
struct Inner {
    tasks: Mutex<Tasks>,
    filled: Condvar,
}

/// A few threads and a queue. What is queued is bounded by its users: a group has at most one
/// task for its state machine, and as many others as the core has given it to do.
pub(crate) struct Pool {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    pub(crate) fn start(name: &str, threads: usize) -> io::Result<Arc<Self>> {
        let pool = Self {
            inner: Arc::default(),
            threads: Mutex::default(),
        };
        for number in 0..threads {
            let inner = Arc::clone(&pool.inner);
            let builder = thread::Builder::new().name(format!("{name}-{number}"));
            match builder.spawn(move || inner.run()) {
                Ok(thread) => pool.threads.lock().push(thread),
                Err(error) => {
                    pool.stop();
                    return Err(error);
                }
            }
        }
        Ok(Arc::new(pool))
    }

    /// Queues a task. A task may queue others, even while the pool stops.
    pub(crate) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        self.inner.tasks.lock().waiting.push_back(Box::new(task));
        self.inner.filled.notify_one();
    }

    /// Runs what is queued to its end and joins the threads.
    pub(crate) fn stop(&self) {
        self.inner.tasks.lock().stopped = true;
        self.inner.filled.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A worker catches the panics of its tasks, so it has none of its own.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn run(&self) {
        loop {
            let mut tasks = self.tasks.lock();
            let task = loop {
                if let Some(task) = tasks.waiting.pop_front() {
                    break task;
                }
                if tasks.stopped {
                    return;
                }
                self.filled.wait(&mut tasks);
            };
            drop(tasks);
            // A task tells its group of a panic when what it holds is dropped.
            let _ = catch_unwind(AssertUnwindSafe(task));
        }
    }
}
