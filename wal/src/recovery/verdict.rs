//! What an examination of a log found, in words that a tool can print and a test can count.

use std::fmt;
use std::ops::Range;

use raftwerk_raft::{GroupId, LogIndex};

/// Damage that a crash does not explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: u64,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is lost there.
    pub what: Lost,
}

/// What is lost at a damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Entries of a group.
    Entries {
        /// Which group.
        group: GroupId,
        /// Which entries.
        range: Range<LogIndex>,
    },
    /// Hard state, snapshot record or named values of a group.
    State {
        /// Which group.
        group: GroupId,
    },
    /// Whole frames: whose, only what comes later tells.
    Frames {
        /// The place in the log of the first.
        first_lsn: Option<u64>,
        /// The place in the log of the next that is there.
        next_lsn: Option<u64>,
    },
    /// What a segment says of itself; its frames are there.
    SegmentHeader,
    /// A footer; it repeats what the frames say.
    Footer,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} at byte {}: ", self.segment, self.offset)?;
        match &self.what {
            Lost::Entries { group, range } => {
                write!(
                    f,
                    "group {group}, entries {} to {}",
                    range.start,
                    range.end.prev()
                )
            }
            Lost::State { group } => write!(f, "group {group}, state"),
            Lost::Frames {
                first_lsn,
                next_lsn,
            } => {
                let name = |lsn: &Option<u64>| lsn.map_or("?".to_owned(), |lsn| lsn.to_string());
                write!(
                    f,
                    "frames from {} to before {}",
                    name(first_lsn),
                    name(next_lsn)
                )
            }
            Lost::SegmentHeader => f.write_str("segment header"),
            Lost::Footer => f.write_str("footer"),
        }
    }
}

/// How the log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TailEnd {
    /// With a whole frame.
    #[default]
    Clean,
    /// With a write that a crash cut short. It was never acknowledged.
    Torn {
        /// In which segment.
        segment: u64,
        /// From where on, in bytes.
        offset: u64,
        /// Up to where something of it was found, in bytes from there.
        bytes: u64,
    },
    /// With damage in a write that is not proven durable and that no crash explains: it may have
    /// been acknowledged a few milliseconds before the end.
    Ambiguous {
        /// In which segment.
        segment: u64,
        /// From where on, in bytes.
        offset: u64,
    },
}

/// The exit code's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong.
    Clean,
    /// The last write is torn or doubtful; the next open deals with it.
    Torn,
    /// Something that was durable cannot be read.
    Corrupt,
}

/// What a group lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDamage {
    /// Which group.
    pub group: GroupId,
    /// Entries that were acknowledged and cannot be read.
    pub faulty: Vec<Range<LogIndex>>,
    /// A vote may be lost.
    pub vote_unknown: bool,
}

impl fmt::Display for GroupDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}:", self.group)?;
        let mut between = "";
        for range in &self.faulty {
            let (first, last) = (range.start, range.end.prev());
            write!(f, "{between} entries {first} to {last} are lost here")?;
            between = ",";
        }
        if self.vote_unknown {
            write!(f, "{between} a vote may be lost")?;
        }
        Ok(())
    }
}

/// What an examination found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments of the log, oldest first.
    pub segments: Vec<u64>,
    /// Frames that were read.
    pub frames: u64,
    /// Groups that exist.
    pub groups: u64,
    /// Entries in all groups' logs.
    pub entries: u64,
    /// All frames up to this one are proven durable.
    pub durable_lsn: u64,
    /// How the log ends.
    pub tail: TailEnd,
    /// Damaged places.
    pub damage: Vec<Damage>,
    /// Groups that are not intact.
    pub damaged_groups: Vec<GroupDamage>,
    /// A batch of unknown groups is lost: groups that do not appear may have existed.
    pub strangers_unknown: bool,
}

impl Report {
    /// The worst of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.damage.is_empty() || !self.damaged_groups.is_empty() || self.strangers_unknown {
            Verdict::Corrupt
        } else if self.tail == TailEnd::Clean {
            Verdict::Clean
        } else {
            Verdict::Torn
        }
    }
}
