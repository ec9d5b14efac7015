//! Bars and curves as SVG.

use std::fmt::Write as _;

use super::{escape, number};
use crate::latency::PERCENTILES;
use crate::report::{Curve, Row};

/// What every chart takes from left to right.
pub(super) const WIDTH: f64 = 480.0;
const LABEL_WIDTH: f64 = 140.0;
const VALUE_WIDTH: f64 = 66.0;
const BAR_WIDTH: f64 = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
const ROW_HEIGHT: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
const CURVE_HEIGHT: f64 = 190.0;
/// Room for the numbers of the axes.
const AXIS_LEFT: f64 = 52.0;
const AXIS_BELOW: f64 = 20.0;
/// How strong a colour is.
const PLAIN: f64 = 0.9;

/// The colour of a subject, and how strong it is: an engine without our layer is pale, and so is
/// what is the same in another way (`NAME, WAY`), as `prefilled` is of raft-engine.
fn paint(subject: &str) -> (&'static str, f64) {
    let (name, plain) = subject
        .split_once(',')
        .map_or((subject, PLAIN), |(name, _)| (name, PLAIN / 1.5));
    let (name, opacity) = name
        .strip_prefix("bare ")
        .map_or((name, plain), |name| (name, plain / 3.0));
    let colour = match name {
        "wal" | "raftwerk" | "raftwerk-wal" => "wal",
        "redb" => "redb",
        "rocksdb" => "rocksdb",
        "mem" => "mem",
        "raw device" => "device",
        "raft-engine" | "raft-rs" => "peer",
        "prefilled" => return ("peer", PLAIN / 1.5),
        _ => "other",
    };
    (colour, opacity)
}

fn fill(subject: &str) -> String {
    let (colour, opacity) = paint(subject);
    format!("fill=\"var(--{colour})\" fill-opacity=\"{opacity:.2}\" stroke=\"var(--{colour})\"")
}

/// A subject's line.
fn stroke(subject: &str) -> String {
    let (colour, opacity) = paint(subject);
    let dash = match opacity {
        PLAIN.. => "",
        _ if subject.contains(',') => " stroke-dasharray=\"2 3\"",
        _ => " stroke-dasharray=\"6 3\"",
    };
    format!("stroke=\"var(--{colour})\" stroke-width=\"2\"{dash}")
}

/// A piece of a subject's line.
pub(super) fn line_of(subject: &str) -> String {
    format!("<path d=\"M0 8H24\" fill=\"none\" {}/>", stroke(subject))
}

/// A piece of a subject's colour.
pub(super) fn swatch(subject: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 26 14\" aria-hidden=\"true\"><rect x=\"1\" y=\"1\" width=\"24\" \
         height=\"12\" {}/></svg>",
        fill(subject)
    )
}

/// What is drawn, [`WIDTH`] wide.
pub(super) struct Chart {
    pub(super) height: f64,
    pub(super) body: String,
}

impl Chart {
    /// A drawing of its own.
    pub(super) fn svg(&self) -> String {
        let Self { height, body } = self;
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{body}</svg>")
    }
}

fn value_of(rows: &[&Row], subject: &str, unit: &str) -> Option<f64> {
    rows.iter()
        .find(|row| row.subject == subject && row.unit == unit)
        .map(|row| row.value)
        .filter(|value| value.is_finite())
}

/// A bar for each subject that has a figure of this unit.
pub(super) fn bars(rows: &[&Row], unit: &str) -> Chart {
    let shown: Vec<(&str, f64)> = rows
        .iter()
        .filter(|row| row.unit == unit)
        .map(|row| (row.subject.as_str(), row.value))
        .collect();
    let largest = |memory: bool| {
        shown
            .iter()
            .filter(|(subject, value)| value.is_finite() && (memory || *subject != "mem"))
            .map(|(_, value)| *value)
            .fold(0.0, f64::max)
    };
    let full = if largest(false) > 0.0 {
        largest(false)
    } else {
        largest(true)
    };
    let height = ROW_HEIGHT * shown.len() as f64;
    let mut out = String::new();
    for (place, (subject, value)) in shown.iter().enumerate() {
        let top = place as f64 * ROW_HEIGHT;
        let base = top + ROW_HEIGHT * 0.68;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>",
            LABEL_WIDTH - 8.0,
            escape(subject)
        );
        if !value.is_finite() || full <= 0.0 {
            continue;
        }
        let width = (value / full * BAR_WIDTH).clamp(1.0, BAR_WIDTH);
        let bar_top = top + (ROW_HEIGHT - BAR_HEIGHT) / 2.0;
        bar(&mut out, subject, bar_top, width, *value > full);
        let scale = BAR_WIDTH / full;
        let quartile = |which: &str| value_of(rows, subject, &format!("{unit}, {which} quartile"));
        if let Some((lower, upper)) = quartile("lower").zip(quartile("upper")) {
            whisker(
                &mut out,
                bar_top + BAR_HEIGHT / 2.0,
                lower * scale,
                upper * scale,
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{base}\">{}</text>",
            LABEL_WIDTH + BAR_WIDTH + 8.0,
            number(*value)
        );
    }
    Chart { height, body: out }
}

