//! The machine-readable result: `target/bench/summary.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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

/// Where the summary stands: below the workspace's target folder.
#[must_use]
pub fn summary_path() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.parent().unwrap_or(here).join("target")
        },
        PathBuf::from,
    );
    target.join("bench").join("summary.json")
}

/// Puts `rows` in the place of the same bench target's earlier ones; other targets' stay.
pub(crate) fn write(path: &Path, target: &str, rows: &[Row]) -> io::Result<()> {
    let prefix = format!("{target}/");
    let earlier = fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Vec<Value>>(&bytes).ok())
        .unwrap_or_default();
    let kept = earlier.into_iter().filter(|row| {
        row.get("bench")
            .and_then(Value::as_str)
            .is_some_and(|bench| !bench.starts_with(&prefix))
    });
    let all: Vec<Value> = kept.chain(rows.iter().map(Row::to_json)).collect();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let lines: Vec<String> = all.iter().map(|row| format!("  {row}")).collect();
    fs::write(path, format!("[\n{}\n]\n", lines.join(",\n")))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bench: &str, value: f64) -> Row {
        Row {
            bench: bench.into(),
            subject: "us".into(),
            value,
            unit: "ns".into(),
        }
    }

    #[test]
    fn a_second_run_replaces_its_own_rows_and_keeps_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/summary.json");
        write(&path, "a", &[row("a/1", 1.0)]).unwrap();
        write(&path, "b", &[row("b/1", 2.0)]).unwrap();
        write(&path, "a", &[row("a/2", 3.0)]).unwrap();
        let found: Vec<Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let benches: Vec<&str> = found.iter().map(|r| r["bench"].as_str().unwrap()).collect();
        assert_eq!(benches, ["b/1", "a/2"]);
        assert_eq!(found[1]["value"], 3.0);
    }
}
