//! How long to wait before the next attempt to reach a peer.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is drawn from the upper half of its step, so that
/// members that lost the same peer do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    state: u64,
}

impl Backoff {
    /// `seed` should differ for each peer and member.
    pub(crate) fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Self {
            first,
            most,
            next: first,
            state: seed | 1,
        }
    }

    /// The peer was reached.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait before the next attempt.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.most);
        // xorshift64: good enough for a jitter and needs no randomness of the system.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let half = step / 2;
        let span_us = u64::try_from(half.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        half + Duration::from_micros(self.state % span_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over_after_success() {
        let (first, most) = (Duration::from_millis(20), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, most, 7);
        let mut step = first;
        for _ in 0..12 {
            let wait = backoff.wait();
            assert!(
                wait >= step / 2 && wait <= step,
                "{wait:?} for a step of {step:?}"
            );
            step = (step * 2).min(most);
        }
        assert_eq!(step, most);
        backoff.reset();
        assert!(backoff.wait() <= first);
    }

    #[test]
    fn two_members_do_not_wait_alike() {
        let mut one = Backoff::new(Duration::from_millis(64), Duration::from_secs(1), 11);
        let mut two = Backoff::new(Duration::from_millis(64), Duration::from_secs(1), 1213);
        let alike = (0..8).filter(|_| one.wait() == two.wait()).count();
        assert!(alike < 4, "{alike} of 8 waits were the same");
    }
}
