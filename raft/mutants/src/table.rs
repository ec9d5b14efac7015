//! The table of mutants: text that shows what is taken out of a function and what is put there.
//!
//! ```text
//! # a comment
//! M003 the same vote is not granted again
//! raft/election.rs fn handle_vote
//! - self.vote == Some(from)
//! + (!$on && self.vote == Some(from))
//! ```
//!
//! `$on` is true while the mutant is switched on. A mutant may have several edits, and instead of
//! being noticed be `equivalent: reason`.

use std::fs;
use std::path::{Path, PathBuf};

/// One broken rule.
#[derive(Debug, Default)]
pub(crate) struct Mutant {
    /// The number behind the M.
    pub(crate) id: u32,
    /// What is wrong with it.
    pub(crate) title: String,
    /// Why nobody can notice it.
    pub(crate) equivalent: Option<String>,
    /// How it is made.
    pub(crate) edits: Vec<Edit>,
    /// Where it stands in the table.
    pub(crate) place: PathBuf,
}

/// One change of one function.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// The file, from the core's `src` on.
    pub(crate) file: String,
    /// The function's name.
    pub(crate) function: String,
    /// What stands there once; white space does not matter.
    pub(crate) find: String,
    /// What takes its place.
    pub(crate) replacement: String,
}

/// All mutants of the `*.txt` in `folder`, by their ids.
pub(crate) fn read(folder: &Path) -> Result<Vec<Mutant>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut mutants = Vec::new();
    for file in fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "txt") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            parse(&path, &text, &mut mutants)?;
        }
    }
    mutants.sort_by_key(|mutant| mutant.id);
    let twice = mutants
        .iter()
        .zip(mutants.iter().skip(1))
        .find(|(a, b)| a.id == b.id);
    match twice {
        Some((mutant, _)) => Err(format!("M{:03} stands in the table twice", mutant.id)),
        None => Ok(mutants),
    }
}

fn parse(path: &Path, text: &str, mutants: &mut Vec<Mutant>) -> Result<(), String> {
    let before = mutants.len();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((id, title)) = heading(line) {
            mutants.push(Mutant {
                id,
                title: title.to_owned(),
                place: path.to_owned(),
                ..Mutant::default()
            });
            continue;
        }
        let mutant = mutants.iter_mut().skip(before).last();
        let mutant = mutant.ok_or_else(|| format!("{}: of which mutant?", place()))?;
        if let Some(reason) = line.strip_prefix("equivalent: ") {
            mutant.equivalent = Some(reason.to_owned());
            continue;
        }
        if let Some((file, function)) = line.split_once(" fn ")
            && !line.starts_with(['+', '-'])
        {
            mutant.edits.push(Edit {
                file: file.to_owned(),
                function: function.to_owned(),
                ..Edit::default()
            });
            continue;
        }
        let edit = mutant.edits.last_mut();
        let edit = edit.ok_or_else(|| format!("{}: of which function?", place()))?;
        let (text, line) = match line.split_at_checked(1) {
            Some(("-", line)) => (&mut edit.find, line),
            Some(("+", line)) => (&mut edit.replacement, line),
            _ => return Err(format!("{}: neither - nor +", place())),
        };
        text.push_str(line);
        text.push('\n');
    }
    Ok(())
}

/// `M017 title`.
fn heading(line: &str) -> Option<(u32, &str)> {
    let (id, title) = line.strip_prefix('M')?.split_once(' ')?;
    Some((id.parse().ok()?, title))
}
