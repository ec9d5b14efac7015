//! Refuses writes while the disk is nearly full.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftwerk_storage::vfs::Vfs;

/// How long an answer of the operating system is believed.
const BELIEVED: Duration = Duration::from_millis(50);

/// Open while the disk under a folder has room. A write that is refused here costs nothing; one
/// that meets a full disk further in would stop the member.
pub struct DiskGate {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    reserve_bytes: u64,
    last: Mutex<Option<(Instant, bool)>>,
}

impl fmt::Debug for DiskGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskGate")
            .field("folder", &self.folder)
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

impl DiskGate {
    /// Closed while the disk under `folder` has less than `reserve_bytes` left.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>, folder: impl Into<PathBuf>, reserve_bytes: u64) -> Self {
        Self {
            vfs,
            folder: folder.into(),
            reserve_bytes,
            last: Mutex::new(None),
        }
    }

    /// There is room. Where the file system does not tell, there is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let now = Instant::now();
        let last = *self.last.lock();
        if let Some((asked, open)) = last
            && now.saturating_duration_since(asked) < BELIEVED
        {
            return open;
        }
        let space = self.vfs.space(&self.folder).ok().flatten();
        let open = space.is_none_or(|space| space.free_bytes >= self.reserve_bytes);
        *self.last.lock() = Some((now, open));
        open
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use raftwerk_storage::vfs::SyncSite;
    use raftwerk_testkit::fault_vfs::FaultVfs;

    use super::*;

    #[test]
    fn gate_follows_what_the_disk_has_left() {
        let vfs = FaultVfs::new();
        vfs.create_dir_all(Path::new("/data"), SyncSite("test"))
            .unwrap();
        vfs.set_capacity(Some(1000));
        let gate = |reserve| DiskGate::new(Arc::new(vfs.clone()), "/data", reserve).is_open();
        assert!(gate(1000));
        assert!(!gate(1001));
        vfs.set_capacity(None);
        assert!(gate(1001));
    }
}
