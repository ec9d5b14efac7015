//! The page: every figure of every part, in one file that needs nothing else.

mod charts;
mod pictures;

use std::fmt::Write as _;

pub(crate) use pictures::pictures;

use crate::report::{Part, Row};

/// What a target measures, in a sentence or two.
const WORDS: [(&str, &str); 13] = [
    (
        "wal",
        "The log beside raft-engine and the device: writers that append batches and wait until \
         they are durable, or do not wait. Operations are entries.",
    ),
    (
        "wal_reads",
        "A log of many small entries in a thousand groups, opened after a kill: the time, the \
         memory held for it, and what reading its newest and its old entries gives.",
    ),
    (
        "damage",
        "A log damaged in one place after another, and opened: how often it is whole, names what \
         is lost, refuses, comes back shorter in silence, or gives wrong bytes.",
    ),
    (
        "core",
        "Three cores in memory whose messages are handed over in a loop, until all have applied. \
         Operations are entries.",
    ),
    (
        "core_memory",
        "Allocations for each committed entry, and what an idle core takes.",
    ),
    (
        "append",
        "One writer appends steps (entries and the hard state that moves with them) and waits \
         until each is durable; in the lazy loads it does not wait, and a sync ends each turn. Old \
         entries \
         are compacted all along. Operations are entries.",
    ),
    (
        "fsync",
        "Writers, each with a group and a thread of its own, append an entry and wait until it is \
         durable. The device and the bare engines get the same entries already merged, one from \
         each writer in one batch: what a backend could reach if merging were free. Where one \
         thread has 64 outstanding, the bare engines get the two batches that a backend makes of \
         them.",
    ),
    (
        "apply",
        "Batches of puts with the index applied, over keys that are there; durable after every \
         batch (persist), or once at the end of each turn, which counts. Reads beside: a \
         point read, \
         and a scan of 100 keys, each in a view of its own. Operations are puts or keys read.",
    ),
    (
        "mixed",
        "Each step appends to one of many groups, waits until it is durable, and reads the group's \
         newest entries; old ones are compacted all along. Operations are entries.",
    ),
    (
        "footprint",
        "Each subject in a process of its own, which is ended without closing anything and opened \
         again: bytes that went to the disk for each byte given, what the folder takes for each \
         byte that is still wanted, memory, and the time to open.",
    ),
    (
        "snapshot",
        "A store's whole state streamed into a file and synced, and restored from it into an empty \
         store. The device writes and reads a file of the same size.",
    ),
    (
        "cluster",
        "Three members as raftwerk up starts them on this machine, and clients that put values \
         of 256 bytes through etcd's API.",
    ),
    (
        "micro",
        "Pure computation, measured by criterion: the mean time of one call.",
    ),
];

/// The colours, in light and dark.
const COLOURS: &str = "\
:root{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--soft:#5b6570;--line:#d8dde3;\
--card:#f6f8fa;--wal:#1f6feb;--redb:#c2410c;--rocksdb:#15803d;--mem:#7c7f86;--device:#444b54;\
--peer:#8b3fc7;--other:#b08800}\
@media(prefers-color-scheme:dark){:root{--ground:#0f1318;--text:#e4e9ef;--soft:#98a3af;\
--line:#303841;--card:#171c23;--wal:#5b9dff;--redb:#f08a4b;--rocksdb:#4cc274;--mem:#a3a8b0;\
--device:#c3cad3;--peer:#c08bf0;--other:#e0b83a}}";
const STYLE: &str = "\
body{margin:0 auto;max-width:1240px;padding:1.5rem;background:var(--ground);color:var(--text);\
font:15px/1.5 system-ui,sans-serif}h1{margin:0 0 .3rem}h2{margin:2.5rem 0 .2rem;\
border-top:1px solid var(--line);padding-top:1.2rem}h3{margin:0 0 .4rem;font-size:.95rem}\
p,ul{max-width:75ch}.soft{color:var(--soft)}dl{display:grid;grid-template-columns:max-content 1fr;\
gap:.1rem 1rem;margin:.5rem 0}dt{color:var(--soft)}dd{margin:0}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:1rem;\
margin:1rem 0}.card{background:var(--card);border:1px solid var(--line);border-radius:8px;\
padding:.8rem}svg{display:block;width:100%;height:auto}svg text{fill:var(--text);\
font:12px system-ui,sans-serif}svg text.soft{fill:var(--soft);font-size:11px}\
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;position:sticky;top:0;padding:.5rem 0;\
background:var(--ground)}.legend span{display:inline-flex;align-items:center;gap:.4rem}\
.legend svg{width:26px}details{margin:.5rem 0}summary{cursor:pointer;color:var(--soft)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}td,th{padding:.15rem .6rem;\
border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}td:first-child,\
td:nth-child(2),th:first-child,th:nth-child(2){text-align:left}";

