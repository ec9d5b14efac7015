//! raft-engine, the log of TiKV: many groups, its own group commit, compaction by rewriting.

use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use raftwerk_raft::codec::encode_hard_state;

use super::bare_redb::hard_state;
use super::{Append, LogTarget, words};

const STATE_KEY: &[u8] = b"state";
const INDEX_BYTES: usize = 8;

/// An entry's bytes behind its index.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &Self::Entry) -> u64 {
        let index = entry.get_value().first_chunk::<INDEX_BYTES>();
        u64::from_le_bytes(index.copied().unwrap_or_default())
    }
}

struct RaftEngine(Engine);

pub(super) fn open(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    open_with(folder, common())
}

/// With files small enough in sum that old ones are used again while it is measured.
pub(super) fn open_recycling(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    open_with(folder, recycling())
}

/// The same, and files to use are made before it begins.
pub(super) fn open_prefilled(folder: &Path) -> Result<Box<dyn LogTarget>, String> {
    open_with(folder, prefilled())
}

/// How these two open it, in words.
pub(super) fn options() -> String {
    let (recycling, prefilled) = (recycling(), prefilled());
    format!("raft-engine: {recycling:?}; prefilled: {prefilled:?}")
}

fn common() -> Config {
    Config {
        // Off by default in a library of ours too; nothing that is measured can be compressed.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    }
}

fn recycling() -> Config {
    Config {
        enable_log_recycle: true,
        purge_threshold: ReadableSize::mb(512),
        ..common()
    }
}

fn prefilled() -> Config {
    Config {
        prefill_for_recycle: true,
        prefill_limit: Some(ReadableSize::mb(768)),
        ..recycling()
    }
}

fn open_with(folder: &Path, config: Config) -> Result<Box<dyn LogTarget>, String> {
    let dir = folder.join("engine");
    let dir = dir.to_str().ok_or("a path that is no text")?.to_owned();
    let engine = Engine::open(Config { dir, ..config }).map_err(words)?;
    Ok(Box::new(RaftEngine(engine)))
}

impl LogTarget for RaftEngine {
    fn append(&self, steps: &[Append], durable: bool) -> Result<(), String> {
        let mut batch = LogBatch::with_capacity(steps.len() * 2);
        for step in steps {
            let entries: Vec<BytesValue> = (step.first..)
                .zip(&step.payloads)
                .map(|(index, payload)| {
                    let mut bytes = Vec::with_capacity(INDEX_BYTES + payload.len());
                    bytes.extend(index.to_le_bytes());
                    bytes.extend_from_slice(payload);
                    let mut entry = BytesValue::new();
                    entry.set_value(bytes);
                    entry
                })
                .collect();
            batch
                .add_entries::<Indexed>(step.group, &entries)
                .map_err(words)?;
            let mut state = Vec::new();
            encode_hard_state(&hard_state(step), &mut state);
            batch
                .put(step.group, STATE_KEY.to_vec(), state)
                .map_err(words)?;
        }
        self.0.write(&mut batch, durable).map_err(words)?;
        for step in steps {
            if let Some(to) = step.compact_to() {
                self.0.compact_to(step.group, to + 1);
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), String> {
        self.0.sync().map_err(words)
    }

    fn read(&self, group: u64, first: u64, last: u64) -> Result<u64, String> {
        let mut found = Vec::new();
        self.0
            .fetch_entries_to::<Indexed>(group, first, last + 1, None, &mut found)
            .map_err(words)?;
        Ok(found
            .iter()
            .map(|entry| (entry.get_value().len() - INDEX_BYTES) as u64)
            .sum())
    }

    /// It merges writers on its own and does not say how often it syncs.
    fn syncs(&self) -> Option<u64> {
        None
    }

    fn fed_by_one(&self) -> bool {
        false
    }

    fn upkeep(&self) -> Result<(), String> {
        self.0.purge_expired_files().map_err(words).map(|_| ())
    }
}
