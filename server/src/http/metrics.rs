//! Prometheus' text format, as much of it as gauges and counters need.

use std::fmt::Write;
use std::time::Duration;

/// A page under construction.
#[derive(Debug)]
pub(crate) struct Metrics {
    prefix: &'static str,
    text: String,
}

impl Metrics {
    /// Every name begins with `prefix`.
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            text: String::new(),
        }
    }

    /// The two lines that go before a metric's values. Names and help are this program's own
    /// words: nothing in them needs escaping.
    pub(crate) fn head(&mut self, name: &str, help: &str, kind: &str) {
        let prefix = self.prefix;
        // Writing into a string does not fail.
        let _ = writeln!(
            self.text,
            "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}"
        );
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.text, "{}{name} {value}", self.prefix);
    }

    /// What only grows while the process lives.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        let _ = writeln!(self.text, "{}{name} {value}", self.prefix);
    }

    /// Durations: what each bucket ends at (`None`: nowhere) and how many are in it alone, and all
    /// of them together.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl Iterator<Item = (Option<Duration>, u64)>,
        sum: Duration,
    ) {
        self.head(name, help, "histogram");
        let mut count = 0;
        for (end, here) in buckets {
            count += here;
            let end = end.map_or("+Inf".to_owned(), |end| end.as_secs_f64().to_string());
            self.labelled(&format!("{name}_bucket"), "le", &end, count);
        }
        let (prefix, sum) = (self.prefix, sum.as_secs_f64());
        let _ = writeln!(self.text, "{prefix}{name}_sum {sum:.6}");
        let _ = writeln!(self.text, "{prefix}{name}_count {count}");
    }

    pub(crate) fn seconds(&mut self, name: &str, help: &str, value: Duration) {
        self.head(name, help, "gauge");
        let _ = writeln!(
            self.text,
            "{}{name} {:.6}",
            self.prefix,
            value.as_secs_f64()
        );
    }

    pub(crate) fn labelled(&mut self, name: &str, label: &str, value: &str, count: u64) {
        let prefix = self.prefix;
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = writeln!(self.text, "{prefix}{name}{{{label}=\"{value}\"}} {count}");
    }

    pub(crate) fn end(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_a_histogram_hold_all_that_is_below() {
        let micros = Duration::from_micros;
        let buckets = [(Some(micros(2)), 1), (Some(micros(4)), 0), (None, 2)];
        let mut page = Metrics::new("x_");
        page.histogram(
            "sync_seconds",
            "How long.",
            buckets.into_iter(),
            micros(1500),
        );
        let expected = "# HELP x_sync_seconds How long.\n# TYPE x_sync_seconds histogram\n\
                        x_sync_seconds_bucket{le=\"0.000002\"} 1\n\
                        x_sync_seconds_bucket{le=\"0.000004\"} 1\n\
                        x_sync_seconds_bucket{le=\"+Inf\"} 3\n\
                        x_sync_seconds_sum 0.001500\nx_sync_seconds_count 3\n";
        assert_eq!(page.end(), expected);
    }

    #[test]
    fn the_text_is_prometheus_own() {
        let mut metrics = Metrics::new("x_");
        metrics.gauge("term", "The term.", 7);
        metrics.seconds("late_seconds", "How late.", Duration::from_millis(1500));
        metrics.head("peer", "Each peer.", "gauge");
        metrics.labelled("peer", "id", "a\"b", 3);
        let expected = "# HELP x_term The term.\n# TYPE x_term gauge\nx_term 7\n\
                        # HELP x_late_seconds How late.\n# TYPE x_late_seconds gauge\n\
                        x_late_seconds 1.500000\n\
                        # HELP x_peer Each peer.\n# TYPE x_peer gauge\nx_peer{id=\"a\\\"b\"} 3\n";
        assert_eq!(metrics.end(), expected);
    }
}
