//! Values with their units, as words.

use crate::config::ByteSize;

/// `value` in percent.
pub fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

/// `ns` nanoseconds.
pub fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.1} us", ns / 1e3),
        _ if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// `bytes` bytes.
pub fn size(bytes: f64) -> String {
    ByteSize(bytes as u64).to_string()
}

/// `bytes` in powers of 1024.
pub fn binary(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1024.0 => format!("{bytes:.0} B"),
        _ if bytes < 1048576.0 => format!("{:.0} KiB", bytes / 1024.0),
        _ if bytes < 1073741824.0 => format!("{:.0} MiB", bytes / 1048576.0),
        _ => format!("{:.1} GiB", bytes / 1073741824.0),
    }
}
