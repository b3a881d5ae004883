//! The model of a comparison: a given one, or a synthetic one that goes away afterwards; where it
//! lies, or on a loop device of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use super::interrupt::Interrupt;
use super::loop_drive::LoopDrive;
use crate::config::ByteSize;
use crate::gguf;
use crate::synth::{Arch, Quant, Request, WriteOptions};

/// Room on the loop device besides the model: the file system's own blocks.
const LOOP_MARGIN_BYTES: u64 = 256 << 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file (the first shard of a split model).
    File(PathBuf),
    /// Random weights of this architecture and size.
    Synthetic(Arch, ByteSize),
}

/// A model that is there as long as this value. Fields are dropped in order: the file before the
/// drive that it lies on.
#[derive(Debug)]
pub struct Model {
    /// The file (the first shard of a split model).
    pub path: PathBuf,
    _folder: Option<TempDir>,
    _drive: Option<LoopDrive>,
}

impl Model {
    /// Provides the model. What has to be written goes to `folder`, with `on_loop` to a file system
    /// on a loop device whose image lies there.
    ///
    /// # Errors
    /// When there is no room, no right to make a loop device, or an interrupt.
    pub fn provide(source: &Source, folder: &Path, on_loop: bool, interrupt: &Interrupt) -> anyhow::Result<Model> {
        let scratch =
            || TempDir::with_prefix_in("ggpager-bench-", folder).with_context(|| folder.display().to_string());
        let drive = match on_loop {
            true => Some(LoopDrive::new(scratch()?, bytes(source)? + LOOP_MARGIN_BYTES)?),
            false => None,
        };
        match source {
            Source::File(file) if !on_loop => {
                let path = file.canonicalize().with_context(|| file.display().to_string())?;
                Ok(Model { path, _folder: None, _drive: None })
            }
            Source::File(file) => {
                let to = drive.as_ref().map_or(folder, LoopDrive::folder);
                for shard in gguf::shard_paths(file) {
                    copy(&shard, to, interrupt)?;
                }
                Ok(Model { path: to.join(file.file_name().unwrap_or_default()), _folder: None, _drive: drive })
            }
            Source::Synthetic(arch, size) => {
                let (to, scratch) = match &drive {
                    Some(drive) => (drive.folder().to_owned(), None),
                    None => {
                        let scratch = scratch()?;
                        (scratch.path().to_owned(), Some(scratch))
                    }
                };
                let path = to.join(format!("{}.gguf", arch.name()));
                let plan = Request::new(path.clone(), *arch, Quant::usual(*arch), *size).plan()?;
                let written =
                    plan.write(WriteOptions { force: false, keep_cache: false }, &mut |_| match interrupt.signal() {
                        Some(_) => ControlFlow::Break(()),
                        None => ControlFlow::Continue(()),
                    });
                interrupt.check()?;
                written?;
                Ok(Model { path, _folder: scratch, _drive: drive })
            }
        }
    }
}

fn bytes(source: &Source) -> anyhow::Result<u64> {
    Ok(match source {
        Source::File(file) => gguf::model_bytes(file)?,
        // The generator keeps its promise of the size within 3 %.
        Source::Synthetic(_, size) => size.0 + size.0 / 20,
    })
}

fn copy(file: &Path, to: &Path, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut source = File::open(file).with_context(|| file.display().to_string())?;
    let mut target = File::create(to.join(file.file_name().unwrap_or_default()))?;
    let mut buffer = vec![0u8; 4 << 20];
    loop {
        interrupt.check()?;
        match source.read(&mut buffer)? {
            0 => break,
            bytes => target.write_all(&buffer[..bytes])?,
        }
    }
    Ok(target.sync_all()?)
}
