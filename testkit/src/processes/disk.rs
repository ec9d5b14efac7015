//! A file system whose power can be cut.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::bounded;

const IMAGE_BYTES: u64 = 256 << 20;
/// EXT4_IOC_SHUTDOWN without a last flush of the journal.
const CUT: &str = "import fcntl, os, struct, sys\n\
     sys.stdin.readline()\n\
     fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// An ext4 file system in a file. Wants root, a loop device, mkfs.ext4 and python3.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// Where it is mounted.
    pub mounted: PathBuf,
}

/// Cuts the power when told to, without delay.
#[derive(Debug)]
pub struct Switch(Child);

impl Switch {
    /// Now.
    ///
    /// # Panics
    /// It cannot be cut.
    pub fn cut(mut self) {
        self.0.stdin.take().unwrap().write_all(b"now\n").unwrap();
        let cut = bounded("the power cut", move || self.0.wait().unwrap());
        assert!(cut.success(), "the power can be cut");
    }
}

impl Disk {
    /// Makes one in the folder `root`, which stays after it.
    ///
    /// # Errors
    /// Why that cannot be done here.
    ///
    /// # Panics
    /// The folder cannot be written to.
    pub fn make(root: &Path) -> Result<Self, String> {
        let root = root.to_owned();
        let mounted = root.join("mounted");
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
        self.root.join("image")
    }

    fn mount(&self) -> Result<(), String> {
        call("mount", &["-o", "loop"], &[&self.image(), &self.mounted])
    }

    /// Waits, ready to cut the power at once when it is told to.
    ///
    /// # Panics
    /// There is no python3, which was there before.
    #[must_use]
    pub fn switch(&self) -> Switch {
        let child = Command::new("python3")
            .args(["-c", CUT])
            .arg(&self.mounted)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Switch(child)
    }

    /// The power is back: what was synced is there.
    ///
    /// # Panics
    /// It cannot be mounted again.
    pub fn power_on(&mut self) {
        call("umount", &[], &[&self.mounted]).expect("nobody uses it any more");
        self.mount().expect("it was mounted before");
    }
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
