//! What one segment's frames say of where entries stand, without what other segments say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use raftwerk_raft::GroupId;
use raftwerk_storage::folder::StoreUuid;
use raftwerk_storage::vfs::VfsFile;

use super::replay::extent;
use super::scan::{Event, Expect, Frame, Scan};
use super::verdict::{Damage, Lost};
use crate::index::Extent;
use crate::record::{DESTROY, RESET};
use crate::sections::Sections;
use crate::segment::format::{FRAME_HEADER_BYTES, FrameKind, ItemKind, section_seed};
use crate::segment::header::SegmentHeader;

/// Where a segment's frames begin, and what their checksums begin with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    /// Ascending by offset.
    list: Vec<(u32, u32)>,
}

impl Frames {
    /// Adds the frame that stands at `offset`, behind all others.
    pub(crate) fn push(&mut self, offset: u64, seed: u32) {
        self.list
            .push((u32::try_from(offset).unwrap_or(u32::MAX), seed));
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.list = Vec::new();
    }

    /// How much memory it takes, in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.list.capacity() * size_of::<(u32, u32)>()
    }

    /// `extent` with what its section's checksum begins with.
    pub(crate) fn seeded(&self, extent: Extent) -> Extent {
        let behind = |(offset, _): &(u32, u32)| u64::from(*offset) <= extent.offset;
        let at = self.list.partition_point(behind).checked_sub(1);
        let Some((offset, seed)) = at.and_then(|at| self.list.get(at)) else {
            return extent;
        };
        let body = u64::from(*offset) + FRAME_HEADER_BYTES as u64;
        let section = extent.offset.saturating_sub(body);
        Extent {
            seed: section_seed(*seed, u32::try_from(section).unwrap_or(u32::MAX)),
            ..extent
        }
    }
}

/// The walk over one segment.
#[derive(Debug)]
pub(crate) struct Survey {
    uuid: StoreUuid,
    pub(crate) segment: u64,
    pub(crate) groups: BTreeMap<GroupId, Sections>,
    pub(crate) frames: Frames,
    pub(crate) damage: Vec<Damage>,
    /// How many frames there are.
    pub(crate) count: u64,
    /// Where the footer begins, if there is a whole one.
    pub(crate) footer: Option<u64>,
    /// The disk did not give all of it.
    pub(crate) unreadable: bool,
    /// Where the last frame ends.
    pub(crate) end: Option<u64>,
}

impl Survey {
    fn new(uuid: StoreUuid, segment: u64) -> Self {
        Self {
            uuid,
            segment,
            groups: BTreeMap::new(),
            frames: Frames::default(),
            damage: Vec::new(),
            count: 0,
            footer: None,
            unreadable: false,
            end: None,
        }
    }

    /// What the frames of a segment say, up to `end`.
    pub(crate) fn walk(
        file: &dyn VfsFile,
        uuid: StoreUuid,
        header: SegmentHeader,
        end: Option<u64>,
    ) -> Self {
        let mut survey = Self::new(uuid, header.id.number);
        let mut scan = Scan::without_bodies(file, uuid, header);
        scan.walk(Expect::default(), end, &mut |event| {
            survey.event(&event);
            ControlFlow::Continue(())
        });
        survey.unreadable = scan.met_unreadable();
        survey
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Frame(frame) => self.frame(frame),
            Event::Gap(gap) => {
                let what = Lost::Frames {
                    first_lsn: gap.lsn,
                    next_lsn: gap.next_lsn,
                };
                self.lose(gap.offset, what);
            }
        }
    }

    fn lose(&mut self, offset: u64, what: Lost) {
        self.damage.push(Damage {
            segment: self.segment,
            offset,
            what,
        });
    }

    fn frame(&mut self, frame: &Frame) {
        self.count += 1;
        self.end = Some(frame.end);
        self.frames
            .push(frame.header.offset, frame.header.seed(self.uuid));
        if frame.header.kind == FrameKind::Seal && frame.is_whole() {
            self.footer = Some(frame.header.offset);
        }
        for section in frame.sections(self.uuid) {
            let group = section.item.group;
            let (span, append) = match section.item.kind {
                ItemKind::Entries(span) => (span, true),
                ItemKind::Relocated { span, .. } => (span, false),
                other => {
                    let ends = |bits| bits & (DESTROY | RESET) != 0;
                    if matches!(other, ItemKind::State(bits) if ends(bits)) {
                        self.groups.entry(group).or_default().clear();
                    }
                    if !section.intact {
                        let footer = frame.header.kind == FrameKind::Seal;
                        let what = if footer {
                            Lost::Footer
                        } else {
                            Lost::State { group }
                        };
                        self.lose(section.offset, what);
                    }
                    continue;
                }
            };
            let sections = self.groups.entry(group).or_default();
            if append {
                sections.truncate(span.first);
            }
            if section.intact {
                sections.place(&extent(self.segment, &span, &section));
                continue;
            }
            let range = span.first..span.end();
            self.lose(section.offset, Lost::Entries { group, range });
        }
    }
}
