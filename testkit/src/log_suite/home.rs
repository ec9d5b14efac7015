//! Where the suite's stores live, and how it takes them down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use raftwerk_raft::{StateError, StateStore, Storage, StorageError};

use crate::fault_vfs::{CallKind, CrashPlan, Fault, FaultVfs};

/// Makes homes: one for each test, empty, apart from all others. Any `Fn() -> impl LogHome` is one.
pub trait LogFactory {
    /// An empty home.
    fn create(&self) -> Box<dyn LogHome>;
}

impl<F, H> LogFactory for F
where
    F: Fn() -> H,
    H: LogHome + 'static,
{
    fn create(&self) -> Box<dyn LogHome> {
        Box::new(self())
    }
}

/// Whether a home can do what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ability {
    /// Done.
    Done,
    /// This home cannot: the case is printed as skipped, with this reason.
    Unsupported(&'static str),
}

/// The place that one store lives in: a folder, a file system in memory, a table.
pub trait LogHome: Send {
    /// Opens the store. Called again after each [`LogHome::kill`] and [`LogHome::power_loss`], by
    /// when every earlier handle is dropped, and once while an earlier one lives: to be refused.
    ///
    /// # Errors
    /// What the store says.
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError>;

    /// The process dies without a goodbye. What was submitted and not synced may stay or go. The
    /// earlier handles are dropped after this: they may fail, and must change nothing any more.
    fn kill(&mut self);

    /// The power goes: the durable stays, of the rest what `seed` picks (0: nothing). Earlier
    /// handles as for [`LogHome::kill`].
    fn power_loss(&mut self, seed: u64) -> Ability;

    /// Makes every sync of the open store wait until the returned value is dropped.
    ///
    /// # Errors
    /// Why this home cannot: the case is printed as skipped, with this reason.
    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str>;

    /// Makes the next sync of the open store fail; later ones succeed.
    fn fail_next_sync(&mut self) -> Ability;

    /// Whether what this home does takes its time: the cases of random batches are short then, and
    /// say what they left out.
    fn is_slow(&self) -> bool {
        false
    }
}

/// Something that is awaited while syncs are held: it counts once, and stays.
#[derive(Debug, Default)]
pub struct Arrival {
    came: Mutex<bool>,
    told: Condvar,
}

impl Arrival {
    /// It is here.
    pub fn tell(&self) {
        *self.came.lock() = true;
        self.told.notify_all();
    }

    /// Waits for it, `max` at most; true when it came.
    #[must_use]
    pub fn wait(&self, max: Duration) -> bool {
        let mut came = self.came.lock();
        self.told.wait_while_for(&mut came, |came| !*came, max);
        *came
    }
}

/// Syncs wait until this is dropped.
pub struct HeldSyncs {
    release: Option<Box<dyn FnOnce() + Send>>,
    arrival: Option<Arc<Arrival>>,
}

impl HeldSyncs {
    /// Runs `release` when dropped.
    #[must_use]
    pub fn new(release: impl FnOnce() + Send + 'static) -> Self {
        Self {
            release: Some(Box::new(release)),
            arrival: None,
        }
    }

    /// The home tells `arrival` when a sync begins to wait.
    #[must_use]
    pub fn telling(mut self, arrival: Arc<Arrival>) -> Self {
        self.arrival = Some(arrival);
        self
    }

    /// Told when a sync begins to wait; `None` where the home cannot say.
    #[must_use]
    pub fn arrival(&self) -> Option<Arc<Arrival>> {
        self.arrival.clone()
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl fmt::Debug for HeldSyncs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldSyncs")
    }
}

#[derive(Debug, Default)]
struct Gate {
    /// Closed, with whom to tell that somebody stands before it.
    closed: Mutex<Option<Arc<Arrival>>>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock();
        while let Some(arrival) = closed.as_ref() {
            arrival.tell();
            self.opened.wait(&mut closed);
        }
    }

    fn close(&self) -> Arc<Arrival> {
        let arrival = Arc::<Arrival>::default();
        *self.closed.lock() = Some(Arc::clone(&arrival));
        arrival
    }

    fn open(&self) {
        *self.closed.lock() = None;
        self.opened.notify_all();
    }
}

/// The home of a store (a log, or a state store) that does all its input and output through a
/// [`FaultVfs`]: it can do everything that the suites ask for.
pub struct VfsHome<F> {
    vfs: FaultVfs,
    open: F,
    gate: Arc<Gate>,
}

impl<F> VfsHome<F>
where
    F: FnMut(&FaultVfs) -> Result<Arc<dyn Storage>, StorageError> + Send,
{
    /// A log's home on an empty file system; `open` opens the log in it.
    pub fn new(open: F) -> Self {
        Self::begin(open)
    }
}

impl<F> VfsHome<F>
where
    F: FnMut(&FaultVfs) -> Result<Arc<dyn StateStore>, StateError> + Send,
{
    /// A state store's home on an empty file system; `open` opens the store in it.
    pub fn of_state(open: F) -> Self {
        Self::begin(open)
    }
}

impl<F> VfsHome<F> {
    fn begin(open: F) -> Self {
        let home = Self {
            vfs: FaultVfs::new(),
            open,
            gate: Arc::default(),
        };
        home.watch();
        home
    }

    /// The file system of the present life.
    #[must_use]
    pub const fn vfs(&self) -> &FaultVfs {
        &self.vfs
    }

    fn watch(&self) {
        let gate = Arc::clone(&self.gate);
        self.vfs.on_call(Box::new(move |_, call| {
            if matches!(call.kind, CallKind::Sync | CallKind::SyncDir) {
                gate.pass();
            }
        }));
    }

    pub(crate) fn open_with<R>(&mut self, open: impl FnOnce(&mut F, &FaultVfs) -> R) -> R {
        open(&mut self.open, &self.vfs)
    }

    pub(crate) fn fail_sync(&self) {
        self.vfs
            .fail_at(self.vfs.calls(), Fault::FsyncFailsOnceThenOk);
    }

    pub(crate) fn lose_power(&mut self, seed: u64) {
        self.crash(&match seed {
            0 => CrashPlan::LOSE_UNSYNCED,
            _ => CrashPlan::random(seed),
        });
    }

    pub(crate) fn crash(&mut self, plan: &CrashPlan) {
        self.vfs = self.vfs.crash(plan);
        // Whoever waits there belongs to the life that just ended.
        self.gate.open();
        self.watch();
    }
}

impl<F> fmt::Debug for VfsHome<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VfsHome")
            .field("vfs", &self.vfs)
            .finish_non_exhaustive()
    }
}

impl<F> LogHome for VfsHome<F>
where
    F: FnMut(&FaultVfs) -> Result<Arc<dyn Storage>, StorageError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn Storage>, StorageError> {
        (self.open)(&self.vfs)
    }

    fn kill(&mut self) {
        self.crash(&CrashPlan::Kill);
    }

    fn power_loss(&mut self, seed: u64) -> Ability {
        self.lose_power(seed);
        Ability::Done
    }

    fn hold_syncs(&mut self) -> Result<HeldSyncs, &'static str> {
        let arrival = self.gate.close();
        let gate = Arc::clone(&self.gate);
        Ok(HeldSyncs::new(move || gate.open()).telling(arrival))
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.fail_sync();
        Ability::Done
    }
}
