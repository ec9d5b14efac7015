//! What this process has cost so far, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Cumulative counters; the difference of two is what happened between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of all threads, user and system.
    pub cpu: Duration,
    /// Bytes given to write calls.
    pub written_bytes: u64,
    /// Bytes that the kernel took for the disk: pages that became dirty, and direct writes.
    pub disk_bytes: u64,
    /// Read and write system calls. Syncs are counted by the subject.
    pub io_calls: u64,
}

impl Cost {
    /// The counters now. Where the kernel does not tell (no /proc), they stay zero.
    #[must_use]
    pub fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let field = |name: &str| -> u64 {
            io.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
                .unwrap_or(0)
        };
        Self {
            cpu: Duration::new(
                u64::try_from(cpu.tv_sec).unwrap_or(0),
                u32::try_from(cpu.tv_nsec).unwrap_or(0),
            ),
            written_bytes: field("wchar"),
            disk_bytes: field("write_bytes"),
            io_calls: field("syscr").saturating_add(field("syscw")),
        }
    }

    /// What happened since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
            io_calls: self.io_calls.saturating_sub(earlier.io_calls),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            io_calls: self.io_calls.saturating_add(other.io_calls),
        }
    }
}
