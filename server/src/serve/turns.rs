//! Turns of the run loop that the clients' requests ask for, on the threads that serve these.

use std::sync::Arc;
use std::task::Wake;

use raftwerk::Host;
use tokio::sync::Notify;

/// Woken when requests wait for a run loop that rests.
#[derive(Debug, Default)]
pub(super) struct Turns {
    asked: Notify,
}

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.asked.notify_one();
    }
}

impl Turns {
    /// Runs them as they are asked for, without end.
    pub(super) async fn run(self: Arc<Self>, host: Host) {
        loop {
            self.asked.notified().await;
            // The requests of the other tasks that are ready go with the same turn.
            tokio::task::yield_now().await;
            host.turn();
        }
    }
}
