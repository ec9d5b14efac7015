//! What an embedder may set.

use std::time::Duration;

use raftwerk_raft::StorageError;

use crate::segment::format::{PAGE_BYTES_MAX, PAGE_BYTES_MIN};

/// What to do with an end of the log that was perhaps acknowledged: the last write is there and
/// wrong, and it was made within the few milliseconds that the watermark slot lags behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AmbiguousTail {
    /// Do not open; the error says where, and what to do.
    #[default]
    Refuse,
    /// Keep what stands before it. Right for a member that has peers: they hold what is missing.
    KeepPrefix,
}

/// What to do with damage that lost something of some groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Open, and say of each group what it lost: the others are not concerned.
    #[default]
    Confine,
    /// Do not open, and leave the log as it was found. Right where the only group is the whole
    /// store.
    Refuse,
}

/// Who does the writing that nobody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Two threads: one writes, one prepares segments.
    #[default]
    Threads,
    /// Nobody: the owner calls [`crate::Wal::step_writer`] and [`crate::Wal::step_preparer`].
    Manual,
}

/// How segments are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// Directly where the file system says that it can, else through the page cache.
    #[default]
    Probe,
    /// Past the page cache, in whole pages: a sync has less to do. Where that cannot be, opening
    /// fails.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// How to open a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The size of a segment in bytes: a multiple of `page_bytes`, at least eight pages and at
    /// most 1 GiB. Segments are larger where the checkpoint of all groups takes much of that, and
    /// a batch that does not fit gets one of its size.
    pub segment_bytes: u64,
    /// The largest batch as encoded, in bytes, and as much as one write takes: from a page to
    /// 256 MiB. What is larger is refused as [`raftwerk_raft::SubmitError::TooLarge`], a single
    /// entry too.
    pub batch_bytes_max: u64,
    /// What writes are aligned to, in bytes: a power of two from 512 to 65,536.
    pub page_bytes: u32,
    /// How much payload of recent entries is kept in memory, in bytes, all groups together. What
    /// is not yet durable is kept in any case.
    pub tail_bytes_max: u64,
    /// The same for one group.
    pub group_tail_bytes_max: u64,
    /// How much memory may hold of the footers of sealed segments, which say where their entries
    /// stand, in bytes; what is not held is read when it is needed. One segment's is held in any
    /// case.
    pub index_cache_bytes: u64,
    /// Sealed segments are read through mappings, where the file system has them: one copy less,
    /// and no system call. A sector that the disk cannot read then kills the process (`SIGBUS`)
    /// instead of being an error. Opening, checking and scrubbing never read that way.
    pub mapped_reads: bool,
    /// How much live entries of old segments may be written again, so that these can be reused:
    /// in percent of the space that the log takes for everything else; 0 to never do that.
    pub rewrite_percent: u32,
    /// A sync that takes longer raises [`raftwerk_raft::Pressure::stalled`].
    pub stall_after: Duration,
    /// What to do with a doubtful end.
    pub ambiguous_tail: AmbiguousTail,
    /// What to do when groups lost something.
    pub on_damage: OnDamage,
    /// While the log is written in pieces of this size or more, in bytes, segments are prepared by
    /// setting zeros aside, where the file system can, and not by writing them: half as much goes
    /// to the disk, and each sync has to note what was written for the first time. 0: always;
    /// `u64::MAX`: never.
    pub set_aside_bytes: u64,
    /// Who writes in the background.
    pub background: Background,
    /// How segments are written. [`crate::Wal::io`] says what it came to.
    pub io: Io,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            batch_bytes_max: 16 * 1024 * 1024,
            page_bytes: 4096,
            tail_bytes_max: 64 * 1024 * 1024,
            group_tail_bytes_max: 4 * 1024 * 1024,
            index_cache_bytes: 4 * 1024 * 1024,
            mapped_reads: true,
            rewrite_percent: 100,
            stall_after: Duration::from_secs(10),
            ambiguous_tail: AmbiguousTail::default(),
            on_damage: OnDamage::default(),
            set_aside_bytes: 4 * 1024 * 1024,
            background: Background::default(),
            io: Io::default(),
        }
    }
}

/// The largest segment, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The largest batch, in bytes.
const BATCH_BYTES_MAX: u64 = 1 << 28;
/// The fewest pages of a segment.
const SEGMENT_PAGES_MIN: u64 = 8;

impl Options {
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        let wrong = |name, reason: &str| {
            Err(StorageError::Option {
                name,
                reason: reason.into(),
            })
        };
        let page = self.page_bytes;
        if !page.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page) {
            return wrong("page_bytes", "not a power of two from 512 to 65,536");
        }
        let page = u64::from(page);
        if !self.segment_bytes.is_multiple_of(page) {
            return wrong("segment_bytes", "not a multiple of page_bytes");
        }
        if self.segment_bytes < SEGMENT_PAGES_MIN * page || self.segment_bytes > SEGMENT_BYTES_MAX {
            return wrong("segment_bytes", "not between eight pages and 1 GiB");
        }
        if self.batch_bytes_max < page || self.batch_bytes_max > BATCH_BYTES_MAX {
            return wrong("batch_bytes_max", "not between a page and 256 MiB");
        }
        Ok(())
    }
}
