//! Everything that has been measured as one table of text.

use std::fmt::Write as _;

use crate::page::{by_bench, number, subjects, units};
use crate::report::{Part, Row};

/// What stands beside a rate.
const BESIDE_RATE: &str = "p99 ms";

/// A block for each target: a line for each load and unit, a column for each subject.
pub(crate) fn table(parts: &[Part]) -> String {
    let mut out = String::new();
    for part in parts {
        let Part {
            target,
            mode,
            date,
            seconds,
            ..
        } = part;
        let _ = writeln!(out, "\n{target}: {mode} run of {date}, {seconds} s");
        block(&mut out, &part.rows);
    }
    out
}

fn block(out: &mut String, rows: &[Row]) {
    let subjects = subjects(rows.iter());
    let mut lines: Vec<[String; 2]> = Vec::new();
    let mut cells: Vec<Vec<String>> = Vec::new();
    for (bench, rows) in by_bench(rows) {
        let load = bench.split_once('/').map_or(bench, |(_, load)| load);
        let mut shown = units(&rows);
        if shown == ["ops/s"] && rows.iter().any(|row| row.unit == BESIDE_RATE) {
            shown.push(BESIDE_RATE);
        }
        for unit in shown {
            lines.push([load.to_owned(), unit.to_owned()]);
            let cell = |subject: &String| {
                let mut found = rows.iter();
                let row = found.find(|row| row.subject == *subject && row.unit == unit);
                row.map_or_else(|| "-".to_owned(), |row| number(row.value))
            };
            cells.push(subjects.iter().map(cell).collect());
        }
    }
    let width = |words: &mut dyn Iterator<Item = &str>| {
        let widths = words.map(|word| word.chars().count());
        widths.max().unwrap_or(0)
    };
    let load = width(&mut lines.iter().map(|[load, _]| load.as_str()).chain(["load"]));
    let unit = width(&mut lines.iter().map(|[_, unit]| unit.as_str()).chain(["unit"]));
    let columns: Vec<usize> = subjects
        .iter()
        .enumerate()
        .map(|(place, subject)| {
            let cells = cells.iter().filter_map(|line| line.get(place));
            width(&mut cells.chain([subject]).map(String::as_str))
        })
        .collect();
    let mut line = |[first, second]: [&str; 2], rest: &[String]| {
        let _ = write!(out, "  {first:<load$}  {second:<unit$}");
        for (cell, width) in rest.iter().zip(&columns) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    };
    line(["load", "unit"], &subjects);
    for ([load, unit], cells) in lines.iter().zip(&cells) {
        line([load, unit], cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_and_subject_of_every_target_is_in_the_table() {
        let row = |bench: &str, subject: &str, unit: &str, value| Row {
            bench: bench.into(),
            subject: subject.into(),
            value,
            unit: unit.into(),
        };
        let part = |target: &str, rows| Part {
            target: target.into(),
            mode: "full".into(),
            date: "today".into(),
            seconds: 7,
            rows,
            ..Part::default()
        };
        let rates = vec![
            row("append/1 x 128 B", "raw device", "ops/s", 12_345.0),
            row("append/1 x 128 B", "wal", "ops/s", 9_876.0),
            row("append/1 x 128 B", "wal", "ops/s, lower quartile", 9_000.0),
            row("append/1 x 128 B", "wal", "p99 ms", 0.5),
            row("append/16 x 128 B", "wal", "ops/s", 55_555.0),
        ];
        let others = vec![
            row("footprint/1 GiB", "redb", "open, s", 1.5),
            row("footprint/1 GiB", "redb", "open, s, wanted at most", 2.0),
        ];
        let found = table(&[part("append", rates), part("footprint", others)]);
        let expected = "
append: full run of today, 7 s
  load        unit    raw device     wal
  1 x 128 B   ops/s       12.3 k    9876
  1 x 128 B   p99 ms           -   0.500
  16 x 128 B  ops/s            -  55.6 k

footprint: full run of today, 7 s
  load   unit     redb
  1 GiB  open, s  1.50
";
        assert_eq!(found, expected);
    }

    #[test]
    fn the_target_that_prints_it_is_the_last_one_that_cargo_runs() {
        let names = include_str!("../Cargo.toml").split("[[bench]]\nname = \"");
        let names = names.skip(1).filter_map(|rest| rest.split('"').next());
        assert_eq!(names.max(), Some("whole"));
    }
}
