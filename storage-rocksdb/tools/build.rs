//! Looks for what RocksDB's own build will need, so that its absence is said in one sentence and
//! not in a page of a generator's or a compiler's complaints.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

const ADVICE: &str = "RocksDB is built from C++: install libclang and a C++ compiler \
     (on Debian and Ubuntu: apt-get install libclang-dev g++), or leave the feature `rocksdb` off";

fn main() {
    for name in ["LIBCLANG_PATH", "LLVM_CONFIG_PATH", "CXX", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if !cfg!(target_os = "linux") {
        return;
    }
    let libclang = libclang_folders()
        .iter()
        .find_map(|folder| libclang_in(folder));
    let found = [("libclang", libclang), ("a C++ compiler", cxx())];
    let mut missing = Vec::new();
    for (name, path) in found {
        match path {
            // Looked for again once it is gone.
            Some(path) => println!("cargo::rerun-if-changed={}", path.display()),
            None => missing.push(name),
        }
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
    folders.push(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH).into());
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

fn libclang_in(folder: &Path) -> Option<PathBuf> {
    let mut entries = folder.read_dir().ok()?.flatten();
    let found = entries.find(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Not libclang-cpp, which has another interface.
        let versioned = name
            .strip_prefix("libclang-")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        (versioned || name.starts_with("libclang.so")) && name.contains(".so")
    })?;
    Some(found.path())
}

/// The compiler links too, so that it is wanted beside a library that was built before.
fn cxx() -> Option<PathBuf> {
    let names = match env::var_os("CXX") {
        Some(named) => vec![named],
        None => ["c++", "g++", "clang++"].map(OsString::from).to_vec(),
    };
    let found = names.iter().find(|name| answers(name))?;
    let path = env::var_os("PATH").unwrap_or_default();
    // A path stands for itself here.
    let mut places = env::split_paths(&path).map(|folder| folder.join(found));
    Some(places.find(|place| place.is_file()).unwrap_or(found.into()))
}

fn answers(program: &OsStr) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}
