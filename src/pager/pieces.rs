//! From a file's GGUF header to the pieces that are cut into blocks.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::file::ModelFile;
use super::piece::Piece;
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

/// A log that tells of more experts in a tensor is broken.
const EXPERTS_MAX: u32 = 1 << 16;

/// What `file` holds.
pub fn of_file(file: &ModelFile) -> Contents {
    let unknown = Contents { model_bytes: file.bytes(), ..Contents::default() };
    let Ok(handle) = file.buffered().try_clone_to_owned().map(File::from) else { return unknown };
    match Model::read(&handle) {
        Ok(model) => {
            let whole = if model.split.is_some() { shard_sum(file) } else { None };
            let model_bytes = whole.unwrap_or(file.bytes());
            let tensors = tensors(&model);
            Contents { pieces: of_tensors(&tensors), tensors, model_bytes }
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
    of_tensors(&tensors(model))
}

/// The pieces of `tensors`, which stand in the expected order of reading: tables of which rows are read come
/// first; one that comes later is read whole, as the output.
pub fn of_tensors(tensors: &[trace::Tensor]) -> Vec<Piece> {
    let is_table = |tensor: &trace::Tensor| gguf::Role::ROW_TABLES.iter().any(|role| role.as_str() == tensor.role);
    let tables = tensors.iter().take_while(|tensor| is_table(tensor)).count();
    let pieces_of = |(at, tensor): (usize, &trace::Tensor)| -> Vec<Piece> {
        let bytes = tensor.offset..tensor.offset.saturating_add(tensor.bytes);
        let slice = (bytes.end - bytes.start).checked_div(u64::from(tensor.experts));
        match slice.filter(|_| tensor.experts <= EXPERTS_MAX) {
            Some(slice) => {
                let role = Role::Expert { layer: tensor.layer.unwrap_or(0) };
                let start = |expert: u32| bytes.start + u64::from(expert) * slice;
                let piece = |expert| Piece { bytes: start(expert)..start(expert) + slice, role, expert: Some(expert) };
                (0..tensor.experts).map(piece).collect()
            }
            None => {
                let role = if at < tables { Role::Row } else { Role::Cyclic };
                vec![Piece { bytes, role, expert: None }]
            }
        }
    };
    tensors.iter().enumerate().flat_map(pieces_of).collect()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::config::ByteSize;
    use crate::synth::{Arch, Quant, Request};

    #[test]
    fn the_tensors_of_a_log_are_enough_for_the_pieces() {
        for arch in [Arch::Llama, Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss] {
            let plan = Request::new("none.gguf", arch, Quant::Q4_0, ByteSize(1 << 30)).plan().expect("a plan");
            let file: File = tempfile::tempfile().expect("a file");
            file.write_all_at(plan.files[0].header(), 0).expect("room");
            file.set_len(plan.bytes()).expect("room");
            let model = Model::read(&file).expect("a model");
            let ordered = || gguf::decode_order(&model).into_iter().map(|index| &model.tensors[index]);
            let pieces = of_model(&model);
            let rows: Vec<u64> =
                pieces.iter().filter(|piece| piece.role == Role::Row).map(|piece| piece.bytes.start).collect();
            let tables: Vec<u64> = ordered()
                .filter(|tensor| tensor.name == "token_embd.weight" && !model.tied_embeddings())
                .map(|tensor| tensor.offset)
                .collect();
            assert!(rows == tables && !rows.is_empty(), "{arch:?}: {rows:?} instead of {tables:?}");
            let experts: Vec<Range<u64>> = pieces
                .iter()
                .filter(|piece| matches!(piece.role, Role::Expert { .. }))
                .map(|piece| piece.bytes.clone())
                .collect();
            let slices_of = |tensor: &Tensor| -> Vec<Range<u64>> {
                let gguf::Role::Experts { count, slice_bytes } = tensor.role else { return Vec::new() };
                let start = |expert: u32| tensor.offset + u64::from(expert) * slice_bytes;
                (0..count).map(|expert| start(expert)..start(expert) + slice_bytes).collect()
            };
            let slices: Vec<Range<u64>> = ordered().flat_map(slices_of).collect();
            assert!(experts == slices && experts.is_empty() == (arch == Arch::Llama), "{arch:?}");
        }
    }

    #[test]
    fn an_embedding_behind_other_tensors_is_the_output() {
        let tensor = |role: gguf::Role, offset| trace::Tensor {
            name: String::new(),
            role: role.as_str().into(),
            layer: None,
            offset,
            bytes: 100,
            experts: 0,
        };
        let table = gguf::Role::TokenEmbedding;
        let roles = |tensors: &[trace::Tensor]| -> Vec<Role> {
            of_tensors(tensors).into_iter().map(|piece| piece.role).collect()
        };
        let tied = [tensor(gguf::Role::Norm, 0), tensor(table, 100)];
        assert_eq!(roles(&tied), [Role::Cyclic, Role::Cyclic]);
        let apart = [tensor(table, 100), tensor(gguf::Role::Norm, 0), tensor(gguf::Role::Output, 200)];
        assert_eq!(roles(&apart), [Role::Row, Role::Cyclic, Role::Cyclic]);
    }
}
