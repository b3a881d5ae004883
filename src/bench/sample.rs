//! What the programs of a run have used by a moment, read from outside.
//!
//! `read_bytes` of `/proc/PID/io` counts what a process has fetched from drives, page faults,
//! readahead and O_DIRECT alike, because the kernel charges it where a read is submitted
//! (`submit_bio`). The same ruler measures stock and paged runs. The pager's CPU time is that of its
//! threads: those named `ggpager*`, and the workers `iou-*` that io_uring adds where a read would
//! block, as `/proc/PID/task/TID/schedstat` counts it, in nanoseconds. What only the pager knows comes
//! from its live page ([`crate::status`]), which is up to a tenth of a second old.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::status::{self, Counters};

/// A moment of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start of the run.
    pub at_s: f64,
    /// Bytes that all programs have read from drives until now.
    pub read_bytes: u64,
    /// CPU time of the pager's threads until now, in seconds; 0 where there is no pager.
    pub pager_cpu_s: f64,
    /// Time that faulting threads have slept until now, all of them together, in seconds.
    pub stall_s: f64,
    /// Sum of reads in flight times seconds until now.
    pub in_flight_s: f64,
    /// Seconds with at least one read in flight until now.
    pub reading_s: f64,
}

impl Sample {
    /// What lies between `from` and this, as a sample of its own.
    pub fn since(self, from: Sample) -> Sample {
        Sample {
            at_s: self.at_s - from.at_s,
            read_bytes: self.read_bytes.saturating_sub(from.read_bytes),
            pager_cpu_s: (self.pager_cpu_s - from.pager_cpu_s).max(0.0),
            stall_s: (self.stall_s - from.stall_s).max(0.0),
            in_flight_s: (self.in_flight_s - from.in_flight_s).max(0.0),
            reading_s: (self.reading_s - from.reading_s).max(0.0),
        }
    }
}

/// The state at `at_s`, in a straight line between the samples before and after it. `None` without
/// any sample.
pub fn interpolate(timeline: &[Sample], at_s: f64) -> Option<Sample> {
    let after = timeline.partition_point(|sample| sample.at_s < at_s);
    let Some(&next) = timeline.get(after) else { return timeline.last().copied() };
    let Some(&before) = after.checked_sub(1).and_then(|index| timeline.get(index)) else { return Some(next) };
    let gap = next.since(before);
    let share = if gap.at_s > 0.0 { (at_s - before.at_s) / gap.at_s } else { 0.0 };
    Some(Sample {
        at_s,
        read_bytes: before.read_bytes + (gap.read_bytes as f64 * share) as u64,
        pager_cpu_s: before.pager_cpu_s + gap.pager_cpu_s * share,
        stall_s: before.stall_s + gap.stall_s * share,
        in_flight_s: before.in_flight_s + gap.in_flight_s * share,
        reading_s: before.reading_s + gap.reading_s * share,
    })
}

/// Part of the bytes that counts as all of them: the last few come with single faults.
const LOADED: f64 = 0.99;

/// Bytes per second at which the samples read, from the first byte until nearly all had come.
/// `None` when nothing was read.
pub fn load_bytes_per_s(timeline: &[Sample]) -> Option<f64> {
    let (first, last) = (timeline.first()?, timeline.last()?);
    let all = last.since(*first).read_bytes as f64;
    let read = |sample: &Sample| sample.since(*first).read_bytes as f64;
    let start = timeline.iter().rev().find(|sample| read(sample) <= 0.0)?;
    let end = timeline.iter().find(|sample| read(sample) >= LOADED * all)?;
    (end.at_s > start.at_s).then(|| read(end) / (end.at_s - start.at_s))
}

/// Takes samples of some processes.
#[derive(Debug)]
pub struct Sampler {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    id: u32,
    /// Each thread, and whether it is the pager's.
    threads: BTreeMap<u32, bool>,
    /// The last state: what a process that has just ended had used.
    read_bytes: u64,
    pager_cpu_ns: u64,
    counters: Counters,
}

impl Sampler {
    /// Watches the processes `ids`.
    pub fn new(ids: &[u32]) -> Sampler {
        let process = |&id: &u32| Process {
            id,
            threads: BTreeMap::new(),
            read_bytes: 0,
            pager_cpu_ns: 0,
            counters: Counters::default(),
        };
        Sampler { processes: ids.iter().map(process).collect() }
    }

    /// What they have used by now, `at_s` seconds after the start.
    pub fn sample(&mut self, at_s: f64) -> Sample {
        let mut sample = Sample { at_s, ..Sample::default() };
        for process in &mut self.processes {
            process.look();
            sample.read_bytes += process.read_bytes;
            let seconds = |ns: u64| ns as f64 / 1e9;
            sample.pager_cpu_s += seconds(process.pager_cpu_ns);
            sample.stall_s += seconds(process.counters.stall_ns);
            sample.in_flight_s += seconds(process.counters.in_flight_ns);
            sample.reading_s += seconds(process.counters.reading_ns);
        }
        sample
    }
}

