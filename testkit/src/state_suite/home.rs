//! Where the suite's state stores live, and how it takes them down.

use std::sync::Arc;

use raftwerk_raft::{StateError, StateStore};

use crate::fault_vfs::{CrashPlan, FaultVfs};
use crate::log_suite::{Ability, VfsHome};

/// Makes homes: one for each test, empty, apart from all others. Any `Fn() -> impl StateHome` is
/// one.
pub trait StateFactory {
    /// An empty home.
    fn create(&self) -> Box<dyn StateHome>;
}

impl<F, H> StateFactory for F
where
    F: Fn() -> H,
    H: StateHome + 'static,
{
    fn create(&self) -> Box<dyn StateHome> {
        Box::new(self())
    }
}

/// The place that one state store lives in.
pub trait StateHome: Send {
    /// Opens the store. Called again after each [`StateHome::kill`] and [`StateHome::power_loss`],
    /// by when every earlier handle is dropped.
    ///
    /// # Errors
    /// What the store says.
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError>;

    /// The process dies without a goodbye: what was written and not persisted may stay or go. The
    /// earlier handles are dropped after this and must change nothing any more.
    fn kill(&mut self);

    /// The power goes: the durable stays, of the rest what `seed` picks (0: nothing).
    fn power_loss(&mut self, seed: u64) -> Ability;

    /// Makes the next sync of the open store fail; later ones succeed.
    fn fail_next_sync(&mut self) -> Ability;
}

impl<F> StateHome for VfsHome<F>
where
    F: FnMut(&FaultVfs) -> Result<Arc<dyn StateStore>, StateError> + Send,
{
    fn open(&mut self) -> Result<Arc<dyn StateStore>, StateError> {
        self.open_with(|open, vfs| open(vfs))
    }

    fn kill(&mut self) {
        self.crash(&CrashPlan::Kill);
    }

    fn power_loss(&mut self, seed: u64) -> Ability {
        self.lose_power(seed);
        Ability::Done
    }

    fn fail_next_sync(&mut self) -> Ability {
        self.fail_sync();
        Ability::Done
    }
}
