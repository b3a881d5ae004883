//! What it costs to read a byte that nobody asked for and nobody uses.
//!
//! One that is chosen while it is in memory saves the time that the drive takes to bring it. To read it has taken as long: nothing
//! while the drive is idle, else what is wanted comes that much later. One that is not chosen has taken
//! some of the pager's processor time besides: nothing where processors are idle, else the program computes that much later. Where
//! fresh memory comes slowly, that is several times as long as the drive takes.

/// In any case, of what a used byte saves.
const ANYHOW: f64 = 0.05;

/// What [`Price::of_waste`] is where two threads compute on two processors, at 0.35 s of processor time and 1.25 s of the drive's for
/// each gigabyte.
pub const TYPICAL: f64 = 0.4;

/// Times are looked at so often, in nanoseconds.
const INTERVAL_NS: u64 = 100_000_000;

/// What was read so many bytes ago counts about a third.
const MEMORY_BYTES: f64 = (64 << 20) as f64;

/// The same for the program's processor time, in nanoseconds.
const MEMORY_NS: f64 = 200e6;

/// Some processor is idle while less than this share of them all is used.
const IDLE_MAX: f64 = 0.75;

/// Clocks and counters of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clocks {
    /// The time, in nanoseconds.
    pub now_ns: u64,
    /// Processor time that the pager has spent on reads, in nanoseconds.
    pub reading_cpu_ns: u64,
    /// Processor time of the whole process, in nanoseconds.
    pub process_cpu_ns: u64,
    /// Bytes read so far.
    pub read_bytes: u64,
}

/// See the module's page.
#[derive(Debug)]
pub struct Price {
    processors: f64,
    last: Clocks,
    cpu_ns_per_byte: f64,
    /// The share of all processors that the program, with the pager, uses.
    used_share: f64,
}

impl Price {
    /// On a machine, or in a group, of so many processors.
    pub fn new(processors: usize) -> Price {
        Price { processors: processors as f64, last: Clocks::default(), cpu_ns_per_byte: 0.0, used_share: 0.0 }
    }

    /// Whether it is time to [look](Price::look) again.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.last.now_ns + INTERVAL_NS
    }

    /// Takes in how things stand.
    pub fn look(&mut self, clocks: Clocks) {
        let last = std::mem::replace(&mut self.last, clocks);
        let passed = |get: fn(&Clocks) -> u64| get(&clocks).saturating_sub(get(&last)) as f64;
        let (ns, bytes) = (passed(|clocks| clocks.now_ns), passed(|clocks| clocks.read_bytes));
        if bytes > 0.0 {
            let cpu_ns_per_byte = passed(|clocks| clocks.reading_cpu_ns) / bytes;
            self.cpu_ns_per_byte += (cpu_ns_per_byte - self.cpu_ns_per_byte) * (1.0 - (-bytes / MEMORY_BYTES).exp());
        }
        let used_share = passed(|clocks| clocks.process_cpu_ns) / (self.processors * ns).max(1.0);
        self.used_share += (used_share - self.used_share) * (1.0 - (-ns / MEMORY_NS).exp());
    }

    /// What an unused byte costs, of what a used one saves, where drives bring `bytes_per_ns` and something wanted is being read
    /// for the share `busy` of the time. On a drive that is never idle nothing is saved.
    pub fn of_waste(&self, bytes_per_ns: f64, busy: f64) -> f64 {
        let contention = ((self.used_share - IDLE_MAX) / (1.0 - IDLE_MAX)).clamp(0.0, 1.0);
        let processor = self.cpu_ns_per_byte * bytes_per_ns * contention;
        (ANYHOW + processor + busy) / (1.0 - busy).max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// After three seconds in which two processors were used for `used_ms` of each 100 ms together, and the pager for
    /// `reading_ms` to read 80 MB.
    fn price(used_ms: u64, reading_ms: u64) -> Price {
        let mut price = Price::new(2);
        for step in 1..=30 {
            assert!(price.is_due(step * 100 * MS) && !price.is_due(step * 100 * MS - 1));
            price.look(Clocks {
                now_ns: step * 100 * MS,
                reading_cpu_ns: step * reading_ms * MS,
                process_cpu_ns: step * used_ms * MS,
                read_bytes: step * 80_000_000,
            });
        }
        price
    }

    #[test]
    fn processor_time_is_free_while_a_processor_is_idle() {
        for used_ms in [20, 100, 145] {
            assert!((price(used_ms, 80).of_waste(0.8, 0.0) - ANYHOW).abs() < 1e-3, "{used_ms}");
        }
        // As much as the drive would have taken.
        assert!((price(200, 100).of_waste(0.8, 0.0) - ANYHOW - 1.0).abs() < 0.02);
        assert!((price(175, 100).of_waste(0.8, 0.0) - ANYHOW - 0.5).abs() < 0.02, "half of the time");
    }

    #[test]
    fn a_fast_drive_saves_less() {
        let price = price(200, 25);
        assert!(
            (price.of_waste(0.8, 0.0) - ANYHOW - 0.25).abs() < 0.01
                && (price.of_waste(3.2, 0.0) - ANYHOW - 1.0).abs() < 0.02
        );
    }

    #[test]
    fn a_busy_drive_has_no_time_to_give_away() {
        let price = price(20, 0);
        let half = (ANYHOW + 0.5) / 0.5;
        assert!((price.of_waste(0.8, 0.5) - half).abs() < 1e-3 && price.of_waste(0.8, 0.9) > 9.0);
        assert!(price.of_waste(0.8, 1.0) > 1e9);
    }

    #[test]
    fn nothing_read_tells_nothing() {
        let mut price = price(200, 25);
        let before = price.of_waste(1.0, 0.0);
        let last = price.last;
        price.look(Clocks { now_ns: last.now_ns + MS, reading_cpu_ns: last.reading_cpu_ns + MS, ..last });
        assert!(price.of_waste(1.0, 0.0) <= before);
    }
}
