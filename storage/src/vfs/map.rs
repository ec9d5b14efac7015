//! Files mapped into memory: the only unsafe code of this project.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use memmap2::Mmap;

/// Keeps the writes and the mappings of one open file apart: above zero so many writes are under
/// way, below zero so many mappings live.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicI64);

/// Holds a gate; lets go when dropped.
#[derive(Debug)]
pub(super) struct Pass<G: AsRef<Gate>> {
    gate: G,
    step: i64,
}

impl AsRef<Self> for Gate {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Gate {
    /// A write or a cut begins; refused while a mapping lives.
    pub(super) fn write(&self) -> io::Result<Pass<&Self>> {
        Pass::new(self, 1)
    }
}

impl<G: AsRef<Gate>> Pass<G> {
    fn new(gate: G, step: i64) -> io::Result<Self> {
        let enter = |held: i64| (held.signum() != -step.signum()).then(|| held + step);
        let entered = gate
            .as_ref()
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter);
        match entered {
            Ok(_) => Ok(Self { gate, step }),
            Err(_) => Err(ErrorKind::ResourceBusy.into()),
        }
    }
}

impl<G: AsRef<Gate>> Drop for Pass<G> {
    fn drop(&mut self) {
        self.gate.as_ref().0.fetch_sub(self.step, Ordering::AcqRel);
    }
}

/// All of a file, mapped. As long as it lives, the file is not written or cut through the handle
/// that it came from.
///
/// **Reading it can kill the process**: what the disk cannot read, and what somebody else has cut
/// off the file, is no error here but the signal `SIGBUS`.
pub struct FileMap {
    // In this order: the mapping goes before others may write.
    map: Mmap,
    _pass: Pass<Arc<Gate>>,
}

impl fmt::Debug for FileMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileMap({} bytes)", self.map.len())
    }
}

impl FileMap {
    pub(super) fn new(file: &File, gate: &Arc<Gate>) -> io::Result<Self> {
        let pass = Pass::new(Arc::clone(gate), -1)?;
        // SAFETY: the bytes do not change while the mapping lives. Writes and cuts through this
        // handle are refused meanwhile; a store asks for mappings of files alone that it has
        // sealed, no second store opens its folder, since the lock on it is held for life, and a
        // later life of the store never writes to a file that an earlier one has sealed. Another
        // program that writes into the folder is beyond what a store can stand, mapped or not.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map, _pass: pass })
    }

    /// The file as it was when it was mapped.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{OpenMode, RealVfs, Vfs, VfsFile};
    use super::*;

    fn file(dir: &Path) -> Box<dyn VfsFile> {
        let file = RealVfs.open(&dir.join("file"), OpenMode::CreateNew);
        let file = file.unwrap();
        file.write_at(0, &[7; 10_000]).unwrap();
        file
    }

    #[test]
    fn mapped_file_is_not_written_until_its_last_mapping_goes() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        let first = file.map().unwrap().unwrap();
        let second = file.map().unwrap().unwrap();
        assert_eq!(first.bytes(), &[7; 10_000]);
        drop(first);
        let busy = |outcome: io::Result<()>| outcome.unwrap_err().kind() == ErrorKind::ResourceBusy;
        assert!(busy(file.write_at(0, &[8])));
        assert!(busy(file.set_len(0)));
        assert_eq!(second.bytes()[0], 7);
        drop(second);
        file.write_at(0, &[8]).unwrap();
        assert_eq!(file.map().unwrap().unwrap().bytes()[0], 8);
    }

    #[test]
    fn mapping_outlives_the_handle_and_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        let map = file.map().unwrap().unwrap();
        drop(file);
        RealVfs.remove_file(&dir.path().join("file")).unwrap();
        assert_eq!(
            map.bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            70_000
        );
    }
}
