//! What happened, counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the transport was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Each counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

counters! {
    /// Envelopes handed to HTTP/2.
    sent,
    /// Frames that carried them.
    sent_frames,
    /// Envelopes dropped because a peer's queue was full or the peer away.
    send_dropped,
    /// Envelopes larger than a frame may be.
    send_oversize,
    /// Envelopes given to the inbox.
    received,
    /// Frames that carried them.
    received_frames,
    /// Envelopes that the inbox did not take.
    receive_dropped,
    /// Streams ended because of what they carried.
    receive_invalid,
    /// Calls refused by identity.
    refused,
    /// Streams to peers that were opened.
    connects,
    /// Attempts that failed, and streams that broke.
    disconnects,
    /// Snapshots sent whole.
    snapshots_sent,
    /// Snapshots received whole.
    snapshots_received,
    /// Snapshots that broke off, in either direction.
    snapshots_failed,
}
