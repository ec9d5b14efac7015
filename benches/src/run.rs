//! Turns of the subjects, and the table.

use std::time::{Duration, Instant};

use crate::cost::Cost;
use crate::latency::Latencies;
use crate::plan::{Mode, Plan};
use crate::report::{Curve, Report};
use crate::stats::Quartiles;

/// What one subject did in one slice.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Operations completed (entries made durable, say).
    pub operations: u64,
    /// Syncs that the disk was asked for; `None` where that cannot be counted.
    pub syncs: Option<u64>,
    /// How long it worked: what it prepared before does not count.
    pub elapsed: Duration,
    /// How long the single steps took.
    pub latencies: Latencies,
}

/// Something measured. The first subject of a bench is what the others are compared with.
pub trait Subject {
    /// Its name in the table: `wal`, `raw device`.
    fn name(&self) -> &str;

    /// Works for `length` and says what it did. A failure is told and ends the bench.
    ///
    /// # Errors
    /// Whatever went wrong, in words.
    fn slice(&mut self, length: Duration) -> Result<Slice, String>;

    /// What has to be done between slices and does not count.
    ///
    /// # Errors
    /// Whatever went wrong, in words.
    fn upkeep(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Does `step` until `length` has passed; it says how many operations it made.
///
/// # Errors
/// What `step` says.
pub fn repeat(
    length: Duration,
    mut step: impl FnMut() -> Result<u64, String>,
) -> Result<Slice, String> {
    let mut slice = Slice::default();
    let start = Instant::now();
    let mut before = start;
    while before.duration_since(start) < length {
        slice.operations += step()?;
        let now = Instant::now();
        slice.latencies.record(now.duration_since(before));
        before = now;
    }
    slice.elapsed = before.duration_since(start);
    Ok(slice)
}

/// Subjects under one load.
pub struct Bench<'a> {
    /// The load's name, the second half of the row's `bench`.
    pub load: String,
    /// Who takes turns.
    pub subjects: Vec<Box<dyn Subject + 'a>>,
}

/// A ratio that is wanted of two subjects.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Who is to be fast.
    pub subject: &'static str,
    /// Than whom; of several, the fastest counts, by its median.
    pub than: &'static [&'static str],
    /// How many times as fast.
    pub times: f64,
}

impl Wanted {
    /// `subject` is to be `times` as fast as the fastest of `than`.
    #[must_use]
    pub const fn times(subject: &'static str, than: &'static [&'static str], times: f64) -> Self {
        Self {
            subject,
            than,
            times,
        }
    }
}

/// What is wanted wherever writers wait for durability: the write-ahead log before the backends.
#[must_use]
pub const fn wal_before_backends() -> [Wanted; 2] {
    [
        Wanted::times("wal", &["redb"], 1.0),
        Wanted::times("wal", &["rocksdb"], 1.0),
    ]
}

/// When the quartiles lie further apart than this part of the median, a ratio says nothing.
const SPREAD_MAX: f64 = 0.25;

#[derive(Default)]
struct Total {
    rates: Vec<f64>,
    ratios: Vec<f64>,
    operations: u64,
    syncs: Option<u64>,
    cost: Cost,
    latencies: Latencies,
}

impl Report {
    /// Runs a bench, prints its table and keeps its figures.
    ///
    /// # Errors
    /// What a subject said, in words.
    pub fn measure(&mut self, bench: Bench<'_>) -> Result<(), String> {
        self.measure_wanted(bench, &[])
    }

    /// As [`Report::measure`], and says of each wanted ratio whether it is there.
    ///
    /// # Errors
    /// What a subject said, in words.
    pub fn measure_wanted(&mut self, bench: Bench<'_>, wanted: &[Wanted]) -> Result<(), String> {
        self.measure_as(self.plan(), bench, wanted)
    }

    /// As [`Report::measure_wanted`], by another plan than the command line's.
    ///
    /// # Errors
    /// What a subject said, in words.
    pub fn measure_as(
        &mut self,
        plan: Plan,
        mut bench: Bench<'_>,
        wanted: &[Wanted],
    ) -> Result<(), String> {
        let totals = turns(&mut bench, plan)?;
        let found: Vec<_> = totals.iter().map(figures).collect();
        print_table(self.target(), &bench, &found, plan);
        for ((subject, total), figures) in bench.subjects.iter().zip(&totals).zip(found) {
            for (unit, value) in figures {
                self.row(&bench.load, subject.name(), unit, value);
            }
            self.curve(Curve {
                bench: bench.load.clone(),
                subject: subject.name().to_owned(),
                points: total.latencies.curve(),
            });
        }
        let names = bench.subjects.iter().map(|subject| subject.name());
        let named: Vec<_> = names.zip(&totals).collect();
        for wanted in wanted {
            // One short pass says nothing.
            if plan.mode == Mode::Test {
                break;
            }
            if let Some((than, ratio)) = ratio_of(&named, wanted) {
                self.verdict(&bench.load, wanted, than, ratio);
            }
        }
        Ok(())
    }

