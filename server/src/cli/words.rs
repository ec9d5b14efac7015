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

/// What to type for this program: the word that was typed where the shell found it by that, else
/// its whole path, as it works from anywhere.
pub(crate) fn program() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    match std::env::current_exe() {
        Ok(path) if typed.is_empty() || typed.contains('/') => quoted(&path.to_string_lossy()),
        _ => typed,
    }
}

/// As a shell takes it for one word.
fn quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    if path.chars().all(is_plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Replaces the progress line of a terminal.
pub(crate) fn progress(words: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{words}");
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("/usr/bin/raftwerk"), "/usr/bin/raftwerk");
        assert_eq!(quoted("/my dir/it's"), r"'/my dir/it'\''s'");
    }
}
