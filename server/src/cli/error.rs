//! What the command says when it cannot do what was asked.

use std::fmt;

/// An error for people: what is wrong and what to do, and the exit code for scripts.
#[derive(Debug)]
pub struct CliError {
    message: String,
    code: u8,
}

impl CliError {
    /// It was tried and failed: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// What was asked makes no sense: exit code 2, as for flags that cannot be read.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }

    /// This member cannot go on as what it was, refused by the others or damaged: exit code 3.
    /// Restarting is of no use.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 3,
        }
    }

    /// The same, where a command's exit codes have a meaning of their own.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same, with `name` in its words where `path` stands.
    pub(crate) fn renamed(self, path: &str, name: &str) -> Self {
        let message = self.message.replace(path, name);
        Self { message, ..self }
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}
