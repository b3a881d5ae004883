//! A small writer of charts as SVG. Colours are classes: the page around them has a style sheet for
//! light and for dark background.

use std::fmt::Write as _;

/// Size of a chart, in the user units of its view box.
pub const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;

/// `text` with what has a meaning in XML replaced.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One axis.
pub struct Axis {
    from: f64,
    to: f64,
    log: bool,
    title: String,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `from` to `to` in even steps of 1, 2 or 5.
    pub fn linear(from: f64, to: f64, title: &str) -> Axis {
        let to = if to > from { to } else { from + 1.0 };
        let rough = (to - from) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|index| index as f64 * step);
        let ticks = ticks.map(|value| (value, format!("{value:.digits$}"))).collect();
        Axis { from, to, log: false, title: title.to_owned(), ticks }
    }

    /// From `from` to `to` (both positive), a tick for each power of `base`, labelled by `label`.
    pub fn log(from: f64, to: f64, base: f64, title: &str, label: impl Fn(f64) -> String) -> Axis {
        let (from, to) = (from.max(1.0), to.max(from.max(1.0) * base));
        let power = |value: f64| value.ln() / base.ln();
        let (first, last) = ((power(from) - 1e-9).ceil() as i32, (power(to) + 1e-9).floor() as i32);
        let step = ((last - first) / 8 + 1) as usize;
        let ticks = (first..=last).step_by(step).map(|index| base.powi(index));
        let ticks = ticks.map(|value| (value, label(value))).collect();
        Axis { from, to, log: true, title: title.to_owned(), ticks }
    }

    /// With names in the middle of `names.len()` equal parts from 0 on.
    pub fn names(names: &[String], title: &str) -> Axis {
        let step = names.len().div_ceil(32).max(1);
        let ticks = names.iter().enumerate().step_by(step).map(|(index, name)| (index as f64 + 0.5, name.clone()));
        Axis { from: 0.0, to: names.len().max(1) as f64, log: false, title: title.to_owned(), ticks: ticks.collect() }
    }

    /// Where `value` lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let at = |value: f64| if self.log { value.max(self.from).ln() } else { value };
        ((at(value) - at(self.from)) / (at(self.to) - at(self.from))).clamp(0.0, 1.0)
    }
}

/// A chart that is being drawn.
pub struct Chart {
    x: Axis,
    y: Axis,
    left: f64,
    height: f64,
    marks: String,
    legend: Vec<(&'static str, String)>,
    /// Steps of a scale of strengths, and the label of the strongest.
    scale: Option<(usize, String)>,
    what: String,
}

/// How strongly step `step` of `steps` is drawn, from 0 to 1: nothing is still to be seen as such.
pub fn strength(step: usize, steps: usize) -> f64 {
    0.05 + 0.95 * step as f64 / steps as f64
}

impl Chart {
    /// An empty one; `what` is told to those who cannot see it.
    pub fn new(what: &str, x: Axis, y: Axis) -> Chart {
        let widest = y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        let left = LEFT.max(widest as f64 * 6.6 + 28.0);
        Chart {
            x,
            y,
            left,
            height: HEIGHT,
            marks: String::new(),
            legend: Vec::new(),
            scale: None,
            what: what.to_owned(),
        }
    }

    /// As high as `rows` rows of names need.
    pub fn rows(mut self, rows: usize) -> Chart {
        self.height = (TOP + BOTTOM + 18.0 * rows as f64).clamp(TOP + BOTTOM + 40.0, 900.0);
        self
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = (WIDTH - self.left - RIGHT, self.height - TOP - BOTTOM);
        (self.left + self.x.part(x) * width, TOP + (1.0 - self.y.part(y)) * height)
    }

    /// Names a class of marks.
    pub fn legend(&mut self, class: &'static str, label: impl Into<String>) {
        self.legend.push((class, label.into()));
    }

    /// Explains the strengths of `steps` steps from 0 on; the last one is `label`.
    pub fn scale(&mut self, steps: usize, label: impl Into<String>) {
        self.scale = Some((steps, label.into()));
    }

