//! What stands in the file when it is opened.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use raftwerk_raft::{GroupId, GroupState, LogHealth, LogId, LogIndex, SnapshotMeta};
use raftwerk_storage::TermRuns;
use raftwerk_storage::image::GroupImage;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::ledger::Ledger;
use super::value::{
    Damage, ENTRIES, Head, RECORDS, decode_named, decode_snapshot, kind, unseal, unseal_entry,
};

/// Everything that was found.
pub(crate) struct Loaded {
    pub(crate) ledger: Ledger,
    pub(crate) images: BTreeMap<GroupId, GroupImage>,
}

/// Why nothing can be made of it.
pub(crate) enum Unreadable {
    /// Reading failed.
    Redb(redb::Error),
    /// What was read cannot be.
    Damaged(Damage),
}

impl<E: Into<redb::Error>> From<E> for Unreadable {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(reason) => Self::Damaged(reason),
            other => Self::Redb(other),
        }
    }
}

/// A group while its entries are read.
#[derive(Debug, Default)]
struct Group {
    head: Option<Head>,
    snapshot: Option<SnapshotMeta>,
    named: Vec<(Bytes, Bytes)>,
    terms: TermRuns,
    faulty: Vec<Range<LogIndex>>,
    /// A vote of it may have been lost.
    doubt: bool,
}

impl Group {
    fn head(&self) -> Result<&Head, Damage> {
        self.head
            .as_ref()
            .ok_or_else(|| "its head is missing".to_owned())
    }

    /// Notes that the entries up to `to`, excluded, are missing. Their terms are known only as far
    /// as the head knows them.
    fn missing(&mut self, to: LogIndex) -> Result<(), Damage> {
        while self.terms.last().index.next() < to {
            let index = self.terms.last().index.next();
            let id = self.head()?.id(index);
            let id = id.ok_or_else(|| format!("entry {index} is missing"))?;
            self.push(id)?;
            match self.faulty.last_mut() {
                Some(range) if range.end == index => range.end = index.next(),
                _ => self.faulty.push(index..index.next()),
            }
        }
        Ok(())
    }

    fn push(&mut self, id: LogId) -> Result<(), Damage> {
        let last = self.terms.last();
        if id.index != last.index.next() || id.term < last.term || id.index == LogIndex::MAX {
            return Err(format!("entry {id} stands behind {last}"));
        }
        self.terms.push(id);
        Ok(())
    }

    fn image(mut self) -> Result<GroupImage, Damage> {
        if self.head.is_none() && self.doubt {
            let mut image = GroupImage::default();
            image.set_health(LogHealth {
                vote_unknown: true,
                ..LogHealth::default()
            });
            return Ok(image);
        }
        self.missing(self.head()?.last.next())?;
        let state = GroupState {
            hard_state: self.head()?.hard_state,
            snapshot: self.snapshot,
            first: self.terms.first(),
            last: self.terms.last(),
            meta: self.named,
            health: LogHealth {
                faulty: self.faulty,
                vote_unknown: self.doubt,
            },
        };
        GroupImage::from_parts(state, self.terms)
    }
}

/// Reads all records and all entries, and checks each.
pub(crate) fn load(db: &Database) -> Result<Loaded, Unreadable> {
    let transaction = db.begin_read()?;
    let mut groups = BTreeMap::new();
    let mut ledger = read_records(&transaction.open_table(RECORDS)?, &mut groups)?;
    for found in transaction.open_table(ENTRIES)?.range::<(u64, u64)>(..)? {
        let (key, value) = found?;
        let (id, index) = key.value();
        let named = |damage| Unreadable::Damaged(format!("group {id}: {damage}"));
        let group: &mut Group = groups
            .get_mut(&id)
            .ok_or_else(|| named(format!("entry {index} of no group")))?;
        let Ok((commit, entry)) = unseal_entry((id, index), value.value()) else {
            group.missing(LogIndex(index).next()).map_err(named)?;
            continue;
        };
        group.missing(entry.index()).map_err(named)?;
        group.push(entry.id).map_err(named)?;
        ledger.commit = ledger.commit.max(commit);
    }
    let mut images = BTreeMap::new();
    for (id, group) in groups {
        let last = group.head.as_ref().map(|head| head.last);
        let image = group
            .image()
            .map_err(|damage| Unreadable::Damaged(format!("group {id}: {damage}")))?;
        ledger.known.extend(last.map(|last| (id, last)));
        images.insert(GroupId(id), image);
    }
    Ok(Loaded { ledger, images })
}

fn read_records(
    table: &impl ReadableTable<(u64, u8), &'static [u8]>,
    groups: &mut BTreeMap<u64, Group>,
) -> Result<Ledger, Unreadable> {
    let mut ledger = Ledger::default();
    for found in table.range::<(u64, u8)>(..)? {
        let (key, value) = found?;
        let (id, kind) = key.value();
        let named = |damage| Unreadable::Damaged(format!("record {kind} of group {id}: {damage}"));
        let (commit, body) = unseal((id, u64::from(kind)), value.value()).map_err(named)?;
        ledger.commit = ledger.commit.max(commit);
        if kind == kind::STORE {
            continue;
        }
        let group = groups.entry(id).or_default();
        match kind {
            kind::HEAD => {
                let head = Head::decode(body).map_err(named)?;
                group.terms = head.empty();
                group.head = Some(head);
            }
            kind::SNAPSHOT => group.snapshot = Some(decode_snapshot(body).map_err(named)?),
            kind::NAMED => group.named = decode_named(body).map_err(named)?,
            kind::DOUBT => group.doubt = true,
            _ => return Err(named("of no known kind".to_owned())),
        }
        ledger.records.insert((id, kind), body.to_vec());
    }
    Ok(ledger)
}
