//! What a log has done since it was opened, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets a [`Histogram`] has: the last but one ends at 16.8 s.
const BUCKETS: usize = 26;

/// Durations, in buckets of doubling width.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
    max: Duration,
}

impl Histogram {
    pub(crate) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.sum += took;
        self.max = self.max.max(took);
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// Each bucket: what is below this (`None`: whatever is longer), and how many are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let end =
            |bucket: usize| (bucket + 1 < BUCKETS).then(|| Duration::from_micros(1 << bucket));
        let counts = self.counts.iter().enumerate();
        counts.map(move |(bucket, count)| (end(bucket), *count))
    }
}

/// Reads of entries, by where they were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reads {
    /// In memory.
    pub memory: u64,
    /// In a mapped segment.
    pub mapped: u64,
    /// In a segment's file.
    pub file: u64,
}

/// What a log has done since it was opened, and how it stands. A snapshot: nothing in it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Batches taken.
    pub batches: u64,
    /// Writes to the log, each of all that waited.
    pub writes: u64,
    /// Bytes of these writes, with what pads them to pages.
    pub written_bytes: u64,
    /// Syncs of these writes.
    pub syncs: u64,
    /// How long each write took with its syncs.
    pub sync_time: Histogram,
    /// Times that the watermark slot was written and synced.
    pub slots: u64,
    /// Bytes taken and not yet durable.
    pub queued_bytes: u64,
    /// The write that is under way takes longer than the options allow.
    pub stalled: bool,
    /// Segments of the log, the active one included.
    pub segments: u64,
    /// Their size, in bytes.
    pub log_bytes: u64,
    /// Segments that are prepared.
    pub ready_segments: u64,
    /// Old segments that became new ones.
    pub recycled: u64,
    /// Old segments that were removed.
    pub removed: u64,
    /// Live entries of old segments that were written again, to free these segments.
    pub rewritten_entries: u64,
    /// Bytes of those.
    pub rewritten_bytes: u64,
    /// Reads of entries.
    pub reads: Reads,
}

/// What is counted where no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) memory: AtomicU64,
    pub(crate) mapped: AtomicU64,
    pub(crate) file: AtomicU64,
}

impl Counters {
    pub(crate) fn reads(&self) -> Reads {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reads {
            memory: get(&self.memory),
            mapped: get(&self.mapped),
            file: get(&self.file),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_below_the_end_of_their_bucket() {
        let mut histogram = Histogram::default();
        let recorded = [0, 1, 2, 3, 1000, 40_000_000].map(Duration::from_micros);
        for took in recorded {
            histogram.record(took);
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), recorded.iter().sum());
        assert_eq!(histogram.max(), Duration::from_secs(40));
        let filled = histogram.buckets().filter(|(_, count)| *count > 0);
        let ends = [Some(1), Some(2), Some(4), Some(1024), None];
        let ends = ends.map(|end| end.map(Duration::from_micros));
        let expected: Vec<_> = ends.into_iter().zip([1, 1, 2, 1, 1]).collect();
        assert_eq!(filled.collect::<Vec<_>>(), expected);
    }
}
