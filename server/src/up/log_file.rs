//! Where a member's words go: a file with a bound.
//!
//! The member's process holds the file open and appends to it for as long as it lives, so the file
//! is not renamed when it is full: what it holds moves into a second file, over what was there, and
//! it goes on from its beginning. What is written while its end is being moved may be lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the member says now.
const NAME: &str = "member.log";
/// What it said before.
const OLD_NAME: &str = "member.log.old";
/// How long each of the two may become, in bytes.
const BYTES_MAX: u64 = 4 << 20;
/// How often it is looked at, so that between two looks the file may be longer.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The two files of one member.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    old: PathBuf,
    looked: Instant,
}

impl LogFile {
    /// Of the member in `folder`.
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            path: folder.join(NAME),
            old: folder.join(OLD_NAME),
            looked: Instant::now(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be appended to.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        options.open(&self.path)
    }

    /// Keeps the bound, if it has not been looked at for a while.
    pub(super) fn look(&mut self) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            // A log that cannot be moved is no reason to end a cluster: the next look tries again.
            let _ = self.bound(BYTES_MAX);
        }
    }

    fn bound(&self, bytes_max: u64) -> io::Result<()> {
        if self.path.metadata()?.len() <= bytes_max {
            return Ok(());
        }
        let end = self.end(bytes_max)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&self.old)?.write_all(&end)?;
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    /// The last `bytes` at most, however long the file has become.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn end(&self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(bytes)))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn end_of_a_long_file_is_all_that_is_read_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::of(folder.path());
        assert!(log.end(2048).is_err());
        for (len, shown) in [(0, 0), (10, 10), (2048, 2048), (5000, 2048)] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            fs::write(log.path(), &text).unwrap();
            let end = log.end(2048).unwrap();
            assert!(text.ends_with(&end));
            assert_eq!(end.len(), shown);
        }
    }

    #[test]
    fn a_log_that_is_full_goes_on_from_its_beginning_and_one_old_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::of(folder.path());
        // As the member's process holds it, through all that happens to the file.
        let mut member = log.open().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        for round in 0..5 {
            for line in 0..100 {
                writeln!(member, "round {round} line {line:3}").unwrap();
                log.bound(1000).unwrap();
                let len = log.path().metadata().unwrap().len();
                assert!(len <= 1000, "{len}");
            }
        }
        // Nothing is missing between the two, which hold the newest lines.
        let both = read(OLD_NAME) + &read(NAME);
        assert!((1000..=2100).contains(&both.len()), "{}", both.len());
        assert!(both.ends_with("round 4 line  98\nround 4 line  99\n"));
        let whole: Vec<&str> = both
            .lines()
            .filter(|line| line.starts_with("round 4"))
            .collect();
        let count = whole.len();
        assert!(count > 40, "{count}");
        assert_eq!(whole[0], format!("round 4 line {:3}", 100 - count));
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2);

        // One that grew while nobody looked is cut as well.
        member.write_all(&[b'x'; 50_000]).unwrap();
        log.bound(1000).unwrap();
        assert_eq!((read(OLD_NAME).len(), read(NAME).len()), (1000, 0));
        // Looked at from time to time, by itself.
        member.write_all(&vec![b'y'; 5 << 20]).unwrap();
        log.look();
        assert_eq!(read(NAME).len(), 5 << 20);
        log.looked = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        log.look();
        assert_eq!((read(OLD_NAME).len(), read(NAME).len()), (4 << 20, 0));
    }
}
