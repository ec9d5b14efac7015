//! The clock that leases are measured by: it never goes back, and it goes on while the machine is
//! suspended, since the others' clocks do.

use std::time::Duration;

/// Since some moment before the process began; none where the system has no such clock.
#[cfg(target_os = "linux")]
pub(crate) fn now() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

/// Since some moment before the process began; none where the system has no such clock.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn now() -> Option<Duration> {
    None
}
