//! What two readings of a page say about the time between them.

use serde::Serialize;

use super::{Counters, Snapshot};

/// Shares and rates between two readings, or since the pager began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Time between the readings in seconds.
    pub seconds: f64,
    /// Bytes read into frames in a second.
    pub read_bytes_per_s: f64,
    /// Mean number of reads in flight, idle time included.
    pub in_flight: f64,
    /// Touches that the pager saw and that found their block in memory, 0 to 1; `None` without a
    /// touch. The pager does not see touches of blocks that are in the view already: what a cycle
    /// needs is in memory to a larger share than this.
    pub hit_share: Option<f64>,
    /// Time with at least one thread asleep on a block, 0 to 1.
    pub stall_share: f64,
}

impl Rates {
    /// From `before` to `now`, two readings of one page; since the pager began if there is no such
    /// `before`.
    pub fn between(before: Option<&Snapshot>, now: &Snapshot) -> Rates {
        let before = before.filter(|before| before.identity == now.identity && before.counters.views > 0);
        let none = Counters::default();
        let (old, new) = (before.map_or(&none, |before| &before.counters), &now.counters);
        let since = |of: fn(&Counters) -> u64| of(new).saturating_sub(of(old)) as f64;
        let began_ns = new.published_ns.saturating_sub(new.wall_ns);
        let ns = now.at_ns.saturating_sub(before.map_or(began_ns, |before| before.at_ns)).max(1) as f64;
        let touches = since(|it| it.faults_demand + it.faults_in_flight + it.faults_staged);
        Rates {
            seconds: ns / 1e9,
            read_bytes_per_s: since(|it| it.read_bytes) / ns * 1e9,
            in_flight: since(|it| it.in_flight_ns) / ns,
            hit_share: (touches > 0.0).then(|| since(|it| it.faults_staged) / touches),
            stall_share: (since(|it| it.stalled_ns) / ns).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Identity;
    use super::super::{PERIOD, Texts};
    use super::*;

    fn at(at_ns: u64, counters: Counters) -> Snapshot {
        let identity = Identity { pid: 1, start_ticks: 2, pid_namespace: 3 };
        let counters = Counters { published_ns: at_ns, ..counters };
        Snapshot { identity, texts: Texts::default(), counters, at_ns }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let first = Counters {
            views: 1,
            wall_ns: 1_000_000_000,
            read_bytes: 500,
            in_flight_ns: 2_000_000_000,
            faults_staged: 5,
            stalled_ns: 900_000_000,
            ..Counters::default()
        };
        let second = Counters {
            wall_ns: 3_000_000_000,
            read_bytes: 2500,
            in_flight_ns: 10_000_000_000,
            faults_staged: 8,
            faults_demand: 1,
            stalled_ns: 1_400_000_000,
            ..first
        };
        let (before, now) = (at(10_000_000_000, first), at(12_000_000_000, second));
        let expected =
            Rates { seconds: 2.0, read_bytes_per_s: 1000.0, in_flight: 4.0, hit_share: Some(0.75), stall_share: 0.25 };
        assert_eq!(Rates::between(Some(&before), &now), expected);
        let whole = Rates::between(None, &before);
        assert_eq!((whole.seconds, whole.read_bytes_per_s, whole.stall_share), (1.0, 500.0, 0.9));
        // The id belongs to another process now.
        let mut other = before.clone();
        other.identity.start_ticks += 1;
        assert_eq!(Rates::between(Some(&other), &now), Rates::between(None, &now));
        let nothing = Rates::between(Some(&now), &now);
        assert_eq!((nothing.hit_share, nothing.read_bytes_per_s), (None, 0.0));
    }

    #[test]
    fn a_pager_with_nothing_to_do_has_no_rate() {
        let idle = Counters { views: 1, wall_ns: PERIOD.as_nanos() as u64, read_bytes: 1 << 30, ..Counters::default() };
        // Not written since, but read later.
        let before = Snapshot { at_ns: 50_000_000_000, ..at(10_000_000_000, idle) };
        let now = Snapshot { at_ns: 51_000_000_000, ..before.clone() };
        let rates = Rates::between(Some(&before), &now);
        assert_eq!((rates.seconds, rates.read_bytes_per_s, rates.in_flight), (1.0, 0.0, 0.0));
    }
}