impl Process {
    fn look(&mut self) {
        let io = fs::read_to_string(format!("/proc/{}/io", self.id)).unwrap_or_default();
        let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
        self.read_bytes = self.read_bytes.max(bytes.unwrap_or(0));
        // Most processes have none: stock, and those that have not mapped a model yet.
        if let Ok(snapshot) = status::read(self.id) {
            self.counters = snapshot.counters;
        }
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.id)) else { return };
        let threads = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut cpu_ns = 0;
        for thread in threads {
            // A thread gets its name shortly after it has started: ask again until it has one of ours.
            let known = self.threads.get(&thread).is_some_and(|&ours| ours);
            let ours = known || is_pager(&fs::read_to_string(self.file(thread, "comm")).unwrap_or_default());
            self.threads.insert(thread, ours);
            if ours {
                cpu_ns += run_ns(&fs::read_to_string(self.file(thread, "schedstat")).unwrap_or_default());
            }
        }
        self.pager_cpu_ns = self.pager_cpu_ns.max(cpu_ns);
    }

    fn file(&self, thread: u32, name: &str) -> String {
        format!("/proc/{}/task/{thread}/{name}", self.id)
    }
}

fn is_pager(name: &str) -> bool {
    name.starts_with("ggpager") || name.starts_with("iou-")
}

/// Time on a processor, the first field of a `schedstat` file (Documentation/scheduler/sched-stats).
fn run_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, read_bytes: u64) -> Sample {
        Sample { at_s, read_bytes, pager_cpu_s: at_s / 10.0, ..Sample::default() }
    }

    #[test]
    fn between_two_samples_lies_a_straight_line() {
        let timeline = [sample(1.0, 100), sample(2.0, 300)];
        assert_eq!(interpolate(&timeline, 1.5).unwrap().read_bytes, 200);
        assert!((interpolate(&timeline, 1.5).unwrap().pager_cpu_s - 0.15).abs() < 1e-9);
        assert_eq!(interpolate(&timeline, 0.0), Some(timeline[0]));
        assert_eq!(interpolate(&timeline, 9.0), Some(timeline[1]));
        assert_eq!(interpolate(&[], 1.0), None);
    }

    #[test]
    fn the_load_rate_is_of_the_time_in_which_was_read() {
        // A second of start-up, two of reading, and a long computation with a last page.
        let timeline = [(0.0, 0), (1.0, 0), (2.0, 500), (3.0, 999), (9.0, 1000)].map(|(at_s, read)| sample(at_s, read));
        assert_eq!(load_bytes_per_s(&timeline), Some(999.0 / 2.0));
        assert_eq!(load_bytes_per_s(&timeline[..2]), None);
        assert_eq!(load_bytes_per_s(&[]), None);
    }

    #[test]
    fn the_pagers_threads_are_known_by_name() {
        assert!(is_pager("ggpager\n") && is_pager("ggpager-read\n") && is_pager("iou-wrk-17\n"));
        assert!(!is_pager("llama-server\n") && !is_pager("") && !is_pager("my-ggpager\n"));
        assert_eq!(run_ns("71043 12 3\n"), 71043);
        assert_eq!(run_ns("soon"), 0);
    }

    #[test]
    fn a_busy_thread_of_that_name_is_counted_and_others_are_not() {
        let (start, end) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
        let work = || {
            let mut sum = 0u64;
            (0..5_000_000u64).for_each(|n| sum = std::hint::black_box(sum.wrapping_add(n)));
            start.wait();
            end.wait();
        };
        let mut sampler = Sampler::new(&[std::process::id()]);
        let (sample, all) = std::thread::scope(|scope| {
            for name in ["ggpager", "compute"] {
                std::thread::Builder::new().name(name.into()).spawn_scoped(scope, work).unwrap();
            }
            start.wait();
            // Both have done their work and wait.
            let sample = sampler.sample(1.0);
            let ids: Vec<u32> = sampler.processes[0].threads.keys().copied().collect();
            let all: u64 = ids
                .iter()
                .map(|&id| run_ns(&fs::read_to_string(sampler.processes[0].file(id, "schedstat")).unwrap_or_default()))
                .sum();
            end.wait();
            (sample, all)
        });
        assert!(sample.pager_cpu_s > 0.0, "{sample:?}");
        assert!(sample.pager_cpu_s < all as f64 / 1e9, "{sample:?} {all}");
        // The thread has ended; what it used has not.
        assert!(sampler.sample(2.0).pager_cpu_s >= sample.pager_cpu_s);
    }
}
