//! How much of the time the drives have had something to do that was wanted.
//!
//! A drive that is wanted all the time has no idle moments to give away: what is read on a guess in the pauses between two
//! bursts is missing in the next one, be it that a control group allows so many bytes a second or that the drive itself
//! does. Only where it rests a good part of the time a guess costs nothing but its bytes.

/// What was so long ago counts about a third, in nanoseconds: some tokens of a fast model, and one of a slow one.
const MEMORY_NS: f64 = 200e6;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Busy {
    wanted: u32,
    share: f64,
    since_ns: u64,
}

impl Busy {
    /// A read that is wanted begins.
    pub fn started(&mut self, now_ns: u64) {
        self.pass(now_ns);
        self.wanted += 1;
    }

    /// It has ended.
    pub fn ended(&mut self, now_ns: u64) {
        self.pass(now_ns);
        self.wanted -= 1;
    }

    /// The share of the time, from 0 to 1, in which something wanted was being read; late times count more.
    pub fn share(&mut self, now_ns: u64) -> f64 {
        self.pass(now_ns);
        self.share
    }

    fn pass(&mut self, now_ns: u64) {
        let state = if self.wanted > 0 { 1.0 } else { 0.0 };
        let passed_ns = now_ns.saturating_sub(self.since_ns) as f64;
        self.share = state + (self.share - state) * (-passed_ns / MEMORY_NS).exp();
        self.since_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Reads for `busy_ms` of every 10 ms, for two seconds; gives the share then.
    fn share(busy_ms: u64) -> f64 {
        let mut busy = Busy::default();
        for start_ms in (0..2000).step_by(10) {
            // Two at once are no more than one.
            (0..2).for_each(|_| busy.started(start_ms * MS));
            [busy_ms / 2, busy_ms].iter().for_each(|ms| busy.ended((start_ms + ms) * MS));
        }
        busy.share(2000 * MS)
    }

    #[test]
    fn the_share_is_that_of_the_time() {
        for busy_ms in [0, 2, 5, 8, 10] {
            let expected = busy_ms as f64 / 10.0;
            assert!((share(busy_ms) - expected).abs() < 0.03, "{busy_ms} of 10 ms: {}", share(busy_ms));
        }
    }

    #[test]
    fn a_rest_is_noticed_and_a_burst_is_not_the_rule() {
        let mut busy = Busy::default();
        busy.started(0);
        assert!(busy.share(20 * MS) < 0.1, "a single burst");
        assert!(busy.share(1000 * MS) > 0.99);
        busy.ended(1000 * MS);
        assert!(busy.share(1020 * MS) > 0.85 && busy.share(2000 * MS) < 0.01);
    }
}
