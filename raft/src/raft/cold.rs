//! Entries that are not in memory: asked for as an effect, given back by an input.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;

use super::Raft;
use crate::entries::Entries;
use crate::entry::{Entry, EntryKind};
use crate::log::entries_bytes;
use crate::observer::Observer;
use crate::ready::{ApplyAck, LogRead, LogReadId, LogReadResult};
use crate::storage::{LogError, LogReader};
use crate::tracker::{NodeMap, Progress};
use crate::types::{LogIndex, NodeId};

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Peer(NodeId),
    Apply,
}

/// The reads that are under way: at most one for each peer and one to apply.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColdReads {
    last_id: u64,
    pending: BTreeMap<LogReadId, Purpose>,
    outbox: Vec<LogRead>,
    for_peers: BTreeMap<NodeId, Vec<Entry>>,
    to_apply: Option<Vec<Entry>>,
    /// What is next to be applied cannot be read at present.
    apply_blocked: bool,
}

impl ColdReads {
    fn ask(&mut self, purpose: Purpose, range: Range<LogIndex>, max_bytes: u64) {
        self.last_id = self.last_id.wrapping_add(1);
        let id = LogReadId(self.last_id);
        self.pending.insert(id, purpose);
        self.outbox.push(LogRead {
            id,
            range,
            max_bytes,
        });
    }

    #[inline]
    fn is_pending(&self, purpose: Purpose) -> bool {
        // Nothing is, nearly always.
        !self.pending.is_empty() && self.pending.values().any(|pending| *pending == purpose)
    }

    #[inline]
    pub(super) fn is_reading_for(&self, peer: NodeId) -> bool {
        self.is_pending(Purpose::Peer(peer))
    }

    pub(super) fn read_for_peer(&mut self, peer: NodeId, range: Range<LogIndex>, max_bytes: u64) {
        self.ask(Purpose::Peer(peer), range, max_bytes);
    }

    #[inline]
    pub(super) fn take_for_peer(&mut self, peer: NodeId) -> Option<Vec<Entry>> {
        if self.for_peers.is_empty() {
            return None;
        }
        self.for_peers.remove(&peer)
    }

    /// Another term: nobody is replicated to by this member any more, or everybody anew.
    pub(super) fn forget_peers(&mut self) {
        self.for_peers.clear();
        let pending = &mut self.pending;
        pending.retain(|_, purpose| *purpose == Purpose::Apply);
        self.outbox.retain(|read| pending.contains_key(&read.id));
    }

    /// Who is no member any more needs no entries.
    pub(super) fn retain_peers(&mut self, members: &NodeMap<Progress>) {
        let gone = |purpose: &Purpose| match purpose {
            Purpose::Peer(peer) => !members.contains_key(peer),
            Purpose::Apply => false,
        };
        self.for_peers.retain(|peer, _| members.contains_key(peer));
        self.pending.retain(|_, purpose| !gone(purpose));
        self.outbox
            .retain(|read| self.pending.contains_key(&read.id));
    }

    /// A snapshot takes the place of what was to be applied.
    pub(super) fn forget_apply(&mut self) {
        self.to_apply = None;
        self.apply_blocked = false;
        self.pending.retain(|_, purpose| *purpose != Purpose::Apply);
        self.outbox
            .retain(|read| self.pending.contains_key(&read.id));
    }

    /// Looks again whether what could not be read can be.
    pub(super) const fn retry_apply(&mut self) {
        self.apply_blocked = false;
    }

    pub(super) const fn apply_blocked(&self) -> bool {
        self.apply_blocked
    }

    /// Applying must wait.
    #[inline]
    pub(super) fn holds_apply(&self) -> bool {
        self.apply_blocked || self.is_pending(Purpose::Apply)
    }

    #[inline]
    pub(crate) const fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    #[inline]
    pub(crate) fn take_outbox(&mut self, out: &mut Vec<LogRead>) {
        if self.has_outbox() {
            *out = mem::take(&mut self.outbox);
        }
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// The answer to a read. Unknown ones are of an earlier term.
    pub(crate) fn log_read(&mut self, id: LogReadId, result: LogReadResult) {
        let Some(purpose) = self.cold.pending.remove(&id) else {
            return;
        };
        match (purpose, result) {
            (Purpose::Apply, Ok(entries)) => self.cold.to_apply = Some(entries),
            (Purpose::Apply, Err(error)) => self.apply_failed(&error),
            (Purpose::Peer(peer), Ok(entries)) => {
                self.cold.for_peers.insert(peer, entries);
                while self.maybe_send_append(peer, false) {}
                self.cold.for_peers.remove(&peer);
            }
            (Purpose::Peer(peer), Err(LogError::Compacted { .. })) => {
                self.maybe_send_append(peer, false);
            }
            // Tried again when the peer answers the next heartbeat.
            (Purpose::Peer(_), Err(_)) => {}
        }
    }

    /// There are entries to apply and they can be had.
    #[inline]
    pub(crate) fn has_committed(&self) -> bool {
        self.log
            .next_committed_range(self.config.synchronous)
            .is_some()
            && !self.cold.holds_apply()
    }

    /// Takes the entries that are next to be applied to `out`, which is empty, if there are any and
    /// nothing holds them back.
    #[inline]
    pub(crate) fn take_committed(&mut self, out: &mut Entries) -> Option<ApplyAck> {
        if self.cold.holds_apply() {
            return None;
        }
        let unstable = self.config.synchronous;
        let range = self.log.next_committed_range(unstable)?;
        let budget = self.log.applying_budget();
        if self.cold.to_apply.is_none() {
            *out = self.log.take_durable(&range, budget);
        }
        if out.is_empty() {
            *out = self.fetch_committed(range, budget);
        }
        let entries = out;
        if entries.may_change_conf() {
            let changes = entries
                .iter()
                .filter(|entry| entry.kind != EntryKind::Normal);
            self.conf_changes_out.extend(changes.map(Entry::index));
        }
        let index = entries.last()?.index();
        let (payload, bytes) = (entries.payload_bytes(), entries_bytes(entries));
        self.log.accept_applying(index, bytes, unstable);
        Some(ApplyAck {
            index,
            bytes,
            payload,
        })
    }

    /// The entries of `range`, up to `budget` bytes, from what was read or from the store. None if
    /// they have to be read first, or cannot be.
    fn fetch_committed(&mut self, range: Range<LogIndex>, budget: u64) -> Entries {
        if let Some(read) = self.cold.to_apply.take() {
            let mut entries = self.log.verify_read(read, range.start, budget);
            let count = range.end.since(range.start);
            entries.truncate(usize::try_from(count).unwrap_or(usize::MAX));
            if !entries.is_empty() {
                return entries;
            }
        }
        match self.log.slice(range.start, range.end, budget) {
            Ok(found) => return found,
            Err(LogError::Cold) => self.cold.ask(Purpose::Apply, range, budget),
            Err(error) => self.apply_failed(&error),
        }
        Entries::new()
    }

    /// A committed entry cannot be read.
    #[cold]
    fn apply_failed(&mut self, error: &LogError) {
        match error {
            // The leader may yet fill it.
            LogError::Faulty { .. } => self.cold.apply_blocked = true,
            _ => self.halt(format!(
                "committed entry {} cannot be read ({error}); restore this member from its \
                 peers: remove it, wipe its folder, add it again",
                self.log.applying.next()
            )),
        }
    }
}
