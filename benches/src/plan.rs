//! How long to measure.

use std::time::Duration;

/// What the command line asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `--test`: everything once, briefly, to see that it works.
    Test,
    /// `--quick`: few keys, short turns.
    Quick,
    /// Neither.
    Full,
}

/// How long to measure, from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for.
    pub mode: Mode,
    /// Turns of each subject that count.
    pub rounds: u32,
    /// How long one turn lasts.
    pub slice: Duration,
}

impl Plan {
    /// The plan of a mode.
    #[must_use]
    pub const fn new(mode: Mode) -> Self {
        let (rounds, slice_ms) = match mode {
            Mode::Test => (1, 2),
            Mode::Quick => (8, 40),
            Mode::Full => (20, 100),
        };
        Self {
            mode,
            rounds,
            slice: Duration::from_millis(slice_ms),
        }
    }

    /// The plan that the arguments ask for; those that cargo adds are passed over.
    #[must_use]
    pub fn from_args(args: impl Iterator<Item = String>) -> Self {
        args.fold(Self::new(Mode::Full), |plan, arg| match arg.as_str() {
            "--quick" => Self::new(Mode::Quick),
            "--test" => Self::new(Mode::Test),
            _ => plan,
        })
    }

    /// The same with turns that are so many times as long.
    #[must_use]
    pub const fn longer(self, times: u32) -> Self {
        Self {
            slice: self.slice.saturating_mul(times),
            ..self
        }
    }

    /// One of three, by mode.
    #[must_use]
    pub fn pick<T>(&self, test: T, quick: T, full: T) -> T {
        match self.mode {
            Mode::Test => test,
            Mode::Quick => quick,
            Mode::Full => full,
        }
    }
}

impl Mode {
    /// Its name on the page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_shortens_the_plan() {
        let args = |list: &[&str]| Plan::from_args(list.iter().map(|&arg| arg.to_owned()));
        let (full, quick) = (args(&["--bench"]), args(&["--bench", "--quick"]));
        assert_eq!(full.mode, Mode::Full);
        assert!(quick.slice < full.slice && quick.rounds < full.rounds);
        assert_eq!(args(&["--test"]).rounds, 1);
        assert_eq!(quick.pick(1, 2, 3), 2);
    }
}
