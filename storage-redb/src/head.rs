//! The record that stands beside the data: applied `LogId` and live bytes.

use raftwerk_raft::{LogId, LogIndex, StateError, Term};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::error::{corrupt, failed};

/// The user's keys and values.
pub(crate) const DATA: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("data");
/// What a restore is filling.
pub(crate) const INCOMING: TableDefinition<'static, &[u8], &[u8]> =
    TableDefinition::new("incoming");
/// Our own records, by name.
pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

const HEAD: &str = "head";
const HEAD_LEN: usize = 24;

/// Written in the same transaction as the data it speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) applied: LogId,
    /// Bytes of all keys and values.
    pub(crate) live_bytes: u64,
}

impl Head {
    /// The head of the newest commit.
    pub(crate) fn stored(db: &Database) -> Result<Self, StateError> {
        let transaction = db.begin_read().map_err(failed("begin to read"))?;
        let meta = transaction
            .open_table(META)
            .map_err(failed("open the records"))?;
        Self::read(&meta)
    }

    fn read(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, StateError> {
        let Some(stored) = meta.get(HEAD).map_err(failed("read the applied index"))? else {
            return Ok(Self::default());
        };
        let (numbers, rest) = stored.value().as_chunks::<8>();
        match (numbers, rest) {
            ([term, index, live], []) => Ok(Self {
                applied: LogId::new(
                    Term(u64::from_le_bytes(*term)),
                    LogIndex(u64::from_le_bytes(*index)),
                ),
                live_bytes: u64::from_le_bytes(*live),
            }),
            _ => Err(corrupt("the applied index has an unknown format")),
        }
    }

    pub(crate) fn write(
        self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StateError> {
        let mut bytes = [0; HEAD_LEN];
        let numbers = [self.applied.term.0, self.applied.index.0, self.live_bytes];
        for (place, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        meta.insert(HEAD, bytes.as_slice())
            .map_err(failed("write the applied index"))?;
        Ok(())
    }

    /// Counts a record in, and the one it replaced out.
    pub(crate) fn replace(&mut self, old: Option<(usize, usize)>, new: Option<(usize, usize)>) {
        let size = |record: Option<(usize, usize)>| {
            record.map_or(0, |(key, value)| (key as u64).saturating_add(value as u64))
        };
        self.live_bytes = self
            .live_bytes
            .saturating_sub(size(old))
            .saturating_add(size(new));
    }
}
