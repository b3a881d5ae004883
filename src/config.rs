//! The environment variables: one table, one parser for each value.
//!
//! [`Settings::from_env`] is lenient: a bad value becomes a warning and the default, because the
//! preloaded library must never stop a program. `ggpager run` parses the same values strictly and
//! refuses them before the program starts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Names of the environment variables.
pub mod var {
    /// `off` makes the library inert.
    pub const SWITCH: &str = "GGPAGER";
    /// The pool's size: see [`super::BudgetSetting`].
    pub const BUDGET: &str = "GGPAGER_BUDGET";
    /// The paging strategy: see [`super::Strategy`].
    pub const STRATEGY: &str = "GGPAGER_STRATEGY";
    /// Path of the fault log.
    pub const TRACE: &str = "GGPAGER_TRACE";
    /// Length of the fault log at most.
    pub const TRACE_LIMIT: &str = "GGPAGER_TRACE_LIMIT";
    /// Grain of strategy `observe`.
    pub const GRAIN: &str = "GGPAGER_GRAIN";
    /// Path of the JSON summary written at exit; `-` is stderr.
    pub const STATS: &str = "GGPAGER_STATS";
    /// Glob of files to take besides GGUF by magic.
    pub const MATCH: &str = "GGPAGER_MATCH";
    /// Forces a rung of the fill ladder: see [`super::FillRung`].
    pub const FILL: &str = "GGPAGER_FILL";
    /// Forces a rung of the I/O ladder: see [`super::IoRung`].
    pub const IO: &str = "GGPAGER_IO";
    /// Reads in flight at most.
    pub const QUEUE_DEPTH: &str = "GGPAGER_QUEUE_DEPTH";
    /// Size of one read.
    pub const READ_SIZE: &str = "GGPAGER_READ_SIZE";
    /// Copies of the model on other drives, separated by `:`.
    pub const REPLICAS: &str = "GGPAGER_REPLICAS";
    /// Log level or filter in env_logger syntax.
    pub const LOG: &str = "GGPAGER_LOG";
    /// `off` keeps learned orders in memory only (strategy `learned`).
    pub const ORDER_CACHE: &str = "GGPAGER_ORDER_CACHE";
    /// The user's folder for what lives as long as the session (XDG Base Directory Specification).
    pub const RUNTIME_FOLDER: &str = "XDG_RUNTIME_DIR";
}

/// A value that could not be understood, with what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct BadValue {
    value: String,
    expected: &'static str,
}

fn bad(value: &str, expected: &'static str) -> BadValue {
    BadValue { value: value.to_owned(), expected }
}

/// A number of bytes, written as `8G`, `512MiB`, `2048` or `1.5GB`.
///
/// `K`, `M`, `G`, `T` and `KiB`... are powers of 1024; `KB`, `MB`... are powers of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let error = || bad(text, "a size such as 8G, 512MiB or 1.5GB");
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(split);
        let number: f64 = number.parse().map_err(|_| error())?;
        let unit = match suffix.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1u64,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        let bytes = number * unit as f64;
        if !(0.0..9.0e18).contains(&bytes) {
            return Err(error());
        }
        Ok(ByteSize(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    /// Decimal units with two digits, as drives and models are sold: `8.05 GB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} B", self.0),
            1_000..1_000_000 => write!(f, "{:.2} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.2} MB", bytes / 1e6),
            _ => write!(f, "{:.2} GB", bytes / 1e9),
        }
    }
}

/// `GGPAGER_BUDGET`: how large the pool may be.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum BudgetSetting {
    /// What the cgroup or the machine leaves, minus headroom.
    #[default]
    Auto,
    /// A fixed number of bytes.
    Bytes(ByteSize),
    /// A share of the mapped models' bytes, in percent.
    Percent(f64),
}

impl FromStr for BudgetSetting {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let expected = "`auto`, a size such as 8G or 512MiB, or a percentage of the model such as 50%";
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("auto") {
            return Ok(BudgetSetting::Auto);
        }
        if let Some(number) = trimmed.strip_suffix('%') {
            return match number.trim().parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 1000.0 => Ok(BudgetSetting::Percent(percent)),
                _ => Err(bad(text, expected)),
            };
        }
        match trimmed.parse::<ByteSize>() {
            Ok(size) if size.0 > 0 => Ok(BudgetSetting::Bytes(size)),
            _ => Err(bad(text, expected)),
        }
    }
}