fn bar(out: &mut String, subject: &str, top: f64, width: f64, cut: bool) {
    let paint = fill(subject);
    let (right, bottom) = (LABEL_WIDTH + width, top + BAR_HEIGHT);
    let middle = top + BAR_HEIGHT / 2.0;
    if cut {
        let shoulder = right - 8.0;
        let _ = write!(
            out,
            "<path d=\"M{LABEL_WIDTH} {top}H{shoulder}L{right} {middle}L{shoulder} {bottom}\
             H{LABEL_WIDTH}Z\" {paint}/>"
        );
    } else {
        let _ = write!(
            out,
            "<rect x=\"{LABEL_WIDTH}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
             {paint}/>"
        );
    }
}

fn whisker(out: &mut String, middle: f64, from: f64, to: f64) {
    if from > BAR_WIDTH {
        return;
    }
    let (from, to) = (LABEL_WIDTH + from, LABEL_WIDTH + to.min(BAR_WIDTH));
    let _ = write!(
        out,
        "<path d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {}V{}M{to:.1} {}V{}\" \
         stroke=\"var(--text)\" fill=\"none\"/>",
        middle - 3.0,
        middle + 3.0,
        middle - 3.0,
        middle + 3.0
    );
}

/// Where a percentile stands: each nine takes the same room.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-6).log10()
}

/// Latency by percentile, a line for each subject, both axes logarithmic.
pub(super) fn curves(curves: &[&Curve]) -> Option<Chart> {
    let values = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|(_, ms)| *ms)
            .filter(|ms| *ms > 0.0)
    };
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.0, f64::max).log10().ceil();
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let high = high.max(low + 1.0);
    let (first, last) = (nines(50.0), nines(99.9));
    let x = |percent: f64| {
        AXIS_LEFT + (nines(percent) - first) / (last - first) * (WIDTH - AXIS_LEFT - 14.0)
    };
    let y = |ms: f64| {
        let share = (ms.max(1e-9).log10() - low) / (high - low);
        8.0 + (1.0 - share) * (CURVE_HEIGHT - AXIS_BELOW - 8.0)
    };
    let mut out = String::new();
    let decades = (high - low).round() as i32;
    for decade in 0..=decades {
        let ms = 10f64.powf(low + f64::from(decade));
        let _ = write!(
            out,
            "<path d=\"M{AXIS_LEFT} {0:.1}H{WIDTH}\" stroke=\"var(--line)\"/>\
             <text class=\"soft\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(ms),
            AXIS_LEFT - 6.0,
            y(ms) + 4.0,
            ms.abs().max(1e-9)
        );
    }
    for percent in PERCENTILES {
        let anchor = if percent > 99.0 { "end" } else { "middle" };
        let _ = write!(
            out,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">p{percent}</text>",
            x(percent),
            CURVE_HEIGHT - 5.0
        );
    }
    for curve in curves {
        let points: String = curve
            .points
            .iter()
            .map(|(percent, ms)| format!("{:.1},{:.1} ", x(*percent), y(*ms)))
            .collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" {}><title>{}</title></polyline>",
            points.trim_end(),
            stroke(&curve.subject),
            escape(&curve.subject)
        );
    }
    Some(Chart {
        height: CURVE_HEIGHT,
        body: out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{gathered_logs, logs, wal_peers};
    use crate::state::states;

    #[test]
    fn every_log_and_store_has_a_paint_of_its_own() {
        let logs = logs().into_iter().chain(gathered_logs()).chain(wal_peers());
        let states = states().into_iter().map(|state| state.name);
        let mut names: Vec<&str> = logs.map(|log| log.name).chain(states).collect();
        names.extend(["raft-engine", "prefilled"]);
        names.sort_unstable();
        names.dedup();
        let paints: Vec<_> = names.iter().map(|name| (paint(name), name)).collect();
        for (place, (found, name)) in paints.iter().enumerate() {
            assert_ne!(found.0, "other", "{name}");
            let others = paints.iter().skip(place + 1);
            let alike: Vec<_> = others.filter(|(other, _)| other == found).collect();
            assert!(alike.is_empty(), "{name}: {alike:?}");
        }
    }
}