    /// Says whether `ratio`, how many times as fast as `than`, is what is wanted, and keeps it.
    pub fn verdict(&mut self, load: &str, wanted: &Wanted, than: &str, ratio: Quartiles) {
        let Wanted { subject, times, .. } = *wanted;
        let spread = (ratio.upper - ratio.lower) / ratio.median;
        let verdict = match ratio.median >= times {
            _ if spread > SPREAD_MAX => "not measurable now",
            true => "met",
            false => "MISSED",
        };
        println!(
            "{subject} / {than}: {:.2} ({:.2} .. {:.2}), wanted {times}: {verdict}",
            ratio.median, ratio.lower, ratio.upper
        );
        self.row(
            load,
            subject,
            &format!("times {than}, median"),
            ratio.median,
        );
        self.row(load, subject, &format!("times {than}, wanted"), times);
        self.row(load, subject, &format!("times {than}, spread"), spread);
    }

    /// Says whether a figure is as small as wanted, and keeps what is wanted.
    pub fn at_most(&mut self, load: &str, subject: &str, unit: &str, value: f64, limit: f64) {
        let verdict = if value <= limit { "met" } else { "MISSED" };
        println!("{subject}, {load}: {value:.3} {unit}, wanted at most {limit}: {verdict}");
        self.row(load, subject, &format!("{unit}, wanted at most"), limit);
    }
}

/// The ratio round by round, and to whom.
fn ratio_of<'a>(named: &[(&'a str, &Total)], wanted: &Wanted) -> Option<(&'a str, Quartiles)> {
    let median = |total: &Total| Quartiles::of(&total.rates).map(|found| found.median);
    let (_, subject) = named.iter().find(|(name, _)| *name == wanted.subject)?;
    let others = named.iter().filter(|(name, _)| wanted.than.contains(name));
    let (than, other) = others.max_by(|(_, a), (_, b)| {
        median(a)
            .unwrap_or(0.0)
            .total_cmp(&median(b).unwrap_or(0.0))
    })?;
    let rounds = subject.rates.iter().zip(&other.rates);
    let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
    Some((than, Quartiles::of(&ratios)?))
}

fn turns(bench: &mut Bench<'_>, plan: Plan) -> Result<Vec<Total>, String> {
    let mut totals: Vec<Total> = bench.subjects.iter().map(|_| Total::default()).collect();
    // The first round warms up and does not count.
    for round in 0..=plan.rounds {
        let mut rates = vec![0.0; totals.len()];
        let mut order: Vec<usize> = (0..totals.len()).collect();
        if round % 2 == 1 {
            // What one leaves behind for the disk is not always the same one's burden.
            order.reverse();
        }
        for place in order {
            let (Some(subject), Some(total)) =
                (bench.subjects.get_mut(place), totals.get_mut(place))
            else {
                continue;
            };
            let before = Cost::now();
            let worked = subject.slice(plan.slice);
            let cost = Cost::now().since(before);
            let slice = worked
                .and_then(|slice| subject.upkeep().map(|()| slice))
                .map_err(|error| format!("{}: {}: {error}", bench.load, subject.name()))?;
            if round == 0 {
                continue;
            }
            let rate = slice.operations as f64 / slice.elapsed.as_secs_f64();
            total.rates.push(rate);
            if let Some(kept) = rates.get_mut(place) {
                *kept = rate;
            }
            total.operations += slice.operations;
            if let Some(syncs) = slice.syncs {
                total.syncs = Some(total.syncs.unwrap_or(0) + syncs);
            }
            total.cost = total.cost.plus(cost);
            total.latencies.add(&slice.latencies);
        }
        if let (1.., Some(&first)) = (round, rates.first()) {
            for (total, rate) in totals.iter_mut().zip(&rates) {
                total.ratios.push(rate / first);
            }
        }
    }
    Ok(totals)
}

