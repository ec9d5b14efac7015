//! Copies the core's source with all mutants of the table in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

#[path = "src/table.rs"]
mod table;

use table::{Edit, Mutant};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .ok_or("not run by cargo")
    };
    let (home, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    let core = home.join("..");
    println!("cargo::rerun-if-changed=table");
    println!("cargo::rerun-if-changed=../src");
    // Where the core's tests find their data.
    println!("cargo::rustc-env=RAFTWERK_RAFT={}", core.display());
    let io = |error: io::Error| format!("copying the core's source: {error}");
    let mut files = BTreeMap::new();
    collect(&core.join("src"), Path::new(""), &mut files).map_err(io)?;
    let mut failed = Vec::new();
    for mutant in table::read(&home.join("table"))? {
        for edit in &mutant.edits {
            failed.extend(apply(&mutant, edit, &mut files).err());
        }
    }
    if !failed.is_empty() {
        return Err(failed.join("\n"));
    }
    for (path, file) in files {
        let path = out.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        fs::write(path, file.mutated).map_err(io)?;
    }
    Ok(())
}

struct Source {
    original: String,
    mutated: String,
}

fn collect(root: &Path, at: &Path, files: &mut BTreeMap<PathBuf, Source>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(at))? {
        let path = at.join(entry?.file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        let original = fs::read_to_string(root.join(&path))?;
        // The root is included, where neither inner documentation nor attributes can stand.
        let root = path == Path::new("lib.rs");
        let mutated = if root {
            outer(&original)
        } else {
            original.clone()
        };
        files.insert(path, Source { original, mutated });
    }
    Ok(())
}

/// The source without inner documentation and attributes.
fn outer(source: &str) -> String {
    let mut in_attribute = false;
    let mut kept = Vec::new();
    for line in source.lines() {
        in_attribute |= line.starts_with("#![");
        if !in_attribute && !line.starts_with("//!") {
            kept.push(line);
        }
        in_attribute &= !line.ends_with(']');
    }
    kept.join("\n")
}

fn apply(
    mutant: &Mutant,
    edit: &Edit,
    files: &mut BTreeMap<PathBuf, Source>,
) -> Result<(), String> {
    let complain = |found: &str| {
        format!(
            "M{:03} ({}): {found}. Adapt raft/mutants/table/{} to the source: fn {} of raft/src/{} \
             has to hold once: {}",
            mutant.id,
            mutant.title,
            mutant.place.file_name().unwrap_or_default().display(),
            edit.function,
            edit.file,
            edit.find.trim(),
        )
    };
    let file = files.get_mut(Path::new(&edit.file));
    let file = file.ok_or_else(|| complain("there is no such file"))?;
    let body = body(&file.original, &edit.function);
    let body = body.ok_or_else(|| complain("there is no such function, or several"))?;
    let count = occurrences(body, &edit.find).len();
    if count != 1 {
        return Err(complain(&format!("found {count} times")));
    }
    // Mutants before this one may have put a copy before the original.
    let (head, tail) = file.mutated.split_at(start(&file.mutated, &edit.function));
    let body = self::body(&file.mutated, &edit.function).unwrap_or_default();
    let found = occurrences(body, &edit.find).pop();
    let found = found.ok_or_else(|| complain("another mutant has changed it"))?;
    let (before, rest) = tail.split_at(found.0);
    let (_, after) = rest.split_at(found.1 - found.0);
    let switch = format!("crate::mutant::on({})", mutant.id);
    let replacement = edit.replacement.replace("$on", &switch);
    file.mutated = [head, before, replacement.trim(), after].concat();
    Ok(())
}

/// Where the function begins.
fn start(text: &str, function: &str) -> usize {
    let begins = [format!("fn {function}("), format!("fn {function}<")];
    let found = begins.iter().find_map(|begin| text.find(begin.as_str()));
    found.unwrap_or(text.len())
}

/// The function, up to the closing brace that stands below its beginning.
fn body<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    let at = start(text, function);
    let (head, tail) = text.split_at(at);
    if start(tail.get(1..)?, function) < tail.len() - 1 {
        return None;
    }
    let line = head.rsplit('\n').next()?;
    let indent = line.len() - line.trim_start().len();
    let end = format!("\n{}}}\n", " ".repeat(indent));
    tail.find(&end).and_then(|end| tail.get(..end))
}

/// Where `wanted` stands in `text`, whatever white space is between its characters.
fn occurrences(text: &str, wanted: &str) -> Vec<(usize, usize)> {
    let wanted: Vec<char> = wanted.chars().filter(|c| !c.is_whitespace()).collect();
    let text: Vec<(usize, char)> = text
        .char_indices()
        .filter(|(_, c)| !c.is_whitespace())
        .collect();
    let characters: Vec<char> = text.iter().map(|(_, c)| *c).collect();
    let mut found = Vec::new();
    for (at, window) in characters.windows(wanted.len().max(1)).enumerate() {
        let last = at + window.len() - 1;
        if window == wanted
            && let (Some((from, _)), Some((to, c))) = (text.get(at), text.get(last))
        {
            found.push((*from, to + c.len_utf8()));
        }
    }
    found
}
