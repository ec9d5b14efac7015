//! Other processes, which have no event to await: looked at and asked again and again.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Between two looks at another process.
pub const PAUSE: Duration = Duration::from_millis(20);
/// What a command says that does not know whether it was done.
const UNKNOWN: [&str; 3] = [
    "request timed out",
    "leader changed",
    "whether it was done is not known",
];

/// Looks until `look` finds something; says what it saw last when it never does.
///
/// # Panics
/// After [`PATIENCE`].
pub fn await_some<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(began.elapsed() < PATIENCE, "waited in vain: {seen}"),
        }
        thread::sleep(PAUSE);
    }
}

/// What a command said, on both ways.
#[must_use]
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Has `run` ask with `args` for a change of a cluster's members until `look` finds it in their
/// list, and gives what it found. A command that took too long does not know whether the change was
/// made, and made again it is refused. One that does know says so, with `words` when it is made.
///
/// # Panics
/// The list shows it though no command said that it was made, or that it may have been. After
/// [`PATIENCE`].
pub fn change_members<T>(
    run: impl Fn(&[&str]) -> Output,
    endpoint: &str,
    args: &[&str],
    words: &str,
    mut look: impl FnMut(&str) -> Option<T>,
) -> T {
    let at = ["--endpoints", endpoint];
    let mut may_be_made = false;
    await_some(|| {
        let output = run(&[args, &at].concat());
        let answer = said(&output);
        if output.status.success() {
            assert!(answer.contains(words), "{args:?}: {answer}");
            may_be_made = true;
        }
        // Without an answer of the cluster nobody knows.
        let answered = answer.contains("etcdserver: ");
        may_be_made |= !answered || UNKNOWN.iter().any(|unknown| answer.contains(unknown));
        let list = run(&[&["member", "list"], &at[..]].concat());
        let seen = format!("{args:?}: {answer}\n{}", said(&list));
        let text = String::from_utf8_lossy(&list.stdout);
        let found = list.status.success().then(|| look(&text)).flatten();
        let found = found.ok_or_else(|| seen.clone())?;
        assert!(may_be_made, "made, but not said: {seen}");
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn output(code: i32, text: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: text.into(),
            stderr: Vec::new(),
        }
    }

    /// Asks for a change of members that is made, and answered with `answer`.
    fn change(code: i32, answer: &str) -> &'static str {
        let run = |args: &[&str]| match args {
            ["member", "list", ..] => output(0, "m4"),
            _ => output(code, answer),
        };
        let found = |list: &str| (list == "m4").then_some("found");
        change_members(run, "here", &["member", "add"], "added", found)
    }

    #[test]
    fn a_change_is_made_by_a_command_that_says_so_or_does_not_know() {
        assert_eq!(change(0, "added m4"), "found");
        assert_eq!(change(1, "etcdserver: request timed out"), "found");
        assert_eq!(change(1, "no member answers"), "found");
    }

    #[test]
    #[should_panic(expected = "made, but not said")]
    fn a_command_that_fails_and_does_it_all_the_same_is_found() {
        change(1, "etcdserver: too many learner members in cluster");
    }

    #[test]
    #[should_panic(expected = "somewhat changed")]
    fn a_command_that_says_something_else_is_found() {
        change(0, "somewhat changed");
    }
}
