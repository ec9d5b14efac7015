//! Writers that feed a log, each a group of its own.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Append, LogKind, LogTarget};
use crate::place::scratch;
use crate::random::Payloads;
use crate::run::{Slice, Subject, repeat};

/// A writer keeps at least this much of its log, as a group does behind a snapshot.
const KEPT_BYTES: u64 = 4 << 20;
/// And not more entries than this.
const KEPT_ENTRIES: u64 = 4096;
/// It compacts once so much more has come.
const KEPT_ENTRIES_MIN: u64 = 16;

/// How often a log may tidy up while much is given, in batches.
const UPKEEP_BATCHES: u64 = 512;

/// What the writers do.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many write at once.
    pub writers: u64,
    /// Entries of a step.
    pub batch: u64,
    /// Bytes of an entry.
    pub entry_bytes: usize,
    /// Groups of each writer, which take turns.
    pub groups: u64,
    /// How many of the group's newest entries are read after a step.
    pub tail: u64,
    /// Old entries go when there are more than a writer keeps.
    pub compact: bool,
    /// A writer goes on when its step is durable; else at once, and the slice ends with a sync.
    pub durable: bool,
    /// One thread gives the steps of all writers, each by itself, and goes on when all are durable.
    pub one_thread: bool,
    /// How many steps a writer leaves outstanding, by ticket, before it waits for the oldest; none
    /// when zero: each step is waited for then, or not at all.
    pub pending: usize,
}

/// How many steps a writer with tickets gives between two looks at the clock.
const STEPS_A_LOOK: usize = 16;

/// A log and its writers.
pub struct Feed {
    name: &'static str,
    shape: Shape,
    // Before the folder: a log is closed before its files go.
    log: Box<dyn LogTarget>,
    writers: Vec<Writer>,
    _folder: Option<TempDir>,
}

impl Shape {
    /// So many writers, each with one group and entries of so many bytes, one in a step, durable.
    #[must_use]
    pub const fn durable(writers: u64, entry_bytes: usize) -> Self {
        Self {
            writers,
            batch: 1,
            entry_bytes,
            groups: 1,
            tail: 0,
            compact: true,
            durable: true,
            one_thread: false,
            pending: 0,
        }
    }
}

impl Feed {
    /// An empty log in a folder of its own.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new(kind: &LogKind, shape: Shape) -> Result<Self, String> {
        let folder = scratch()?;
        let mut feed = Self::in_folder(kind, shape, folder.path())?;
        feed._folder = Some(folder);
        Ok(feed)
    }

    /// An empty log in `folder`, which stays.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn in_folder(kind: &LogKind, shape: Shape, folder: &Path) -> Result<Self, String> {
        let payloads = Payloads::new(shape.entry_bytes);
        let group = |number| Group::new(number, shape, payloads.starting_at(number));
        let writer = |number| Writer {
            groups: (1..=shape.groups)
                .map(|turn| group(number * shape.groups + turn))
                .collect(),
        };
        Ok(Self {
            name: kind.name,
            shape,
            log: (kind.open)(folder)?,
            writers: (0..shape.writers).map(writer).collect(),
            _folder: None,
        })
    }

    /// Gives steps of all writers, a durable batch of them at a time, until so many bytes have
    /// been given; returns how many.
    ///
    /// # Errors
    /// What the log says.
    pub fn give(&mut self, bytes: u64) -> Result<u64, String> {
        let mut given = 0;
        let mut batches: u64 = 0;
        while given < bytes {
            let steps: Vec<Append> = self.writers.iter_mut().map(Writer::step).collect();
            let entries = take(self.log.as_ref(), self.shape, &steps)?;
            given += entries * self.shape.entry_bytes as u64;
            batches += 1;
            if batches.is_multiple_of(UPKEEP_BATCHES) {
                self.log.upkeep()?;
            }
        }
        self.log.settle()?;
        Ok(given)
    }

    /// The payload that has been given and not compacted, in bytes.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let groups = self.writers.iter().flat_map(|writer| &writer.groups);
        let entries: u64 = groups.map(|group| group.next - 1 - group.compacted).sum();
        entries * self.shape.entry_bytes as u64
    }

    /// One thread gives all writers' steps in one batch.
    fn together(&mut self, length: Duration) -> Result<Slice, String> {
        let (log, shape) = (self.log.as_ref(), self.shape);
        let writers = &mut self.writers;
        repeat(length, || {
            let steps: Vec<Append> = writers.iter_mut().map(Writer::step).collect();
            take(log, shape, &steps)
        })
    }

    /// The same log and writers under another name.
    #[must_use]
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Each writer in a thread of its own.
    fn apart(&mut self, length: Duration) -> Result<Slice, String> {
        let (log, shape) = (self.log.as_ref(), self.shape);
        let barrier = Barrier::new(self.writers.len());
        let barrier = &barrier;
        let slices: Vec<Result<Slice, String>> = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .writers
                .iter_mut()
                .map(|writer| {
                    scope.spawn(move || {
                        barrier.wait();
                        match shape.pending {
                            0 => repeat(length, || take(log, shape, &[writer.step()])),
                            pending => outstanding(log, pending, writer, length),
                        }
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|writer| writer.join().unwrap_or_else(|_| Err("panicked".into())))
                .collect()
        });
        let mut all = Slice::default();
        for slice in slices {
            let slice = slice?;
            all.operations += slice.operations;
            all.elapsed = all.elapsed.max(slice.elapsed);
            all.latencies.add(&slice.latencies);
        }
        Ok(all)
    }
}

