//! From the kernel's events to the records of a fault log.
//!
//! A fault that the page cache can serve at once maps up to 16 pages around it and is one event; any
//! other is `filemap_fault`, mostly a sleep, and the same again. Nothing says when a fault is over: the
//! thread's last return from sleep counts as the end, or that its pages are mapped, else its start. A read whose end
//! bpftrace missed counts as ended when a much later one has ended; the log's last record says how many they are. A request of the drive is cut at
//! the borders of blocks, as a log wants it: its sizes are those of [`traffic`](super::traffic).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::ensure;

use super::extents::Extents;
use super::parse::{Events, Kind};
use crate::gguf::Model;
use crate::pager::blocks::Layout;
use crate::pager::pieces;
use crate::policy::Touch;
use crate::trace::{Event, Header, Record, View, Why};

/// Length of a page, in bytes.
const PAGE: u64 = 4096;

/// A drive does not overtake a read by so many others: when they end, it has ended.
const OVERTAKEN_MAX: u32 = 32;

/// A fault that may not be over yet.
#[derive(Debug)]
struct Fault {
    page: u64,
    at_ns: u64,
    /// The page joined the cache after the fault had begun.
    added: bool,
    slept: bool,
    /// When the thread ran again.
    over_ns: u64,
}

/// A read that has not ended: a part of a request.
#[derive(Debug)]
struct Part {
    read: u32,
    start: u64,
    bytes: u64,
    done: u64,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, Default)]
struct BlockState {
    cached_pages: u32,
    mapped: bool,
}

/// Makes the records.
struct Builder<'a> {
    layout: &'a Layout,
    extents: Extents,
    cached: Vec<bool>,
    blocks: Vec<BlockState>,
    faults: HashMap<u32, Fault>,
    in_flight: Vec<Part>,
    /// Starts of requests that will be issued again.
    requeued: HashSet<u64>,
    next_read: u32,
    /// Reads whose end was not seen.
    missed: usize,
    records: Vec<Record>,
}

/// The header and view of the log of `events` on the model `path`, cut into blocks of `grain` bytes, and
/// its records.
///
/// # Errors
/// When the model cannot be read or is not the one that was traced.
pub fn build(events: &Events, path: &Path, grain: usize) -> anyhow::Result<(Header, View, Vec<Record>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let bytes = metadata.len();
    ensure!(bytes == events.model_bytes, "it has {bytes} bytes, the model that was traced {}", events.model_bytes);
    let model = Model::read(&file)?;
    let layout = Layout::with_grain(0..bytes, &pieces::of_model(&model), grain);
    let view = View {
        at_ns: 0,
        number: 0,
        path: path.canonicalize()?.to_string_lossy().into_owned(),
        file_bytes: bytes,
        inode: (metadata.dev(), metadata.ino()),
        modified_unix_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        offset: 0,
        bytes,
        first_block: 0,
        blocks: layout.blocks.clone(),
        expected_order: layout.order.clone(),
        tensors: pieces::tensors(&model),
    };
    let header = Header {
        recorder: "kernel tracepoints".into(),
        program: events.program.clone(),
        strategy: "stock".into(),
        io_rung: "page cache".into(),
        started_unix_ns: events.started_unix_ns,
        machine: events.machine.clone(),
        ..Header::default()
    };
    Ok((header, view, records(events, &layout)))
}

/// The records of `events`, in the order of time.
pub(super) fn records(events: &Events, layout: &Layout) -> Vec<Record> {
    let mut builder = Builder {
        layout,
        extents: Extents::new(&events.extents),
        cached: vec![false; events.model_bytes.div_ceil(PAGE) as usize],
        blocks: vec![BlockState::default(); layout.blocks.len()],
        faults: HashMap::new(),
        in_flight: Vec::new(),
        requeued: HashSet::new(),
        next_read: 0,
        missed: 0,
        records: Vec::new(),
    };
    for event in &events.events {
        builder.take(event.at_ns, event.kind);
    }
    let mut open: Vec<u32> = builder.faults.keys().copied().collect();
    open.sort_unstable();
    open.into_iter().for_each(|tid| builder.end_fault(tid));
    let last_ns = events.events.last().map_or(0, |event| event.at_ns);
    let lost = events.lost + (builder.missed + builder.in_flight.len()) as u64;
    if lost > 0 {
        builder.push(last_ns, Event::Lost { records: lost });
    }
    // A fault is known only when it is over.
    builder.records.sort_by_key(|record| record.at_ns);
    builder.records
}

