//! The frame of a chart: its area, its two axes, and where a value lies in it.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;

/// One axis: from where to where, and the marks on it.
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<(f64, String)>,
    pub(super) label: &'static str,
}

/// A chart being drawn.
pub(super) struct Frame {
    x: Axis,
    y: Axis,
    svg: String,
}

impl Axis {
    /// From 0 to `to`, with about five round marks.
    pub(super) fn linear(to: f64, label: &'static str) -> Self {
        let to = to.max(1e-9);
        let rough = to / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|round| round * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let marks = (0..=10_u8).map(|mark| f64::from(mark) * step).take_while(|mark| *mark <= to * 1.0001);
        Self { from: 0.0, to, marks: marks.map(|mark| (mark, number(mark))).collect(), label }
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

impl Frame {
    /// An empty chart that screen readers know as `title`.
    pub(super) fn new(id: &str, title: &str, x: Axis, y: Axis) -> Self {
        let svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}"><title id="{id}">{title}</title>"#
        );
        let mut frame = Self { x, y, svg };
        frame.axes();
        frame
    }

    /// Where a pair of values lies.
    pub(super) fn point(&self, x: f64, y: f64) -> (f64, f64) {
        let x = (WIDTH - LEFT - RIGHT).mul_add(self.x.share(x), LEFT);
        let y = (HEIGHT - TOP - BOTTOM).mul_add(1.0 - self.y.share(y), TOP);
        (x, y)
    }

    /// A path through `points`, of style `class`; closed when it is an area.
    pub(super) fn path(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>, is_area: bool) {
        let mut line = String::new();
        for (place, (x, y)) in points.enumerate() {
            let (x, y) = self.point(x, y);
            let step = if place == 0 { 'M' } else { 'L' };
            let _ = write!(line, "{step}{x:.1} {y:.1}");
        }
        let close = if is_area { "Z" } else { "" };
        let _ = write!(self.svg, r#"<path class="{class}" d="{line}{close}"/>"#);
    }

    /// A dot with words beside it.
    pub(super) fn dot(&mut self, x: f64, y: f64, words: &str) {
        let (x, y) = self.point(x, y);
        let (anchor, dx) = if x > WIDTH * 0.75 { ("end", -8.0) } else { ("start", 8.0) };
        let (text_x, text_y) = (x + dx, if y < TOP + 24.0 { y + 20.0 } else { y - 8.0 });
        let _ = write!(
            self.svg,
            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="4"/><text class="value" x="{text_x:.1}" y="{text_y:.1}" text-anchor="{anchor}">{words}</text>"#
        );
    }

    /// The finished SVG.
    pub(super) fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }

    fn axes(&mut self) {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut axes = String::new();
        for (value, words) in &self.x.marks {
            let (x, _) = self.point(*value, self.y.from);
            let _ = write!(axes, r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/>"#);
            let _ = write!(axes, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{words}</text>"#, bottom + 16.0);
        }
        for (value, words) in &self.y.marks {
            let (_, y) = self.point(self.x.from, *value);
            let _ = write!(axes, r#"<path class="grid" d="M{left} {y:.1}H{right}"/>"#);
            let _ = write!(axes, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{words}</text>"#, left - 8.0, y + 4.0);
        }
        let label = self.x.label;
        let _ = write!(axes, r#"<text x="{right}" y="{:.1}" text-anchor="end">{label}</text>"#, HEIGHT - 8.0);
        let label = self.y.label;
        let middle = f64::midpoint(TOP, bottom);
        let _ =
            write!(axes, r#"<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{label}</text>"#);
        self.svg.push_str(&axes);
    }
}

/// A mark's number, no longer than it has to be.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn marks_are_round_and_within_the_axis() {
        for (to, expected) in [
            (10.0, "0 2 4 6 8 10"),
            (0.3, "0 0.1 0.2 0.3"),
            (2004.0, "0 500 1000 1500 2000"),
            (1.0, "0 0.2 0.4 0.6 0.8 1"),
        ] {
            let marks: Vec<_> = Axis::linear(to, "").marks.into_iter().map(|(_, words)| words).collect();
            assert_eq!(marks.join(" "), expected);
        }
    }
}
