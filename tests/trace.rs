//! Fault logs of real programs under the preloaded library: complete after every orderly end, sound
//! after any other, and never in the program's way.

#[allow(dead_code)] // shared with other tests, which need other parts of it
mod support;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use ggpager::policy::{BlockId, State, Touch};
use ggpager::stats::Stats;
use ggpager::trace::{Error, Event, Header, Item, Reader, View, Why};
use rustix::fs::FlockOperation;
use support::{
    MODEL_BYTES, Outcome, Setting, Watchdog, available, compile, library, model, run, scratch, scratch_in_memory,
    without_loss,
};

/// A log, read to its end.
#[derive(Debug)]
struct Log {
    header: Header,
    items: Vec<Item>,
    cut_off: Option<u64>,
}

impl Log {
    fn try_read(path: &Path) -> Result<Log, Error> {
        let mut reader = Reader::new(fs::File::open(path).expect("a log"))?;
        let items = reader.by_ref().collect::<Result<_, _>>()?;
        Ok(Log { header: reader.header().clone(), items, cut_off: reader.cut_off() })
    }

    fn read(path: &Path) -> Log {
        Log::try_read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.items.iter().filter_map(|item| match item {
            Item::Record(record) => Some(record.event),
            Item::View(_) => None,
        })
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        self.items.iter().filter_map(|item| match item {
            Item::View(view) => Some(&**view),
            Item::Record(_) => None,
        })
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> u64 {
        self.events().filter(is).count() as u64
    }

    fn lost(&self) -> u64 {
        self.events().map(|event| if let Event::Lost { records } = event { records } else { 0 }).sum()
    }
}

/// What the log says about every block, checked against what a pager can do.
#[derive(Default)]
struct Replay {
    /// State of each block, its length, and bytes of it that are still to be read.
    blocks: HashMap<BlockId, (State, u32, u32)>,
    views: HashMap<u32, std::ops::Range<BlockId>>,
    reads: HashMap<u32, BlockId>,
    read_bytes: u64,
    sleeping: u64,
}

impl Replay {
    /// Panics where an event cannot follow those before it.
    fn of(log: &Log) -> Replay {
        let mut replay = Replay::default();
        for (at, item) in log.items.iter().enumerate() {
            match item {
                Item::View(view) => replay.mapped(view),
                Item::Record(record) => {
                    let fits = replay.happens(record.event);
                    assert!(fits, "item {at}, {record:?}, does not fit: {:?}", replay.block_of(record.event));
                }
            }
        }
        replay
    }

    fn mapped(&mut self, view: &View) {
        let ids = view.first_block..view.first_block + view.blocks.len() as BlockId;
        for (id, block) in ids.clone().zip(&view.blocks) {
            assert_eq!(block.view, view.number);
            assert!(self.blocks.insert(id, (State::Absent, block.len, 0)).is_none(), "block {id} is there twice");
        }
        assert!(self.views.insert(view.number, ids).is_none(), "view {} is there twice", view.number);
    }

    fn block_of(&self, event: Event) -> Option<&(State, u32, u32)> {
        match event {
            Event::Touch { block, .. }
            | Event::Woken { block, .. }
            | Event::Read { block, .. }
            | Event::Install { block }
            | Event::Evict { block, .. }
            | Event::Rearm { block } => self.blocks.get(&block),
            _ => None,
        }
    }

    /// Moves a block from one of the states `from` to `to`.
    fn goes(&mut self, block: BlockId, from: &[State], to: State) -> bool {
        let Some((state, ..)) = self.blocks.get_mut(&block) else { return false };
        from.contains(&std::mem::replace(state, to))
    }

