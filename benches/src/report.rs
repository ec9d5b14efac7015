//! What a bench target found, and the files that keep it.
//!
//! Each target writes `target/bench/parts/TARGET.json`; `summary.json`, `index.html` and
//! `pictures/` are made anew from all parts, so that the targets of one run, each a process of its
//! own, end up in one table and on one page.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use crate::machine::{Machine, now_utc};
use crate::page;
use crate::place::bench_folder;
use crate::plan::{Mode, Plan};
use crate::table::table;

/// One figure of one subject under one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The bench target and the load, as `target/load`.
    pub bench: String,
    /// Who was measured.
    pub subject: String,
    /// The figure.
    pub value: f64,
    /// What it counts.
    pub unit: String,
}

/// Latencies of one subject under one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The load; in a finished report `target/load`.
    pub bench: String,
    /// Who was measured.
    pub subject: String,
    /// Percent of the operations, and the milliseconds that they did not exceed.
    pub points: Vec<(f64, f64)>,
}

/// What one bench target found.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    part: Part,
}

/// A report as it is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) target: String,
    pub(crate) date: String,
    pub(crate) mode: String,
    /// How long it took.
    pub(crate) seconds: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) curves: Vec<Curve>,
}

/// The whole of a bench target's `main`: plans by the command line, runs, writes the results.
#[must_use]
pub fn bench_main(target: &str, run: impl FnOnce(&mut Report) -> Result<(), String>) -> ExitCode {
    let mut report = Report::new(target, Plan::from_args(std::env::args()));
    let start = Instant::now();
    report.foretell();
    let ran = run(&mut report).map(|()| report.part.seconds = start.elapsed().as_secs());
    match ran.and_then(|()| report.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{target}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole of the last target's `main`: prints one table of what every target found last.
#[must_use]
pub fn print_whole() -> ExitCode {
    let folder = bench_folder();
    match read_parts(&folder.join("parts")) {
        Ok(parts) if !parts.is_empty() => {
            println!("{}", table(&parts));
            for name in ["summary.json", "index.html"] {
                println!("all figures: {}", folder.join(name).display());
            }
            ExitCode::SUCCESS
        }
        Ok(_) => {
            eprintln!("nothing has been measured yet");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(target: &str, plan: Plan) -> Self {
        let _ = fs::create_dir_all(bench_folder());
        let machine = Machine::this(&bench_folder());
        let facts = machine.facts.into_iter();
        Self {
            plan,
            part: Part {
                target: target.to_owned(),
                date: now_utc(),
                mode: plan.mode.name().to_owned(),
                machine: facts.map(|(name, fact)| (name.to_owned(), fact)).collect(),
                ..Part::default()
            },
        }
    }

    /// Prints how long the same took the last time.
    fn foretell(&self) {
        let parts = read_parts(&bench_folder().join("parts")).unwrap_or_default();
        let same = |part: &&Part| part.target == self.part.target && part.mode == self.part.mode;
        if let Some(before) = parts.iter().find(same) {
            println!("{}: {} s the last time", before.target, before.seconds);
        }
    }

    /// How long to measure.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// The bench target.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.part.target
    }

    /// Keeps a figure.
    pub fn row(&mut self, load: &str, subject: &str, unit: &str, value: f64) {
        self.part.rows.push(Row {
            bench: format!("{}/{load}", self.part.target),
            subject: subject.to_owned(),
            value,
            unit: unit.to_owned(),
        });
    }

    /// Keeps a figure and prints it.
    pub fn say(&mut self, load: &str, subject: &str, unit: &str, value: f64) {
        println!("{load:<44} {subject:<22} {value:>12.3} {unit}");
        self.row(load, subject, unit, value);
    }

    /// Keeps a figure, prints it, and says whether it is no more than what is wanted.
    pub fn say_wanted(&mut self, load: &str, subject: &str, unit: &str, value: f64, most: f64) {
        self.say(load, subject, unit, value);
        self.at_most(load, subject, unit, value, most);
    }

    /// Keeps latencies, if there are any.
    pub fn curve(&mut self, mut curve: Curve) {
        if !curve.points.is_empty() {
            curve.bench = format!("{}/{}", self.part.target, curve.bench);
            self.part.curves.push(curve);
        }
    }

    /// Says what a reader of the figures has to know: what was left out, and why.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("note: {text}");
        self.part.notes.push(text);
    }

    /// Writes the part, the summary and the page.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(&self) -> Result<(), String> {
        let folder = bench_folder();
        let pages = write(&folder, &self.part).map_err(|error| {
            let folder = folder.display();
            format!("{folder}: {error}")
        })?;
        for page in pages {
            println!("written: {}", page.display());
        }
        println!("{}: took {} s", self.part.target, self.part.seconds);
        if self.plan.mode == Mode::Test {
            println!("one short pass: the figures mean nothing");
        }
        Ok(())
    }
}

fn write(folder: &Path, part: &Part) -> io::Result<[PathBuf; 2]> {
    let parts = folder.join("parts");
    fs::create_dir_all(&parts)?;
    let path = parts.join(format!("{}.json", part.target));
    fs::write(path, part.to_json().to_string())?;
    let all = read_parts(&parts)?;
    let lines: Vec<String> = all
        .iter()
        .flat_map(|part| &part.rows)
        .map(|row| format!("  {}", row.to_json()))
        .collect();
    let summary = folder.join("summary.json");
    fs::write(&summary, format!("[\n{}\n]\n", lines.join(",\n")))?;
    let page = folder.join("index.html");
    fs::write(&page, page::page(&all))?;
    let pictures = folder.join("pictures");
    fs::create_dir_all(&pictures)?;
    for (name, picture) in page::pictures(&all) {
        fs::write(pictures.join(name), picture)?;
    }
    Ok([summary, page])
}

/// The order in which targets are shown; others follow by name.
const ORDER: [&str; 13] = [
    "wal",
    "append",
    "fsync",
    "wal_reads",
    "damage",
    "apply",
    "mixed",
    "footprint",
    "snapshot",
    "cluster",
    "core",
    "core_memory",
    "micro",
];

fn read_parts(folder: &Path) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let bytes = fs::read(entry?.path())?;
        // One that an older version wrote is left out until its target runs again.
        parts.extend(
            serde_json::from_slice::<Value>(&bytes)
                .ok()
                .and_then(|value| Part::from_json(&value)),
        );
    }
    let place = |part: &Part| ORDER.iter().position(|target| *target == part.target);
    parts.sort_by_key(|part| (place(part).unwrap_or(ORDER.len()), part.target.clone()));
    Ok(parts)
}