/// The figures of one subject, by unit.
fn figures(total: &Total) -> Vec<(&'static str, f64)> {
    let per = |amount: f64| amount / total.operations.max(1) as f64;
    let mut found = Vec::new();
    if let Some(rate) = Quartiles::of(&total.rates) {
        found.extend([
            ("ops/s", rate.median),
            ("ops/s, lower quartile", rate.lower),
            ("ops/s, upper quartile", rate.upper),
        ]);
    }
    for (unit, percent) in [("p50 ms", 50.0), ("p99 ms", 99.0), ("p99.9 ms", 99.9)] {
        if let Some(ms) = total.latencies.percentile_ms(percent) {
            found.push((unit, ms));
        }
    }
    if let Some(syncs) = total.syncs {
        found.push(("syncs/op", per(syncs as f64)));
    }
    found.extend([
        ("bytes/op", per(total.cost.written_bytes as f64)),
        ("io calls/op", per(total.cost.io_calls as f64)),
        ("cpu us/op", per(total.cost.cpu.as_secs_f64() * 1e6)),
    ]);
    if let Some(ratio) = Quartiles::of(&total.ratios) {
        found.extend([
            ("ratio to first, lower quartile", ratio.lower),
            ("ratio to first, median", ratio.median),
            ("ratio to first, upper quartile", ratio.upper),
        ]);
    }
    found
}

/// The table's columns: what stands above, the unit, the digits behind the point.
const COLUMNS: [(&str, &str, usize); 6] = [
    ("p50 ms", "p50 ms", 3),
    ("p99 ms", "p99 ms", 3),
    ("syncs/op", "syncs/op", 3),
    ("bytes/op", "bytes/op", 0),
    ("calls/op", "io calls/op", 2),
    ("cpu us/op", "cpu us/op", 1),
];

fn print_table(target: &str, bench: &Bench<'_>, found: &[Vec<(&'static str, f64)>], plan: Plan) {
    println!(
        "\n{target}/{}  ({} rounds of {:?})",
        bench.load, plan.rounds, plan.slice
    );
    let heads: String = COLUMNS
        .iter()
        .map(|(head, _, _)| format!("{head:>10}"))
        .collect();
    println!(
        "{:<22}{:>12}{:>26}{heads}",
        "subject", "ops/s", "ratio (quartiles)"
    );
    for (subject, figures) in bench.subjects.iter().zip(found) {
        let value = |wanted: &str| {
            figures
                .iter()
                .find(|(unit, _)| *unit == wanted)
                .map(|(_, value)| *value)
        };
        let ratio = |which: &str| {
            value(&format!("ratio to first, {which}"))
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let ratios = format!(
            "{} ({} .. {})",
            ratio("median"),
            ratio("lower quartile"),
            ratio("upper quartile")
        );
        let cells: String = COLUMNS
            .iter()
            .map(|(_, unit, digits)| match value(unit) {
                Some(value) => format!("{value:>10.digits$}"),
                None => format!("{:>10}", "-"),
            })
            .collect();
        println!(
            "{:<22}{:>12.0}{ratios:>26}{cells}",
            subject.name(),
            value("ops/s").unwrap_or(0.0)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static str, u64, u32);

    impl Subject for Fixed {
        fn name(&self) -> &str {
            self.0
        }

        fn slice(&mut self, _length: Duration) -> Result<Slice, String> {
            Ok(Slice {
                operations: self.1,
                syncs: Some(self.1 / 2),
                elapsed: Duration::from_secs(1),
                ..Slice::default()
            })
        }

        fn upkeep(&mut self) -> Result<(), String> {
            self.2 += 1;
            Ok(())
        }
    }

    #[test]
    fn every_subject_gets_every_round_and_the_warm_up_does_not_count() {
        let mut bench = Bench {
            load: "x".into(),
            subjects: vec![Box::new(Fixed("a", 10, 0)), Box::new(Fixed("b", 20, 0))],
        };
        let plan = Plan {
            rounds: 3,
            ..Plan::new(Mode::Test)
        };
        let totals = turns(&mut bench, plan).unwrap();
        assert_eq!(
            totals.iter().map(|t| t.operations).collect::<Vec<_>>(),
            [30, 60]
        );
        assert_eq!(totals[1].rates, [20.0, 20.0, 20.0]);
        assert_eq!(totals[1].ratios, [2.0, 2.0, 2.0]);
        let found = figures(&totals[1]);
        assert!(found.contains(&("syncs/op", 0.5)), "{found:?}");
    }

    #[test]
    fn a_step_is_repeated_until_the_time_has_passed() {
        let slice = repeat(Duration::from_millis(2), || Ok(3)).unwrap();
        assert!(slice.operations >= 3 && slice.operations.is_multiple_of(3));
        assert!(slice.elapsed >= Duration::from_millis(2));
        assert!(slice.latencies.percentile_ms(50.0).is_some());
    }
}
