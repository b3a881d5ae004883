//! How many bytes a drive was asked for, in how many requests of which size.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use super::extents::Extents;
use super::parse::{Events, Kind};
use crate::trace::{self, Event, Item, Reader};

/// Reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many there are by size: the least power of two that is no smaller, in bytes.
    pub sizes: BTreeMap<u64, u64>,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
        *self.sizes.entry(bytes.next_power_of_two()).or_default() += 1;
    }
}

/// What the kernel asked the drive for: of the model, and of everything else on it. Requests count when
/// they are issued, since bpftrace can miss their end; those that failed count, too.
pub fn of_kernel(events: &Events) -> (Traffic, Traffic) {
    let extents = Extents::new(&events.extents);
    let (mut model, mut others) = (Traffic::default(), Traffic::default());
    let mut requeued = HashSet::new();
    for event in &events.events {
        match event.kind {
            Kind::Requeued { start } => drop(requeued.insert(start)),
            Kind::Issued { start, bytes } if !requeued.remove(&start) => {
                let of_model = extents.in_file(start, bytes).next().is_some();
                if of_model { &mut model } else { &mut others }.add(bytes);
            }
            _ => {}
        }
    }
    (model, others)
}

/// What the reads of a fault log brought of the model itself; reads of its copies are left out.
///
/// # Errors
/// Those of the log.
pub fn of_log(log: Reader<impl Read>) -> Result<Traffic, trace::Error> {
    let mut traffic = Traffic::default();
    let mut in_flight = HashSet::new();
    for item in log {
        let Item::Record(record) = item? else { continue };
        match record.event {
            Event::Read { read, source: 0, .. } => drop(in_flight.insert(read)),
            Event::ReadEnd { read, result } if in_flight.remove(&read) && result > 0 => {
                traffic.add(result.unsigned_abs().into());
            }
            _ => {}
        }
    }
    Ok(traffic)
}
