//! A file that is written in large aligned pieces by a thread of its own.
//!
//! O_DIRECT where the file system has it: the page cache then neither fills up with a model that is
//! larger than it, nor makes the first measurement on the model a warm one. Where it is refused,
//! written pages are flushed and dropped behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{Advice, OFlags};
use rustix::io::Errno;

/// Bytes of one write.
const PIECE_BYTES: usize = 4 << 20;
/// Pieces: one being filled, one being written, one or two on their way.
const PIECES: usize = 4;
/// What O_DIRECT asks of addresses, offsets and lengths; no file system asks for more.
const ALIGN: usize = 4096;
/// Bytes that the fallback lets gather in the page cache.
const FLUSH_BYTES: u64 = 64 << 20;

/// A piece of memory that begins at a multiple of [`ALIGN`].
struct Piece {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Piece {
    fn new() -> Piece {
        let memory = vec![0; PIECE_BYTES + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN);
        Piece { memory, start, filled: 0 }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + PIECE_BYTES]
    }
}

/// A file under construction.
pub(super) struct Sink {
    current: Piece,
    full: Option<Sender<Piece>>,
    empty: Receiver<Piece>,
    writer: Option<JoinHandle<io::Result<File>>>,
    bytes: u64,
    bytes_end: u64,
}

impl Sink {
    /// Creates `path`, which must not exist, with room for `bytes`.
    ///
    /// # Errors
    /// Those of open(2) and fallocate(2).
    pub fn create(path: &Path, bytes: u64, keep_cache: bool) -> io::Result<Sink> {
        let open = |flags: OFlags| {
            OpenOptions::new().write(true).create_new(true).custom_flags(flags.bits() as i32).open(path)
        };
        let (file, cache) = if keep_cache {
            (open(OFlags::empty())?, Cache::Keep)
        } else {
            match open(OFlags::DIRECT) {
                Ok(file) => (file, Cache::Bypass),
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    // Some kernels create the file before they find that it cannot be opened so.
                    let _ = std::fs::remove_file(path);
                    (open(OFlags::empty())?, Cache::Drop)
                }
                Err(error) => return Err(error),
            }
        };
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // Without fallocate the file grows as it is written.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let (full, to_write) = bounded::<Piece>(PIECES);
        let (give_back, empty) = bounded(PIECES);
        for _ in 1..PIECES {
            give_back.try_send(Piece::new()).expect("the channel has room for all pieces");
        }
        let writer = std::thread::Builder::new()
            .name("synth-write".to_owned())
            .spawn(move || write_pieces(file, cache, &to_write, &give_back))?;
        let current = Piece::new();
        Ok(Sink { current, full: Some(full), empty, writer: Some(writer), bytes: 0, bytes_end: bytes })
    }

    /// Appends `data`.
    ///
    /// # Errors
    /// Those of the writing thread, possibly some pieces later.
    pub fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let filled = self.current.filled;
            let room = &mut self.current.bytes()[filled..];
            let taken = room.len().min(data.len());
            room[..taken].copy_from_slice(&data[..taken]);
            self.current.filled += taken;
            self.bytes += taken as u64;
            data = &data[taken..];
            if self.current.filled == PIECE_BYTES {
                self.pass_on()?;
            }
        }
        Ok(())
    }

    /// Sends the current piece to be written and takes an empty one.
    fn pass_on(&mut self) -> io::Result<()> {
        let Ok(empty) = self.empty.recv() else { return Err(self.failure()) };
        let piece = std::mem::replace(&mut self.current, empty);
        let sent = self.full.as_ref().is_some_and(|full| full.send(piece).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the writing thread ended.
    fn failure(&mut self) -> io::Error {
        match self.join() {
            Err(error) => error,
            Ok(_) => io::Error::other("the writing thread ended early"),
        }
    }

    fn join(&mut self) -> io::Result<File> {
        drop(self.full.take());
        let gone = || io::Error::other("the writing thread is gone");
        self.writer.take().ok_or_else(gone)?.join().map_err(|_| gone())?
    }

    /// Writes what is left and waits until all of it is on the drive (fsync).
    ///
    /// # Errors
    /// Those of write(2), ftruncate(2) and fsync(2).
    pub fn finish(mut self) -> io::Result<()> {
        assert_eq!(self.bytes, self.bytes_end, "the plan and the writer disagree");
        if self.current.filled > 0 {
            self.pass_on()?;
        }
        let file = self.join()?;
        // Cuts off what aligned the last piece.
        file.set_len(self.bytes)?;
        file.sync_all()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.writer.is_some() {
            // Nobody waits for this file any more: its errors have no reader.
            let _ = self.join();
        }
    }
}

/// What becomes of the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// O_DIRECT.
    Bypass,
    /// Written pages are dropped.
    Drop,
    /// Written pages stay.
    Keep,
}

fn write_pieces(file: File, mut cache: Cache, full: &Receiver<Piece>, empty: &Sender<Piece>) -> io::Result<File> {
    let mut offset = 0;
    let mut dropped = 0;
    for mut piece in full {
        let filled = piece.filled;
        let padded = filled.next_multiple_of(ALIGN);
        let bytes = piece.bytes();
        bytes[filled..padded].fill(0);
        match file.write_all_at(&bytes[..padded], offset) {
            Ok(()) => {}
            // Opening with O_DIRECT may succeed where writing with it does not.
            Err(error) if cache == Cache::Bypass && error.kind() == io::ErrorKind::InvalidInput => {
                let flags = rustix::fs::fcntl_getfl(&file)?;
                rustix::fs::fcntl_setfl(&file, flags - OFlags::DIRECT)?;
                cache = Cache::Drop;
                file.write_all_at(&bytes[..padded], offset)?;
            }
            Err(error) => return Err(error),
        }
        offset += padded as u64;
        if cache == Cache::Drop && (offset - dropped >= FLUSH_BYTES || filled < PIECE_BYTES) {
            file.sync_data()?;
            rustix::fs::fadvise(&file, dropped, None, Advice::DontNeed)?;
            dropped = offset;
        }
        piece.filled = 0;
        // The other side may be gone already: then nobody needs the piece.
        let _ = empty.try_send(piece);
    }
    Ok(file)
}
