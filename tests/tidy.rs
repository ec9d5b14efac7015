//! The house rules that a machine can keep.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftwerk_tests::workspace;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_WIDTH_MAX: usize = 100;

/// Every file of the project below `dir` whose name ends in one of `ends`, build output left out.
fn files(dir: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "raftwerk-data") {
                    folders.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files found below {}", dir.display());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// Functions of `text` longer than the limit, as (line, name, length). Relies on rustfmt: the
/// closing brace stands under the `fn`.
fn long_functions(text: &str, max: usize) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(at) = function_keyword(code) else {
            continue;
        };
        let name: String = code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let close = format!("{}}}", " ".repeat(indent));
        let body_opens = lines[start..]
            .iter()
            .position(|l| l.trim_end().ends_with('{') || l.trim_end().ends_with(';'));
        if body_opens.is_some_and(|open| lines[start + open].trim_end().ends_with(';')) {
            continue;
        }
        if let Some(length) = lines[start..].iter().position(|l| *l == close)
            && length + 1 > max
        {
            long.push((start + 1, name, length + 1));
        }
    }
    long
}

/// Where `fn ` stands in a line that declares a function.
fn function_keyword(code: &str) -> Option<usize> {
    let at = code.find("fn ")?;
    let before = &code[..at];
    let words = [
        "pub", "const", "async", "unsafe", "extern", "crate", "super", "in",
    ];
    before
        .split(|c: char| c.is_whitespace() || "()\"".contains(c))
        .all(|word| word.is_empty() || words.contains(&word) || word == "C")
        .then_some(at)
}

#[test]
fn function_length_check_finds_a_long_function() {
    let body = "    let x = 1;\n".repeat(80);
    let text = format!("pub fn short() {{\n    a();\n}}\n\npub(crate) fn long() {{\n{body}}}\n");
    let found = long_functions(&text, 70);
    assert_eq!(found, [(5, "long".to_owned(), 82)]);
}

#[test]
fn no_file_is_longer_than_the_limit() {
    let offences: Vec<String> = files(&workspace(), &[".rs"])
        .iter()
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", shown(path)))
        .collect();
    report("files over 800 lines (split them by topic)", &offences);
}

#[test]
fn no_function_is_longer_than_the_limit() {
    let offences: Vec<String> = files(&workspace(), &[".rs"])
        .iter()
        .flat_map(|path| {
            long_functions(&read(path), FUNCTION_LINES_MAX)
                .into_iter()
                .map(|(line, name, lines)| format!("{}:{line}: {name}: {lines}", shown(path)))
                .collect::<Vec<_>>()
        })
        .collect();
    report("functions over 70 lines", &offences);
}

