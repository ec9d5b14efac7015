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
    /// The scan goes on behind a bad place, for witnesses.
    FullScan,
    /// Each frame is the successor of the one before.
    Chain,
    /// A directory is believed only with its checksum.
    DirectoryChecksum,
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
