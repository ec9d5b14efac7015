//! Reads the log again in the background, slowly, so that what rots is found while there are peers
//! to repair it from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftwerk_raft::{ByteBudget, Storage};

use crate::cli::words::complain;

/// What one step reads at most, but for a single record that is larger.
const STEP_BYTES: u64 = 256 * 1024;
/// Between two steps at least: no more than 250 MiB a second, whatever is asked for.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Between the end of the log and its beginning.
const REST: Duration = Duration::from_secs(60);
/// How many findings are kept.
const FOUND_MAX: usize = 16;

/// What the scrub has found so far.
#[derive(Debug, Default)]
pub(crate) struct Scrubbed {
    bytes: AtomicU64,
    passes: AtomicU64,
    damage: Mutex<Vec<String>>,
}

impl Scrubbed {
    /// Bytes that were read and checked.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How often the whole log was.
    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// The first findings, each once.
    pub(crate) fn damage(&self) -> Vec<String> {
        self.damage.lock().clone()
    }

    /// Remembers a finding; true when it is new.
    fn found(&self, what: &str) -> bool {
        let mut damage = self.damage.lock();
        let new = damage.len() < FOUND_MAX && !damage.iter().any(|known| known == what);
        if new {
            damage.push(what.to_owned());
        }
        new
    }

    /// One step, and how long to rest after it at this rate.
    fn step(&self, storage: &dyn Storage, bytes_per_second: u64) -> Duration {
        let budget = ByteBudget(STEP_BYTES.min(bytes_per_second));
        let report = match storage.scrub(budget) {
            Ok(report) => report,
            Err(error) => {
                let what = format!("the log cannot be scrubbed: {error}");
                if self.found(&what) {
                    complain!("{what}");
                }
                return REST;
            }
        };
        self.bytes
            .fetch_add(report.checked_bytes, Ordering::Relaxed);
        for what in &report.damage {
            if self.found(what) {
                complain!("the log has rotted: {what}; restart, and it is told what is lost");
            }
        }
        if report.completed {
            self.passes.fetch_add(1, Ordering::Relaxed);
            return REST;
        }
        let millis = report.checked_bytes.saturating_mul(1000) / bytes_per_second.max(1);
        Duration::from_millis(millis).max(PAUSE_MIN)
    }
}

/// Scrubs until it is aborted.
pub(crate) async fn scrub(
    storage: Arc<dyn Storage>,
    scrubbed: Arc<Scrubbed>,
    bytes_per_second: u64,
) {
    loop {
        let (storage, scrubbed) = (Arc::clone(&storage), Arc::clone(&scrubbed));
        let step = move || scrubbed.step(storage.as_ref(), bytes_per_second);
        // A panic in there has said why.
        let pause = tokio::task::spawn_blocking(step).await.unwrap_or(REST);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use raftwerk_raft::{
        Entry, GroupId, GroupWrite, LogId, LogIndex, SubmitError, Term, WriteBatch,
    };

    use super::*;

    fn write(log: &dyn Storage, index: u64, bytes: usize) {
        let id = LogId::new(Term(1), LogIndex(index));
        let write = GroupWrite {
            group: GroupId(1),
            append: vec![Entry::normal(id, vec![7; bytes].into())],
            ..GroupWrite::default()
        };
        let mut batch = WriteBatch {
            groups: vec![write],
            ..WriteBatch::default()
        };
        let ticket = loop {
            match log.submit(batch) {
                Ok(ticket) => break ticket,
                // The next segment is on its way.
                Err(SubmitError::Full(back)) => batch = back,
                Err(other) => panic!("{other}"),
            }
            std::thread::yield_now();
        };
        log.wait(ticket).unwrap();
    }

    #[test]
    fn rest_follows_from_what_was_read_and_the_rate() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = crate::serve::backends::disk();
        let options = raftwerk_wal::Options {
            segment_bytes: 256 * 1024,
            batch_bytes_max: 16 * 1024,
            ..raftwerk_wal::Options::default()
        };
        let log = raftwerk_wal::Wal::open(vfs, dir.path().join("log"), options).unwrap();
        let scrubbed = Scrubbed::default();
        // Nothing is sealed yet: the pass is over at once.
        assert_eq!(scrubbed.step(&log, 1 << 20), REST);
        assert_eq!((scrubbed.passes(), scrubbed.bytes()), (1, 0));
        for index in 1..=120 {
            write(&log, index, 12 * 1024);
        }
        for rate in [1 << 18, 1 << 20, 5 << 20] {
            let before = scrubbed.bytes();
            let rest = scrubbed.step(&log, rate);
            let read = scrubbed.bytes() - before;
            assert!((STEP_BYTES / 2..=STEP_BYTES).contains(&read), "{read}");
            assert_eq!(rest, Duration::from_millis(read * 1000 / rate));
        }
        assert!(scrubbed.damage().is_empty());
    }

    #[test]
    fn findings_are_told_once_and_bounded() {
        let scrubbed = Scrubbed::default();
        assert!(scrubbed.found("0"));
        assert!(!scrubbed.found("0"));
        for number in 1..100 {
            scrubbed.found(&number.to_string());
        }
        assert_eq!(scrubbed.damage().len(), FOUND_MAX);
    }
}
