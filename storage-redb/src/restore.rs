//! Replacing the state by a stream.

use raftwerk_raft::{SnapshotReader, StateError};
use raftwerk_storage::checkpoint::CheckpointReader;
use redb::{Database, Durability, WriteTransaction};

use crate::error::failed;
use crate::head::{DATA, Head, INCOMING, META};

/// What one transaction of a restore takes, keys and values, in bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// Fills the incoming table from `source`, then puts it in the data's place. Each chunk is a
/// durable transaction, because what is not durable stays in memory.
pub(crate) fn restore(db: &Database, source: &mut dyn SnapshotReader) -> Result<Head, StateError> {
    forget_incoming(db)?;
    let mut reader = CheckpointReader::new(source)?;
    let mut head = Head {
        applied: reader.applied(),
        live_bytes: 0,
    };
    while fill(db, &mut reader, &mut head)? {}
    let transaction = begin(db)?;
    {
        let mut meta = transaction
            .open_table(META)
            .map_err(failed("open the records"))?;
        head.write(&mut meta)?;
    }
    transaction
        .delete_table(DATA)
        .map_err(failed("drop the old state"))?;
    transaction
        .rename_table(INCOMING, DATA)
        .map_err(failed("take over the new state"))?;
    transaction
        .commit()
        .map_err(failed("commit the new state"))?;
    Ok(head)
}

/// Drops what a broken restore left.
pub(crate) fn forget_incoming(db: &Database) -> Result<(), StateError> {
    let transaction = begin(db)?;
    if transaction
        .delete_table(INCOMING)
        .map_err(failed("drop a broken restore"))?
    {
        transaction
            .commit()
            .map_err(failed("drop a broken restore"))
    } else {
        transaction
            .abort()
            .map_err(failed("look for a broken restore"))
    }
}

fn begin(db: &Database) -> Result<WriteTransaction, StateError> {
    let mut transaction = db.begin_write().map_err(failed("begin to restore"))?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(failed("begin to restore"))?;
    Ok(transaction)
}

/// Takes the next chunk; false when the stream is complete.
fn fill(
    db: &Database,
    reader: &mut CheckpointReader<'_>,
    head: &mut Head,
) -> Result<bool, StateError> {
    let transaction = begin(db)?;
    let mut more = true;
    {
        let mut incoming = transaction
            .open_table(INCOMING)
            .map_err(failed("open a restore"))?;
        let mut bytes = 0_usize;
        while bytes < CHUNK_BYTES {
            let Some((key, value)) = reader.next_record()? else {
                more = false;
                break;
            };
            incoming
                .insert(key.as_ref(), value.as_ref())
                .map_err(failed("restore a key"))?;
            head.replace(None, Some((key.len(), value.len())));
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        }
    }
    transaction
        .commit()
        .map_err(failed("commit a part of a restore"))?;
    Ok(more)
}
