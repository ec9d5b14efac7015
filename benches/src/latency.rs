//! How long single operations took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What the curves show, in percent.
pub const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9];
/// In nanoseconds: what is longer counts as this.
const LONGEST_NS: u64 = 100_000_000_000;
/// Values are told apart to one in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub struct Latencies(Option<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).ok())
    }
}

impl Latencies {
    /// Counts one operation.
    pub fn record(&mut self, took: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST_NS));
        }
    }

    /// Counts what `other` counted.
    pub fn add(&mut self, other: &Self) {
        if let (Some(mine), Some(others)) = (&mut self.0, &other.0) {
            // Both have the same bounds.
            let _ = mine.add(others);
        }
    }

    /// The duration, in milliseconds, that `percent` of the operations did not exceed; `None`
    /// when nothing was counted.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_percentile(percent) as f64 / 1e6)
    }

    /// A point of the curve for each of [`PERCENTILES`]: percent and milliseconds.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        PERCENTILES
            .iter()
            .filter_map(|&percent| Some((percent, self.percentile_ms(percent)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_everything_that_was_added() {
        let mut all = Latencies::default();
        let mut other = Latencies::default();
        for ms in 1..=50 {
            all.record(Duration::from_millis(ms));
            other.record(Duration::from_millis(50 + ms));
        }
        all.add(&other);
        let p50 = all.percentile_ms(50.0).unwrap();
        let p99 = all.percentile_ms(99.0).unwrap();
        assert!((p50 - 50.0).abs() < 0.1, "{p50}");
        assert!((p99 - 99.0).abs() < 0.2, "{p99}");
        assert_eq!(all.curve().len(), PERCENTILES.len());
    }

    #[test]
    fn what_was_not_counted_has_no_percentile() {
        assert_eq!(Latencies::default().percentile_ms(50.0), None);
        assert!(Latencies::default().curve().is_empty());
    }
}