/// The page of `parts`.
pub(crate) fn page(parts: &[Part]) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Raftwerk benches</title><style>",
    );
    out.push_str(COLOURS);
    out.push_str(STYLE);
    out.push_str("</style></head><body><h1>Raftwerk benches</h1>\n");
    head(&mut out, parts);
    for part in parts {
        section(&mut out, part);
    }
    out.push_str("</body></html>\n");
    out
}

fn head(out: &mut String, parts: &[Part]) {
    let Some(newest) = parts.iter().max_by(|a, b| a.date.cmp(&b.date)) else {
        return;
    };
    out.push_str("<dl>");
    let date = ("date".to_owned(), newest.date.clone());
    for (name, fact) in newest.machine.iter().chain([&date]) {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(fact));
    }
    out.push_str(
        "</dl><p class=\"soft\">Subjects of one load take turns in one process, so that a slow \
         moment of the machine hits all of them; compare within a load, not between runs. \
         Bars show \
         the median of the turns, the thin line the quartiles. A bar that ends in an arrow is \
         longer \
         than there is room: memory is not made to look like a disk. Payloads are random and \
         cannot \
         be compressed. Bytes, calls and CPU time of a turn are the whole process's, what the \
         others \
         do in the background included; footprint has a process for each.</p>\n\
         <div class=\"legend\">",
    );
    let measured = parts.iter().filter(|part| part.target != "micro");
    for subject in subjects(measured.flat_map(|part| &part.rows)) {
        let swatch = charts::swatch(&subject);
        let _ = write!(out, "<span>{swatch}{}</span>", escape(&subject));
    }
    out.push_str("</div>\n");
}

/// The subjects in order of their first row.
pub(crate) fn subjects<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for row in rows {
        if !found.contains(&row.subject) {
            found.push(row.subject.clone());
        }
    }
    found
}

fn section(out: &mut String, part: &Part) {
    let target = &part.target;
    let words = WORDS
        .iter()
        .find(|(name, _)| name == target)
        .map_or("", |(_, words)| words);
    let _ = writeln!(
        out,
        "<section><h2>{}</h2><p>{}</p><p class=\"soft\">{} run, {}</p>",
        escape(target),
        escape(words),
        escape(&part.mode),
        escape(&part.date)
    );
    if !part.notes.is_empty() {
        out.push_str("<ul class=\"soft\">");
        for note in &part.notes {
            let _ = write!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>");
    }
    out.push_str("<div class=\"grid\">\n");
    for (bench, rows) in by_bench(&part.rows) {
        cards(out, part, bench, &rows);
    }
    out.push_str("</div>\n");
    table(out, part);
    out.push_str("</section>\n");
}

/// Rows of one bench, in order of their first.
pub(crate) fn by_bench(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut found: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match found.iter_mut().find(|(bench, _)| *bench == row.bench) {
            Some((_, rows)) => rows.push(row),
            None => found.push((&row.bench, vec![row])),
        }
    }
    found
}

