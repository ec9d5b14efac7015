//! Append messages that are on their way to one follower.

use std::collections::VecDeque;

use crate::types::LogIndex;

/// A window of unacknowledged append messages, bounded by their number and, softly, by their
/// bytes: the message that reaches the byte limit may exceed it, so that a large one gets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflights {
    /// Each message's last index and payload bytes, oldest first.
    window: VecDeque<(LogIndex, u64)>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
}

impl Inflights {
    /// An empty window for `messages_max` messages of `bytes_max` payload bytes in all (zero: no
    /// limit in bytes). Memory is taken only as messages are added.
    #[must_use]
    pub const fn new(messages_max: usize, bytes_max: u64) -> Self {
        Self {
            window: VecDeque::new(),
            bytes: 0,
            messages_max,
            bytes_max,
        }
    }

    /// Notes a message whose last entry is at `last`. Indexes ascend from call to call. A full
    /// window takes nothing: look at [`Inflights::is_full`] before.
    #[inline]
    pub fn add(&mut self, last: LogIndex, bytes: u64) {
        debug_assert!(!self.is_full(), "message added to a full window");
        debug_assert!(self.window.back().is_none_or(|(newest, _)| *newest < last));
        if self.is_full() {
            return;
        }
        self.window.push_back((last, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Forgets the messages that are acknowledged by an answer for `index`.
    #[inline]
    pub fn free_to(&mut self, index: LogIndex) {
        while let Some((last, bytes)) = self.window.front()
            && *last <= index
        {
            self.bytes = self.bytes.saturating_sub(*bytes);
            self.window.pop_front();
        }
    }

    /// Forgets every message.
    pub fn reset(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }

    /// No further message may be sent.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.messages_max
            || (self.bytes_max != 0 && self.bytes >= self.bytes_max)
    }

    /// Messages on their way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.window.len()
    }

    /// Payload bytes on their way.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}
