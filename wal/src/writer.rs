//! The writer: carries out jobs. Whoever holds it has the writer's role.

use std::io;
use std::sync::Arc;

use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::VfsFile;

use crate::plan::{Job, Step};
use crate::slot::Slot;

/// Writes and syncs; knows nothing of groups. At most one exists per log.
#[derive(Debug)]
pub(crate) struct Writer {
    uuid: StoreUuid,
    slot_file: Arc<dyn VfsFile>,
    slot: Slot,
}

impl Writer {
    pub(crate) fn new(uuid: StoreUuid, slot_file: Arc<dyn VfsFile>, slot: Slot) -> Self {
        Self {
            uuid,
            slot_file,
            slot,
        }
    }

    /// Carries out `job`. After an error nothing is known of it.
    pub(crate) fn step(&self, job: &Job) -> io::Result<()> {
        for step in &job.steps {
            let Step {
                file,
                offset,
                frame,
                sync,
            } = step;
            match sync {
                Some(site) => file.write_synced(*offset, frame.frame(), *site)?,
                None => file.write_at(*offset, frame.frame())?,
            }
        }
        Ok(())
    }

    /// The newest frame that the slot vouches for.
    pub(crate) const fn slot_lsn(&self) -> u64 {
        self.slot.lsn
    }

    /// Makes the slot vouch for everything up to `lsn`.
    pub(crate) fn write_slot(&mut self, lsn: u64, segment: u64, end: u64) -> io::Result<()> {
        let slot = Slot {
            sequence: self.slot.sequence + 1,
            lsn,
            segment,
            end,
        };
        slot.write(&self.slot_file, self.uuid)?;
        self.slot = slot;
        Ok(())
    }
}
