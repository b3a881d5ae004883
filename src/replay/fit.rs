//! Figures out of measurements with outliers.

/// Of a search by thirds: to a thousandth.
const STEPS: usize = 17;

/// A line `intercept + slope * x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// At least 0.
    pub intercept: f64,
    /// At least 0.
    pub slope: f64,
}

impl Line {
    /// The line with the least sum of absolute deviations from `points` (x at least 0, y), which few outliers
    /// do not move, among those with an intercept from `least` to `most`.
    pub fn through(points: &[(f64, f64)], least: f64, most: f64) -> Line {
        // The sum is convex in both parameters, and the best slope for an intercept is a weighted median.
        let line = |intercept: f64| {
            let slopes = points.iter().filter(|(x, _)| *x > 0.0).map(|&(x, y)| ((y - intercept) / x, x)).collect();
            Line { intercept, slope: weighted_median(slopes).unwrap_or(0.0).max(0.0) }
        };
        let deviation =
            |line: Line| points.iter().map(|(x, y)| (y - line.intercept - line.slope * x).abs()).sum::<f64>();
        let (mut low, mut high) = (least, most);
        for _ in 0..STEPS {
            let third = (high - low) / 3.0;
            if deviation(line(low + third)) <= deviation(line(high - third)) {
                high -= third;
            } else {
                low += third;
            }
        }
        line((low + high) / 2.0)
    }
}

/// The least value at which the weights of `values` (value, weight) that are not greater make up half of all.
pub fn weighted_median(mut values: Vec<(f64, f64)>) -> Option<f64> {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let is_past_half = |(_, weight): &&(f64, f64)| {
        sum += weight;
        sum >= half
    };
    values.iter().find(is_past_half).map(|(value, _)| *value)
}

/// The mean of `values` without the greatest hundredth of them.
pub fn trimmed_mean(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.truncate(values.len() - values.len() / 100);
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