/// What is shown of one bench: the rate where there is one, else every unit but those that only say
/// how sure another one is, or what is wanted of it.
pub(crate) fn units<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut units: Vec<&str> = Vec::new();
    for row in rows {
        if !units.contains(&row.unit.as_str()) {
            units.push(&row.unit);
        }
    }
    if units.contains(&"ops/s") {
        return vec!["ops/s"];
    }
    let beside = [" bound", " quartile"];
    units
        .retain(|unit| !beside.iter().any(|end| unit.ends_with(end)) && !unit.contains(", wanted"));
    units
}

/// One card with the rate where there is one, else one for each unit.
fn cards(out: &mut String, part: &Part, bench: &str, rows: &[&Row]) {
    let load = bench.split_once('/').map_or(bench, |(_, load)| load);
    for unit in units(rows) {
        let _ = write!(
            out,
            "<div class=\"card\"><h3>{} <span class=\"soft\">{}</span></h3>{}",
            escape(load),
            escape(unit),
            charts::bars(rows, unit).svg()
        );
        let curves: Vec<_> = part.curves.iter().filter(|c| c.bench == bench).collect();
        if let Some(chart) = charts::curves(&curves) {
            let open = if matches!(part.target.as_str(), "fsync" | "mixed") {
                " open"
            } else {
                ""
            };
            let _ = write!(
                out,
                "<details{open}><summary>latency of a step, ms, by percentile</summary>{}\
                 </details>",
                chart.svg()
            );
        }
        out.push_str("</div>\n");
    }
}

fn table(out: &mut String, part: &Part) {
    let mut units: Vec<&str> = Vec::new();
    for row in &part.rows {
        if !units.contains(&row.unit.as_str()) {
            units.push(&row.unit);
        }
    }
    out.push_str(
        "<details><summary>all figures</summary><div class=\"wide\"><table><tr><th>load</th>\
         <th>subject</th>",
    );
    for unit in &units {
        let _ = write!(out, "<th>{}</th>", escape(unit));
    }
    out.push_str("</tr>\n");
    for (bench, rows) in by_bench(&part.rows) {
        for subject in subjects(rows.iter().copied()) {
            let load = bench.split_once('/').map_or(bench, |(_, load)| load);
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td>",
                escape(load),
                escape(&subject)
            );
            for unit in &units {
                let value = rows
                    .iter()
                    .find(|row| row.subject == subject && row.unit == *unit)
                    .map_or_else(String::new, |row| number(row.value));
                let _ = write!(out, "<td>{value}</td>");
            }
            out.push_str("</tr>\n");
        }
    }
    out.push_str("</table></div></details>\n");
}

/// A number that is short enough for a chart.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 100.0 || scaled == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{scaled:.digits$}{unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Curve;

    #[test]
    fn the_page_holds_every_load_and_needs_nothing_else() {
        let row = |subject: &str, unit: &str, value| Row {
            bench: "fsync/8 writers".into(),
            subject: subject.into(),
            value,
            unit: unit.into(),
        };
        let part = Part {
            target: "fsync".into(),
            rows: vec![
                row("raw device", "ops/s", 10_000.0),
                row("wal", "ops/s", 25_000.0),
                row("<odd>", "ops/s", f64::NAN),
                row("wal", "p50 ms", 0.1),
            ],
            curves: vec![Curve {
                bench: "fsync/8 writers".into(),
                subject: "wal".into(),
                points: vec![(50.0, 0.1), (99.0, 3.0)],
            }],
            ..Part::default()
        };
        let page = page(&[part]);
        for wanted in ["8 writers", "25.0 k", "&lt;odd&gt;", "polyline", "p50 ms"] {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
        for unwanted in ["<script", "http", "<odd>", "src=", "NaN"] {
            assert!(!page.contains(unwanted), "{unwanted}: {page}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 0.1234, 1.234, 12.34, 1234.0, 123_400.0, 2.5e6].map(number);
        assert_eq!(
            found,
            ["0", "0.123", "1.23", "12.3", "1234", "123 k", "2.50 M"]
        );
    }
}
