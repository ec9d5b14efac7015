//! Looks for what RocksDB's own build will need, so that its absence is said in one sentence and
//! not in a page of a generator's or a compiler's complaints.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const ADVICE: &str = "RocksDB is built from C++: install libclang and a C++ compiler \
     (on Debian and Ubuntu: apt-get install libclang-dev g++), or leave the feature `rocksdb` off";

fn main() {
    for name in ["LIBCLANG_PATH", "LLVM_CONFIG_PATH", "CXX", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let mut missing = Vec::new();
    if !libclang_folders().iter().any(|folder| has_libclang(folder)) {
        missing.push("libclang");
    }
    if !has_cxx() {
        missing.push("a C++ compiler");
    }
    if !missing.is_empty() {
        println!("cargo::error={} not found. {ADVICE}", missing.join(" and "));
    }
}

/// Where libclang may be: what the variable says and nothing else, or the usual places.
fn libclang_folders() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("LIBCLANG_PATH") {
        let path = PathBuf::from(path);
        let parent = path.parent().map(Path::to_path_buf);
        return [Some(path), parent].into_iter().flatten().collect();
    }
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"]
        .into_iter()
        .map(PathBuf::from)
        .collect();
    if let Ok(arch) = env::var("CARGO_CFG_TARGET_ARCH") {
        folders.push(format!("/usr/lib/{arch}-linux-gnu").into());
    }
    // /usr/lib/llvm-14/lib and its like.
    for root in ["/usr/lib", "/usr/local", "/opt"] {
        let Ok(entries) = Path::new(root).read_dir() else {
            continue;
        };
        let versions = entries.flatten().map(|entry| entry.path());
        let is_llvm = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str);
            name.is_some_and(|name| name.starts_with("llvm"))
        };
        folders.extend(versions.filter(is_llvm).map(|path| path.join("lib")));
    }
    let loader = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(env::split_paths(&loader));
    let config = env::var_os("LLVM_CONFIG_PATH").unwrap_or_else(|| "llvm-config".into());
    if let Ok(output) = Command::new(config).arg("--libdir").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        folders.push(PathBuf::from(text.trim()));
    }
    folders
}

fn has_libclang(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Not libclang-cpp, which has another interface.
        let versioned = name
            .strip_prefix("libclang-")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        (versioned || name.starts_with("libclang.so")) && name.contains(".so")
    })
}

/// The compiler links too, so that it is wanted beside a library that was built before.
fn has_cxx() -> bool {
    if let Some(named) = env::var_os("CXX") {
        return answers(&named);
    }
    ["c++", "g++", "clang++"]
        .iter()
        .any(|name| answers(OsStr::new(name)))
}

fn answers(program: &OsStr) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}
