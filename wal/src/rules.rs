//! The rules that recovery rests on, by name, so that tests can break one at a time and see it
//! noticed. Outside tests every rule holds.

/// The rules, and for tests the list of all of them.
macro_rules! rules {
    ($($(#[$doc:meta])+ $rule:ident,)+) => {
        /// A rule of recovery; `README.md` says what each is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule {
            $($(#[$doc])+ $rule,)+
        }

        #[cfg(test)]
        impl Rule {
            pub(crate) const ALL: &[Self] = &[$(Self::$rule),+];
        }
    };
}

rules! {
    /// What is proven durable and cannot be read is corruption, not a torn tail.
    Watermark,
    /// What the slot vouches for is proven durable.
    Slot,
    /// The scan goes on behind a bad place, for witnesses and for what stands there.
    FullScan,
    /// A lost frame may hold a vote of any group, of one that appears nowhere else too.
    Strangers,
    /// Each frame is the successor of the one before.
    Chain,
    /// A frame counts only in the life of the segment, and at the place, that it names.
    Place,
    /// Every checksum begins with the log's identity and the frame's place.
    Seed,
    /// A frame's header is believed only with its checksum.
    HeaderChecksum,
    /// A directory is believed only with its checksum.
    DirectoryChecksum,
    /// A section is believed only with its checksum.
    SectionChecksum,
    /// Entries that were moved truncate nothing.
    Relocation,
    /// A group that was made again has nothing of its life before.
    Generation,
    /// A group that was destroyed stays so: what a checkpoint leaves out is gone.
    Destroyed,
    /// Open copies what is not proven durable and appends to no segment of an earlier life.
    RewriteAtOpen,
    /// A segment's footer is durable before its successor gets a frame.
    SealOrder,
}

/// Whether `rule` is kept: always, but in a test that breaks it.
#[cfg(not(test))]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(test)]
pub(crate) use breaking::{broken, holds};

#[cfg(test)]
mod breaking {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Runs `test` on this thread with one rule broken (or none).
    pub(crate) fn broken<T>(rule: Option<Rule>, test: impl FnOnce() -> T) -> T {
        BROKEN.set(rule);
        let outcome = test();
        BROKEN.set(None);
        outcome
    }
}