/// A value that is one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $expected:literal, { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that names this value.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                let trimmed = text.trim();
                Self::ALL.iter().copied().find(|v| v.as_str().eq_ignore_ascii_case(trimmed)).ok_or_else(|| bad(text, $expected))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// `GGPAGER_STRATEGY`: how the view is filled and emptied.
    Strategy,
    "one of auto, passthrough, demand, readahead, learned, experts, kernel, observe",
    {
        /// Passthrough when the model fits, else the best paging strategy.
        Auto = "auto",
        /// The ordinary mapping, untouched.
        Passthrough = "passthrough",
        /// Only what is touched is read.
        Demand = "demand",
        /// The order that the GGUF header foretells.
        Readahead = "readahead",
        /// The order that was seen.
        Learned = "learned",
        /// Expert slices as cache objects.
        Experts = "experts",
        /// The ordinary mapping with madvise hints ahead of and behind the computation.
        Kernel = "kernel",
        /// Records every first touch of every cycle.
        Observe = "observe",
    }
}

words! {
    /// `GGPAGER_FILL`: how a frame gets into the view.
    FillRung,
    "one of move, continue, copy",
    {
        /// UFFDIO_MOVE (Linux 6.8).
        Move = "move",
        /// memfd and UFFDIO_CONTINUE (Linux 5.14).
        Continue = "continue",
        /// UFFDIO_COPY (Linux 4.11).
        Copy = "copy",
    }
}

words! {
    /// `GGPAGER_IO`: how a block gets into a frame.
    IoRung,
    "one of uring-direct, uring, pread",
    {
        /// io_uring with O_DIRECT.
        UringDirect = "uring-direct",
        /// io_uring through the page cache.
        Uring = "uring",
        /// A small pool of threads that call preadv.
        Pread = "pread",
    }
}

/// Everything the environment says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// False when `GGPAGER=off`.
    pub enabled: bool,
    /// The pool's size.
    pub budget: BudgetSetting,
    /// The strategy asked for.
    pub strategy: Strategy,
    /// Where the fault log goes.
    pub trace: Option<PathBuf>,
    /// How long it may become.
    pub trace_limit: ByteSize,
    /// Size of a block under strategy `observe`: a power of two from 4 KiB to 2 MiB.
    pub grain: ByteSize,
    /// Where the JSON summary goes; `-` is stderr.
    pub stats: Option<PathBuf>,
    /// Files to take besides GGUF by magic.
    pub matching: Option<glob::Pattern>,
    /// Forced rung of the fill ladder.
    pub fill: Option<FillRung>,
    /// Forced rung of the I/O ladder.
    pub io: Option<IoRung>,
    /// Reads in flight at most, 1 to 1024.
    pub queue_depth: Option<u32>,
    /// Size of one read, 4 KiB to 2 MiB in whole pages.
    pub read_size: Option<ByteSize>,
    /// Copies of the model on other drives, or folders that hold them.
    pub replicas: Vec<PathBuf>,
    /// False when learned orders are not to be stored.
    pub order_cache: bool,
    /// Folder in which the live page may lie, see [`crate::status`].
    pub runtime_folder: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enabled: true,
            budget: BudgetSetting::Auto,
            strategy: Strategy::Auto,
            trace: None,
            trace_limit: ByteSize(1 << 30),
            grain: ByteSize(2 << 20),
            stats: None,
            matching: None,
            fill: None,
            io: None,
            queue_depth: None,
            read_size: None,
            replicas: Vec::new(),
            order_cache: true,
            runtime_folder: None,
        }
    }
}

impl Settings {
    /// Reads the variables through `get`; calls `warn(variable, error)` for each value that cannot
    /// be understood, which then keeps its default.
    pub fn read(get: impl Fn(&str) -> Option<String>, mut warn: impl FnMut(&str, BadValue)) -> Settings {
        let mut settings = Settings::default();
        fn take<T>(
            name: &str,
            get: &impl Fn(&str) -> Option<String>,
            warn: &mut impl FnMut(&str, BadValue),
            parse: impl Fn(&str) -> Result<T, BadValue>,
        ) -> Option<T> {
            let text = get(name).filter(|text| !text.is_empty())?;
            parse(&text).map_err(|error| warn(name, error)).ok()
        }
        if let Some(on) = take(var::SWITCH, &get, &mut warn, on_off) {
            settings.enabled = on;
        }
        if let Some(budget) = take(var::BUDGET, &get, &mut warn, str::parse) {
            settings.budget = budget;
        }
        if let Some(strategy) = take(var::STRATEGY, &get, &mut warn, str::parse) {
            settings.strategy = strategy;
        }
        settings.trace = take(var::TRACE, &get, &mut warn, |text| Ok(PathBuf::from(text)));
        if let Some(limit) = take(var::TRACE_LIMIT, &get, &mut warn, str::parse) {
            settings.trace_limit = limit;
        }
        if let Some(size) = take(var::GRAIN, &get, &mut warn, grain) {
            settings.grain = size;
        }
        settings.runtime_folder = take(var::RUNTIME_FOLDER, &get, &mut warn, |text| Ok(PathBuf::from(text)));
        settings.stats = take(var::STATS, &get, &mut warn, |text| Ok(PathBuf::from(text)));
        settings.matching = take(var::MATCH, &get, &mut warn, |text| {
            glob::Pattern::new(text).map_err(|_| bad(text, "a glob such as /models/*.safetensors"))
        });
        settings.fill = take(var::FILL, &get, &mut warn, str::parse);
        settings.io = take(var::IO, &get, &mut warn, str::parse);
        settings.queue_depth = take(var::QUEUE_DEPTH, &get, &mut warn, queue_depth);
        settings.read_size = take(var::READ_SIZE, &get, &mut warn, read_size);
        settings.replicas =
            take(var::REPLICAS, &get, &mut warn, |text| Ok(std::env::split_paths(text).collect())).unwrap_or_default();
        if let Some(on) = take(var::ORDER_CACHE, &get, &mut warn, on_off) {
            settings.order_cache = on;
        }
        settings
    }

