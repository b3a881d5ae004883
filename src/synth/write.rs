//! Streams a planned model to disk.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::plan::{Plan, PlannedFile};
use super::shaped::Shaped;
use super::sink::Sink;
use super::weights::Weights;
use crate::config::ByteSize;

/// How a model is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Replaces files that exist.
    pub force: bool,
    /// Leaves the model in the page cache. Otherwise the cache holds nothing of it.
    pub keep_cache: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// Bytes of all files.
    pub bytes: u64,
    /// From the first open to the end of the last fsync.
    pub elapsed: Duration,
}

/// Bytes made in one go: they stay in a core's cache until they are copied.
const CHUNK_BYTES: usize = 128 << 10;

/// Removes the files again unless the work is completed.
struct Unfinished {
    paths: Vec<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.paths {
            // Best effort: the error that brought us here is the one to report.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

impl Plan {
    /// Writes the files and waits until they are on the drive. Calls `progress` with the number of
    /// bytes made since the last call; [`ControlFlow::Break`] stops the work. Whatever ends it early,
    /// no file is left behind.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Space`], [`Error::Io`], [`Error::Interrupted`].
    pub fn write(
        &self,
        options: WriteOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        let start = Instant::now();
        self.make_room(options.force)?;
        let mut unfinished = Unfinished { paths: Vec::new() };
        for file in &self.files {
            let mut sink = Sink::create(&file.path, file.bytes(), options.keep_cache).map_err(|error| {
                // Not ours to remove: someone else created it since we looked.
                if error.kind() != io::ErrorKind::AlreadyExists {
                    unfinished.paths.push(file.path.clone());
                }
                at(&file.path)(error)
            })?;
            unfinished.paths.push(file.path.clone());
            self.write_file(file, &mut sink, progress)?;
            sink.finish().map_err(at(&file.path))?;
        }
        unfinished.paths.clear();
        Ok(Summary { bytes: self.bytes(), elapsed: start.elapsed() })
    }

    fn write_file(
        &self,
        file: &PlannedFile,
        sink: &mut Sink,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut put = |data: &[u8]| {
            sink.write(data).map_err(at(&file.path))?;
            match progress(data.len() as u64) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Interrupted),
            }
        };
        let shaped = self.routing.filter(|_| self.shape.experts.is_some());
        let shaped = shaped.map(|routing| Shaped::new(&self.shape, routing, self.seed));
        put(&file.header)?;
        for typed in &file.tensors {
            let weights = Weights::new(self.seed, &typed.tensor, typed.ty, shaped.as_ref());
            let step = weights.piece_bytes(CHUNK_BYTES);
            let mut offset = 0;
            while offset < typed.bytes {
                let bytes = (typed.bytes - offset).min(step as u64) as usize;
                weights.fill(offset, &mut chunk[..bytes]);
                put(&chunk[..bytes])?;
                offset += bytes as u64;
            }
            let padding = typed.padded_bytes() - typed.bytes;
            put(&[0; super::header::ALIGNMENT as usize][..padding as usize])?;
        }
        Ok(())
    }

    /// Sees to it that the files can be created: none is there, and the file system has room.
    fn make_room(&self, force: bool) -> Result<(), Error> {
        let mut freed = 0;
        let mut old = Vec::new();
        for file in &self.files {
            match std::fs::symlink_metadata(&file.path) {
                Ok(_) if !force => return Err(Error::Exists(file.path.clone())),
                Ok(found) => {
                    freed += if found.is_file() { found.len() } else { 0 };
                    old.push(&file.path);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&file.path)(error)),
            }
        }
        let path = &self.files[0].path;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let room = rustix::fs::statvfs(folder).map_err(|error| at(folder)(error.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize).saturating_add(freed);
        if free < self.bytes() {
            return Err(Error::Space { path: path.clone(), needed: ByteSize(self.bytes()), free: ByteSize(free) });
        }
        old.into_iter().try_for_each(|path| std::fs::remove_file(path).map_err(at(path)))
    }
}
