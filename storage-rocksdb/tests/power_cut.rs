//! A machine that loses power while it writes has everything it acknowledged, whole batches and no
//! gap. The power of an ext4 image is cut: whatever was not synced is gone.
//!
//! Wants root, a loop device and ext4; says so where it cannot run. A program of its own and not a
//! list of tests: it calls itself as the process that writes.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod child;
mod history;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use child::{What, Writer, bounded, check, did_a_childs_job};
use tempfile::TempDir;

const IMAGE_BYTES: u64 = 256 << 20;
const CUTS: u64 = 20;
/// EXT4_IOC_SHUTDOWN without a last flush of the journal.
const CUT: &str = "import fcntl, os, struct, sys\n\
     sys.stdin.readline()\n\
     fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

fn main() {
    if did_a_childs_job() {
        return;
    }
    for what in [What::Log, What::State] {
        match Disk::make() {
            Ok(mut disk) => {
                power_cuts(what, &mut disk);
                println!("acknowledged_batches_survive_a_power_cut of {what:?} ... ok");
            }
            Err(reason) => println!("SKIPPED: power cuts of {what:?}: {reason}"),
        }
    }
}

fn power_cuts(what: What, disk: &mut Disk) {
    let path = disk.mounted.join("store");
    let mut stands = 0;
    for cut in 0..CUTS {
        let switch = disk.switch();
        let mut writer = Writer::start(what, &path, &[]);
        assert!(
            writer.listen(|life| life.acks > cut % 7),
            "it ended early: {:?}",
            writer.life
        );
        let before = writer.life.acked;
        cut_power(switch);
        let mut life = writer.kill();
        disk.power_on();
        assert_eq!(life.found, Some(stands), "a life began elsewhere");
        // A sync that was under way may have been answered either way.
        life.acked = before;
        stands = check(what, &path, &life);
    }
    assert!(stands > CUTS, "{stands}");
}

/// An ext4 file system in a file.
struct Disk {
    root: TempDir,
    mounted: PathBuf,
}

impl Disk {
    fn make() -> Result<Self, String> {
        let root = TempDir::new().unwrap();
        let mounted = root.path().join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        let disk = Self { root, mounted };
        File::create(disk.image())
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .unwrap();
        call("mkfs.ext4", &["-q", "-F"], &[&disk.image()])?;
        disk.mount()?;
        call("python3", &["-c", "import fcntl"], &[])?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    fn mount(&self) -> Result<(), String> {
        call("mount", &["-o", "loop"], &[&self.image(), &self.mounted])
    }

    /// Waits, ready to cut the power at once when it is told to.
    fn switch(&self) -> Child {
        Command::new("python3")
            .args(["-c", CUT])
            .arg(&self.mounted)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn power_on(&mut self) {
        call("umount", &[], &[&self.mounted]).expect("nobody uses it any more");
        self.mount().expect("it was mounted before");
    }
}

fn cut_power(mut switch: Child) {
    switch.stdin.take().unwrap().write_all(b"now\n").unwrap();
    let cut = bounded("the power cut", move || switch.wait().unwrap());
    assert!(cut.success(), "the power can be cut");
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = call("umount", &["-q"], &[&self.mounted]);
    }
}

fn call(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).args(paths);
    let output = bounded(program, move || command.output())
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.trim()))
}
