//! Figures as the cells of a table.

use crate::config::ByteSize;

/// With so many digits; `-` where there is none.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A share as per cent.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

/// Bytes with a unit.
pub(super) fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| ByteSize(value as u64).to_string())
}
