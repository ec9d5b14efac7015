//! Submitted batches on their way into the next frame.

use raftwerk_raft::codec::{encode_entry, entry_len};
use raftwerk_raft::{Entry, GroupId, GroupWrite, LogIndex, Term, Ticket};

use crate::record::{BEFORE, parts, put_state};
use crate::segment::footer::{FOOTER_LINE_BYTES, Footing};
use crate::segment::format::{
    FrameBuf, ITEM_BYTES_MAX, Item, ItemKind, SECTION_BYTES, Span, frame_bytes,
};

/// What writing an item does to where entries are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The section holds the group's newest entries.
    Append,
    /// Entries of before are gone.
    Clear,
    /// Entries up to this one are gone.
    Compact(LogIndex),
    /// The section holds entries that stood elsewhere, as far as they are still the log.
    Relocate,
}

/// What a group brings along when a write to it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupCursor {
    /// The group's last item.
    pub(crate) step: u64,
    /// The generation to begin with; none when the group goes on.
    pub(crate) create: Option<u64>,
    /// The term just before the first entry to append.
    pub(crate) prev_term: Term,
}

/// Where a fill stood, to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    items: usize,
    body: usize,
    counted: Counted,
}

/// What a fill takes beside the bytes of its sections.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// At most what its items add to a new segment that begins with them, in bytes.
    bytes: u64,
    /// What its items take in a frame's directory, in bytes.
    items: u64,
    footing: Footing,
    /// How many groups begin in it.
    created: u64,
    /// Whose entries were added last.
    group: Option<GroupId>,
}

/// The batches that go out with the next write.
#[derive(Debug, Default)]
pub(crate) struct Fill {
    pub(crate) items: Vec<Item>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) body: FrameBuf,
    /// The newest batch in it.
    pub(crate) ticket: Ticket,
    /// Somebody wants a sync.
    pub(crate) eager: bool,
    /// At most what all this adds to a new segment that begins with it, in bytes.
    pub(crate) cost: u64,
    counted: Counted,
}

