//! What the machine says about its memory: `/proc/meminfo` and pressure stall information.

use std::path::Path;

use serde::Serialize;

use super::read::{Reader, field};

/// The machine's memory. In a container whose runtime fakes `/proc/meminfo`, the container's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// RAM, in bytes.
    pub total_bytes: u64,
    /// What programs can still get without swapping: free memory, and the page cache and slab that
    /// can be dropped, less what the kernel keeps in reserve (`MemAvailable`, Linux 3.14).
    pub available_bytes: u64,
    /// Swap, in bytes.
    pub swap_total_bytes: u64,
    /// Swap that is unused, in bytes.
    pub swap_free_bytes: u64,
}

impl Machine {
    /// Reads `meminfo`; `None` when there is none.
    pub fn read(meminfo: &Path, reader: &mut Reader) -> Option<Machine> {
        let text = reader.text(meminfo).ok()?;
        let bytes = |key| field(text, key).map(|kib| kib.saturating_mul(1024));
        Some(Machine {
            total_bytes: bytes("MemTotal")?,
            available_bytes: bytes("MemAvailable").or_else(|| bytes("MemFree"))?,
            swap_total_bytes: bytes("SwapTotal").unwrap_or(0),
            swap_free_bytes: bytes("SwapFree").unwrap_or(0),
        })
    }

    /// What is available beyond what is left to others, in bytes: see [`super`].
    pub fn room_bytes(&self) -> u64 {
        let others = (self.total_bytes / 32).max(256 << 20).min(self.total_bytes / 8);
        self.available_bytes.saturating_sub(others)
    }
}

/// Anonymous memory of the process whose `statm` (proc_pid_statm(5)) this is, in bytes: what is resident, less what is
/// mapped from files or shared.
pub fn anonymous_bytes(statm: &Path, reader: &mut Reader) -> Option<u64> {
    let mut pages = reader.text(statm).ok()?.split_ascii_whitespace().skip(1).map(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// Pressure stall information (Documentation/accounting/psi.rst): how long tasks waited for memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Share of the last ten seconds in which at least one task waited, in percent.
    pub some_avg10_percent: f32,
    /// Share of the last ten seconds in which every task waited, in percent.
    pub full_avg10_percent: f32,
    /// Time in which at least one task waited, since the start, in microseconds. The difference of
    /// two readings sees pressure sooner than the averages.
    pub some_total_us: u64,
    /// Time in which every task waited, since the start, in microseconds.
    pub full_total_us: u64,
}

impl Pressure {
    /// Reads a `memory.pressure` or `/proc/pressure/memory`; `None` when the kernel keeps none.
    pub fn read(path: &Path, reader: &mut Reader) -> Option<Pressure> {
        let text = reader.text(path).ok()?;
        let line = |kind: &str| {
            let mut line = text.lines().find_map(|line| line.strip_prefix(kind))?.split_ascii_whitespace();
            let percent = line.clone().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())?;
            Some((percent, line.find_map(|word| word.strip_prefix("total=")?.parse().ok())?))
        };
        let (some_avg10_percent, some_total_us) = line("some ")?;
        let (full_avg10_percent, full_total_us) = line("full ").unwrap_or_default();
        Some(Pressure { some_avg10_percent, full_avg10_percent, some_total_us, full_total_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let machine = Machine::read(Path::new("/proc/meminfo"), &mut Reader::default()).unwrap();
        assert!(machine.total_bytes > 64 << 20, "{machine:?}");
        assert!(machine.available_bytes > 0 && machine.available_bytes < machine.total_bytes, "{machine:?}");
        assert!(machine.swap_free_bytes <= machine.swap_total_bytes, "{machine:?}");
    }

    #[test]
    fn what_is_mapped_from_files_is_not_anonymous() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statm");
        let anonymous = |text: &str| {
            std::fs::write(&path, text).unwrap();
            anonymous_bytes(&path, &mut Reader::default())
        };
        let page = rustix::param::page_size() as u64;
        assert_eq!(anonymous("9000 700 300 1 0 500 0\n"), Some(400 * page));
        assert_eq!([anonymous("9000 700"), anonymous("")], [None; 2]);
        assert!(anonymous_bytes(Path::new("/proc/self/statm"), &mut Reader::default()).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn pressure_is_read_with_and_without_its_second_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let mut reader = Reader::default();
        assert_eq!(Pressure::read(&path, &mut reader), None);
        let some = "some avg10=1.50 avg60=0.05 avg300=1.98 total=63154942\n";
        let full = "full avg10=0.25 avg60=0.00 avg300=0.28 total=17594016\n";
        std::fs::write(&path, format!("{some}{full}")).unwrap();
        let both = Pressure::read(&path, &mut reader).unwrap();
        assert_eq!((both.some_avg10_percent, both.some_total_us), (1.5, 63154942));
        assert_eq!((both.full_avg10_percent, both.full_total_us), (0.25, 17594016));
        std::fs::write(&path, some).unwrap();
        let one = Pressure::read(&path, &mut reader).unwrap();
        assert_eq!((one.some_total_us, one.full_total_us), (63154942, 0));
        std::fs::write(&path, "").unwrap();
        assert_eq!(Pressure::read(&path, &mut reader), None);
    }
}
