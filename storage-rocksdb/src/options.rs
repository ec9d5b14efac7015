//! What can be set, and RocksDB's settings that follow from it.

use std::path::PathBuf;

use raftwerk_storage::folder::FolderMode;
use raftwerk_storage::queue::QueueOptions;
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 512;
/// RocksDB's own diary: how many files of how many bytes.
const DIARY_FILES: usize = 2;
const DIARY_BYTES: usize = MIB;

/// How to open a [`RocksLog`](crate::RocksLog). Memory is at most about
/// `memtable_bytes * memtables_max + cache_bytes`, beside the queue's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksLogOptions {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing or empty folder becomes a new store.
    pub mode: FolderMode,
    /// The queue in front of RocksDB.
    pub queue: QueueOptions,
    /// What is written goes into a table in memory of this size, in bytes; 64 MiB. Entries that
    /// are compacted before two tables are full are never written a second time.
    pub memtable_bytes: usize,
    /// How many such tables there may be until writing waits for the disk; 4, at least 3.
    pub memtables_max: u32,
    /// What is kept in memory of the tables on disk, their indexes included, in bytes; 16 MiB.
    pub cache_bytes: usize,
}

impl RocksLogOptions {
    /// A log in `path`, made if missing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: FolderMode::CreateIfMissing,
            queue: QueueOptions::default(),
            memtable_bytes: 64 * MIB,
            memtables_max: 4,
            cache_bytes: 16 * MIB,
        }
    }

    /// What RocksDB is told: for who measures the bare engine with the same settings, or opens its
    /// files with tools of their own.
    #[must_use]
    pub fn engine(&self) -> Options {
        let mut options = common(
            self.memtable_bytes,
            self.memtables_max,
            self.cache_bytes,
            None,
        );
        options.create_if_missing(true);
        // Removals meet what they remove in memory, and neither reaches a table on disk.
        options.set_min_write_buffer_number_to_merge(2);
        options.set_level_zero_file_num_compaction_trigger(8);
        options.set_level_zero_slowdown_writes_trigger(32);
        options.set_level_zero_stop_writes_trigger(64);
        // A crash leaves a cut end, which is no error; what was synced is proved elsewhere.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        // No file is used again, though a sync of one that does not grow would be cheaper: what an
        // earlier use left behind the end looks like a cut end, and RocksDB goes on with the next
        // file only if the numbers of the changes happen to fit. Its own crash tests lost synced
        // changes by that and have it off (facebook/rocksdb#12918).
        options.set_recycle_log_file_num(0);
        options.set_wal_bytes_per_sync(512 * KIB as u64);
        // Tables that are half removals are compacted soon: that is what frees space.
        options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
        options
    }
}

/// How to open a [`RocksStore`](crate::RocksStore). Memory is at most about
/// `memtable_bytes * memtables_max + cache_bytes`; twice that while a restore fills a new store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksStoreOptions {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing or empty folder becomes a new store.
    pub mode: FolderMode,
    /// What is written goes into a table in memory of this size, in bytes; 64 MiB.
    pub memtable_bytes: usize,
    /// How many such tables there may be until writing waits for the disk; 3, at least 2.
    pub memtables_max: u32,
    /// What is kept in memory of the tables on disk, their indexes included, in bytes; 64 MiB.
    pub cache_bytes: usize,
}

impl RocksStoreOptions {
    /// A store in `path`, made if missing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: FolderMode::CreateIfMissing,
            memtable_bytes: 64 * MIB,
            memtables_max: 3,
            cache_bytes: 64 * MIB,
        }
    }

    /// What RocksDB is told: for who measures the bare engine with the same settings, or opens its
    /// files with tools of their own.
    #[must_use]
    pub fn engine(&self) -> Options {
        // Keys that are not there are asked for too.
        let bloom_bits = Some(10.0);
        let mut options = common(
            self.memtable_bytes,
            self.memtables_max,
            self.cache_bytes,
            bloom_bits,
        );
        options.set_bytes_per_sync(MIB as u64);
        options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
        options
    }
}

fn common(
    memtable_bytes: usize,
    memtables_max: u32,
    cache_bytes: usize,
    bloom_bits: Option<f64>,
) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    blocks.set_block_size(16 * KIB);
    blocks.set_format_version(5);
    // Else the indexes of all open files stay in memory beside the cache.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if let Some(bits) = bloom_bits {
        blocks.set_bloom_filter(bits, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_paranoid_checks(true);
    options.set_write_buffer_size(memtable_bytes);
    options.set_max_write_buffer_number(i32::try_from(memtables_max).unwrap_or(i32::MAX));
    options.set_target_file_size_base(memtable_bytes as u64);
    options.set_max_bytes_for_level_base(4 * memtable_bytes as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(DIARY_FILES);
    options.set_max_log_file_size(DIARY_BYTES);
    options
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// RocksDB changes by itself what it takes for a contradiction.
    #[test]
    fn engine_of_a_log_runs_with_what_its_durability_rests_on() {
        let root = tempfile::tempdir().unwrap();
        let options = RocksLogOptions::new(root.path());
        drop(rocksdb::DB::open(&options.engine(), root.path()).unwrap());
        let files = fs::read_dir(root.path()).unwrap().map(Result::unwrap);
        let taken = files
            .filter(|file| file.file_name().to_string_lossy().starts_with("OPTIONS"))
            .map(|file| fs::read_to_string(file.path()).unwrap())
            .last()
            .unwrap();
        for line in [
            "recycle_log_file_num=0",
            "wal_recovery_mode=kPointInTimeRecovery",
            "track_and_verify_wals_in_manifest=true",
            "paranoid_checks=true",
        ] {
            assert!(taken.contains(line), "{line}");
        }
    }
}
