//! In which order tensors stand in the file.

use super::tensors::{CHECKPOINT_EXPERTS, Kind, Tensor};

/// Whose order the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Order {
    /// llama-quantize: tensors outside of layers first, then layer by layer, sorted by name.
    Quantize,
    /// convert_hf_to_gguf: shard by shard of the checkpoint, sorted by the checkpoint's names, so
    /// that layer 10 comes before layer 2; packed experts (gpt-oss) before everything else.
    Convert,
}

/// Bytes at which a checkpoint's shard is full; the default of transformers' `save_pretrained`.
const SHARD_BYTES: u64 = 5_000_000_000;

impl Order {
    /// Puts `tensors`, which are in the order of the state dictionary, into this order.
    pub fn arrange(self, tensors: Vec<Tensor>) -> Vec<Tensor> {
        match self {
            Order::Quantize => by_layer(tensors),
            Order::Convert => as_converted(&tensors),
        }
    }
}

fn by_layer(mut tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors.sort_by_key(|tensor| (tensor.layer.map_or(-1, i64::from), tensor.stem));
    tensors
}

/// One tensor of the checkpoint.
struct Source {
    name: String,
    /// Index of the group that it belongs to.
    group: usize,
}

/// Tensors of the model that are written when the last source of the group has been seen.
struct Group<'a> {
    tensors: &'a [Tensor],
    sources: usize,
    seen: usize,
}

fn as_converted(tensors: &[Tensor]) -> Vec<Tensor> {
    let mut groups: Vec<Group<'_>> = tensors
        .chunk_by(|a, b| (a.layer, a.checkpoint) == (b.layer, b.checkpoint))
        .map(|tensors| Group { tensors, sources: 0, seen: 0 })
        .collect();
    let mut shards: Vec<Vec<Source>> = vec![Vec::new()];
    let mut filled = 0;
    for (index, group) in groups.iter_mut().enumerate() {
        for (name, bytes) in checkpoint_tensors(group.tensors) {
            if filled > 0 && filled + bytes > SHARD_BYTES {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            group.sources += 1;
            shards.last_mut().expect("never empty").push(Source { name, group: index });
        }
    }
    for shard in &mut shards {
        shard.sort_by(|a, b| a.name.cmp(&b.name));
    }

    let mut out = Vec::with_capacity(tensors.len());
    // Packed experts are repacked in a pass of their own, before the ordinary one.
    for packed in [true, false] {
        for source in shards.iter().flatten() {
            let group = &mut groups[source.group];
            if is_packed(group.tensors) == packed {
                group.seen += 1;
                if group.seen == group.sources {
                    out.extend_from_slice(group.tensors);
                }
            }
        }
    }
    debug_assert_eq!(out.len(), tensors.len());
    out
}

fn is_packed(group: &[Tensor]) -> bool {
    group[0].kind == Kind::Experts && group[0].checkpoint != CHECKPOINT_EXPERTS
}

/// Names and bytes (16 bits a weight, packed ones a quarter) of the checkpoint's tensors that make
/// up one group.
fn checkpoint_tensors(group: &[Tensor]) -> Vec<(String, u64)> {
    let first = &group[0];
    let bytes: u64 = group.iter().map(|tensor| 2 * tensor.elements()).sum();
    let Some(layer) = first.layer else { return vec![(first.checkpoint.to_owned(), bytes)] };
    if first.checkpoint != CHECKPOINT_EXPERTS {
        let bytes = if is_packed(group) { bytes / 4 } else { bytes };
        return vec![(format!("model.layers.{layer}.{}", first.checkpoint), bytes)];
    }
    let count = first.dims[2];
    let each = |expert| {
        ["gate", "up", "down"].into_iter().map(move |matrix| {
            let name = format!("model.layers.{layer}.{CHECKPOINT_EXPERTS}.{expert}.{matrix}_proj.weight");
            (name, bytes / (3 * count))
        })
    };
    (0..count).flat_map(each).collect()
}
