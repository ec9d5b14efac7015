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
