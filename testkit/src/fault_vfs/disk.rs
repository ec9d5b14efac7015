//! What the disk holds, what the page cache holds, and the unsynced steps between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::names::Names;
use super::plan::{CrashPlan, Keep, Verdict};

/// Files larger than this are refused: nothing under test means to write them.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// One unsynced step of a file.
#[derive(Clone, Debug)]
struct Step {
    order: u64,
    what: StepKind,
    /// A sync failed over it: later syncs think it is done.
    stranded: bool,
}

#[derive(Clone, Debug)]
enum StepKind {
    /// The whole sector as the page cache had it after this write.
    Sector { number: u64, image: Arc<[u8]> },
    /// A new length; shorter or longer.
    Len(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) now: Content,
    pub(super) durable: Content,
    steps: Vec<Step>,
    bad_sectors: BTreeSet<u64>,
}

impl File {
    /// Makes `verdict`'s choice of the steps durable, in their order.
    fn settle(&mut self, sector_bytes: usize, mut verdict: impl FnMut(&Step) -> Verdict) {
        let steps = std::mem::take(&mut self.steps);
        let verdicts: Vec<Verdict> = steps.iter().map(&mut verdict).collect();
        // Length changes are journalled in order: a later one implies those before it.
        let last_len = steps.iter().zip(&verdicts).rposition(|(step, verdict)| {
            matches!(step.what, StepKind::Len(_)) && *verdict == Verdict::Kept
        });
        for (number, (step, verdict)) in steps.into_iter().zip(verdicts).enumerate() {
            match step.what {
                StepKind::Len(len) => {
                    if last_len.is_none_or(|last| number > last) {
                        continue;
                    }
                    if len < self.durable.len() {
                        self.durable.set_len(len);
                    } else {
                        self.durable.extend_raw(len);
                    }
                }
                StepKind::Sector { number, image } => {
                    let count = match verdict {
                        Verdict::Kept => image.len(),
                        Verdict::Torn(bytes) => bytes.min(image.len()),
                        Verdict::Lost => 0,
                    };
                    if let Some(bytes) = image.get(..count) {
                        self.durable.write_raw(number * sector_bytes as u64, bytes);
                    }
                }
            }
        }
        self.durable.trim();
    }

    /// Makes the length and those of the unsynced sectors durable that are among `sectors`.
    fn sync(&mut self, sector_bytes: usize, sectors: &Range<u64>) {
        let is_meant = |step: &Step| step.place().is_none_or(|number| sectors.contains(&number));
        if self
            .steps
            .iter()
            .all(|step| !step.stranded && is_meant(step))
        {
            self.steps.clear();
            self.durable = self.now.clone();
            return;
        }
        let (synced, mut left): (Vec<Step>, Vec<Step>) = std::mem::take(&mut self.steps)
            .into_iter()
            .partition(|step| !step.stranded && is_meant(step));
        // What was written again since is dirty again, and carries the stranded bytes along.
        let again: BTreeSet<Option<u64>> = synced.iter().map(Step::place).collect();
        left.retain(|step| !again.contains(&step.place()));
        self.steps = synced;
        self.settle(sector_bytes, |_| Verdict::Kept);
        self.steps = left;
    }
}

impl Step {
    /// The sector, or `None` for the length.
    fn place(&self) -> Option<u64> {
        match self.what {
            StepKind::Sector { number, .. } => Some(number),
            StepKind::Len(_) => None,
        }
    }
}

/// The state of the whole file system; a clone is an image and costs a few reference counts.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) sector_bytes: usize,
    pub(super) capacity_bytes: Option<u64>,
    files: BTreeMap<u64, Arc<File>>,
    pub(super) names: Names,
    next_file: u64,
    next_order: u64,
}

