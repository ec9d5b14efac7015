//! redb as somebody would use it who writes a state machine on it by hand: one table of the data,
//! one of the index applied, one transaction for each batch.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Put, StateTarget};
use crate::log::words;

const DATA: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");
const APPLIED: TableDefinition<'_, u8, u64> = TableDefinition::new("applied");
/// What the backend on redb takes.
const CACHE_BYTES: usize = 32 << 20;

struct BareRedb(Database);

pub(super) fn open(folder: &Path) -> Result<Box<dyn StateTarget>, String> {
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(folder.join("bare.redb"))
        .map_err(words)?;
    Ok(Box::new(BareRedb(db)))
}

impl StateTarget for BareRedb {
    fn write(&self, puts: Vec<Put>, index: u64) -> Result<(), String> {
        let mut transaction = self.0.begin_write().map_err(words)?;
        transaction
            .set_durability(Durability::None)
            .map_err(words)?;
        {
            let mut data = transaction.open_table(DATA).map_err(words)?;
            for (key, value) in &puts {
                data.insert(&key[..], &value[..]).map_err(words)?;
            }
            let mut applied = transaction.open_table(APPLIED).map_err(words)?;
            applied.insert(0, index).map_err(words)?;
        }
        transaction.commit().map_err(words)
    }

    fn persist(&self) -> Result<(), String> {
        let transaction = self.0.begin_write().map_err(words)?;
        transaction.commit().map_err(words)
    }

    fn get(&self, key: &[u8]) -> Result<Option<usize>, String> {
        let transaction = self.0.begin_read().map_err(words)?;
        let data = transaction.open_table(DATA).map_err(words)?;
        let value = data.get(key).map_err(words)?;
        Ok(value.map(|value| value.value().len()))
    }

    fn scan(&self, from: &[u8], count: u64) -> Result<u64, String> {
        let transaction = self.0.begin_read().map_err(words)?;
        let data = transaction.open_table(DATA).map_err(words)?;
        let mut found = 0;
        let mut bytes = 0;
        for item in data.range(from..).map_err(words)? {
            let (key, value) = item.map_err(words)?;
            bytes += key.value().len() + value.value().len();
            found += 1;
            if found == count {
                break;
            }
        }
        std::hint::black_box(bytes);
        Ok(found)
    }
}
