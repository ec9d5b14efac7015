//! Nothing that was submitted stays unwritten because those who could write it look away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftwerk_raft::{
    GroupId, GroupWrite, HardState, LogIndex, NodeId, Storage, Term, Ticket, WriteBatch,
};
use raftwerk_storage::vfs::{DirectIo, DiskSpace, OpenMode, SyncSite, Vfs, VfsFile, VfsLock};
use raftwerk_testkit::fault_vfs::{CallKind, FaultVfs};
use raftwerk_wal::{Background, Options, Prepared, SYNC_BATCH, SYNC_SLOT, Wal};

/// Far longer than anything here takes; only a test that fails waits for it.
const LIMIT: Duration = Duration::from_secs(20);

/// What syncs meet: told of each one, and held up at those of batches while a gate is there.
#[derive(Debug)]
struct Gate {
    seen: Mutex<Sender<SyncSite>>,
    hold: Mutex<Option<Receiver<()>>>,
}

impl Gate {
    fn pass(&self, site: SyncSite) {
        // The receiver may be gone when the log ends.
        let _ = self.seen.lock().unwrap().send(site);
        let held = (site == SYNC_BATCH).then(|| self.hold.lock().unwrap().take());
        if let Some(Some(hold)) = held {
            hold.recv().unwrap();
        }
    }
}

#[derive(Clone, Debug)]
struct GatedVfs {
    inner: FaultVfs,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    inner: Box<dyn VfsFile>,
    gate: Arc<Gate>,
}

impl VfsFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        self.gate.pass(site);
        self.inner.sync_data(site)
    }
}

impl Vfs for GatedVfs {
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        self.inner.create_dir_all(path, site)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let inner = self.inner.open(path, mode)?;
        let gate = Arc::clone(&self.gate);
        Ok(Box::new(GatedFile { inner, gate }))
    }

    fn direct_io(&self, path: &Path) -> io::Result<Option<DirectIo>> {
        self.inner.direct_io(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path, site: SyncSite) -> io::Result<()> {
        self.inner.sync_dir(dir, site)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        self.inner.lock(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Option<DiskSpace>> {
        self.inner.space(dir)
    }
}

/// A log with threads; what it syncs; and the gate.
fn open() -> (Arc<Wal>, Receiver<SyncSite>, Arc<Gate>) {
    let (seen, syncs) = channel();
    let gate = Arc::new(Gate {
        seen: Mutex::new(seen),
        hold: Mutex::new(None),
    });
    let vfs = GatedVfs {
        inner: FaultVfs::new(),
        gate: Arc::clone(&gate),
    };
    let options = Options {
        segment_bytes: 1024 * 1024,
        batch_bytes_max: 256 * 1024,
        ..Options::default()
    };
    let wal = Wal::open(Arc::new(vfs), "log", options).unwrap();
    (Arc::new(wal), syncs, gate)
}

fn vote(wal: &Wal, term: u64) -> Ticket {
    let hard_state = HardState {
        term: Term(term),
        vote: Some(NodeId(1)),
        commit: LogIndex::ZERO,
    };
    let write = GroupWrite {
        group: GroupId(1),
        hard_state: Some(hard_state),
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    wal.submit(batch).unwrap()
}

fn await_sync(syncs: &Receiver<SyncSite>, site: SyncSite) {
    while syncs.recv_timeout(LIMIT).expect("no such sync came") != site {}
}

#[test]
fn batch_submitted_while_a_waiter_writes_is_told_of_without_another_submit() {
    let (wal, syncs, gate) = open();
    for round in 0..20 {
        let (open_gate, hold) = channel();
        let term = 2 * round + 1;
        let (told, news) = channel();
        let told = Mutex::new(told);
        *gate.hold.lock().unwrap() = Some(hold);
        let first = vote(&wal, term);
        let waiter = Arc::clone(&wal);
        let waiter = std::thread::spawn(move || waiter.wait(first).unwrap());
        await_sync(&syncs, SYNC_BATCH);
        // Somebody is in the sync now, and holds the writer's role.
        let subscription = wal.on_durable(Box::new(move |news| {
            let _ = told.lock().unwrap().send(news.unwrap());
        }));
        let second = vote(&wal, term + 1);
        // The writer's thread looks, finds the role taken, and rests.
        std::thread::yield_now();
        open_gate.send(()).unwrap();
        while news
            .recv_timeout(LIMIT)
            .expect("nobody wrote the second batch")
            < second
        {}
        waiter.join().unwrap();
        drop(subscription);
    }
}

#[test]
fn slot_follows_when_the_log_falls_idle_after_one_batch() {
    let (wal, syncs, _gate) = open();
    for term in 1..=20 {
        while syncs.try_recv().is_ok() {}
        let ticket = vote(&wal, term);
        wal.wait(ticket).unwrap();
        await_sync(&syncs, SYNC_SLOT);
    }
}

#[test]
fn callback_may_wait_for_a_batch_it_submits() {
    let (wal, _syncs, _gate) = open();
    let (done, ended) = channel();
    let done = Mutex::new(done);
    let inside = Arc::downgrade(&wal);
    let first = Mutex::new(true);
    let subscription = wal.on_durable(Box::new(move |news| {
        news.unwrap();
        if std::mem::take(&mut *first.lock().unwrap())
            && let Some(wal) = inside.upgrade()
        {
            let ticket = vote(&wal, 2);
            wal.wait(ticket).unwrap();
            done.lock().unwrap().send(()).unwrap();
        }
    }));
    let ticket = vote(&wal, 1);
    wal.wait(ticket).unwrap();
    ended
        .recv_timeout(LIMIT)
        .expect("the callback waits for ever");
    drop(subscription);
}

#[test]
fn lone_writer_pays_one_write_and_one_sync_and_needs_nobody_else() {
    let vfs = FaultVfs::new();
    let options = Options {
        segment_bytes: 1024 * 1024,
        batch_bytes_max: 256 * 1024,
        background: Background::Manual,
        ..Options::default()
    };
    let wal = Wal::open(Arc::new(vfs.clone()), "log", options).unwrap();
    while wal.step_preparer() == Prepared::Progress {}
    let before = (vfs.calls_of(CallKind::Write), vfs.syncs_at(SYNC_BATCH));
    let calls = vfs.calls();
    for term in 1..=50 {
        wal.wait(vote(&wal, term)).unwrap();
    }
    let after = (vfs.calls_of(CallKind::Write), vfs.syncs_at(SYNC_BATCH));
    assert_eq!(after, (before.0 + 50, before.1 + 50));
    assert_eq!(vfs.calls(), calls + 100);
}

#[test]
fn whoever_submits_while_another_writes_shares_one_sync() {
    let (wal, syncs, gate) = open();
    let (open_gate, hold) = channel();
    *gate.hold.lock().unwrap() = Some(hold);
    let first = vote(&wal, 1);
    let waiter = Arc::clone(&wal);
    let waiter = std::thread::spawn(move || waiter.wait(first).unwrap());
    await_sync(&syncs, SYNC_BATCH);
    let tickets: Vec<_> = (2..=65).map(|term| vote(&wal, term)).collect();
    let before = wal.stats().syncs;
    open_gate.send(()).unwrap();
    for ticket in tickets {
        wal.wait(ticket).unwrap();
    }
    waiter.join().unwrap();
    // The one that was held up, and one for the others.
    assert_eq!(wal.stats().syncs, before + 2);
}
