//! Writers that go on through whatever happens to the members, and what must be found afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::client::{Client, agreed_hash, key, value, verify};
use crate::processes::{Cluster, PATIENCE};

const WRITERS: usize = 8;
const VALUE_BYTES: usize = 24;

/// What the writers saw: the moments of acknowledgements, and how many each one got.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Vec<Instant>,
    counts: [usize; WRITERS],
}

/// The same, and who is told of each acknowledgement.
#[derive(Debug, Default)]
struct Watched {
    seen: Mutex<Seen>,
    grown: Notify,
    stop: AtomicBool,
}

/// Eight tasks that write keys of their own, one after the other, each with a value of its own.
#[derive(Debug)]
pub struct Writers {
    watched: Arc<Watched>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them; they write until [`Writers::end`].
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        let watched = Arc::new(Watched::default());
        let tasks = (0..WRITERS)
            .map(|writer| {
                let client = Client::of_all(cluster, writer);
                tokio::spawn(write(writer, client, Arc::clone(&watched)))
            })
            .collect();
        Self { watched, tasks }
    }

    /// Waits until `count` more writes are acknowledged than now.
    ///
    /// # Panics
    /// When they are not after half of [`PATIENCE`].
    pub async fn more(&self, count: usize, cluster: &Cluster) {
        let acknowledged = || self.watched.seen.lock().acknowledged.len();
        let goal = acknowledged() + count;
        let grown = async {
            while acknowledged() < goal {
                self.watched.grown.notified().await;
            }
        };
        let within = tokio::time::timeout(PATIENCE / 2, grown).await;
        assert!(within.is_ok(), "no service\n{}", cluster.outputs());
    }

    /// Lets each finish its last write.
    ///
    /// # Panics
    /// When one of them did.
    pub async fn end(self) -> Written {
        self.watched.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("writer");
        }
        let seen = std::mem::take(&mut *self.watched.seen.lock());
        Written {
            acknowledged: seen.acknowledged,
            counts: seen.counts,
        }
    }
}

fn prefix(writer: usize) -> String {
    format!("w{writer}/")
}

async fn write(writer: usize, mut client: Client, watched: Arc<Watched>) {
    let mut number = 0;
    while !watched.stop.load(Ordering::Relaxed) {
        let key = key(&prefix(writer), number);
        client.put(&key, &value(&key, VALUE_BYTES)).await;
        number += 1;
        let mut seen = watched.seen.lock();
        seen.acknowledged.push(Instant::now());
        if let Some(count) = seen.counts.get_mut(writer) {
            *count = number;
        }
        drop(seen);
        watched.grown.notify_one();
    }
}

/// What was acknowledged.
#[derive(Debug)]
pub struct Written {
    acknowledged: Vec<Instant>,
    counts: [usize; WRITERS],
}

impl Written {
    /// How many writes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The times between an acknowledgement and the next, longest first.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        let mut gaps: Vec<Duration> = self
            .acknowledged
            .windows(2)
            .filter_map(|pair| Some(*pair.last()? - *pair.first()?))
            .collect();
        gaps.sort_by(|a, b| b.cmp(a));
        gaps
    }

    /// Reads everything linearizably from each member by itself, and expects all members to agree.
    ///
    /// # Panics
    /// When a write is missing or another value stands in its place.
    pub async fn verify(&self, cluster: &Cluster) {
        for member in &cluster.members {
            let mut client = Client::of(member);
            for (writer, count) in self.counts.iter().enumerate() {
                verify(&mut client, &prefix(writer), *count, VALUE_BYTES).await;
            }
        }
        agreed_hash(cluster).await;
    }
}