impl Builder<'_> {
    fn take(&mut self, at_ns: u64, kind: Kind) {
        match kind {
            Kind::Fault { tid, page } => {
                // The same page again: the kernel tries anew after the sleep.
                if self.faults.get(&tid).is_none_or(|fault| fault.page != page) {
                    self.end_fault(tid);
                    self.faults.insert(tid, Fault { page, at_ns, added: false, slept: false, over_ns: at_ns });
                }
            }
            Kind::Mapped { tid, first, last } => {
                let known = self.faults.get_mut(&tid).filter(|fault| (first..=last).contains(&fault.page));
                let known = known.map(|fault| fault.over_ns = at_ns).is_some();
                self.end_fault(tid);
                if !known && let Some(block) = self.block(first) {
                    let offset = self.offset_in(block, first);
                    self.push(at_ns, Event::Touch { block, offset, tid, found: Touch::Staged });
                    self.push(at_ns, Event::Woken { block, tid });
                }
                if let (Some(from), Some(to)) = (self.block(first), self.block(last)) {
                    (from..=to).for_each(|block| self.map(at_ns, block));
                }
            }
            Kind::Added { page, pages } => {
                for fault in self.faults.values_mut() {
                    fault.added |= (page..page + pages).contains(&fault.page);
                }
                self.cache(page, pages);
            }
            Kind::Dropped { page, pages } => self.drop_pages(at_ns, page, pages),
            Kind::Sleeps { tid } => {
                if let Some(fault) = self.faults.get_mut(&tid) {
                    fault.slept = true;
                }
            }
            Kind::Runs { tid } => {
                if let Some(fault) = self.faults.get_mut(&tid) {
                    fault.over_ns = at_ns;
                }
            }
            Kind::Issued { start, bytes } => self.issue(at_ns, start, bytes),
            Kind::Requeued { start } => drop(self.requeued.insert(start)),
            Kind::Completed { start, bytes, error } => self.complete(at_ns, start, bytes, error),
        }
    }

    fn push(&mut self, at_ns: u64, event: Event) {
        self.records.push(Record { at_ns, event });
    }

    fn block(&self, page: u64) -> Option<u32> {
        self.layout.index_at(page * PAGE)
    }

    fn offset_in(&self, block: u32, page: u64) -> u32 {
        (page * PAGE - self.layout.blocks[block as usize].offset) as u32
    }

    /// Thread `tid` went on, if it was in a fault.
    fn end_fault(&mut self, tid: u32) {
        let Some(fault) = self.faults.remove(&tid) else { return };
        let Some(block) = self.block(fault.page) else { return };
        let found = match fault {
            Fault { added: true, .. } => Touch::Absent,
            Fault { slept: true, .. } => Touch::Reading,
            _ => Touch::Staged,
        };
        self.push(fault.at_ns, Event::Touch { block, offset: self.offset_in(block, fault.page), tid, found });
        self.push(fault.over_ns, Event::Woken { block, tid });
        self.map(fault.over_ns, block);
    }

    fn map(&mut self, at_ns: u64, block: u32) {
        if !std::mem::replace(&mut self.blocks[block as usize].mapped, true) {
            self.push(at_ns, Event::Install { block });
        }
    }

    fn cache(&mut self, page: u64, pages: u64) {
        for page in page..page + pages {
            let (Some(block), Some(cached)) = (self.block(page), self.cached.get_mut(page as usize)) else { return };
            if !std::mem::replace(cached, true) {
                self.blocks[block as usize].cached_pages += 1;
            }
        }
    }

    /// A block is gone with its last page; of one that was cached before the trace began the first
    /// page tells.
    fn drop_pages(&mut self, at_ns: u64, page: u64, pages: u64) {
        for page in page..page + pages {
            let (Some(block), Some(cached)) = (self.block(page), self.cached.get_mut(page as usize)) else { return };
            let known = std::mem::replace(cached, false);
            let ended = |(tid, fault): (&u32, &Fault)| (fault.page == page).then_some(*tid);
            let over: Vec<u32> = self.faults.iter().filter_map(ended).collect();
            over.into_iter().for_each(|tid| self.end_fault(tid));
            let state = &mut self.blocks[block as usize];
            state.cached_pages -= u32::from(known);
            if state.cached_pages == 0 && (known || state.mapped) {
                let untouched = !std::mem::replace(&mut state.mapped, false);
                self.push(at_ns, Event::Evict { block, untouched });
            }
        }
    }

    fn issue(&mut self, at_ns: u64, start: u64, bytes: u64) {
        if self.requeued.remove(&start) {
            return;
        }
        // Nobody reads a page while it is being read: the end of these was missed.
        self.miss(at_ns, |part| part.start < start + bytes && start < part.start + part.bytes);
        let runs: Vec<(u64, u64, u64)> = self.extents.in_file(start, bytes).collect();
        for (mut start, mut offset, bytes) in runs {
            let (first, end) = (offset, offset + bytes);
            let waited_for = self.faults.values().any(|fault| (first..end).contains(&(fault.page * PAGE)));
            let why = if waited_for { Why::Demand } else { Why::Readahead };
            while offset < end
                && let Some(block) = self.layout.index_at(offset)
            {
                let place = self.layout.blocks[block as usize];
                let len = (place.offset + u64::from(place.len)).min(end) - offset;
                let (read, within) = (self.next_read, (offset - place.offset) as u32);
                self.next_read = self.next_read.wrapping_add(1);
                self.push(at_ns, Event::Read { read, block, start: within, len: len as u32, source: 0, why });
                self.in_flight.push(Part { read, start, bytes: len, done: 0 });
                (start, offset) = (start + len, offset + len);
            }
        }
    }

    fn complete(&mut self, at_ns: u64, start: u64, bytes: u64, error: i32) {
        let end = start + bytes;
        let mut ended = Vec::new();
        self.in_flight.retain_mut(|part| {
            let overlap = end.min(part.start + part.bytes).saturating_sub(start.max(part.start));
            part.done += overlap;
            let over = part.done >= part.bytes || overlap > 0 && error != 0;
            if over {
                ended.push((part.read, if error == 0 { part.bytes as i32 } else { error }));
            }
            !over
        });
        let latest = ended.iter().map(|(read, _)| *read).max();
        for (read, result) in ended {
            self.push(at_ns, Event::ReadEnd { read, result });
        }
        if let Some(latest) = latest {
            self.miss(at_ns, |part| part.read.saturating_add(OVERTAKEN_MAX) < latest);
        }
    }

    /// The reads for which `is_over` is true have ended unseen.
    fn miss(&mut self, at_ns: u64, is_over: impl Fn(&Part) -> bool) {
        for part in self.in_flight.extract_if(.., |part| is_over(part)).collect::<Vec<_>>() {
            self.missed += 1;
            self.push(at_ns, Event::ReadEnd { read: part.read, result: part.bytes as i32 });
        }
    }
}
