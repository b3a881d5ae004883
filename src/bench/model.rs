//! The models of a comparison: given ones, or synthetic ones that go away afterwards; where they
//! lie, or on a loop device of their own.

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
use crate::synth::{Arch, Plan, Quant, Request, WriteOptions};

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

/// Models that are there as long as this value. Fields are dropped in order: the files before the
/// drive that they lie on.
#[derive(Debug)]
pub struct Models {
    /// The files (the first shard of a split model).
    pub paths: Vec<PathBuf>,
    _folder: Option<TempDir>,
    _drive: Option<LoopDrive>,
}

impl Models {
    /// Provides the models. What has to be written goes to `folder`, with `on_loop` to a file system
    /// on a loop device whose image lies there. Synthetic ones share a vocabulary, as a draft model
    /// must.
    ///
    /// # Errors
    /// When there is no room, no right to make a loop device, or an interrupt.
    pub fn provide(sources: &[Source], folder: &Path, on_loop: bool, interrupt: &Interrupt) -> anyhow::Result<Models> {
        let scratch =
            || TempDir::with_prefix_in("ggpager-bench-", folder).with_context(|| folder.display().to_string());
        let mut models = Models { paths: Vec::new(), _folder: None, _drive: None };
        let mut to = folder.to_owned();
        if on_loop {
            let room = sources.iter().map(bytes).sum::<anyhow::Result<u64>>()? + LOOP_MARGIN_BYTES;
            to = models._drive.insert(LoopDrive::new(scratch()?, room)?).folder().to_owned();
        } else if sources.iter().any(|source| matches!(source, Source::Synthetic(..))) {
            to = models._folder.insert(scratch()?).path().to_owned();
        }
        let mut vocab = None;
        for (index, source) in sources.iter().enumerate() {
            let path = match source {
                Source::File(file) if on_loop => {
                    for shard in gguf::shard_paths(file) {
                        copy(&shard, &to, interrupt)?;
                    }
                    to.join(file.file_name().unwrap_or_default())
                }
                Source::File(file) => file.canonicalize().with_context(|| file.display().to_string())?,
                Source::Synthetic(arch, size) => {
                    let path = to.join(format!("{}-{}.gguf", arch.name(), index + 1));
                    let quant = Quant::usual(*arch);
                    let plan = Request { vocab, ..Request::new(path.clone(), *arch, quant, *size) }.plan()?;
                    vocab = Some(plan.shape.vocab);
                    write(&plan, interrupt)?;
                    path
                }
            };
            models.paths.push(path);
        }
        Ok(models)
    }
}

fn write(plan: &Plan, interrupt: &Interrupt) -> anyhow::Result<()> {
    let options = WriteOptions { force: false, keep_cache: false };
    let written = plan.write(options, &mut |_| match interrupt.signal() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    });
    interrupt.check()?;
    written?;
    Ok(())
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
    // Two models may have the same name; one would replace the other.
    let mut target = File::create_new(to.join(file.file_name().unwrap_or_default()))?;
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
