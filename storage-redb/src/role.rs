//! One writer at a time, without a lock held over what it writes.

use parking_lot::{Condvar, Mutex};

/// The writer's role.
#[derive(Debug, Default)]
pub(crate) struct Role {
    taken: Mutex<bool>,
    free: Condvar,
}

/// Whoever has it is the writer until it is dropped.
pub(crate) struct Writing<'a>(&'a Role);

impl Role {
    /// Waits until nobody else writes.
    pub(crate) fn take(&self) -> Writing<'_> {
        let mut taken = self.taken.lock();
        while *taken {
            self.free.wait(&mut taken);
        }
        *taken = true;
        Writing(self)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.free.notify_one();
    }
}
