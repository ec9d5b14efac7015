//! What a home could not do, and which case did not test it: always said, once for each case.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Write};

thread_local! {
    /// The case that this thread runs, and what of it was said to be skipped.
    static CASE: RefCell<(String, BTreeSet<String>)> = RefCell::default();
}

/// From now on this thread runs the case called `name`.
pub(crate) fn begin(name: &str) {
    CASE.with_borrow_mut(|case| *case = (name.to_owned(), BTreeSet::new()));
}

/// Says that something was not tested, and why. False, for whoever wants to say it in passing.
///
/// Written to standard error itself: what is printed by macro in a test that passes, the harness
/// keeps to itself.
pub(crate) fn skip(what: &str, reason: &str) -> bool {
    CASE.with_borrow_mut(|(name, said)| {
        if said.insert(what.to_owned()) {
            let name = if name.is_empty() { "a case" } else { name };
            let _ = writeln!(io::stderr().lock(), "SKIPPED: {name}: {what}: {reason}");
        }
    });
    false
}
