//! What the figures were measured on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine, as far as it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Names and values, in the order in which they are shown.
    pub facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// This one, with the disk that `folder` is on.
    #[must_use]
    pub fn this(folder: &Path) -> Self {
        let (mount, file_system, device) = mount_of(folder).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self {
            facts: vec![
                ("disk", disk(folder, &device)),
                ("file system", format!("{file_system} on {mount}")),
                ("kernel", first_line("/proc/sys/kernel/osrelease")),
                ("cores", cores.to_string()),
                ("processor", field("/proc/cpuinfo", "model name")),
                ("memory", memory()),
            ],
        }
    }
}

/// Now, as `2026-11-22 01:02 UTC`.
#[must_use]
pub(crate) fn now_utc() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    utc(seconds)
}

/// A moment given in seconds since 1970.
fn utc(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The date of a day counted from 1970-01-01. Years are taken to begin in March, so that the
/// leap day is their last, and counted in eras of 400.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// The value of a line `name : value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}

fn memory() -> String {
    let kib: u64 = field("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    format!("{:.1} GiB", kib as f64 / f64::from(1 << 20))
}

/// The mount that `folder` is in: where, the file system, the device.
fn mount_of(folder: &Path) -> Option<(String, String, String)> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, mount, kind) = (words.next()?, words.next()?, words.next()?);
            folder
                .starts_with(mount)
                .then(|| (mount.to_owned(), kind.to_owned(), device.to_owned()))
        })
        // The later of two equal mounts hides the earlier.
        .max_by_key(|(mount, _, _)| mount.len())
}

/// The device with what it says of itself.
fn disk(folder: &Path, device: &str) -> String {
    let number = fs::metadata(folder).map_or(0, |metadata| metadata.dev());
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let base = format!("/sys/dev/block/{major}:{minor}");
    // A partition's queue is its disk's.
    let queue = ["queue", "../queue"]
        .into_iter()
        .map(|queue| format!("{base}/{queue}"))
        .find(|path| Path::new(path).is_dir());
    let mut words = vec![device.to_owned()];
    if let Some(queue) = queue {
        let model = first_line(&format!("{queue}/../device/model"));
        if model != "unknown" {
            words.push(model);
        }
        if first_line(&format!("{queue}/rotational")) == "1" {
            words.push("rotational by its flag".to_owned());
        }
        words.push(first_line(&format!("{queue}/write_cache")) + " cache");
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_779), (2026, 11, 22));
        assert_eq!(utc(86_399), "1970-01-01 23:59 UTC");
    }

    #[test]
    fn every_fact_has_a_value() {
        let machine = Machine::this(Path::new("/"));
        for (name, value) in &machine.facts {
            assert!(!value.is_empty(), "{name}");
        }
    }
}