impl Fill {
    /// No batch waits, not even one without groups.
    pub(crate) fn is_empty(&self) -> bool {
        self.ticket == Ticket::default()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            items: self.items.len(),
            body: self.body.len(),
            counted: self.counted,
        }
    }

    /// At most what was added since `mark` takes, in bytes.
    pub(crate) fn cost_since(&self, mark: Mark) -> u64 {
        let items = self.counted.bytes - mark.counted.bytes;
        items + (self.body.len() - mark.body) as u64
    }

    /// What its entries take in the footer of the segment that they go to.
    pub(crate) const fn footing(&self) -> Footing {
        self.counted.footing
    }

    /// How long a frame of it is, in bytes.
    pub(crate) fn frame_bytes(&self, page_bytes: u32) -> u64 {
        frame_bytes(page_bytes, self.counted.items, self.body.len() as u64)
    }

    /// How many groups begin in it.
    pub(crate) const fn created(&self) -> u64 {
        self.counted.created
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.effects.clear();
        self.body.clear();
        (self.ticket, self.eager, self.cost) = (Ticket::default(), false, 0);
        self.counted = Counted::default();
    }

    /// Forgets what was added since `mark`.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        self.items.truncate(mark.items);
        self.effects.truncate(mark.items);
        self.body.truncate(mark.body);
        self.counted = mark.counted;
    }

    /// Adds one group's step and returns the group's last item.
    pub(crate) fn add(&mut self, write: &GroupWrite, cursor: GroupCursor) -> u64 {
        let mut step = cursor.step;
        self.counted.created += u64::from(cursor.create.is_some());
        let bits = parts(write, cursor.create.is_some());
        let (before, after) = if write.append.is_empty() {
            (bits, 0)
        } else {
            (bits & BEFORE, bits & !BEFORE)
        };
        self.add_state(write, before, cursor.create, &mut step);
        self.add_entries(write.group, &write.append, cursor.prev_term, &mut step);
        self.add_state(write, after, cursor.create, &mut step);
        step
    }

    fn add_state(&mut self, write: &GroupWrite, bits: u8, create: Option<u64>, step: &mut u64) {
        if bits == 0 {
            return;
        }
        let start = self.body.len();
        put_state(write, bits, create.unwrap_or(0), self.body.out());
        let clears = bits & BEFORE != 0 && (write.destroy || write.reset_to.is_some());
        // A step that clears and compacts has nothing left to compact.
        let effect = match write.compact_to {
            _ if clears => Effect::Clear,
            Some(to) if bits & crate::record::COMPACT != 0 => Effect::Compact(to),
            _ => Effect::None,
        };
        self.push(write.group, step, ItemKind::State(bits), start, effect);
    }

    fn add_entries(&mut self, group: GroupId, entries: &[Entry], prev: Term, step: &mut u64) {
        let (mut prev_term, mut rest) = (prev, entries);
        let mut start = self.body.len();
        while let Some(span) = self.add_section(&mut rest, prev_term) {
            prev_term = span.term;
            self.push(group, step, ItemKind::Entries(span), start, Effect::Append);
            start = self.body.len();
        }
    }

    /// Takes a section's worth off the front of `rest`: entries of one term, in a row.
    fn add_section(&mut self, rest: &mut &[Entry], prev_term: Term) -> Option<Span> {
        let first = rest.first()?;
        let out = self.body.out();
        let start = out.len();
        let mut count = 0usize;
        for entry in rest.iter() {
            let used = out.len() - start;
            let follows = entry.index() == first.index().plus(count as u64);
            let full = count > 0 && used + entry_len(entry) > SECTION_BYTES;
            if full || !follows || entry.term() != first.term() {
                break;
            }
            encode_entry(entry, out);
            count += 1;
        }
        *rest = rest.get(count..).unwrap_or_default();
        Some(Span {
            first: first.index(),
            count: count as u32,
            term: first.term(),
            prev_term,
        })
    }

    /// Adds entries that stand elsewhere too.
    pub(crate) fn add_relocated(&mut self, group: GroupId, generation: u64, entries: &[Entry]) {
        let (mark, mut rest) = (self.mark(), entries);
        let mut start = self.body.len();
        while let Some(span) = self.add_section(&mut rest, Term::ZERO) {
            let kind = ItemKind::Relocated { span, generation };
            // It is none of the group's steps.
            self.push(group, &mut 0, kind, start, Effect::Relocate);
            start = self.body.len();
        }
        self.cost += self.cost_since(mark);
    }

    fn push(
        &mut self,
        group: GroupId,
        step: &mut u64,
        kind: ItemKind,
        start: usize,
        effect: Effect,
    ) {
        *step += 1;
        let bytes = (self.body.len() - start) as u32;
        let mut item = Item::new(group, *step, kind, bytes);
        self.counted.bytes += ITEM_BYTES_MAX as u64;
        self.counted.items += item.encoded_bytes();
        let footing = match &kind {
            ItemKind::Entries(span) => Some(Footing::of(span, bytes)),
            // What stood there may be cut in two by it.
            ItemKind::Relocated { span, .. } => {
                let one = Footing::of(span, bytes);
                Some(one.plus(one))
            }
            _ => None,
        };
        if let Some(footing) = footing {
            let section = self.body.body().get(start..);
            item.sum_early(section.unwrap_or_default());
            self.count(group, footing);
        }
        self.items.push(item);
        self.effects.push(effect);
    }

    /// Counts what entries of `group` take in a footer.
    fn count(&mut self, group: GroupId, footing: Footing) {
        let counted = &mut self.counted;
        if counted.group.replace(group) != Some(group) {
            counted.bytes += FOOTER_LINE_BYTES;
        }
        counted.bytes += footing.bytes();
        counted.footing = counted.footing.plus(footing);
    }
}
