//! Latency by quantile: how slow the slowest are, with as much room for the tail as for the rest.

use hdrhistogram::Histogram;

use super::frame::{Axis, Frame, number};
use crate::ops::simulate::outcome::{ms, show_ms};

/// Points that the curve is drawn through.
const POINTS: u32 = 300;

/// The curve of `latency_us`; `None` when there is nothing to draw.
pub(in crate::ops::simulate) fn latency(latency_us: &Histogram<u64>) -> Option<String> {
    if latency_us.max() == 0 {
        return None;
    }
    // Beyond one in `len` there is only the maximum.
    #[expect(clippy::cast_precision_loss, reason = "requests of a run are far below 2^53")]
    let nines = (latency_us.len() as f64).log10().clamp(2.0, 6.0);
    let lowest_us = latency_us.min_nz();
    let value_at = |nines: f64| ms(latency_us.value_at_quantile(1.0 - 10_f64.powf(-nines)).max(lowest_us));
    let (lowest, highest) = (ms(lowest_us), ms(latency_us.max().max(lowest_us)));
    let mut frame = Frame::new("latency", "Latency of the 202 by quantile", quantiles(nines), decades(lowest, highest));

    let steps = (0..=POINTS).map(|point| nines * f64::from(point) / f64::from(POINTS));
    frame.path("line", steps.map(|nines| (nines, value_at(nines).log10())), false);
    for (words, quantile) in [("p50", 0.5_f64), ("p95", 0.95), ("p99", 0.99)] {
        let nines = -(1.0 - quantile).log10();
        let value = value_at(nines);
        frame.dot(nines, value.log10(), &format!("{words} {}", show_ms(value)));
    }
    frame.dot(nines, highest.log10(), &format!("max {}", show_ms(highest)));
    Some(frame.finish())
}

fn quantiles(to: f64) -> Axis {
    let marks = [
        (0.0, "0 %"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
        (6.0, "99.9999 %"),
    ];
    let marks = marks.into_iter().filter(|(nines, _)| *nines <= to).map(|(nines, words)| (nines, words.to_owned()));
    Axis { from: 0.0, to, marks: marks.collect(), label: "share of requests answered within the time" }
}

/// A logarithmic axis from the 1, 2 or 5 below `lowest` to one well above `highest`, for its label.
fn decades(lowest: f64, highest: f64) -> Axis {
    let rounds: Vec<f64> =
        (-4..7).flat_map(|decade| [1.0, 2.0, 5.0].map(|round| round * 10_f64.powi(decade))).collect();
    let from = rounds.iter().copied().rfind(|round| *round <= lowest).unwrap_or(lowest);
    let to = rounds.iter().copied().find(|round| *round >= highest * 1.5).unwrap_or(highest * 2.0);
    let marks = rounds.into_iter().filter(|round| (from..=to).contains(round));
    let marks = marks.map(|round| (round.log10(), number(round))).collect();
    Axis { from: from.log10(), to: to.log10(), marks, label: "milliseconds" }
}
