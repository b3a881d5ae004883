//! Drives to simulate: told, or as the log's own reads show them.

use std::str::FromStr;

use super::recording::Span;
use crate::config::ByteSize;
use crate::pager::tuner::BLOCK;
use crate::sim::Drive;

/// Latency and depth of a drive of which only the rate is told.
const LATENCY_NS: u64 = 200_000;
const DEPTH: u32 = 16;

/// A window of reads, as the pager's tuner takes it: at least so much, and so long.
const WINDOW_BYTES: u64 = 64 << 20;
const WINDOW_NS: u64 = 100_000_000;
/// With fewer reads in flight than this the drive was not at its rate.
const BUSY: f64 = 2.0;

/// `--drive`.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// As the log's reads show it.
    Measured,
    /// As told.
    Told(Drive),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let error = || format!("{text:?} is neither `measured` nor a drive such as 800MB/s:200us:16");
        if text.trim().eq_ignore_ascii_case("measured") {
            return Ok(Choice::Measured);
        }
        let mut words = text.split(':').map(str::trim);
        let rate = words.next().unwrap_or_default();
        let rate: ByteSize = rate.strip_suffix("/s").unwrap_or(rate).parse().map_err(|_| error())?;
        let latency_ns = words.next().map_or(Some(LATENCY_NS), nanoseconds).ok_or_else(error)?;
        let queue_depth = words.next().map_or(Ok(DEPTH), str::parse).map_err(|_| error())?;
        if rate.0 == 0 || !(1..=1024).contains(&queue_depth) || words.next().is_some() {
            return Err(error());
        }
        Ok(Choice::Told(Drive { bytes_per_s: rate.0 as f64, latency_ns, queue_depth }))
    }
}

fn nanoseconds(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let ns = number.parse::<f64>().ok()? * factor;
    (0.0..=60e9).contains(&ns).then_some(ns as u64)
}

/// How a drive is told: `800 MB/s, 200 us, depth 16`.
pub fn name(drive: &Drive) -> String {
    let rate = ByteSize(drive.bytes_per_s as u64);
    format!("{rate}/s, {:.0} us, depth {}", drive.latency_ns as f64 / 1e3, drive.queue_depth)
}

/// The drive behind `reads`, in the order of their ends: the rate is that of the windows in which
/// several reads were in flight (all reads together where there is no such window), the latency that of
/// the read that took the shortest time beyond its transfer, the depth the most blocks in flight but for
/// one in twenty. `None` without a read.
pub fn measured(reads: &[Span]) -> Option<Drive> {
    let mut depths = depths(reads);
    depths.sort_unstable();
    let queue_depth = *depths.get(depths.len() * 19 / 20)?;
    let bytes_per_s = rate(reads)?;
    let beyond = |read: &Span| {
        let transfer_ns = (read.bytes as f64 / bytes_per_s * 1e9) as u64;
        (read.end_ns - read.start_ns).saturating_sub(transfer_ns)
    };
    let latency_ns = reads.iter().map(beyond).min()?;
    Some(Drive { bytes_per_s, latency_ns, queue_depth })
}

/// What was in flight whenever a read was submitted, itself included: in blocks of 2 MiB.
fn depths(reads: &[Span]) -> Vec<u32> {
    let mut starts: Vec<(u64, u64)> = reads.iter().map(|read| (read.start_ns, read.bytes)).collect();
    starts.sort_unstable();
    let mut ends = reads.iter().peekable();
    let mut bytes = 0u64;
    let begun = |&(start_ns, begun): &(u64, u64)| {
        while let Some(read) = ends.next_if(|read| read.end_ns <= start_ns) {
            bytes = bytes.saturating_sub(read.bytes);
        }
        bytes += begun;
        bytes.div_ceil(BLOCK) as u32
    };
    starts.iter().map(begun).collect()
}

/// What passed while reads were in flight.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    bytes: u64,
    busy_ns: u64,
    /// Reads in flight times nanoseconds.
    depth_ns: f64,
}

impl Window {
    fn pass(&mut self, ns: u64, in_flight: u64) {
        self.busy_ns += if in_flight > 0 { ns } else { 0 };
        self.depth_ns += ns as f64 * in_flight as f64;
    }

    fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.busy_ns.max(1) as f64 * 1e9
    }
}

fn rate(reads: &[Span]) -> Option<f64> {
    let mut starts: Vec<u64> = reads.iter().map(|read| read.start_ns).collect();
    starts.sort_unstable();
    let mut now_ns = *starts.first()?;
    let mut starts = starts.into_iter().peekable();
    let mut in_flight = 0;
    let (mut all, mut window, mut busy) = (Window::default(), Window::default(), Window::default());
    for read in reads {
        while let Some(start_ns) = starts.next_if(|&start_ns| start_ns <= read.end_ns) {
            [&mut all, &mut window].into_iter().for_each(|part| part.pass(start_ns - now_ns, in_flight));
            (now_ns, in_flight) = (start_ns, in_flight + 1);
        }
        for part in [&mut all, &mut window] {
            part.pass(read.end_ns - now_ns, in_flight);
            part.bytes += read.bytes;
        }
        (now_ns, in_flight) = (read.end_ns, in_flight - 1);
        if window.busy_ns >= WINDOW_NS && window.bytes >= WINDOW_BYTES {
            if window.depth_ns / window.busy_ns as f64 >= BUSY {
                busy.bytes += window.bytes;
                busy.busy_ns += window.busy_ns;
            }
            window = Window::default();
        }
    }
    Some(if busy.bytes > 0 { busy } else { all }.bytes_per_s())
}
