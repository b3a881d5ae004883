//! Items to bytes.

use std::io::{self, Write};

use super::chunk::{self, CHUNK_HEAD, FULL, Kind};
use super::header::{Header, View};
use super::record::{Item, Record};
use super::records::Last;
use super::views;

/// Writes a log. Each chunk is given to the writer by one call of `write_all`.
#[derive(Debug)]
pub struct Encoder<W> {
    out: W,
    /// Room for a head, and the records of the chunk to come.
    chunk: Vec<u8>,
    count: u32,
    last: Last,
    /// Time of the last item.
    at_ns: u64,
    bytes: u64,
    records: u64,
}

impl<W: Write> Encoder<W> {
    /// Begins a log.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, header: &Header) -> io::Result<Encoder<W>> {
        let mut bytes = chunk::log_head().to_vec();
        bytes.extend_from_slice(&sealed(Kind::Header, |payload| {
            serde_json::to_writer(payload, header).expect("plain data");
        })?);
        out.write_all(&bytes)?;
        let bytes = bytes.len() as u64;
        Ok(Encoder { out, chunk: empty(), count: 0, last: Last::default(), at_ns: 0, bytes, records: 0 })
    }

    /// Adds an item, which may be no earlier than the one before.
    ///
    /// # Errors
    /// Those of the writer: the chunk that it refused is left out of the log, which stays sound as long
    /// as the writer took none of it. `InvalidInput` for an item that cannot be in a log.
    pub fn push(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::View(view) => self.view(view),
            Item::Record(record) => self.record(record),
        }
    }

    /// Adds a record; see [`Encoder::push`].
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.follow(record.at_ns)?;
        self.last.encode(&mut self.chunk, record);
        self.count += 1;
        if self.chunk.len() < FULL { Ok(()) } else { self.end_chunk(&[]) }
    }

    /// Adds a view; see [`Encoder::push`].
    pub fn view(&mut self, view: &View) -> io::Result<()> {
        views::check(view).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let chunk = sealed(Kind::View, |payload| views::encode(payload, view))?;
        self.follow(view.at_ns)?;
        self.end_chunk(&[])?;
        self.write(&chunk)
    }

    /// Hands over all records to the writer.
    ///
    /// # Errors
    /// See [`Encoder::push`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_chunk(&[])?;
        self.out.flush()
    }

    /// Says that the log is complete so far, by the same call of the writer that takes the last records.
    /// What follows makes it incomplete again, until the next call.
    ///
    /// # Errors
    /// See [`Encoder::push`].
    pub fn finish(&mut self) -> io::Result<()> {
        let end = sealed(Kind::End, |_| ())?;
        if self.count > 0 {
            self.end_chunk(&end)?
        } else {
            self.write(&end)?
        }
        self.out.flush()
    }

    /// Bytes that the writer has taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that the writer has taken.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records that wait for their chunk to be full.
    pub fn pending(&self) -> u32 {
        self.count
    }

    /// The writer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Gives the writer back. What has not been flushed is lost.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn follow(&mut self, at_ns: u64) -> io::Result<()> {
        if at_ns < self.at_ns {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an item that is earlier than the one before"));
        }
        self.at_ns = at_ns;
        Ok(())
    }

    /// Writes the records, and `next` behind them.
    fn end_chunk(&mut self, next: &[u8]) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk::seal(&mut chunk, Kind::Records, self.count);
        chunk.extend_from_slice(next);
        let written = self.write(&chunk);
        if written.is_ok() {
            self.records += u64::from(self.count);
        }
        chunk.truncate(CHUNK_HEAD);
        (self.chunk, self.count, self.last) = (chunk, 0, Last::default());
        written
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.out.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }
}

/// A chunk without records.
fn empty() -> Vec<u8> {
    let mut chunk = Vec::with_capacity(FULL + 256);
    chunk.resize(CHUNK_HEAD, 0);
    chunk
}

/// A chunk with the payload that `fill` appends.
fn sealed(kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_HEAD];
    fill(&mut chunk);
    if chunk.len() - CHUNK_HEAD > kind.most() as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a view or a header that is too large for a log"));
    }
    chunk::seal(&mut chunk, kind, u32::from(kind != Kind::End));
    Ok(chunk)
}
