//! From a file's GGUF header to the pieces that are cut into blocks.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::blocks::Piece;
use super::file::ModelFile;
use crate::gguf::{self, Model, Tensor};
use crate::policy::Role;

/// What `file` holds, in the expected order of reading, and the bytes of the whole model that it
/// belongs to (all shards). A file that is no sound GGUF has no pieces and is paged in file order.
pub fn of_file(file: &ModelFile) -> (Vec<Piece>, u64) {
    let Ok(handle) = file.buffered().try_clone_to_owned().map(File::from) else { return (Vec::new(), file.bytes()) };
    match Model::read(&handle) {
        Ok(model) => {
            let whole = if model.split.is_some() { shard_sum(file) } else { None };
            (of_model(&model), whole.unwrap_or(file.bytes()))
        }
        Err(error) => {
            log::info!("no tensor map, paging in file order: {error}");
            (Vec::new(), file.bytes())
        }
    }
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
