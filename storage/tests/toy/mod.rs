//! An engine for the queue's tests: a map that forgets nothing once `commit` has returned.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{ByteBudget, Entry, GroupId, LogError, LogIndex, ScrubReport, StorageError};
use raftwerk_storage::image::GroupImage;
use raftwerk_storage::payload_fits;
use raftwerk_storage::queue::{Commit, Engine, QueueOptions, TicketQueue};

/// What outlives the engine. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct ToyDisk {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    data: Mutex<Data>,
    released: Condvar,
}

#[derive(Default)]
struct Data {
    entries: BTreeMap<(GroupId, LogIndex), Entry>,
    images: BTreeMap<GroupId, GroupImage>,
    commits: Vec<(Commit, ThreadId)>,
    /// How many commits arrived, those included that wait or failed.
    arrived: usize,
    held: bool,
    /// Reads that have what they came for wait before they return.
    reads_held: bool,
    reads_arrived: usize,
    fails: Option<&'static str>,
    /// The life of the engine that may write.
    life: u64,
    /// Tells whether an engine is open, for each life its own.
    in_use: Arc<AtomicBool>,
}

pub(crate) struct ToyEngine {
    disk: ToyDisk,
    life: u64,
    in_use: Arc<AtomicBool>,
}

impl Drop for ToyEngine {
    fn drop(&mut self) {
        self.in_use.store(false, Ordering::Release);
    }
}

#[allow(dead_code, reason = "each test binary uses its own part")]
impl ToyDisk {
    pub(crate) fn open(
        &self,
        options: QueueOptions,
    ) -> Result<TicketQueue<ToyEngine>, StorageError> {
        let data = self.inner.data.lock();
        if data.in_use.swap(true, Ordering::Acquire) {
            return Err(StorageError::Locked {
                path: "toy".to_owned(),
            });
        }
        let in_use = Arc::clone(&data.in_use);
        let engine = ToyEngine {
            disk: self.clone(),
            life: data.life,
            in_use,
        };
        let images = data.images.clone();
        drop(data);
        TicketQueue::open(engine, images, options)
    }

    /// Whatever engine is open writes no more.
    pub(crate) fn crash(&self) {
        let mut data = self.inner.data.lock();
        data.life += 1;
        data.in_use = Arc::default();
        data.held = false;
        data.fails = None;
        self.inner.released.notify_all();
    }

    pub(crate) fn hold(&self) {
        self.inner.data.lock().held = true;
    }

    pub(crate) fn release(&self) {
        self.inner.data.lock().held = false;
        self.inner.released.notify_all();
    }

    pub(crate) fn hold_reads(&self) {
        self.inner.data.lock().reads_held = true;
    }

    pub(crate) fn release_reads(&self) {
        self.inner.data.lock().reads_held = false;
        self.inner.released.notify_all();
    }

    pub(crate) fn wait_read_arrived(&self) {
        let mut data = self.inner.data.lock();
        while data.reads_arrived == 0 {
            self.inner.released.wait(&mut data);
        }
    }

    pub(crate) fn fail_next(&self, cause: &'static str) {
        self.inner.data.lock().fails = Some(cause);
    }

    /// The commits done, and on which thread.
    pub(crate) fn commits(&self) -> Vec<(Commit, ThreadId)> {
        self.inner.data.lock().commits.clone()
    }

    /// Waits until so many commits have begun.
    pub(crate) fn wait_arrived(&self, count: usize) {
        let mut data = self.inner.data.lock();
        while data.arrived < count {
            self.inner.released.wait(&mut data);
        }
    }
}

impl Data {
    fn apply(&mut self, commit: &Commit) {
        for change in &commit.groups {
            let key = |index| (change.group, index);
            for range in &change.removed {
                let mut index = range.start;
                while index < range.end {
                    let old = self.entries.remove(&key(index));
                    assert!(old.is_some(), "removed {index}, which is not there");
                    index = index.next();
                }
            }
            for entry in &change.put {
                self.entries.insert(key(entry.index()), entry.clone());
            }
            match &change.image {
                Some(image) => self.images.insert(change.group, image.clone()),
                None => self.images.remove(&change.group),
            };
            let held: Vec<_> = self
                .entries
                .range(key(LogIndex::ZERO)..=key(LogIndex::MAX))
                .map(|(_, entry)| entry.id)
                .collect();
            let image = change.image.clone().unwrap_or_default();
            let first = image.first();
            assert_eq!(held.len() as u64, image.last().index.next().since(first));
            for (id, offset) in held.into_iter().zip(0..) {
                assert_eq!(id.index, first.plus(offset));
                assert_eq!(image.term(id.index), Ok(id.term));
            }
        }
    }
}

impl Engine for ToyEngine {
    fn commit(&self, commit: &Commit) -> Result<(), String> {
        let mut data = self.disk.inner.data.lock();
        data.arrived += 1;
        self.disk.inner.released.notify_all();
        while data.held {
            self.disk.inner.released.wait(&mut data);
        }
        if data.life != self.life {
            return Err("crashed".to_owned());
        }
        match data.fails.take() {
            Some("panic") => panic!("on request"),
            Some(cause) => return Err(cause.to_owned()),
            None => {}
        }
        data.apply(commit);
        data.commits.push((commit.clone(), thread::current().id()));
        Ok(())
    }

    fn read(
        &self,
        group: GroupId,
        range: Range<LogIndex>,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let mut data = self.disk.inner.data.lock();
        let found = || {
            let found = data.entries.range((group, range.start)..(group, range.end));
            found.map(|(_, entry)| entry)
        };
        let found = found()
            .take(payload_fits(found(), max_bytes))
            .cloned()
            .collect();
        data.reads_arrived += 1;
        self.disk.inner.released.notify_all();
        while data.reads_held {
            self.disk.inner.released.wait(&mut data);
        }
        Ok(found)
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        Some(77)
    }

    fn scrub(&self, _budget: ByteBudget) -> Result<ScrubReport, StorageError> {
        Ok(ScrubReport {
            completed: true,
            ..ScrubReport::default()
        })
    }
}