    /// A line through `points`.
    pub fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for (index, (x, y)) in points.enumerate() {
            let (x, y) = self.at(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        let _ = write!(self.marks, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// Boxes from one corner to the other, `strength` from 0 to 1.
    pub fn boxes(&mut self, class: &str, strength: f64, boxes: impl Iterator<Item = [(f64, f64); 2]>) {
        let mut path = String::new();
        for [from, to] in boxes {
            let ((x0, y0), (x1, y1)) = (self.at(from.0, from.1), self.at(to.0, to.1));
            let _ = write!(path, "M{x0:.1} {y0:.1}H{x1:.1}V{y1:.1}H{x0:.1}z");
        }
        if !path.is_empty() {
            let _ = write!(self.marks, "<path class=\"fill {class}\" fill-opacity=\"{strength:.2}\" d=\"{path}\"/>");
        }
    }

    /// Round dots of `size` user units.
    pub fn dots(&mut self, class: &str, size: f64, dots: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for (x, y) in dots {
            let (x, y) = self.at(x, y);
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        if !path.is_empty() {
            let _ = write!(self.marks, "<path class=\"dot {class}\" stroke-width=\"{size}\" d=\"{path}\"/>");
        }
    }

    /// A word beside a point.
    pub fn word(&mut self, x: f64, y: f64, word: &str) {
        let (x, y) = self.at(x, y);
        let (anchor, x) = if x > WIDTH * 0.7 { ("end", x - 8.0) } else { ("start", x + 8.0) };
        let _ = write!(
            self.marks,
            "<text class=\"word\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y - 6.0,
            escaped(word)
        );
    }

    /// A short text in the middle of a box.
    pub fn label(&mut self, x: f64, y: f64, text: &str) {
        let (x, y) = self.at(x, y);
        let _ = write!(
            self.marks,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 4.0,
            escaped(text)
        );
    }

    /// The chart as an `svg` element.
    pub fn finish(self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, self.height - BOTTOM);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\"><path class=\"grid\" d=\"",
            self.height,
            escaped(&self.what)
        );
        let mut labels = String::new();
        for (value, label) in &self.x.ticks {
            let (x, _) = self.at(*value, self.y.from);
            let _ = write!(out, "M{x:.1} {TOP}V{bottom}");
            let _ = write!(
                labels,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 15.0,
                escaped(label)
            );
        }
        for (value, label) in &self.y.ticks {
            let (_, y) = self.at(self.x.from, *value);
            let _ = write!(out, "M{:.1} {y:.1}H{right}", self.left);
            let _ = write!(
                labels,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.left - 6.0,
                y + 4.0,
                escaped(label)
            );
        }
        let _ = write!(out, "\"/>{}{labels}", self.marks);
        let _ = write!(out, "<path class=\"axis\" d=\"M{:.1} {TOP}V{bottom}H{right}\"/>", self.left);
        let (middle, height) = ((self.left + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = write!(
            out,
            "<text class=\"title\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            self.height - 8.0,
            escaped(&self.x.title)
        );
        let _ = write!(
            out,
            "<text class=\"title\" x=\"13\" y=\"{height:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 13 {height:.1})\">{}</text>",
            escaped(&self.y.title)
        );
        let mut x = self.left;
        for (class, label) in &self.legend {
            let _ = write!(
                out,
                "<rect class=\"fill {class}\" x=\"{x:.1}\" y=\"9\" width=\"12\" height=\"12\"/><text x=\"{:.1}\" y=\"19\">{}</text>",
                x + 17.0,
                escaped(label)
            );
            x += 34.0 + label.chars().count() as f64 * 6.4;
        }
        if let Some((steps, label)) = &self.scale {
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"19\">0</text>");
            for step in 0..=*steps {
                let (x, strength) = (x + 12.0 + 10.0 * step as f64, strength(step, *steps));
                let _ = write!(
                    out,
                    "<rect class=\"fill heat\" fill-opacity=\"{strength:.2}\" x=\"{x:.1}\" y=\"9\" width=\"10\" height=\"12\"/>"
                );
            }
            x += 18.0 + 10.0 * (steps + 1) as f64;
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"19\">{}</text>", escaped(label));
        }
        out.push_str("</svg>");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |axis: &Axis| axis.ticks.iter().map(|(_, label)| label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&Axis::linear(0.0, 1.0, "")), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::linear(0.0, 1234.0, "")), ["0", "500", "1000"]);
        assert_eq!(labels(&Axis::linear(3.0, 3.0, "")).first().unwrap(), "3.0");
        let octaves = Axis::log(4096.0, 65536.0, 4.0, "", |value| format!("{value}"));
        assert_eq!(labels(&octaves), ["4096", "16384", "65536"]);
        assert_eq!(octaves.part(16384.0), 0.5);
        assert_eq!(octaves.part(1e12), 1.0);
    }

    #[test]
    fn text_is_escaped() {
        let chart = Chart::new("a<b", Axis::linear(0.0, 1.0, "x & y"), Axis::names(&["<>".to_owned()], "z"));
        let svg = chart.finish();
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y") && svg.contains("&lt;&gt;"), "{svg}");
        assert!(is_closed(&svg), "{svg}");
    }

    /// Every element is closed.
    fn is_closed(svg: &str) -> bool {
        svg.matches("<text").count() == svg.matches("</text>").count() && svg.ends_with("</svg>")
    }
}
