//! Turns of the subjects, and the table.

use std::time::{Duration, Instant};

use crate::cost::Cost;
use crate::stats::Quartiles;
use crate::summary::{self, Row, summary_path};

/// What one subject did in one slice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Operations completed (entries made durable, say).
    pub operations: u64,
    /// Syncs that the disk was asked for.
    pub syncs: u64,
}

/// Something measured. The first subject of a bench is what the others are compared with.
pub trait Subject {
    /// Its name in the table: `raftwerk-wal`, `raw-device`.
    fn name(&self) -> &'static str;

    /// Works until `end` and says what it did. A failure is told and ends the bench.
    ///
    /// # Errors
    /// Whatever went wrong, in words.
    fn slice(&mut self, end: Instant) -> Result<Slice, String>;
}

/// Subjects under one load.
pub struct Bench {
    /// The load's name, the second half of the row's `bench`.
    pub load: String,
    /// Who takes turns.
    pub subjects: Vec<Box<dyn Subject>>,
}

/// How long to measure, from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Turns of each subject that count.
    pub rounds: u32,
    /// How long one turn lasts.
    pub slice: Duration,
}

impl Plan {
    /// Half a second and 20 rounds; `--quick` makes the slices 50 ms long; `--test` runs a single
    /// short round to see that it works.
    #[must_use]
    pub fn from_args(args: impl Iterator<Item = String>) -> Self {
        let mut plan = Self {
            rounds: 20,
            slice: Duration::from_millis(250),
        };
        for arg in args {
            match arg.as_str() {
                "--quick" => plan.slice = Duration::from_millis(50),
                "--test" => {
                    plan = Self {
                        rounds: 1,
                        slice: Duration::from_millis(5),
                    }
                }
                _ => {}
            }
        }
        plan
    }
}

#[derive(Default)]
struct Total {
    rates: Vec<f64>,
    ratios: Vec<f64>,
    operations: u64,
    syncs: u64,
    cost: Cost,
}

/// Runs `benches` after another, prints a table each and writes the summary.
///
/// # Errors
/// What a subject or the file system said, in words.
pub fn run(target: &str, plan: Plan, benches: Vec<Bench>) -> Result<(), String> {
    let mut rows = Vec::new();
    for mut bench in benches {
        let totals = measure(&mut bench, plan)?;
        print_table(target, &bench, &totals, plan);
        let name = format!("{target}/{}", bench.load);
        for (subject, total) in bench.subjects.iter().zip(&totals) {
            rows.extend(figures(total).into_iter().map(|(unit, value)| Row {
                bench: name.clone(),
                subject: subject.name().to_owned(),
                value,
                unit: unit.to_owned(),
            }));
        }
    }
    let path = summary_path();
    summary::write(&path, target, &rows).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

fn measure(bench: &mut Bench, plan: Plan) -> Result<Vec<Total>, String> {
    let mut totals: Vec<Total> = bench.subjects.iter().map(|_| Total::default()).collect();
    // The first round warms up and does not count.
    for round in 0..=plan.rounds {
        let mut first_rate = None;
        for (subject, total) in bench.subjects.iter_mut().zip(&mut totals) {
            let before = Cost::now();
            let start = Instant::now();
            let slice = subject
                .slice(start + plan.slice)
                .map_err(|error| format!("{}: {}: {error}", bench.load, subject.name()))?;
            let elapsed = start.elapsed();
            let cost = Cost::now().since(before);
            if round == 0 {
                continue;
            }
            let rate = slice.operations as f64 / elapsed.as_secs_f64();
            total.rates.push(rate);
            total.ratios.push(rate / *first_rate.get_or_insert(rate));
            total.operations += slice.operations;
            total.syncs += slice.syncs;
            total.cost = total.cost.plus(cost);
        }
    }
    Ok(totals)
}

/// The figures of one subject, by unit.
fn figures(total: &Total) -> Vec<(&'static str, f64)> {
    let per = |amount: f64| amount / total.operations.max(1) as f64;
    let mut found = vec![
        ("syncs/op", per(total.syncs as f64)),
        ("bytes/op", per(total.cost.written_bytes as f64)),
        ("io calls/op", per(total.cost.io_calls as f64)),
        ("cpu us/op", per(total.cost.cpu.as_secs_f64() * 1e6)),
    ];
    if let Some(rate) = Quartiles::of(&total.rates) {
        found.insert(0, ("ops/s", rate.median));
    }
    if let Some(ratio) = Quartiles::of(&total.ratios) {
        found.extend([
            ("ratio to first, lower quartile", ratio.lower),
            ("ratio to first, median", ratio.median),
            ("ratio to first, upper quartile", ratio.upper),
        ]);
    }
    found
}

fn print_table(target: &str, bench: &Bench, totals: &[Total], plan: Plan) {
    println!(
        "\n{target}/{}  ({} rounds of {:?})",
        bench.load, plan.rounds, plan.slice
    );
    println!(
        "{:<22}{:>12}{:>24}{:>10}{:>10}{:>10}{:>10}",
        "subject", "ops/s", "ratio (quartiles)", "syncs/op", "bytes/op", "calls/op", "cpu us/op"
    );
    for (subject, total) in bench.subjects.iter().zip(totals) {
        let found = figures(total);
        let value = |unit: &str| {
            found
                .iter()
                .find(|(u, _)| *u == unit)
                .map_or(f64::NAN, |(_, value)| *value)
        };
        let ratio = format!(
            "{:.2} ({:.2} .. {:.2})",
            value("ratio to first, median"),
            value("ratio to first, lower quartile"),
            value("ratio to first, upper quartile")
        );
        println!(
            "{:<22}{:>12.0}{:>24}{:>10.3}{:>10.0}{:>10.2}{:>10.1}",
            subject.name(),
            value("ops/s"),
            ratio,
            value("syncs/op"),
            value("bytes/op"),
            value("io calls/op"),
            value("cpu us/op")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static str, u64, Vec<&'static str>);

    impl Subject for Fixed {
        fn name(&self) -> &'static str {
            self.0
        }

        fn slice(&mut self, _end: Instant) -> Result<Slice, String> {
            self.2.push(self.0);
            Ok(Slice {
                operations: self.1,
                syncs: self.1 / 2,
            })
        }
    }

    #[test]
    fn every_subject_gets_every_round_and_the_warm_up_does_not_count() {
        let mut bench = Bench {
            load: "x".into(),
            subjects: vec![
                Box::new(Fixed("a", 10, Vec::new())),
                Box::new(Fixed("b", 20, Vec::new())),
            ],
        };
        let plan = Plan {
            rounds: 3,
            slice: Duration::from_millis(1),
        };
        let totals = measure(&mut bench, plan).unwrap();
        assert_eq!(
            totals.iter().map(|t| t.operations).collect::<Vec<_>>(),
            [30, 60]
        );
        assert_eq!(totals[1].rates.len(), 3);
        assert!(totals[0].ratios.iter().all(|ratio| *ratio == 1.0));
        let found = figures(&totals[1]);
        assert!(found.contains(&("syncs/op", 0.5)), "{found:?}");
    }

    #[test]
    fn the_command_line_shortens_the_plan() {
        let full = Plan::from_args(std::iter::empty());
        assert!(full.rounds >= 20 && full.slice <= Duration::from_millis(500));
        let quick = Plan::from_args(["--bench".to_owned(), "--quick".to_owned()].into_iter());
        assert!(quick.slice < full.slice && quick.rounds == full.rounds);
        assert_eq!(Plan::from_args(["--test".to_owned()].into_iter()).rounds, 1);
    }
}
