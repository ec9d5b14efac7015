//! Printing that cannot fail: whoever read the beginning may have seen enough and gone, and a
//! supervisor does not end because nobody listens.

use std::fmt::Arguments;
use std::io::Write;

/// A line on standard output.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::words::line(&mut std::io::stdout(), format_args!($($words)*))
    };
}

/// A line on standard error.
macro_rules! complain {
    ($($words:tt)*) => {
        $crate::cli::words::line(&mut std::io::stderr(), format_args!($($words)*))
    };
}

pub(crate) use {complain, say};

pub(crate) fn line(out: &mut dyn Write, words: Arguments<'_>) {
    let _ = writeln!(out, "{words}");
}

/// Replaces the progress line of a terminal.
pub(crate) fn progress(words: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{words}");
}