    /// [`Settings::read`] on the process environment.
    pub fn from_env(warn: impl FnMut(&str, BadValue)) -> Settings {
        Settings::read(|name| std::env::var(name).ok(), warn)
    }
}

/// Parses `on` or `off` (also `1`, `0`, `true`, `false`).
pub fn on_off(text: &str) -> Result<bool, BadValue> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err(bad(text, "`on` or `off`")),
    }
}

/// Parses a number of reads in flight, 1 to 1024.
pub fn queue_depth(text: &str) -> Result<u32, BadValue> {
    match text.trim().parse() {
        Ok(depth @ 1..=1024) => Ok(depth),
        _ => Err(bad(text, "a number of reads in flight from 1 to 1024")),
    }
}

/// Parses the size of one read: 4 KiB to 2 MiB in whole 4 KiB pages.
pub fn read_size(text: &str) -> Result<ByteSize, BadValue> {
    match text.parse::<ByteSize>() {
        Ok(size) if (4096..=2 << 20).contains(&size.0) && size.0 % 4096 == 0 => Ok(size),
        _ => Err(bad(text, "a size from 4KiB to 2MiB in whole pages")),
    }
}

/// Parses the grain of `observe`: a power of two from 4 KiB to 2 MiB.
pub fn grain(text: &str) -> Result<ByteSize, BadValue> {
    match text.parse::<ByteSize>() {
        Ok(size) if (4096..=2 << 20).contains(&size.0) && size.0.is_power_of_two() => Ok(size),
        _ => Err(bad(text, "a power of two from 4KiB to 2MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(pairs: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let table: HashMap<_, _> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut warnings = Vec::new();
        let settings =
            Settings::read(|name| table.get(name).cloned(), |name, error| warnings.push(format!("{name}: {error}")));
        (settings, warnings)
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        for (text, bytes) in
            [("2048", 2048), ("8G", 8 << 30), ("512MiB", 512 << 20), ("1.5GB", 1_500_000_000), (" 4 k ", 4096)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "G", "-1", "8X", "1e3", "99999999999G"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn budgets_are_auto_sizes_or_percentages() {
        assert_eq!("auto".parse(), Ok(BudgetSetting::Auto));
        assert_eq!("50%".parse(), Ok(BudgetSetting::Percent(50.0)));
        assert_eq!("8G".parse(), Ok(BudgetSetting::Bytes(ByteSize(8 << 30))));
        for text in ["0", "0%", "-5%", "half", "%"] {
            assert!(text.parse::<BudgetSetting>().is_err(), "{text}");
        }
    }

    #[test]
    fn bad_values_warn_and_keep_the_default() {
        let (settings, warnings) = read(&[
            (var::STRATEGY, "fast"),
            (var::QUEUE_DEPTH, "0"),
            (var::READ_SIZE, "5000"),
            (var::SWITCH, "maybe"),
            (var::GRAIN, "12K"),
        ]);
        assert_eq!(settings, Settings::default());
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("GGPAGER_STRATEGY") && w.contains("readahead")), "{warnings:?}");
    }

    #[test]
    fn good_values_are_taken() {
        let (settings, warnings) = read(&[
            (var::SWITCH, "off"),
            (var::STRATEGY, "demand"),
            (var::FILL, "copy"),
            (var::IO, "uring-direct"),
            (var::READ_SIZE, "512K"),
            (var::TRACE_LIMIT, "100M"),
            (var::GRAIN, "64K"),
            (var::REPLICAS, "/a/m.gguf:/b/m.gguf"),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(!settings.enabled);
        assert_eq!(settings.strategy, Strategy::Demand);
        assert_eq!(settings.fill, Some(FillRung::Copy));
        assert_eq!(settings.io, Some(IoRung::UringDirect));
        assert_eq!(settings.read_size, Some(ByteSize(512 << 10)));
        assert_eq!((settings.trace_limit, settings.grain), (ByteSize(100 << 20), ByteSize(64 << 10)));
        assert_eq!(settings.replicas.len(), 2);
    }
}
