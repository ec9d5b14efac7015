//! Pictures for documents: a few loads side by side, in a file that needs nothing else.

use std::fmt::Write as _;

use super::charts::{self, Chart, WIDTH};
use super::{COLOURS, by_bench, escape};
use crate::report::Part;

/// A file and the loads it shows, two in a row.
struct Picture {
    file: &'static str,
    shows: Shows,
    /// The bench, and what stands above it.
    loads: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy)]
enum Shows {
    Rates,
    Latencies,
}

const PICTURES: [Picture; 3] = [
    Picture {
        file: "log.svg",
        shows: Shows::Rates,
        loads: &[
            ("fsync/1 writer, 128 B each", "1 writer, durable entries/s"),
            (
                "fsync/8 writers, 128 B each",
                "8 writers, durable entries/s",
            ),
            (
                "fsync/64 writers, 128 B each",
                "64 writers, durable entries/s",
            ),
            (
                "fsync/64 outstanding, one thread, 128 B each",
                "64 outstanding, one thread, durable entries/s",
            ),
        ],
    },
    Picture {
        file: "latency.svg",
        shows: Shows::Latencies,
        loads: &[
            ("fsync/1 writer, 128 B each", "1 writer, ms until durable"),
            (
                "fsync/64 writers, 128 B each",
                "64 writers, ms until durable",
            ),
        ],
    },
    Picture {
        file: "state.svg",
        shows: Shows::Rates,
        loads: &[
            (
                "apply/1024 x random of 100 k",
                "1,024 random puts over 100 k keys, puts/s",
            ),
            (
                "apply/1024 x random of 10000 k",
                "1,024 random puts over 10 M keys, puts/s",
            ),
            (
                "apply/1024 x ascending of 100 k",
                "1,024 ascending puts, puts/s",
            ),
            (
                "apply/1 x random of 100 k, persist",
                "single puts, each made durable, puts/s",
            ),
            (
                "apply/point reads, of 10000 k",
                "point reads of 10 M keys, keys/s",
            ),
            (
                "apply/scans of 100, of 10000 k",
                "scans of 100 of 10 M keys, keys/s",
            ),
        ],
    },
];

const GAP: f64 = 28.0;
const TITLE_HEIGHT: f64 = 26.0;
const MARGIN: f64 = 14.0;

/// Name and contents of each picture of which something was measured.
pub(crate) fn pictures(parts: &[Part]) -> Vec<(&'static str, String)> {
    PICTURES
        .iter()
        .filter_map(|picture| Some((picture.file, draw(picture, parts)?)))
        .collect()
}

fn draw(picture: &Picture, parts: &[Part]) -> Option<String> {
    let cells: Vec<(&str, Chart)> = picture
        .loads
        .iter()
        .filter_map(|(bench, title)| Some((*title, chart(picture.shows, bench, parts)?)))
        .collect();
    let mut body = String::new();
    let mut top = MARGIN;
    for pair in cells.chunks(2) {
        let mut tallest = 0.0_f64;
        for (place, (title, chart)) in pair.iter().enumerate() {
            let left = MARGIN + place as f64 * (WIDTH + GAP);
            let _ = write!(
                body,
                "<g transform=\"translate({left} {top})\"><text x=\"0\" y=\"14\" \
                 class=\"title\">{}</text><g transform=\"translate(0 {TITLE_HEIGHT})\">{}</g></g>",
                escape(title),
                chart.body
            );
            tallest = tallest.max(chart.height);
        }
        top += TITLE_HEIGHT + tallest + MARGIN;
    }
    let width = 2.0 * (WIDTH + MARGIN) + GAP;
    let key = match picture.shows {
        Shows::Rates => String::new(),
        Shows::Latencies => key(picture, parts, &mut top),
    };
    (!cells.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" \
             width=\"{width}\" height=\"{top}\" role=\"img\"><style>{COLOURS}\
             text{{fill:var(--text);font:12px system-ui,sans-serif}}text.soft{{fill:var(--soft);\
             font-size:11px}}text.title{{font-weight:600}}</style><rect width=\"100%\" \
             height=\"100%\" fill=\"var(--ground)\"/>{body}{key}</svg>\n"
        )
    })
}

fn chart(shows: Shows, bench: &str, parts: &[Part]) -> Option<Chart> {
    match shows {
        Shows::Rates => parts
            .iter()
            .flat_map(|part| by_bench(&part.rows))
            .find(|(name, _)| *name == bench)
            .map(|(_, rows)| charts::bars(&rows, "ops/s")),
        Shows::Latencies => {
            let curves: Vec<_> = parts
                .iter()
                .flat_map(|part| &part.curves)
                .filter(|curve| curve.bench == bench)
                .collect();
            charts::curves(&curves)
        }
    }
}

/// Whose line has which colour.
fn key(picture: &Picture, parts: &[Part], top: &mut f64) -> String {
    let mut names: Vec<&str> = Vec::new();
    for curve in parts.iter().flat_map(|part| &part.curves) {
        let shown = picture.loads.iter().any(|(bench, _)| *bench == curve.bench);
        if shown && !names.contains(&curve.subject.as_str()) {
            names.push(&curve.subject);
        }
    }
    let mut out = String::new();
    for row in names.chunks(5) {
        for (place, name) in row.iter().enumerate() {
            let left = MARGIN + place as f64 * 190.0;
            let _ = write!(
                out,
                "<g transform=\"translate({left} {top})\">{}<text x=\"30\" y=\"12\">{}</text></g>",
                charts::line_of(name),
                escape(name)
            );
        }
        *top += 22.0;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Curve, Row};

    #[test]
    fn a_picture_stands_alone_and_shows_what_was_measured() {
        let bench = "fsync/1 writer, 128 B each";
        let part = Part {
            rows: vec![Row {
                bench: bench.into(),
                subject: "wal".into(),
                value: 18_000.0,
                unit: "ops/s".into(),
            }],
            curves: vec![Curve {
                bench: bench.into(),
                subject: "wal".into(),
                points: vec![(50.0, 0.1), (99.0, 3.0)],
            }],
            ..Part::default()
        };
        let found = pictures(&[part]);
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["log.svg", "latency.svg"], "nothing of the state");
        assert!(found[0].1.contains("18.0 k") && found[1].1.contains("polyline"));
        for (name, picture) in found {
            assert!(
                picture.contains("--wal:") && picture.contains("1 writer"),
                "{name}"
            );
            assert_eq!(
                picture.matches("http").count(),
                1,
                "{name}: the namespace alone"
            );
        }
    }
}