    fn happens(&mut self, event: Event) -> bool {
        use State::*;
        match event {
            Event::Touch { block, offset, found, .. } => {
                self.sleeping += 1;
                let expected = match found {
                    Touch::Absent => Absent,
                    Touch::Reading => Reading,
                    Touch::Staged => Staged,
                };
                self.blocks.get(&block).is_some_and(|&(state, len, _)| state == expected && offset < len)
            }
            Event::Woken { block, .. } => {
                self.sleeping -= 1;
                self.blocks.get(&block).is_some_and(|&(state, ..)| state == Present)
            }
            Event::Read { read, block, start, len, source, why: _ } => {
                let Some(known) = self.blocks.get_mut(&block) else { return false };
                if known.0 == Absent {
                    *known = (Reading, known.1, known.1);
                }
                known.0 == Reading && start + len <= known.1 && source == 0 && self.reads.insert(read, block).is_none()
            }
            Event::ReadEnd { read, result } => {
                let Some(block) = self.reads.remove(&read) else { return false };
                self.read_bytes += result as u64;
                let Some((state, _, left)) = self.blocks.get_mut(&block) else { return false };
                // The file ends inside of the last block.
                *left = left.saturating_sub(result as u32);
                if *left < 4096 {
                    *state = Staged;
                }
                result > 0
            }
            Event::Install { block } => self.goes(block, &[Staged], Present),
            Event::Rearm { block } => self.goes(block, &[Present], Staged),
            Event::Evict { block, .. } => self.goes(block, &[Staged, Present], Absent),
            Event::Unmapped { view } => {
                let Some(ids) = self.views.remove(&view) else { return false };
                ids.into_iter().all(|id| self.blocks.remove(&id).is_some_and(|(state, ..)| state == Absent))
            }
            Event::Budget { bytes } => bytes > 0,
            Event::Cycle { number } => number > 0,
            Event::Lost { .. } | Event::Routed { .. } | Event::Guessed { .. } | Event::Affine { .. } => true,
        }
    }
}

/// Runs `sweeps MODEL COUNT` with a log at `path`.
fn sweeps(path: &Path, count: u32, vars: &'static [(&'static str, &'static str)], extra: &[(&str, &str)]) -> Outcome {
    let args: [OsString; 2] = [model().into(), count.to_string().into()];
    let trace = path.to_str().expect("a plain path");
    let extra = [&[("GGPAGER_TRACE", trace), ("GGPAGER_ORDER_CACHE", "off")], extra].concat();
    let outcome = run(Setting { vars, unprivileged: false }, &[], &compile("sweeps", false), &args, &extra);
    outcome.require_code(0).require_paged();
    outcome
}

/// The same again where a busy machine gave the log's thread no time.
fn whole_sweeps(path: &Path, count: u32, vars: &'static [(&'static str, &'static str)]) -> Outcome {
    without_loss(|| sweeps(path, count, vars, &[]))
}

/// What must hold for every whole log of a run that has ended in order.
fn require_whole(log: &Log, path: &Path, stats: &Stats) {
    assert_eq!(log.cut_off, None);
    assert_eq!((log.lost(), stats.trace_lost_records), (0, 0));
    assert_eq!(fs::metadata(path).expect("a log").len(), stats.trace_bytes);
    let replay = Replay::of(log);
    assert_eq!(replay.read_bytes, stats.read_bytes);
    assert!(replay.reads.is_empty() && replay.views.is_empty(), "something is left at the end");
    assert_eq!(log.count(|event| matches!(event, Event::Read { .. })), stats.reads);
    for (found, faults) in [
        (Touch::Absent, stats.faults_demand),
        (Touch::Reading, stats.faults_in_flight),
        (Touch::Staged, stats.faults_staged),
    ] {
        let touches = log.count(|event| matches!(event, Event::Touch { found: how, .. } if *how == found));
        assert_eq!(touches, faults, "{found:?}");
    }
    assert_eq!(replay.sleeping, 0);
    // What unmapping takes away is in the log as well, and is no eviction for the statistics.
    assert!(log.count(|event| matches!(event, Event::Evict { .. })) >= stats.evictions);
    assert!(log.count(|event| matches!(event, Event::Evict { untouched: true, .. })) >= stats.evictions_untouched);
    assert_eq!(log.header.strategy, stats.strategy);
    assert_eq!(log.header.io_rung, stats.io_rung);
    assert!(log.header.budget_bytes > 0 && log.header.machine.memory_bytes > 0, "{:?}", log.header);
    assert!(log.header.program.ends_with("sweeps"), "{:?}", log.header);
    let view = log.views().next().expect("a view");
    assert_eq!(view.path, model().to_str().expect("a plain path"));
    assert_eq!((view.file_bytes, view.offset), (MODEL_BYTES, 0));
    let end = view.blocks.iter().fold(0, |end, block| {
        assert_eq!(block.offset, end);
        end + u64::from(block.len)
    });
    assert_eq!(end, MODEL_BYTES.next_multiple_of(4096));
}

#[test]
fn a_log_is_complete_after_an_orderly_end() {
    for vars in [
        &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_FILL", "move")],
        &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_FILL", "continue")],
        &[("GGPAGER_STRATEGY", "readahead"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_READ_SIZE", "512K")],
        &[("GGPAGER_STRATEGY", "learned"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_IO", "pread")],
        &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_GRAIN", "64K")],
    ] {
        let path = scratch_in_memory("log");
        let outcome = whole_sweeps(&path, 6, vars);
        let (log, stats) = (Log::read(&path), outcome.stats.expect("statistics"));
        eprintln!("{vars:?}: {} items, {} bytes", log.items.len(), stats.trace_bytes);
        require_whole(&log, &path, &stats);
        let of = |wanted: Why| log.count(|event| matches!(event, Event::Read { why, .. } if *why == wanted));
        if stats.strategy == "demand" {
            assert_eq!(of(Why::Readahead), 0);
        } else {
            assert!(of(Why::Readahead) > 0 && log.count(|event| matches!(event, Event::Cycle { .. })) > 1);
        }
    }
}

#[test]
fn the_log_of_the_kernels_strategy_says_what_is_seen() {
    let path = scratch_in_memory("log");
    let outcome = whole_sweeps(&path, 6, &[("GGPAGER_STRATEGY", "kernel"), ("GGPAGER_BUDGET", "32M")]);
    let (log, stats) = (Log::read(&path), outcome.stats.expect("statistics"));
    assert_eq!((log.cut_off, log.lost()), (None, 0));
    let replay = Replay::of(&log);
    assert_eq!(replay.read_bytes, stats.read_bytes);
    assert_eq!(log.count(|event| matches!(event, Event::Read { .. })), stats.reads);
    assert!(stats.reads > 0, "{stats:?}");
}

/// A running `live MODEL` that has read all of the model once.
struct Live {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Live {
    fn start(path: &Path) -> Live {
        let mut command = Command::new(compile("live", false));
        command.arg(model()).env("LD_PRELOAD", library()).env("GGPAGER_TRACE", path);
        command.env("GGPAGER_STRATEGY", "demand").env("GGPAGER_BUDGET", "32M");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("ready"), "{line:?}");
        Live { child, answers }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{word}").expect("it listens");
    }

    /// Tells it to do something that it survives.
    fn ask(&mut self, word: &str) {
        self.tell(word);
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        assert_eq!(line, "done\n");
    }
}

/// Touches that one reading of the whole model makes at least.
const BLOCKS: u64 = MODEL_BYTES.div_ceil(2 << 20);

fn touches(log: &Log) -> u64 {
    log.count(|event| matches!(event, Event::Touch { .. }))
}

#[test]
fn without_statistics_the_log_is_complete_as_well() {
    let path = scratch_in_memory("log");
    let mut live = Live::start(&path);
    live.ask("fork");
    live.tell("exit");
    assert_eq!(live.child.wait().expect("its end").code(), Some(3));
    let log = Log::read(&path);
    assert_eq!(log.cut_off, None);
    Replay::of(&log);
    assert!(touches(&log) >= BLOCKS, "{} touches", touches(&log));
}

#[test]
fn a_killed_programs_log_is_readable_up_to_its_last_chunk() {
    let path = scratch_in_memory("log");
    let mut live = Live::start(&path);
    let _watchdog = Watchdog::new("a killed program's log");
    // Written while the program runs, without its doing.
    while touches(&Log::read(&path)) < BLOCKS {
        std::thread::yield_now();
    }
    live.ask("read");
    live.child.kill().expect("a program");
    live.child.wait().expect("its end");
    let log = Log::read(&path);
    Replay::of(&log);
    assert!(touches(&log) >= BLOCKS);
    let end = log.cut_off.expect("no end was written") as usize;
    // Killed in the middle of a write.
    let bytes = fs::read(&path).expect("a log");
    fs::write(&path, &bytes[..end - 1]).expect("room");
    let shorter = Log::read(&path);
    assert!(shorter.cut_off < log.cut_off && log.items.starts_with(&shorter.items));
}

#[test]
fn the_limit_is_kept_and_what_is_missing_is_counted() {
    let path = scratch_in_memory("log");
    let vars = &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_GRAIN", "4K")];
    let outcome = sweeps(&path, 2, vars, &[("GGPAGER_TRACE_LIMIT", "100K")]);
    let (log, stats) = (Log::read(&path), outcome.stats.as_ref().expect("statistics"));
    let bytes = fs::metadata(&path).expect("a log").len();
    assert!(bytes <= 100 << 10 && bytes == stats.trace_bytes, "{bytes} bytes");
    assert!(stats.trace_lost_records > 0 && log.lost() == stats.trace_lost_records, "{stats:?}");
    assert_eq!(log.cut_off, None);
    assert_eq!(warnings(&outcome, "the fault log"), 1);
}

/// Lines of the program's messages that contain `text`.
fn warnings(outcome: &Outcome, text: &str) -> usize {
    String::from_utf8_lossy(&outcome.output.stderr).lines().filter(|line| line.contains(text)).count()
}

/// A file system of 64 KiB in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = scratch("disk");
        fs::create_dir(&folder).expect("a folder to mount on");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs"]).arg(&folder).output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        available("the right to mount", mounted).then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_costs_the_log_and_not_the_run() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.join("log");
    let vars = &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_GRAIN", "4K")];
    let outcome = sweeps(&path, 2, vars, &[]);
    let (log, stats) = (Log::read(&path), outcome.stats.as_ref().expect("statistics"));
    assert!(stats.trace_lost_records > 0, "{stats:?}");
    assert_eq!(stats.trace_bytes, fs::metadata(&path).expect("a log").len());
    assert_eq!((log.lost(), log.cut_off), (stats.trace_lost_records, None));
    assert_eq!(log.views().count(), 1);
    assert_eq!(warnings(&outcome, "the fault log"), 1);
}

#[test]
fn links_are_not_followed_and_the_file_is_private() {
    let (precious, link) = (scratch("precious"), scratch("link"));
    fs::write(&precious, "data").expect("room");
    symlink(&precious, &link).expect("a link");
    let vars = &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M")];
    let outcome = sweeps(&link, 1, vars, &[]);
    assert_eq!(warnings(&outcome, "no fault log"), 1);
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "data");
    let path = scratch_in_memory("log");
    fs::write(&path, "of an earlier run").expect("room");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("our file");
    sweeps(&path, 1, vars, &[]);
    assert_eq!(fs::metadata(&path).expect("a log").permissions().mode() & 0o777, 0o600);
    assert_eq!(Log::read(&path).cut_off, None);
}

#[test]
fn each_process_has_a_log_of_its_own() {
    let folder = scratch_in_memory("logs");
    fs::create_dir(&folder).expect("a folder");
    let vars = &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M")];
    let first = folder.join("log");
    fs::write(&first, "being written").expect("room");
    let file = fs::File::open(&first).expect("a file");
    rustix::fs::flock(&file, FlockOperation::LockExclusive).expect("a lock");
    let outcome = sweeps(&first, 1, vars, &[]);
    assert_eq!(warnings(&outcome, "another process writes"), 1);
    assert_eq!(fs::read_to_string(&first).expect("a file"), "being written");
    sweeps(&folder.join("%p.log"), 1, vars, &[]);
    let mut logs = 0;
    for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path == first {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        let number = name.trim_start_matches("log.").trim_end_matches(".log");
        assert!(number.parse::<u32>().is_ok(), "{name}");
        assert_eq!(Log::read(&path).cut_off, None);
        logs += 1;
    }
    assert_eq!(logs, 2);
}

/// The turns of [`sweeps`]: all threads are inside of the same 4 MiB.
const TURN: u64 = 4 << 20;

#[test]
fn observed_cycles_have_every_block_in_the_order_of_its_touch() {
    for (grain, vars) in [
        (4 << 10, &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "100%"), ("GGPAGER_GRAIN", "4K")]),
        (64 << 10, &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "50%"), ("GGPAGER_GRAIN", "64K")]),
        (2 << 20, &[("GGPAGER_STRATEGY", "observe"), ("GGPAGER_BUDGET", "100%"), ("GGPAGER_GRAIN", "2M")]),
    ] {
        const CYCLES: usize = 3;
        let path = scratch_in_memory("log");
        let outcome = whole_sweeps(&path, CYCLES as u32, vars);
        let (log, stats) = (Log::read(&path), outcome.stats.expect("statistics"));
        require_whole(&log, &path, &stats);
        let view = log.views().next().expect("a view");
        assert!(view.blocks.iter().all(|block| block.frame_bytes == grain));
        let touched = log.events().filter_map(|event| match event {
            Event::Touch { block, .. } => Some((block - view.first_block) as usize),
            _ => None,
        });
        let touched: Vec<usize> = touched.collect();
        // The barrier between two turns is one in the log, too.
        let turn = |index: &usize| view.blocks[*index].offset / TURN;
        let turns: Vec<u64> = touched.chunk_by(|a, b| turn(a) == turn(b)).map(|run| turn(&run[0])).collect();
        let expected: Vec<u64> = (0..MODEL_BYTES.div_ceil(TURN)).collect::<Vec<_>>().repeat(CYCLES);
        assert_eq!(turns, expected, "grain {grain}");
        let mut counts = vec![0; view.blocks.len()];
        touched.iter().for_each(|&index| counts[index] += 1);
        assert!(counts.iter().all(|&count| count >= CYCLES), "grain {grain}: a touch is missing");
        eprintln!("grain {grain}: {} touches of {} blocks, {:.3} s", touched.len(), counts.len(), stats.wall_s);
    }
}
