//! From a file's GGUF header to the pieces that are cut into blocks.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::blocks::Piece;
use super::file::ModelFile;
use crate::gguf::{self, Model, Tensor};
use crate::policy::Role;
use crate::trace;

/// What a file's header says about it.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its parts, in the expected order of reading; none when it is no sound GGUF file: it is paged in
    /// file order.
    pub pieces: Vec<Piece>,
    /// Its tensors, in the same order.
    pub tensors: Vec<trace::Tensor>,
    /// Bytes of the whole model that it belongs to: all shards.
    pub model_bytes: u64,
}

/// What `file` holds.
pub fn of_file(file: &ModelFile) -> Contents {
    let unknown = Contents { model_bytes: file.bytes(), ..Contents::default() };
    let Ok(handle) = file.buffered().try_clone_to_owned().map(File::from) else { return unknown };
    match Model::read(&handle) {
        Ok(model) => {
            let whole = if model.split.is_some() { shard_sum(file) } else { None };
            let model_bytes = whole.unwrap_or(file.bytes());
            Contents { pieces: of_model(&model), tensors: tensors(&model), model_bytes }
        }
        Err(error) => {
            log::info!("no tensor map, paging in file order: {error}");
            unknown
        }
    }
}

/// The tensors of a model as a fault log names them, in the expected order of reading.
pub fn tensors(model: &Model) -> Vec<trace::Tensor> {
    let named = |tensor: &Tensor| trace::Tensor {
        name: tensor.name.clone(),
        role: tensor.role.as_str().into(),
        layer: tensor.layer,
        offset: tensor.offset,
        bytes: tensor.bytes,
        experts: match tensor.role {
            gguf::Role::Experts { count, .. } => count,
            _ => 0,
        },
    };
    gguf::decode_order(model).into_iter().map(|index| named(&model.tensors[index])).collect()
}

fn shard_sum(file: &ModelFile) -> Option<u64> {
    let path: PathBuf = std::fs::read_link(format!("/proc/self/fd/{}", file.buffered().as_raw_fd())).ok()?;
    gguf::model_bytes(&path).ok()
}

/// The pieces of a model's tensors.
pub fn of_model(model: &Model) -> Vec<Piece> {
    let pieces_of = |tensor: &Tensor| -> Vec<Piece> {
        let piece = |extent: gguf::Extent, role, expert| Piece { bytes: extent.offset..extent.end(), role, expert };
        match tensor.role {
            _ if model.reads_rows(tensor) => vec![piece(tensor.extent(), Role::Row, None)],
            gguf::Role::Experts { .. } => {
                let role = Role::Expert { layer: tensor.layer.unwrap_or(0) };
                (0..).zip(tensor.slices()).map(|(expert, slice)| piece(slice, role, Some(expert))).collect()
            }
            _ => vec![piece(tensor.extent(), Role::Cyclic, None)],
        }
    };
    gguf::decode_order(model).into_iter().flat_map(|index| pieces_of(&model.tensors[index])).collect()
}
