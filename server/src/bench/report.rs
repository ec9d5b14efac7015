//! What came out.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::{BenchArgs, Op};
use crate::cli::Consistency;
use crate::client::json::Object;

const QUANTILES: [(&str, f64); 4] = [
    ("p50", 0.50),
    ("p90", 0.90),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

/// One run.
pub(crate) struct Report<'a> {
    pub(crate) args: &'a BenchArgs,
    pub(crate) op: Op,
    pub(crate) elapsed: Duration,
    /// In microseconds.
    pub(crate) latencies: &'a Histogram<u32>,
    pub(crate) errors: u64,
}

pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn millis(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1000.0
}

impl Report<'_> {
    fn what(&self) -> &'static str {
        match self.op {
            Op::Put => "put",
            Op::Get(Consistency::Linearizable) => "get (linearizable)",
            Op::Get(Consistency::Serializable) => "get (serializable)",
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "{}: {} clients at {}, {}-byte values, {:.1} s\n{:>10.0} ops/s",
            self.what(),
            self.args.clients,
            self.args.endpoints.join(", "),
            self.args.value_size,
            self.elapsed.as_secs_f64(),
            per_second(self.latencies.len(), self.elapsed)
        );
        for (name, quantile) in QUANTILES {
            let us = self.latencies.value_at_quantile(quantile);
            out.push_str(&format!("\n{name:>10} {:.2} ms", millis(us)));
        }
        out.push_str(&format!(
            "\n{:>10} {:.2} ms",
            "max",
            millis(self.latencies.max())
        ));
        out
    }

    /// For scripts: latencies in milliseconds.
    pub(crate) fn json(&self) -> String {
        let mut object = Object::new()
            .string("op", self.what())
            .number("clients", u64::from(self.args.clients))
            .number("value_size", u64::from(self.args.value_size))
            .decimal("seconds", self.elapsed.as_secs_f64())
            .number("ops", self.latencies.len())
            .decimal(
                "ops_per_second",
                per_second(self.latencies.len(), self.elapsed),
            )
            .number("errors", self.errors);
        for (name, quantile) in QUANTILES {
            let us = self.latencies.value_at_quantile(quantile);
            object = object.decimal(&format!("{name}_ms"), millis(us));
        }
        object.decimal("max_ms", millis(self.latencies.max())).end()
    }
}
