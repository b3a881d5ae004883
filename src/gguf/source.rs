//! Where headers are read from, and a cursor that reads them in large pieces.

use std::fs::File;
use std::io;

use super::error::Error;

/// Something with a length that can be read at any offset. A trait, so that tests and the fuzzer
/// need no file.
pub trait ReadAt {
    /// Reads at most `buffer.len()` bytes from byte `offset` on; 0 at the end.
    ///
    /// # Errors
    /// Whatever the source says; [`io::ErrorKind::Interrupted`] makes the caller try again.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The source's length in bytes.
    ///
    /// # Errors
    /// Whatever the source says.
    fn file_bytes(&self) -> io::Result<u64>;
}

/// Raw system calls: inside the preloaded library `pread` is one of the hooked functions.
impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(self, buffer, offset)?)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(self)?.st_size).unwrap_or(0))
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(self.as_slice(), buffer, offset)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        (**self).file_bytes()
    }
}

/// One read of the header. A 128k-token vocabulary takes about 20 of them.
const WINDOW_BYTES: usize = 256 << 10;

/// A position in the header with a window of bytes around it.
///
/// Invariant: `position <= file_bytes`, and the window holds the file's bytes from
/// `window_start` on.
pub(super) struct Cursor<'a, R: ?Sized> {
    source: &'a R,
    file_bytes: u64,
    /// No header reaches beyond this byte.
    limit: u64,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a, R: ReadAt + ?Sized> Cursor<'a, R> {
    /// A cursor at the start of `source` that refuses to move beyond byte `limit`.
    pub fn new(source: &'a R, limit: u64) -> Result<Self, Error> {
        let file_bytes = source.file_bytes().map_err(|error| Error::Io { offset: 0, error })?;
        Ok(Cursor { source, file_bytes, limit, position: 0, window: Vec::new(), window_start: 0 })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from here to the end of the file.
    pub fn left(&self) -> u64 {
        self.file_bytes - self.position
    }

    /// Moves on by `bytes` without reading them.
    pub fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), Error> {
        if bytes > self.left() {
            return Err(Error::Truncated { what, offset: self.position });
        }
        let position = self.position + bytes;
        if position > self.limit {
            return Err(Error::TooMany { what: "the header's length in bytes", value: position, limit: self.limit });
        }
        self.position = position;
        Ok(())
    }

    /// The next `bytes` bytes, at most [`WINDOW_BYTES`], and moves behind them.
    pub fn take(&mut self, bytes: usize, what: &'static str) -> Result<&[u8], Error> {
        debug_assert!(bytes <= WINDOW_BYTES);
        let offset = self.position;
        self.skip(bytes as u64, what)?;
        let buffered =
            offset >= self.window_start && offset + bytes as u64 <= self.window_start + self.window.len() as u64;
        if !buffered {
            self.fill(offset, bytes, what)?;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..start + bytes])
    }

    /// Moves the window to `offset`, with at least `needed` bytes in it.
    fn fill(&mut self, offset: u64, needed: usize, what: &'static str) -> Result<(), Error> {
        let bytes = (self.file_bytes - offset).min(WINDOW_BYTES as u64) as usize;
        self.window.clear();
        self.window.resize(bytes, 0);
        self.window_start = offset;
        let mut filled = 0;
        while filled < needed {
            match self.source.read_at(&mut self.window[filled..], offset + filled as u64) {
                // The file became shorter after its length was taken.
                Ok(0) => return Err(Error::Truncated { what, offset }),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io { offset: offset + filled as u64, error }),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// A little-endian 32-bit number.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// A little-endian 64-bit number.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `each_bytes` in the file and are `limit` at most.
    pub fn count(&mut self, each_bytes: u64, limit: u64, what: &'static str) -> Result<u64, Error> {
        let value = self.u64(what)?;
        self.check_count(value, each_bytes, limit, what)?;
        Ok(value)
    }

    /// Refuses a `value` beyond `limit`, or for which the rest of the file has no room.
    pub fn check_count(&self, value: u64, each_bytes: u64, limit: u64, what: &'static str) -> Result<(), Error> {
        let limit = limit.min(self.left() / each_bytes);
        if value > limit { Err(Error::TooMany { what, value, limit }) } else { Ok(()) }
    }

    /// A string of at most `limit` bytes (which is at most [`WINDOW_BYTES`]) that must be UTF-8.
    pub fn text(&mut self, limit: usize, what: &'static str) -> Result<String, Error> {
        let bytes = self.count(1, limit as u64, what)?;
        let offset = self.position;
        let text = self.take(bytes as usize, what)?;
        String::from_utf8(text.to_vec()).map_err(|_| Error::Utf8 { what, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Gives at most 3 bytes a read, and an interruption before each.
    struct Stutter(Vec<u8>, Cell<bool>);

    impl ReadAt for Stutter {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if !self.1.replace(!self.1.get()) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let bytes = buffer.len().min(3);
            self.0.read_at(&mut buffer[..bytes], offset)
        }

        fn file_bytes(&self) -> io::Result<u64> {
            self.0.file_bytes()
        }
    }

    #[test]
    fn short_and_interrupted_reads_are_continued() {
        let source = Stutter((0..100).collect(), Cell::new(false));
        let mut cursor = Cursor::new(&source, 1000).unwrap();
        cursor.skip(10, "x").unwrap();
        assert_eq!(cursor.u64("x").unwrap(), u64::from_le_bytes([10, 11, 12, 13, 14, 15, 16, 17]));
        assert_eq!(cursor.u32("x").unwrap(), u32::from_le_bytes([18, 19, 20, 21]));
        assert_eq!(cursor.left(), 78);
    }

    #[test]
    fn a_file_that_shrank_is_truncated() {
        struct Shrunk;
        impl ReadAt for Shrunk {
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                Ok(0)
            }
            fn file_bytes(&self) -> io::Result<u64> {
                Ok(8)
            }
        }
        let mut cursor = Cursor::new(&Shrunk, 1000).unwrap();
        assert!(matches!(cursor.u32("x"), Err(Error::Truncated { what: "x", offset: 0 })));
    }

    #[test]
    fn numbers_across_windows_are_whole() {
        let bytes: Vec<u8> = (0..WINDOW_BYTES + 16).map(|i| (i % 251) as u8).collect();
        let mut cursor = Cursor::new(&bytes, 1 << 30).unwrap();
        cursor.u32("x").unwrap();
        cursor.skip(WINDOW_BYTES as u64 - 7, "x").unwrap();
        let start = WINDOW_BYTES - 3;
        assert_eq!(cursor.u64("x").unwrap().to_le_bytes(), bytes[start..start + 8]);
    }

    #[test]
    fn the_limit_stops_long_headers() {
        let bytes = vec![0; 100];
        let mut cursor = Cursor::new(&bytes, 50).unwrap();
        assert!(matches!(cursor.skip(51, "x"), Err(Error::TooMany { value: 51, limit: 50, .. })));
        assert!(matches!(cursor.skip(101, "x"), Err(Error::Truncated { .. })));
        cursor.skip(50, "x").unwrap();
    }
}
