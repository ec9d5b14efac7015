//! What the backends on RocksDB set, for the bare engine too: the ratio of the two is the layer's
//! cost and nothing else's.

use raftwerk_storage_rocksdb::{RocksLogOptions, RocksStoreOptions};
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// As a log's.
pub(crate) fn log() -> Options {
    let sizes = RocksLogOptions::new("");
    let mut options = common(
        sizes.memtable_bytes,
        sizes.memtables_max,
        sizes.cache_bytes,
        None,
    );
    options.set_min_write_buffer_number_to_merge(2);
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_level_zero_slowdown_writes_trigger(32);
    options.set_level_zero_stop_writes_trigger(64);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_recycle_log_file_num(sizes.memtables_max as usize);
    options.set_wal_bytes_per_sync(512 * KIB as u64);
    options
}

/// As a state store's.
pub(crate) fn store() -> Options {
    let sizes = RocksStoreOptions::new("");
    let bloom_bits = Some(10.0);
    let mut options = common(
        sizes.memtable_bytes,
        sizes.memtables_max,
        sizes.cache_bytes,
        bloom_bits,
    );
    options.set_bytes_per_sync(MIB as u64);
    options
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
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if let Some(bits) = bloom_bits {
        blocks.set_bloom_filter(bits, false);
    }
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_paranoid_checks(true);
    options.set_write_buffer_size(memtable_bytes);
    options.set_max_write_buffer_number(i32::try_from(memtables_max).unwrap_or(i32::MAX));
    options.set_target_file_size_base(memtable_bytes as u64);
    options.set_max_bytes_for_level_base(4 * memtable_bytes as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_stats_dump_period_sec(0);
    // Tables that are half removals are compacted soon.
    options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
    options
}
