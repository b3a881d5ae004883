//! Every byte's place in the file or files, before any is written.

use std::path::{Path, PathBuf};

use super::arch::Shape;
use super::error::Error;
use super::header::{ALIGNMENT, Metadata, header};
use super::order::Order;
use super::quant::Quant;
use super::routing::Routing;
use super::tensors::{Tensor, tensors};
use crate::gguf::GgmlType;

/// A tensor with its type and size.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub tensor: Tensor,
    pub ty: GgmlType,
    pub bytes: u64,
}

impl Typed {
    /// Bytes with the padding behind.
    pub fn padded_bytes(&self) -> u64 {
        self.bytes.next_multiple_of(ALIGNMENT)
    }
}

/// One file.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Where it goes.
    pub path: PathBuf,
    /// The header; the tensors follow, each padded.
    pub(super) header: Vec<u8>,
    /// In the order of the file.
    pub(super) tensors: Vec<Typed>,
}

impl PlannedFile {
    /// The file's first bytes: everything before the tensors.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.tensors.iter().map(Typed::padded_bytes).sum::<u64>()
    }
}

/// A model, ready to be written: see [`Plan::write`].
#[derive(Debug, Clone)]
pub struct Plan {
    /// The hyperparameters.
    pub shape: Shape,
    /// The types.
    pub quant: Quant,
    /// The order of the tensors.
    pub order: Order,
    /// Seed of the weights.
    pub seed: u64,
    /// How routers behave; `None` leaves it to the luck of random weights.
    pub routing: Option<Routing>,
    /// One file, or several when the model is split.
    pub files: Vec<PlannedFile>,
}

/// Gives every tensor of `shape` its type.
pub(super) fn typed(shape: &Shape, quant: Quant, tensors: Vec<Tensor>) -> Result<Vec<Typed>, Error> {
    let each = |tensor: Tensor| {
        let ty = quant.tensor_type(shape, &tensor)?;
        let row_bytes = ty.row_bytes(tensor.dims[0]).expect("tensor_type checks the row");
        let bytes = row_bytes * tensor.dims[1] * tensor.dims[2];
        Ok(Typed { tensor, ty, bytes })
    };
    tensors.into_iter().map(each).collect()
}

/// The name of part `number` of `count` (from 0), as `llama_split_path` has it.
fn split_path(out: &Path, number: usize, count: usize) -> PathBuf {
    let stem = match out.extension() {
        Some(extension) if extension == "gguf" => out.with_extension(""),
        _ => out.to_owned(),
    };
    let mut name = stem.into_os_string();
    name.push(format!("-{:05}-of-{count:05}.gguf", number + 1));
    name.into()
}

impl Plan {
    /// Lays out a model of `shape`. With `split_bytes_max`, tensors go on into a new file when the
    /// one they were in would have more bytes of data than that; a model that fits in one file is
    /// not split. What routers do is left to luck: see [`Plan::routing`].
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::NoExperts`], [`Error::Row`], [`Error::Shards`].
    pub fn new(
        out: &Path,
        shape: Shape,
        quant: Quant,
        order: Order,
        seed: u64,
        split_bytes_max: Option<u64>,
    ) -> Result<Plan, Error> {
        shape.check()?;
        if quant == Quant::Mxfp4 && shape.experts.is_none() {
            return Err(Error::NoExperts(shape.arch));
        }
        let all = typed(&shape, quant, order.arrange(tensors(&shape)))?;
        let tensor_count = all.len();
        let mut parts: Vec<Vec<Typed>> = vec![Vec::new()];
        let mut filled = 0;
        for tensor in all {
            if filled > 0 && filled + tensor.padded_bytes() > split_bytes_max.unwrap_or(u64::MAX) {
                parts.push(Vec::new());
                filled = 0;
            }
            filled += tensor.padded_bytes();
            parts.last_mut().expect("never empty").push(tensor);
        }
        let count = parts.len();
        // The number of shards is a u16 in the file.
        if count > usize::from(u16::MAX) {
            return Err(Error::Shards { shards: count });
        }
        let files = parts.into_iter().enumerate().map(|(number, tensors)| {
            let mut metadata = match number {
                0 => Metadata::model(&shape, quant, seed),
                _ => Metadata::default(),
            };
            if count > 1 {
                metadata.split(number, count, tensor_count);
            }
            let mut offset = 0;
            let lines: Vec<_> = tensors
                .iter()
                .map(|typed| {
                    let line = (&typed.tensor, typed.ty, offset);
                    offset += typed.padded_bytes();
                    line
                })
                .collect();
            let header = header(&metadata, lines.into_iter());
            let path = if count > 1 { split_path(out, number, count) } else { out.to_owned() };
            PlannedFile { path, header, tensors }
        });
        let files = files.collect();
        Ok(Plan { shape, quant, order, seed, routing: None, files })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(PlannedFile::bytes).sum()
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.files.iter().map(|file| file.tensors.len()).sum()
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.files.iter().flat_map(|file| &file.tensors).map(|typed| typed.tensor.elements()).sum()
    }
}