#[test]
fn no_line_is_wider_than_the_limit() {
    let offences: Vec<String> = files(&workspace(), &[".rs"])
        .iter()
        .flat_map(|path| {
            read(path)
                .lines()
                .enumerate()
                .filter(|(_, line)| line.chars().count() > LINE_WIDTH_MAX)
                .map(|(number, _)| format!("{}:{}", shown(path), number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    report("lines over 100 characters", &offences);
}

#[test]
fn nothing_is_left_behind() {
    // Spelled in two halves, so that this file does not find itself.
    let left: Vec<String> = [
        ("to", "do!("),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
        ("db", "g!("),
        ("unimple", "mented!("),
        ("#[ig", "nore"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let offences: Vec<String> = files(&workspace(), &[".rs", ".toml", ".md", ".sh", ".proto"])
        .iter()
        .flat_map(|path| {
            let text = read(path);
            left.iter()
                .filter(|word| text.contains(word.as_str()))
                .map(|word| format!("{}: {word}", shown(path)))
                .collect::<Vec<_>>()
        })
        .collect();
    report("left behind (finish or remove)", &offences);
}

/// The crates of the workspace: their folders, by what stands in `members`.
fn members() -> Vec<PathBuf> {
    let manifest = read(&workspace().join("Cargo.toml"));
    let list = manifest
        .split("\nmembers = [")
        .nth(1)
        .expect("members")
        .split(']')
        .next()
        .unwrap();
    let found: Vec<PathBuf> = list
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
        .map(|name| workspace().join(name))
        .collect();
    assert!(found.len() >= 3, "members not understood: {list}");
    found
}

#[test]
fn every_crate_forbids_unsafe_code_and_shares_the_lints() {
    let mut offences = Vec::new();
    for member in members() {
        let manifest = read(&member.join("Cargo.toml"));
        let name = shown(&member);
        if !manifest.contains("[lints]\nworkspace = true") {
            offences.push(format!("{name}/Cargo.toml: no [lints] workspace = true"));
        }
        if !manifest.contains("rust-version.workspace = true") {
            offences.push(format!(
                "{name}/Cargo.toml: rust-version is not the workspace's"
            ));
        }
        if member.join("src/lib.rs").exists() && !manifest.contains("bench = false") {
            offences.push(format!("{name}/Cargo.toml: [lib] without bench = false"));
        }
        let word = if name == "storage" { "deny" } else { "forbid" };
        for root in ["src/lib.rs", "src/main.rs"] {
            let path = member.join(root);
            if path.exists() && !read(&path).contains(&format!("#![{word}(unsafe_code)]")) {
                offences.push(format!("{}: no #![{word}(unsafe_code)]", shown(&path)));
            }
        }
    }
    report("crate rules", &offences);
}

#[test]
fn unsafe_code_stands_in_the_mapping_module_alone() {
    let word = format!("{}{}", "unsafe", " {");
    let offences: Vec<String> = files(&workspace(), &[".rs"])
        .iter()
        .filter(|path| !path.ends_with("storage/src/vfs/map.rs"))
        .filter(|path| read(path).lines().any(|line| line.contains(&word)))
        .map(|path| shown(path))
        .collect();
    report("unsafe blocks outside of storage/src/vfs/map.rs", &offences);
}

#[test]
fn readme_has_the_two_commands_and_the_minimum_rust_of_the_manifest() {
    let readme = read(&workspace().join("README.md"));
    let manifest = read(&workspace().join("Cargo.toml"));
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).collect();
    let commands: Vec<&str> = blocks
        .iter()
        .flat_map(|b| b.split("```").next().unwrap().lines())
        .collect();
    for command in ["cargo run --release -- up", "cargo test"] {
        assert!(
            commands.contains(&command),
            "README's sh blocks lack the line: {command}"
        );
    }
    let version = manifest
        .split("rust-version = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        readme.contains(&format!("Rust {version}")),
        "README does not name the minimum Rust of Cargo.toml: {version}"
    );
    let clippy = read(&workspace().join("clippy.toml"));
    assert!(clippy.contains("too-many-lines-threshold = 70"));
}

#[test]
fn readme_shows_embedding_in_thirty_lines() {
    let readme = read(&workspace().join("README.md"));
    let blocks: Vec<&str> = readme.split("```rust").skip(1).collect();
    assert_eq!(blocks.len(), 1, "one program, which is compiled as a test");
    let program = blocks[0].split("```").next().unwrap();
    let lines = program.lines().skip(1).count();
    assert!((20..=30).contains(&lines), "{lines} lines");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut offences = Vec::new();
    for path in files(&workspace(), &[".md"]) {
        let text = read(&path);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !target.is_empty() && !path.parent().unwrap().join(target).exists() {
                offences.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    report("broken links", &offences);
}

#[test]
fn continuous_integration_runs_the_command_that_the_readme_promises() {
    let script = read(&workspace().join(".ci/run"));
    assert!(script.starts_with("#!/usr/bin/env bash\n"));
    assert!(script.contains("set -euo pipefail"));
    assert!(script.contains("cargo test"));
}

#[test]
fn a_build_of_rocksdb_without_libclang_says_what_the_readme_says() {
    let target = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "-p", "raftwerk-rocksdb-tools"])
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", target.path())
        .env("LIBCLANG_PATH", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("libclang not found."), "{said}");
    let install = "apt-get install libclang-dev g++";
    assert!(said.contains(install), "{said}");
    assert!(read(&workspace().join("README.md")).contains(install));
    // A build script of ours that Cargo runs before RocksDB's, as that crate says.
    let crate_with_it = workspace().join("storage-rocksdb");
    let manifest = read(&crate_with_it.join("Cargo.toml"));
    let wanted = "[build-dependencies]\nraftwerk-rocksdb-tools.workspace = true\n";
    assert!(manifest.contains(wanted) && crate_with_it.join("build.rs").is_file());
}
