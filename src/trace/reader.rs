//! Bytes to items.

use std::io::{self, Read};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::chunk::{CHUNK_HEAD, Head, Kind, LOG_HEAD, MAGIC, MAJOR, short_sum};
use super::error::Error;
use super::header::Header;
use super::record::{Item, Record};
use super::records::Last;
use super::varint::{Cursor, What};
use super::views;

/// Reads a log item by item, one chunk in memory at a time. After an error there are no more items.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    /// Bytes read so far: whole chunks.
    offset: u64,
    /// The chunk that is being read, where its records start in the log, and how far we are in it.
    payload: Vec<u8>,
    start: u64,
    at: usize,
    left: u32,
    last: Last,
    /// Time of the last item.
    at_ns: u64,
    /// The last whole chunk says that the log is complete.
    complete: bool,
    over: bool,
    cut_off: Option<u64>,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `from` need not be buffered: it is read a chunk at a time.
    ///
    /// # Errors
    /// When this is no log, or its header is damaged or not there.
    pub fn new(mut from: R) -> Result<Reader<R>, Error> {
        let mut head = Vec::with_capacity(LOG_HEAD);
        read(&mut from, LOG_HEAD, &mut head, 0)?;
        if !head.starts_with(MAGIC) {
            return Err(Error::Foreign);
        }
        let damaged = |offset, what| Error::Damaged { offset, what };
        let head: [u8; LOG_HEAD] = head.try_into().map_err(|_| damaged(8, "the log ends before its header"))?;
        if head[12..] != short_sum(&head[..12]).to_le_bytes() {
            return Err(damaged(8, "a wrong checksum"));
        }
        let major = u16::from_le_bytes([head[8], head[9]]);
        if major > MAJOR {
            return Err(Error::Version(major));
        }
        let mut reader = Reader {
            from,
            header: Header::default(),
            offset: LOG_HEAD as u64,
            payload: Vec::new(),
            start: 0,
            at: 0,
            left: 0,
            last: Last::default(),
            at_ns: 0,
            complete: false,
            over: false,
            cut_off: None,
        };
        let at = reader.offset;
        let Some(head) = reader.chunk()? else { return Err(damaged(at, "the log ends before its header")) };
        if head.kind != Kind::Header {
            return Err(damaged(at, "the log does not begin with its header"));
        }
        let header = serde_json::from_slice(&reader.payload);
        reader.header = header.map_err(|_| damaged(reader.start, "a header that cannot be read"))?;
        Ok(reader)
    }

    /// What the log says about the run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the last whole chunk ends, in bytes, if the recorder did not get to the log's end: it was
    /// killed. Known once there are no more items.
    pub fn cut_off(&self) -> Option<u64> {
        self.cut_off
    }

    fn item(&mut self) -> Result<Option<Item>, Error> {
        while self.left == 0 {
            let Some(head) = self.chunk()? else {
                self.cut_off = (!self.complete).then_some(self.offset);
                return Ok(None);
            };
            self.complete = head.kind == Kind::End;
            match head.kind {
                Kind::View => {
                    let mut from = Cursor { bytes: &self.payload, at: 0 };
                    let view = views::decode(&mut from);
                    self.at = from.at;
                    let view = view.map_err(|what| self.damaged(what))?;
                    if self.at != self.payload.len() {
                        return Err(self.damaged("more bytes than a view needs"));
                    }
                    self.follow(view.at_ns)?;
                    return Ok(Some(Item::View(Box::new(view))));
                }
                Kind::Records => {
                    (self.left, self.last) = (head.count, Last::default());
                    if self.left == 0 {
                        return Err(self.damaged("a chunk without records"));
                    }
                }
                Kind::Header => return Err(self.damaged("a second header")),
                Kind::End | Kind::Unknown => {}
            }
        }
        self.record().map(|record| Some(Item::Record(record)))
    }

    fn record(&mut self) -> Result<Record, Error> {
        let mut from = Cursor { bytes: &self.payload, at: self.at };
        let record = self.last.decode(&mut from);
        let (before, at) = (self.at, from.at);
        let record = record.map_err(|what| self.damaged(what))?;
        self.follow(record.at_ns)?;
        (self.at, self.left) = (at, self.left - 1);
        if self.left == 0 && self.at != self.payload.len() {
            self.at = before;
            return Err(self.damaged("more bytes than the records need"));
        }
        Ok(record)
    }

    fn follow(&mut self, at_ns: u64) -> Result<(), Error> {
        if at_ns < self.at_ns {
            return Err(self.damaged("an item that is earlier than the one before"));
        }
        self.at_ns = at_ns;
        Ok(())
    }

    fn damaged(&self, what: What) -> Error {
        Error::Damaged { offset: self.start + self.at as u64, what }
    }

    /// Reads the next chunk. `None` where the log ends, in the middle of a chunk or not.
    fn chunk(&mut self) -> Result<Option<Head>, Error> {
        let begin = self.offset;
        let mut head = Vec::with_capacity(CHUNK_HEAD);
        read(&mut self.from, CHUNK_HEAD, &mut head, begin)?;
        let Ok(head) = <[u8; CHUNK_HEAD]>::try_from(head.as_slice()) else {
            // Part of a head: what was there before is not the end.
            self.complete &= head.is_empty();
            return Ok(None);
        };
        let damaged = |what| Error::Damaged { offset: begin, what };
        let head = Head::decode(&head).ok_or(damaged("a wrong checksum"))?;
        if head.len > head.kind.most() {
            return Err(damaged("a chunk that is too long"));
        }
        (self.start, self.at) = (begin + CHUNK_HEAD as u64, 0);
        let sum = match head.kind {
            Kind::Unknown => self.skip(head.len)?,
            _ => {
                read(&mut self.from, head.len as usize, &mut self.payload, self.start)?;
                (self.payload.len() == head.len as usize).then(|| xxh3_64(&self.payload))
            }
        };
        let Some(sum) = sum else {
            self.complete = false;
            return Ok(None);
        };
        if sum != head.sum {
            return Err(damaged("a wrong checksum"));
        }
        self.offset = self.start + u64::from(head.len);
        Ok(Some(head))
    }

    /// Reads a payload without keeping it; gives its checksum, `None` if the log ends before.
    fn skip(&mut self, len: u32) -> Result<Option<u64>, Error> {
        const STEP: u32 = 64 << 10;
        let (mut sum, mut left) = (Xxh3::new(), len);
        while left > 0 {
            let step = left.min(STEP);
            read(&mut self.from, step as usize, &mut self.payload, self.start + u64::from(len - left))?;
            if self.payload.len() < step as usize {
                return Ok(None);
            }
            sum.update(&self.payload);
            left -= step;
        }
        Ok(Some(sum.digest()))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Result<Item, Error>> {
        if self.over {
            return None;
        }
        let item = self.item().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Reads `len` bytes into `into`, or fewer where the input ends. Room is made as bytes come in.
fn read(from: &mut impl Read, len: usize, into: &mut Vec<u8>, offset: u64) -> Result<(), Error> {
    into.clear();
    from.take(len as u64).read_to_end(into).map_err(|source: io::Error| Error::Io { offset, source })?;
    Ok(())
}
