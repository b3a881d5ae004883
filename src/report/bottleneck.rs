//! What holds a run up, by a rule.

use serde::Serialize;

use super::cycles::Breakdown;
use super::requests::Drive;

/// Share of the time without sleeping threads from which on the processor holds the run up.
const COMPUTE_SHARE: f64 = 0.85;
/// Share of the drive's rate from which on the drive's bandwidth does.
const DRIVE_SHARE: f64 = 0.75;
/// Reads in flight from which on it can be the bandwidth.
const IN_FLIGHT: f64 = 2.0;

/// The rule, in words.
pub const RULE: &str = "compute: no thread sleeps for 85 % of the time. Else fault handling: most of the sleep is for \
     staged blocks. Else drive bandwidth: while a read is in flight the drive gives at least 75 % of its rate (--drive, or the \
     rate while busy) and 2 reads are in flight on average. Else synchronous waits: threads sleep on reads that start \
     too late or too few at a time";

/// What holds a run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// The log has no time in it.
    Unknown,
    /// The processor.
    Compute,
    /// Putting blocks that are in memory into the view.
    FaultHandling,
    /// The drive gives no more.
    DriveBandwidth,
    /// The drive could give more, but is asked too late or for too little at a time.
    SynchronousWaits,
}

impl Bottleneck {
    /// By [`RULE`].
    pub fn of(time: &Breakdown, drive: &Drive) -> Bottleneck {
        let sleep = time.wall.sum_s();
        if time.length_s <= 0.0 {
            Bottleneck::Unknown
        } else if time.compute_s >= COMPUTE_SHARE * time.length_s {
            Bottleneck::Compute
        } else if time.wall.fault_s > sleep / 2.0 {
            Bottleneck::FaultHandling
        } else if drive.share_while_reading.is_some_and(|share| share >= DRIVE_SHARE) && drive.in_flight >= IN_FLIGHT {
            Bottleneck::DriveBandwidth
        } else {
            Bottleneck::SynchronousWaits
        }
    }

    /// A few words for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Bottleneck::Unknown => "unknown",
            Bottleneck::Compute => "compute",
            Bottleneck::FaultHandling => "fault handling",
            Bottleneck::DriveBandwidth => "drive bandwidth",
            Bottleneck::SynchronousWaits => "synchronous waits",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cycles::Sleep;
    use super::*;

    #[test]
    fn each_bottleneck_has_its_name() {
        let of = |demand_s, fault_s, share_while_reading, in_flight| {
            let wall = Sleep { demand_s, in_flight_s: 0.0, fault_s };
            let time = Breakdown { length_s: 1.0, compute_s: 1.0 - wall.sum_s(), wall, ..Breakdown::default() };
            Bottleneck::of(&time, &Drive { share_while_reading, in_flight, ..Drive::default() })
        };
        assert_eq!(of(0.1, 0.04, Some(1.0), 16.0), Bottleneck::Compute);
        assert_eq!(of(0.1, 0.2, Some(1.0), 16.0), Bottleneck::FaultHandling);
        assert_eq!(of(0.5, 0.1, Some(0.8), 2.0), Bottleneck::DriveBandwidth);
        assert_eq!(of(0.5, 0.1, Some(0.7), 16.0), Bottleneck::SynchronousWaits);
        // A drive that never was busy for a second holds nobody up.
        assert_eq!(of(0.5, 0.1, None, 16.0), Bottleneck::SynchronousWaits);
        // One read at a time is as fast as itself.
        assert_eq!(of(0.5, 0.1, Some(1.0), 1.0), Bottleneck::SynchronousWaits);
        assert_eq!(Bottleneck::of(&Breakdown::default(), &Drive::default()), Bottleneck::Unknown);
    }
}
