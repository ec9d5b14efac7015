//! The keys of a log: group, kind of record, index.

use raftwerk_raft::{GroupId, LogIndex};

/// The bytes of a key: group (8, big-endian), kind (1), index (8, big-endian). So a group's
/// records stand together, its entries last and in order.
pub(crate) type Key = [u8; 17];

/// What a record says of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Hard state and bounds of the log: there is one if the group has anything.
    Head = 1,
    /// The newest snapshot.
    Snapshot = 2,
    /// Where the terms change.
    Terms = 3,
    /// The named values.
    Values = 4,
    /// A vote may have been lost: there is one if so.
    Doubt = 5,
    /// One entry, by its index.
    Entry = 16,
    /// That there is a group: stands apart from the group's own records, behind those of all
    /// groups, with the group's id for an index.
    Roster = 240,
}

/// What a group has once.
pub(crate) const RECORDS: [Kind; 5] = [
    Kind::Head,
    Kind::Snapshot,
    Kind::Terms,
    Kind::Values,
    Kind::Doubt,
];

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        let others = [Self::Entry, Self::Roster];
        let mut all = RECORDS.into_iter().chain(others);
        all.find(|kind| *kind as u8 == byte)
    }
}

/// The key of a record that a group has once.
pub(crate) fn record(group: GroupId, kind: Kind) -> Key {
    build(group, kind as u8, 0)
}

/// The key of an entry.
pub(crate) fn entry(group: GroupId, index: LogIndex) -> Key {
    build(group, Kind::Entry as u8, index.0)
}

/// The key that says that there is `group`.
pub(crate) fn roster(group: GroupId) -> Key {
    build(GroupId(u64::MAX), Kind::Roster as u8, group.0)
}

fn build(group: GroupId, kind: u8, index: u64) -> Key {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&group.0.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Takes a key apart; `None` when it is none of ours.
pub(crate) fn parse(key: &[u8]) -> Option<(GroupId, Kind, LogIndex)> {
    let (group, rest) = key.split_first_chunk::<8>()?;
    let (kind, index) = rest.split_first()?;
    let kind = Kind::parse(*kind)?;
    let index = u64::from_be_bytes(index.try_into().ok()?);
    let group = GroupId(u64::from_be_bytes(*group));
    match kind {
        Kind::Entry => Some((group, kind, LogIndex(index))),
        Kind::Roster if group.0 == u64::MAX => Some((GroupId(index), kind, LogIndex(0))),
        _ if index == 0 && kind != Kind::Roster => Some((group, kind, LogIndex(0))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_order_of_group_kind_and_index() {
        let keys = [
            record(GroupId(1), Kind::Head),
            record(GroupId(1), Kind::Values),
            entry(GroupId(1), LogIndex(1)),
            entry(GroupId(1), LogIndex(256)),
            entry(GroupId(1), LogIndex::MAX),
            record(GroupId(2), Kind::Head),
            entry(GroupId(u64::MAX), LogIndex::MAX),
            roster(GroupId(0)),
            roster(GroupId(u64::MAX)),
        ];
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }

    #[test]
    fn foreign_keys_are_refused() {
        let key = entry(GroupId(7), LogIndex(9));
        assert_eq!(parse(&key), Some((GroupId(7), Kind::Entry, LogIndex(9))));
        assert_eq!(parse(&key[..16]), None);
        assert_eq!(parse(&[key.as_slice(), &[0]].concat()), None);
        let mut unknown = key;
        unknown[8] = 9;
        assert_eq!(parse(&unknown), None);
        let mut indexed = record(GroupId(7), Kind::Head);
        indexed[16] = 1;
        assert_eq!(parse(&indexed), None);
        let named = roster(GroupId(7));
        assert_eq!(parse(&named), Some((GroupId(7), Kind::Roster, LogIndex(0))));
        let mut elsewhere = named;
        elsewhere[0] = 0;
        assert_eq!(parse(&elsewhere), None);
    }
}
