//! The thread that writes the log: from the ring to chunks, from chunks to the file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rtrb::Consumer;

use super::Counts;
use super::file::LogFile;
use crate::trace::{Encoder, Event, Item, Record, View};

/// How often the ring is looked at when nobody says that it fills up, and how often a chunk that is
/// not full is written.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const FLUSH_EVERY: Duration = Duration::from_millis(750);

/// What the pager thread asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// The ring is half full.
    Drain,
    /// Write all there is, and answer.
    Finish(Sender<()>),
}

/// See the module's page.
pub(super) struct Writer {
    encoder: Encoder<LogFile>,
    items: Consumer<Item>,
    inbox: Receiver<Request>,
    counts: Arc<Counts>,
    /// Records in the present chunk, and those that it says are lost.
    in_chunk: u64,
    lost_in_chunk: u64,
    /// Lost records that the log does not say yet.
    lost: u64,
    /// Nothing more can be recorded but the log's end.
    over: bool,
    /// The drive has refused a chunk, and the user knows.
    warned: bool,
    /// Time of the newest record.
    at_ns: u64,
    /// Length of the log when it was last said to be complete.
    finished: u64,
}

impl Writer {
    pub fn new(
        encoder: Encoder<LogFile>,
        items: Consumer<Item>,
        inbox: Receiver<Request>,
        counts: Arc<Counts>,
    ) -> Writer {
        Writer {
            encoder,
            items,
            inbox,
            counts,
            in_chunk: 0,
            lost_in_chunk: 0,
            lost: 0,
            over: false,
            warned: false,
            at_ns: 0,
            finished: 0,
        }
    }

    /// Writes until the pager thread's side is gone.
    pub fn run(mut self) {
        let mut flushed = Instant::now();
        loop {
            let request = self.inbox.recv_timeout(LOOK_EVERY);
            while let Ok(item) = self.items.pop() {
                self.take(item);
            }
            match request {
                Ok(Request::Finish(done)) => {
                    self.finish();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
                Ok(Request::Drain) | Err(RecvTimeoutError::Timeout) => {
                    if flushed.elapsed() >= FLUSH_EVERY {
                        self.flush();
                        flushed = Instant::now();
                    }
                }
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::View(view) => self.view(&view),
            Item::Record(Record { event: Event::Lost { records }, .. }) => self.lost += records,
            Item::Record(record) => {
                self.at_ns = record.at_ns;
                if self.over {
                    return self.drop_records(1);
                }
                self.admit_loss();
                self.in_chunk += 1;
                let written = self.encoder.record(&record);
                self.settle(written);
            }
        }
    }

    /// Without its view, what follows means nothing: a view that cannot be written ends the log.
    fn view(&mut self, view: &View) {
        self.at_ns = view.at_ns;
        self.flush();
        if self.over {
            return;
        }
        let written = self.encoder.view(view);
        self.over = written.is_err();
        self.settle(written);
    }

    /// Writes how many records are missing here.
    fn admit_loss(&mut self) {
        let records = std::mem::take(&mut self.lost);
        if records > 0 {
            self.lost_in_chunk += records;
            let written = self.encoder.record(&Record { at_ns: self.at_ns, event: Event::Lost { records } });
            self.settle(written);
        }
    }

    fn flush(&mut self) {
        let written = self.encoder.flush();
        self.settle(written);
    }

    /// The log is complete so far, apart from what it says is lost.
    fn finish(&mut self) {
        if self.encoder.bytes() == self.finished && self.encoder.pending() == 0 && self.lost == 0 {
            return;
        }
        self.flush();
        self.encoder.get_mut().last_words = true;
        self.admit_loss();
        let written = self.encoder.finish();
        self.settle(written);
        self.encoder.get_mut().last_words = false;
        self.finished = self.encoder.bytes();
    }

    /// Accounts for what the encoder may have written or dropped.
    fn settle(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.drop_records(self.in_chunk);
            self.lost += self.lost_in_chunk;
            let limit = error.kind() == io::ErrorKind::QuotaExceeded;
            self.over |= limit;
            if !std::mem::replace(&mut self.warned, true) {
                let error = if limit { "it has reached its limit".into() } else { error.to_string() };
                log::warn!("the fault log is not complete: {error}");
            }
        }
        if self.encoder.pending() == 0 {
            (self.in_chunk, self.lost_in_chunk) = (0, 0);
        }
        self.counts.bytes.store(self.encoder.bytes(), Ordering::Relaxed);
    }

    fn drop_records(&mut self, records: u64) {
        self.lost += records;
        self.counts.dropped.fetch_add(records, Ordering::Relaxed);
    }
}
