//! Drives to simulate: told, or as the log's own reads show them.

use std::str::FromStr;

use super::fit::trimmed_mean;
use super::recording::Span;
use crate::config::ByteSize;
use crate::pager::tuner::BLOCK;
use crate::sim::{Drive, Server};

/// Latency and depth of a drive of which only the rate is told.
const LATENCY_NS: u64 = 200_000;
const DEPTH: u32 = 16;

/// Fewer reads than these are no measure.
const READS_MIN: usize = 8;

/// `--drive`.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// As the log's reads show it.
    Measured {
        /// What it is held to: see [`Drive::limit_bytes_per_s`].
        limit_bytes_per_s: Option<f64>,
    },
    /// As told.
    Told(Drive),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let error = || format!("{text:?} is neither `measured` nor a drive such as 800MB/s:200us:16 or 3GB/s@800MB/s");
        let rate_of = |word: &str| {
            let rate: Option<ByteSize> = word.trim().strip_suffix("/s").unwrap_or(word.trim()).parse().ok();
            rate.filter(|rate| rate.0 > 0).map(|rate| rate.0 as f64).ok_or_else(error)
        };
        let (text, limit) = text.split_once('@').map_or((text, None), |(text, limit)| (text, Some(limit)));
        let limit_bytes_per_s = limit.map(rate_of).transpose()?;
        if text.trim().eq_ignore_ascii_case("measured") {
            return Ok(Choice::Measured { limit_bytes_per_s });
        }
        let mut words = text.split(':').map(str::trim);
        let bytes_per_s = rate_of(words.next().unwrap_or_default())?;
        let latency_ns = words.next().map_or(Some(LATENCY_NS), nanoseconds).ok_or_else(error)?;
        let queue_depth = words.next().map_or(Ok(DEPTH), str::parse).map_err(|_| error())?;
        if !(1..=1024).contains(&queue_depth) || words.next().is_some() {
            return Err(error());
        }
        Ok(Choice::Told(Drive { bytes_per_s, latency_ns, queue_depth, limit_bytes_per_s }))
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

/// How a drive is told: `800 MB/s, 200 us, depth 16`, and what it is held to.
pub fn name(drive: &Drive) -> String {
    let rate = |bytes_per_s: f64| ByteSize(bytes_per_s as u64);
    let limit = drive.limit_bytes_per_s.map(|limit| format!(", held to {}/s", rate(limit)));
    let latency_us = drive.latency_ns as f64 / 1e3;
    let (rate, limit) = (rate(drive.bytes_per_s), limit.unwrap_or_default());
    format!("{rate}/s, {latency_us:.0} us, depth {}{limit}", drive.queue_depth)
}

/// The drive behind `reads`, in the order of their ends: the rate is that at which they ended while it had others to go on
/// with, the latency the mean of what reads took beyond their transfer that it was idle before, the depth the most
/// blocks in flight but for one in twenty. `None` without a read.
///
/// The latency of a burst's first read is a part of each burst: of a layer's experts that are read at once, say. What a
/// limit of `limit_bytes_per_s` held back tells nothing of it.
pub fn measured(reads: &[Span], limit_bytes_per_s: Option<f64>) -> Option<Drive> {
    let mut depths = depths(reads);
    depths.sort_unstable();
    let queue_depth = *depths.get(depths.len() * 19 / 20)?;
    // What is asked for too late to be there when the drive is through with the rest has a part of its latency to wait.
    let held = limit_bytes_per_s.map_or(vec![false; reads.len()], |limit| held(reads, limit));
    let roughly = latency_ns(reads, &held, rate(reads, &held, 0)?);
    let bytes_per_s = rate(reads, &held, roughly)?;
    let latency_ns = latency_ns(reads, &held, bytes_per_s);
    Some(Drive { bytes_per_s, latency_ns, queue_depth, limit_bytes_per_s })
}

/// The rate at which reads ended that had been asked for `latency_ns` before the drive was through with the one before and
/// were not `held` back, or of all reads one by one where there are hardly any of them.
fn rate(reads: &[Span], held: &[bool], latency_ns: u64) -> Option<f64> {
    let follow = |pair: &&[Span]| pair[1].start_ns + latency_ns <= pair[0].end_ns;
    let pairs = reads.windows(2).zip(&held[held.len().min(1)..]).filter(|(_, held)| !**held).map(|(pair, _)| pair);
    let busy = pairs.filter(follow).map(|pair| (pair[1].bytes, pair[1].end_ns - pair[0].end_ns));
    let alone = reads.iter().map(|read| (read.bytes, read.end_ns - read.start_ns));
    let sum = |(bytes, ns): (u64, u64), (more, longer): (u64, u64)| (bytes + more, ns + longer);
    let (bytes, ns) = match busy.clone().count() {
        0..READS_MIN => alone.fold((0, 0), sum),
        _ => busy.fold((0, 0), sum),
    };
    (bytes > 0).then(|| bytes as f64 / ns.max(1) as f64 * 1e9)
}

/// Which of `reads` a limit held back.
fn held(reads: &[Span], limit_bytes_per_s: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..reads.len()).collect();
    order.sort_by_key(|&at| reads[at].start_ns);
    let (mut server, mut held) = (Server::default(), vec![false; reads.len()]);
    for at in order {
        let Span { start_ns, bytes, .. } = reads[at];
        held[at] = server.begins_ns(limit_bytes_per_s, start_ns, bytes) > start_ns;
    }
    held
}

/// What reads took beyond their transfer: the mean of those that found the drive idle and were not `held` back, else the
/// least.
fn latency_ns(reads: &[Span], held: &[bool], bytes_per_s: f64) -> u64 {
    let beyond = |read: &Span| {
        let transfer_ns = read.bytes as f64 / bytes_per_s * 1e9;
        ((read.end_ns - read.start_ns) as f64 - transfer_ns).max(0.0)
    };
    let pairs = reads.windows(2).zip(&held[held.len().min(1)..]);
    let first = pairs.filter(|(pair, held)| !**held && pair[1].start_ns >= pair[0].end_ns);
    let first: Vec<f64> = first.map(|(pair, _)| beyond(&pair[1])).collect();
    let least = reads.iter().map(beyond).fold(f64::INFINITY, f64::min);
    let mean = trimmed_mean(first.clone()).filter(|_| first.len() >= READS_MIN);
    mean.unwrap_or(least) as u64
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