impl Subject for Feed {
    fn name(&self) -> &str {
        self.name
    }

    fn slice(&mut self, length: Duration) -> Result<Slice, String> {
        let before = self.log.syncs();
        let shape = self.shape;
        let alone = self.writers.len() == 1 && shape.pending == 0;
        let mut slice = if self.log.fed_by_one() || alone || shape.one_thread {
            self.together(length)?
        } else {
            self.apart(length)?
        };
        if !shape.durable || shape.pending > 0 {
            let start = Instant::now();
            self.log.settle()?;
            slice.elapsed += start.elapsed();
        }
        slice.syncs = before.zip(self.log.syncs()).map(|(from, to)| to - from);
        Ok(slice)
    }

    fn upkeep(&mut self) -> Result<(), String> {
        self.log.upkeep()
    }
}

/// Gives steps and waits for the oldest once so many are outstanding.
fn outstanding(
    log: &dyn LogTarget,
    pending: usize,
    writer: &mut Writer,
    length: Duration,
) -> Result<Slice, String> {
    let mut tickets = VecDeque::with_capacity(pending.min(STEPS_A_LOOK * 64));
    repeat(length, || {
        let mut entries = 0;
        for _ in 0..STEPS_A_LOOK {
            if let Some(oldest) = tickets.front().filter(|_| tickets.len() >= pending) {
                let durable = log.wait(*oldest)?;
                while tickets.front().is_some_and(|ticket| *ticket <= durable) {
                    tickets.pop_front();
                }
            }
            let step = writer.step();
            let ticket = log.submit(std::slice::from_ref(&step))?;
            if pending < usize::MAX {
                tickets.push_back(ticket);
            }
            entries += step.payloads.len() as u64;
        }
        Ok(entries)
    })
}

/// Gives the steps, reads the ends of their logs, and says how many entries were given.
fn take(log: &dyn LogTarget, shape: Shape, steps: &[Append]) -> Result<u64, String> {
    if shape.one_thread {
        log.append_each(steps)?;
    } else {
        log.append(steps, shape.durable)?;
    }
    let mut entries = 0;
    for step in steps {
        entries += step.payloads.len() as u64;
        if shape.tail > 0 {
            let first = (step.last() + 1).saturating_sub(shape.tail).max(1);
            log.read(step.group, first, step.last())?;
        }
    }
    Ok(entries)
}

/// Somebody who gives steps, to one of its groups after the other.
struct Writer {
    groups: VecDeque<Group>,
}

impl Writer {
    fn step(&mut self) -> Append {
        self.groups.rotate_left(1);
        match self.groups.front_mut() {
            Some(group) => group.step(),
            None => Append::default(),
        }
    }
}

/// One group and how far its log is.
struct Group {
    group: u64,
    batch: u64,
    payloads: Payloads,
    next: u64,
    /// The last index that was compacted.
    compacted: u64,
    keep: u64,
}

impl Group {
    fn new(group: u64, shape: Shape, payloads: Payloads) -> Self {
        let keep = KEPT_BYTES / shape.groups / payloads.bytes().max(1) as u64;
        Self {
            group,
            batch: shape.batch,
            payloads,
            next: 1,
            compacted: 0,
            keep: if shape.compact {
                keep.clamp(KEPT_ENTRIES_MIN, KEPT_ENTRIES)
            } else {
                u64::MAX
            },
        }
    }

    /// The next step. Compacts half when twice as much is there as is to be kept.
    fn step(&mut self) -> Append {
        let first = self.next;
        self.next += self.batch;
        let held = first - 1 - self.compacted;
        let removed = (held / 2 >= self.keep).then(|| {
            let from = self.compacted + 1;
            self.compacted += held / 2;
            from..=self.compacted
        });
        Append {
            group: self.group,
            first,
            payloads: (0..self.batch).map(|_| self.payloads.cut()).collect(),
            removed,
        }
    }
}
