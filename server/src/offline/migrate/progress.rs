//! How far a migration is.

use std::io::IsTerminal;

use crate::cli::CliError;
use crate::cli::words::{complain, progress};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::offline) enum Phase {
    /// The source's files are copied, in bytes.
    Copy,
    /// The new store is filled.
    Write,
    /// It is read back and compared.
    Compare,
    /// It is made durable and takes its place.
    Settle,
    /// A member's folders change places.
    Swap,
}

impl Phase {
    const fn words(self) -> &'static str {
        match self {
            Self::Copy => "copying the source's files",
            Self::Write => "writing",
            Self::Compare => "reading back",
            Self::Settle => "settling",
            Self::Swap => "changing places",
        }
    }
}

/// Told of each step before the next one is made.
pub(in crate::offline) trait Progress: Send {
    /// `done` of `total` of this phase are done.
    ///
    /// # Errors
    /// Not to go on: everything is left as it is at this point.
    fn at(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), CliError>;
}

const BAR_WIDTH: u64 = 30;
/// Without a terminal, a line for so many percent.
const LINE_PERCENT: u64 = 25;

/// On standard error: a bar on a terminal, else lines.
pub(in crate::offline) struct Shown {
    terminal: bool,
    last: Option<(Phase, u64)>,
}

impl Shown {
    pub(in crate::offline) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            last: None,
        }
    }

    /// Leaves the terminal's line empty.
    pub(in crate::offline) fn end(&self) {
        if self.terminal && self.last.is_some() {
            progress("");
        }
    }
}

impl Progress for Shown {
    fn at(&mut self, phase: Phase, done: u64, total: u64) -> Result<(), CliError> {
        let percent = match total {
            0 => 100,
            total => {
                u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).unwrap_or(100)
            }
        };
        let shown = if self.terminal {
            percent
        } else {
            percent / LINE_PERCENT * LINE_PERCENT
        };
        if self.last == Some((phase, shown)) {
            return Ok(());
        }
        self.last = Some((phase, shown));
        if self.terminal {
            progress(&bar(phase, percent));
        } else {
            complain!("{}: {shown} %", phase.words());
        }
        Ok(())
    }
}

fn bar(phase: Phase, percent: u64) -> String {
    let full = usize::try_from(percent * BAR_WIDTH / 100).unwrap_or(0);
    let empty = usize::try_from(BAR_WIDTH).unwrap_or(0).saturating_sub(full);
    format!(
        "{:<27} [{}{}] {percent:>3} %",
        phase.words(),
        "#".repeat(full),
        " ".repeat(empty)
    )
}
