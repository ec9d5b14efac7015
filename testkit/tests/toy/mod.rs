//! A log so small that it can be right at a glance, and wrong in one way at a time.

use std::path::Path;

use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs, VfsFile};
use raftwerk_testkit::fault_vfs::FaultVfs;

/// The one thing a toy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    ForgetsFsync,
    ForgetsDirSync,
    RenamesUnsynced,
    AcksAfterFailedSync,
    SplitsBatch,
    TrustsLength,
    AppendsToEarlierLife,
    RecoveryRemovesFirst,
}

pub(crate) const HEADER: SyncSite = SyncSite("toy.header");
pub(crate) const APPEND: SyncSite = SyncSite("toy.append");
pub(crate) const FOLDER: SyncSite = SyncSite("toy.folder");

const MAGIC: &[u8] = b"toylog 1";

pub(crate) struct Toy {
    flaw: Option<Flaw>,
    file: Box<dyn VfsFile>,
    end: u64,
    poisoned: bool,
    pub(crate) items: Vec<u64>,
}

/// Not a good checksum; good enough to tell a torn toy.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn record(items: &[u64]) -> Vec<u8> {
    // Padded, so that a record spans sectors and can be torn.
    let body: Vec<u8> = items
        .iter()
        .flat_map(|item| [item.to_le_bytes(); 40].concat())
        .collect();
    let mut out = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    out.extend(checksum(&body).to_le_bytes());
    out.extend(body);
    out
}

fn parse(bytes: &[u8], flaw: Option<Flaw>) -> Option<(Vec<u64>, usize)> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let body = bytes.get(8..8 + len)?;
    if len == 0 || (flaw != Some(Flaw::TrustsLength) && checksum(body) != sum) {
        return None;
    }
    let items = body.chunks_exact(320).map(|item| {
        let copies: Vec<u64> = item
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
            .collect();
        // What a torn item reads as: a number nobody wrote.
        if copies.iter().all(|copy| *copy == copies[0]) {
            copies[0]
        } else {
            u64::MAX
        }
    });
    Some((items.collect(), 8 + len))
}

impl Toy {
    /// Opens by rewriting what is valid into a fresh file that replaces the old one.
    pub(crate) fn open(vfs: &FaultVfs, flaw: Option<Flaw>) -> std::io::Result<Self> {
        let (dir, log, temp) = (Path::new("d"), Path::new("d/log"), Path::new("d/log.tmp"));
        vfs.create_dir_all(dir, FOLDER)?;
        let mut bytes = MAGIC.to_vec();
        let mut items = Vec::new();
        let names = vfs.list(dir)?;
        if names.iter().any(|name| name == "log") {
            let old = vfs.open(log, OpenMode::Read)?;
            let mut content = vec![0; old.len()? as usize];
            old.read_at(0, &mut content)?;
            if !content.starts_with(MAGIC) {
                return Err(std::io::Error::other("no log"));
            }
            let mut rest = &content[MAGIC.len()..];
            while let Some((found, len)) = parse(rest, flaw) {
                bytes.extend(&rest[..len]);
                items.extend(found);
                rest = &rest[len..];
            }
            if flaw == Some(Flaw::AppendsToEarlierLife) {
                let file = vfs.open(log, OpenMode::Write)?;
                return Ok(Self {
                    flaw,
                    file,
                    end: bytes.len() as u64,
                    poisoned: false,
                    items,
                });
            }
        }
        if names.iter().any(|name| name == "log.tmp") {
            vfs.remove_file(temp)?;
        }
        let file = vfs.open(temp, OpenMode::CreateNew)?;
        file.write_at(0, &bytes)?;
        if flaw != Some(Flaw::RenamesUnsynced) {
            file.sync_data(HEADER)?;
        }
        if flaw == Some(Flaw::RecoveryRemovesFirst) && names.iter().any(|name| name == "log") {
            vfs.remove_file(log)?;
            vfs.sync_dir(dir, FOLDER)?;
        }
        vfs.rename(temp, log)?;
        if flaw != Some(Flaw::ForgetsDirSync) {
            vfs.sync_dir(dir, FOLDER)?;
        }
        Ok(Self {
            flaw,
            file,
            end: bytes.len() as u64,
            poisoned: false,
            items,
        })
    }

    /// Appends a batch; Ok means acknowledged.
    pub(crate) fn append(&mut self, items: &[u64]) -> std::io::Result<()> {
        if self.poisoned {
            return Err(std::io::Error::other("poisoned"));
        }
        let result = self.write(items);
        self.poisoned = result.is_err();
        result
    }

    fn write(&mut self, items: &[u64]) -> std::io::Result<()> {
        let parts = match self.flaw {
            Some(Flaw::SplitsBatch) => items.chunks(1),
            _ => items.chunks(items.len()),
        };
        for part in parts {
            let bytes = record(part);
            self.file.write_at(self.end, &bytes)?;
            self.end += bytes.len() as u64;
        }
        match self.flaw {
            Some(Flaw::ForgetsFsync) => {}
            Some(Flaw::AcksAfterFailedSync) => {
                if self.file.sync_data(APPEND).is_err() {
                    self.file.sync_data(APPEND)?;
                }
            }
            _ => self.file.sync_data(APPEND)?,
        }
        self.items.extend(items);
        Ok(())
    }
}
