//! How large a store is: RocksDB's own counts, put together.

use raftwerk_raft::{StateError, StateStats};
use rocksdb::properties::{self, PropName};
use rocksdb::{DB, Error};

use crate::error::state;

/// What the tables on disk hold, from RocksDB's text about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tables {
    entries: u64,
    deletions: u64,
    /// Keys and values.
    bytes: u64,
}

impl Tables {
    /// Reads `# entries=3; # deletions=1; raw key size=30; raw value size=90; ...`.
    fn parse(text: &str) -> Self {
        let mut tables = Self::default();
        for field in text.split(';') {
            let Some((name, number)) = field.split_once('=') else {
                continue;
            };
            let number = number.trim().parse().unwrap_or(0);
            match name.trim() {
                "# entries" => tables.entries = number,
                "# deletions" => tables.deletions = number,
                "raw key size" | "raw value size" => {
                    tables.bytes = tables.bytes.saturating_add(number);
                }
                _ => {}
            }
        }
        tables
    }
}

/// An estimate: what was overwritten, or removed by a tombstone, counts until tables are merged.
pub(crate) fn measure(db: &DB) -> Result<StateStats, StateError> {
    estimate(db).map_err(state("measure the store"))
}

fn estimate(db: &DB) -> Result<StateStats, Error> {
    let number = |name: &PropName| db.property_int_value(name).map(Option::unwrap_or_default);
    let memory = number(properties::CUR_SIZE_ALL_MEM_TABLES)?;
    let allocated_bytes = number(properties::TOTAL_SST_FILES_SIZE)?.saturating_add(memory);
    let text = db.property_value(properties::AGGREGATED_TABLE_PROPERTIES)?;
    let tables = Tables::parse(&text.unwrap_or_default());
    let entries = tables
        .entries
        .saturating_add(number(properties::NUM_ENTRIES_ACTIVE_MEM_TABLE)?)
        .saturating_add(number(properties::NUM_ENTRIES_IMM_MEM_TABLES)?);
    let deletions = tables
        .deletions
        .saturating_add(number(properties::NUM_DELETES_ACTIVE_MEM_TABLE)?)
        .saturating_add(number(properties::NUM_DELETES_IMM_MEM_TABLES)?);
    // A removal counts twice: itself, and what it removes.
    let keys = entries.saturating_sub(deletions.saturating_mul(2));
    let puts = u128::from(entries.saturating_sub(deletions).max(1));
    let bytes = u128::from(tables.bytes.saturating_add(memory));
    let live = u64::try_from(bytes * u128::from(keys) / puts).unwrap_or(u64::MAX);
    Ok(StateStats {
        allocated_bytes,
        live_bytes: live.min(allocated_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_the_text() {
        let text = "# data blocks=3; # entries=514; # deletions=256; # merge operands=0; \
             # range deletions=0; raw key size=9000; raw average key size=17.5; \
             raw value size=1048576; raw average value size=4096.0; ";
        let tables = Tables {
            entries: 514,
            deletions: 256,
            bytes: 1_057_576,
        };
        assert_eq!(Tables::parse(text), tables);
        assert_eq!(Tables::parse("nothing = of; the kind"), Tables::default());
    }
}