impl Part {
    fn to_json(&self) -> Value {
        json!({
            "target": self.target,
            "date": self.date,
            "mode": self.mode,
            "seconds": self.seconds,
            "notes": self.notes,
            "machine": self.machine,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "curves": self.curves.iter().map(Curve::to_json).collect::<Vec<_>>(),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let list = |name: &str| value.get(name)?.as_array();
        Some(Self {
            target: text(value.get("target")?)?,
            date: text(value.get("date")?)?,
            mode: text(value.get("mode")?)?,
            seconds: value.get("seconds")?.as_u64()?,
            notes: list("notes")?.iter().filter_map(text).collect(),
            machine: list("machine")?
                .iter()
                .map(|pair| Some((text(pair.get(0)?)?, text(pair.get(1)?)?)))
                .collect::<Option<_>>()?,
            rows: list("rows")?
                .iter()
                .map(Row::from_json)
                .collect::<Option<_>>()?,
            curves: list("curves")?
                .iter()
                .map(Curve::from_json)
                .collect::<Option<_>>()?,
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "bench": self.bench,
            "subject": self.subject,
            "value": self.value,
            "unit": self.unit,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            bench: text(value.get("bench")?)?,
            subject: text(value.get("subject")?)?,
            // What is not finite has no number in JSON.
            value: value.get("value")?.as_f64().unwrap_or(f64::NAN),
            unit: text(value.get("unit")?)?,
        })
    }
}

impl Curve {
    fn to_json(&self) -> Value {
        json!({"bench": self.bench, "subject": self.subject, "points": self.points})
    }

    fn from_json(value: &Value) -> Option<Self> {
        let point = |pair: &Value| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?));
        Some(Self {
            bench: text(value.get("bench")?)?,
            subject: text(value.get("subject")?)?,
            points: value
                .get("points")?
                .as_array()?
                .iter()
                .map(point)
                .collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(target: &str, value: f64) -> Part {
        Part {
            target: target.into(),
            date: "today".into(),
            mode: "full".into(),
            seconds: 7,
            notes: vec!["a note".into()],
            machine: vec![("disk".into(), "large".into())],
            rows: vec![Row {
                bench: format!("{target}/x"),
                subject: "us".into(),
                value,
                unit: "ns".into(),
            }],
            curves: vec![Curve {
                bench: format!("{target}/x"),
                subject: "us".into(),
                points: vec![(50.0, 1.5), (99.0, 2.5)],
            }],
        }
    }

    #[test]
    fn a_part_is_read_back_as_it_was_written() {
        let part = part("a", 1.0);
        assert_eq!(Part::from_json(&part.to_json()), Some(part));
    }

    #[test]
    fn a_second_run_replaces_its_own_rows_and_keeps_the_others() {
        let folder = tempfile::tempdir().unwrap();
        for part in [part("zz", 1.0), part("append", 2.0), part("zz", 3.0)] {
            write(folder.path(), &part).unwrap();
        }
        let summary = fs::read(folder.path().join("summary.json")).unwrap();
        let found: Vec<Value> = serde_json::from_slice(&summary).unwrap();
        let rows: Vec<_> = found
            .iter()
            .map(|row| (row["bench"].as_str().unwrap(), row["value"].as_f64()))
            .collect();
        assert_eq!(rows, [("append/x", Some(2.0)), ("zz/x", Some(3.0))]);
        let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
        assert!(page.contains("append") && page.contains("zz"), "{page}");
    }

    #[test]
    fn a_part_of_another_version_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("parts")).unwrap();
        fs::write(folder.path().join("parts/old.json"), "{}").unwrap();
        write(folder.path(), &part("a", 1.0)).unwrap();
    }
}
