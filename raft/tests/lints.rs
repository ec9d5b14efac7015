//! The core's lints find what they are there for: a crate with the same lints, and in it one of
//! each thing that the core must not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cargo_clippy() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg("clippy");
    command
}

/// Each line breaks one rule.
const PLANTED: [&str; 22] = [
    "pub fn f0() { std::collections::HashMap::<u8, u8>::new(); }",
    "pub fn f1() { std::collections::HashSet::<u8>::new(); }",
    "pub fn f2(_: std::time::Instant) {}",
    "pub fn f3(_: std::time::SystemTime) {}",
    "pub fn f4() { std::thread::spawn(|| {}); }",
    "pub fn f5() { std::thread::sleep(std::time::Duration::ZERO); }",
    "pub fn f6(_: std::sync::Mutex<u8>) {}",
    "pub fn f7(_: std::sync::mpsc::Sender<u8>) {}",
    "pub fn f8(_: std::fs::File) {}",
    "pub fn f9() -> bool { std::env::var(\"x\").is_ok() }",
    "pub fn f10(x: Option<u8>) -> u8 { x.unwrap() }",
    "pub fn f11(x: Option<u8>) -> u8 { x.expect(\"x\") }",
    "pub fn f12(x: &[u8]) -> u8 { x[0] }",
    "pub fn f13(x: &[u8], n: usize) -> &[u8] { &x[n..] }",
    "pub fn f14() { panic!() }",
    "pub fn f15(x: bool) { if x { unreachable!() } }",
    "pub fn f16() { println!(\"x\") }",
    "pub fn f17() { eprintln!(\"x\") }",
    "pub fn f18() { std::process::exit(1) }",
    "pub fn f19(x: &str) -> &str { &x[1..] }",
    "pub unsafe fn f20() {}",
    "pub fn f21(_: std::sync::RwLock<u8>, _: std::sync::Condvar) {}",
];

#[test]
fn clocks_threads_chance_and_panics_are_denied_in_the_core() {
    let known = cargo_clippy().arg("--version").output();
    if !known.is_ok_and(|output| output.status.success()) {
        println!("skipped: this toolchain has no clippy");
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| fs::read_to_string(workspace.join(name)).unwrap();
    let manifest = read("Cargo.toml");
    let lints = manifest.split("[workspace.lints.rust]").nth(1).unwrap();
    let (rust, clippy) = lints.split_once("[workspace.lints.clippy]").unwrap();
    let clippy = clippy.split("\n[").next().unwrap();
    assert!(read("raft/Cargo.toml").contains("[lints]\nworkspace = true"));
    let core = read("raft/src/lib.rs");
    let attributes = &core[core.find("#![").unwrap()..core.find("\npub mod").unwrap()];

    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    fs::create_dir_all(folder.join("src")).unwrap();
    let package = "[package]\nname = \"planted\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    write(
        "Cargo.toml",
        format!("{package}\n[workspace]\n[lints.rust]{rust}[lints.clippy]{clippy}"),
    );
    write("clippy.toml", read("raft/clippy.toml"));
    let documented = PLANTED.map(|line| format!("/// Planted.\n{line}"));
    let head = format!("//! Planted.\n{attributes}\n");
    let first = head.lines().count() + 2;
    write("src/lib.rs", head + &documented.join("\n") + "\n");

    let output = cargo_clippy()
        .args(["--offline", "--quiet", "--message-format=short"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    let found = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "clippy takes everything: {found}");
    for (at, line) in PLANTED.iter().enumerate() {
        let place = format!("src/lib.rs:{}:", first + 2 * at);
        let denied = |said: &str| said.starts_with(&place) && said.contains(" error: ");
        assert!(found.lines().any(denied), "not denied: {line}\n{found}");
    }
}
