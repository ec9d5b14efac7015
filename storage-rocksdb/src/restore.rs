//! Filling a new store from a stream.

use std::fs;

use raftwerk_raft::{LogId, SnapshotReader, StateError};
use raftwerk_storage::checkpoint::CheckpointReader;
use raftwerk_storage::folder::Folder;
use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter};

use crate::error::{io, state};
use crate::generation::{
    DataFolder, Generation, HEAD_KEY, INCOMING, numbered, put_applied, user_key,
};

/// How long a table is that the stream is written to, in bytes.
const TABLE_BYTES: u64 = 64 << 20;

/// A new store of that number with what `source` holds, durable and not yet the one that counts.
pub(crate) fn fill(
    home: &Folder,
    number: u64,
    options: &Options,
    source: &mut dyn SnapshotReader,
) -> Result<(Generation, LogId), StateError> {
    let mut reader = CheckpointReader::new(source)?;
    let applied = reader.applied();
    let incoming = DataFolder::temporary(numbered(home, INCOMING, number))?;
    fs::create_dir(&incoming.path).map_err(io("make a folder to restore into"))?;
    // The keys ascend through the stream: they go into finished tables at once.
    let mut tables = Vec::new();
    loop {
        let path = incoming.path.join(format!("{}.sst", tables.len()));
        let mut table = SstFileWriter::create(options);
        table.open(&path).map_err(state("make a table"))?;
        let more = fill_table(&mut reader, &mut table)?;
        match more {
            Filled::Empty => break,
            Filled::Part | Filled::Last => {
                table.finish().map_err(state("finish a table"))?;
                tables.push(path);
            }
        }
        if matches!(more, Filled::Last) {
            break;
        }
    }
    let generation = Generation::create(home, number, options)?;
    if !tables.is_empty() {
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        generation
            .db
            .ingest_external_file_opts(&ingest, tables)
            .map_err(state("take over the tables"))?;
    }
    generation.writing("write the applied id", |db| {
        let mut batch = rocksdb::WriteBatch::new();
        batch.put(HEAD_KEY, put_applied(applied));
        db.write_without_wal(batch)
    })?;
    generation.writing("sync", |db| db.flush())?;
    Ok((generation, applied))
}

enum Filled {
    /// The stream had ended before.
    Empty,
    /// There is more.
    Part,
    /// The stream has ended.
    Last,
}

fn fill_table(
    reader: &mut CheckpointReader<'_>,
    table: &mut SstFileWriter<'_>,
) -> Result<Filled, StateError> {
    let mut stored = Vec::new();
    let mut filled = Filled::Empty;
    let mut bytes = 0_u64;
    while bytes < TABLE_BYTES {
        let Some((key, value)) = reader.next_record()? else {
            return Ok(match filled {
                Filled::Empty => Filled::Empty,
                _ => Filled::Last,
            });
        };
        user_key(&key, &mut stored);
        table.put(&stored, &value).map_err(state("restore a key"))?;
        bytes = bytes.saturating_add((stored.len() + value.len()) as u64);
        filled = Filled::Part;
    }
    Ok(filled)
}