impl Disk {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self {
            sector_bytes,
            capacity_bytes: None,
            files: BTreeMap::new(),
            names: Names::default(),
            next_file: 0,
            next_order: 0,
        }
    }

    pub(super) fn file(&self, id: u64) -> io::Result<&File> {
        self.files
            .get(&id)
            .map(Arc::as_ref)
            .ok_or_else(|| io::Error::other("file vanished"))
    }

    fn file_mut(&mut self, id: u64) -> io::Result<&mut File> {
        self.files
            .get_mut(&id)
            .map(Arc::make_mut)
            .ok_or_else(|| io::Error::other("file vanished"))
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        let id = self.next_file;
        let order = self.order();
        self.names.create_file(path, id, order)?;
        self.next_file += 1;
        self.files.insert(id, Arc::default());
        Ok(id)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let order = self.order();
        self.names.create_dir(path, order)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let order = self.order();
        self.names.rename(from, to, order)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let order = self.order();
        self.names.remove(path, order)
    }

    pub(super) fn read(&self, id: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file(id)?;
        let sector = self.sector_bytes as u64;
        let end = offset.saturating_add(buffer.len() as u64);
        let touched = offset / sector..end.div_ceil(sector);
        if file.bad_sectors.range(touched).next().is_some() {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(file.now.read(offset, buffer))
    }

    pub(super) fn write(&mut self, id: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let sector_bytes = self.sector_bytes;
        let mut order = self.next_order;
        let file = self.file_mut(id)?;
        let mut step = |what| {
            order += 1;
            Step {
                order,
                what,
                stranded: false,
            }
        };
        if end > file.now.len() {
            file.steps.push(step(StepKind::Len(end)));
        }
        file.now.write(offset, bytes);
        let sector = sector_bytes as u64;
        for number in offset / sector..end.div_ceil(sector) {
            let mut image = vec![0; sector_bytes];
            file.now.read_raw(number * sector, &mut image);
            file.steps.push(step(StepKind::Sector {
                number,
                image: image.into(),
            }));
            file.bad_sectors.remove(&number);
        }
        self.next_order = order;
        Ok(())
    }

    pub(super) fn set_len(&mut self, id: u64, len: u64) -> io::Result<()> {
        if len > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let order = self.order();
        let file = self.file_mut(id)?;
        file.now.set_len(len);
        file.steps.push(Step {
            order,
            what: StepKind::Len(len),
            stranded: false,
        });
        Ok(())
    }

    /// Makes the length of a file durable, and what the sectors hold that `bytes` touch.
    pub(super) fn sync(&mut self, id: u64, bytes: &Range<u64>) -> io::Result<()> {
        let sector_bytes = self.sector_bytes;
        let sector = sector_bytes as u64;
        let sectors = bytes.start / sector..bytes.end.div_ceil(sector);
        self.file_mut(id)?.sync(sector_bytes, &sectors);
        Ok(())
    }

    /// A sync failed: the pages are clean and not durable.
    pub(super) fn strand(&mut self, id: u64) -> io::Result<()> {
        for step in &mut self.file_mut(id)?.steps {
            step.stranded = true;
        }
        Ok(())
    }

    /// Bytes taken by files that have a name or one of `open`.
    pub(super) fn used_bytes(&self, open: &BTreeMap<u64, usize>) -> u64 {
        let named: BTreeSet<u64> = self.names.files().map(|(_, id)| id).collect();
        self.files
            .iter()
            .filter(|(id, _)| named.contains(id) || open.contains_key(id))
            .map(|(_, file)| file.now.allocated_bytes())
            .sum()
    }

    /// Whether a write of `id` would exceed the capacity.
    pub(super) fn lacks_space(
        &self,
        id: u64,
        offset: u64,
        bytes: &[u8],
        open: &BTreeMap<u64, usize>,
    ) -> io::Result<bool> {
        let Some(capacity) = self.capacity_bytes else {
            return Ok(false);
        };
        let mut after = self.file(id)?.now.clone();
        let before = after.allocated_bytes();
        after.write(offset, bytes);
        let growth = after.allocated_bytes() - before;
        Ok(growth > 0 && self.used_bytes(open) + growth > capacity)
    }

    /// How many data steps and name steps are unsynced.
    pub(super) fn unsynced(&self) -> (usize, usize) {
        (
            self.files.values().map(|file| file.steps.len()).sum(),
            self.names.unsynced(),
        )
    }

    /// The file system in its next life.
    pub(super) fn after(mut self, plan: &CrashPlan) -> Self {
        if let CrashPlan::PowerLoss { data, names } = plan {
            self.lose_power(*data, *names);
        }
        let known = self.names.known_files();
        self.files.retain(|id, _| known.contains(id));
        self
    }

    fn lose_power(&mut self, data: Keep, names: Keep) {
        let mut orders: Vec<u64> = self
            .files
            .values()
            .flat_map(|file| file.steps.iter().map(|step| step.order))
            .collect();
        orders.sort_unstable();
        let sector_bytes = self.sector_bytes;
        for file in self
            .files
            .values_mut()
            .filter(|file| !file.steps.is_empty())
        {
            let file = Arc::make_mut(file);
            file.settle(sector_bytes, |step| {
                data.verdict(orders.partition_point(|order| *order < step.order))
            });
            file.now = file.durable.clone();
        }
        self.names
            .lose_power(|number| names.verdict(number) == Verdict::Kept);
    }

    /// Of the names and what they lead to; none while something is unsynced.
    pub(super) fn digest(&self) -> Option<u64> {
        if self.unsynced() != (0, 0) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        for (path, id) in self.names.files() {
            let file = self.files.get(&id)?;
            path.hash(&mut hasher);
            hasher.write_u64(file.now.digest());
            file.bad_sectors.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// Changes a file's bytes behind everybody's back, on the disk and in the cache.
    pub(super) fn poke(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let id = self.names.file_at(path)?;
        let sector = self.sector_bytes as u64;
        let touched = offset / sector..(offset + bytes.len() as u64).div_ceil(sector);
        let file = self.file_mut(id)?;
        let left = usize::try_from(file.now.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        file.now.write_raw(offset, bytes);
        file.durable.write_raw(offset, bytes);
        file.durable.trim();
        file.bad_sectors.retain(|number| !touched.contains(number));
        file.steps
            .retain(|step| step.place().is_none_or(|number| !touched.contains(&number)));
        Ok(())
    }

    pub(super) fn peek(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.file(self.names.file_at(path)?)?;
        let mut bytes = vec![0; usize::try_from(file.now.len()).unwrap_or(usize::MAX)];
        file.now.read(0, &mut bytes);
        Ok(bytes)
    }

    pub(super) fn break_sector(&mut self, path: &Path, number: u64) -> io::Result<()> {
        let id = self.names.file_at(path)?;
        self.file_mut(id)?.bad_sectors.insert(number);
        Ok(())
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.names
            .files()
            .map(|(path, _)| path.to_owned())
            .collect()
    }
}
