//! The order in which one decoded token reads the tensors.
//!
//! Inside a layer the order is that of the graph which llama.cpp builds, recorded on running
//! models for `llama`, `qwen3moe`, `gpt-oss` and `deepseek2`. Other architectures get the order
//! that nearly all of them share: norm, projections, attention, output, norm, router, experts.

use super::model::Model;
use super::role::{self, Parts};
use super::tensor::Tensor;

/// Names inside a layer in the order of reading. Names that never meet in one layer (`attn_qkv`
/// and `attn_q`) stand where the first of them would be read.
#[rustfmt::skip]
const STEMS: &[&str] = &[
    // Attention.
    "attn_norm", "attn_norm_2",
    "attn_qkv", "attn_q_a", "attn_q_a_norm", "attn_q_b",
    "attn_q", "attn_q_norm",
    // Latent attention: the key's up-projection is applied to the query.
    "attn_k_b", "attn_kv_a_mqa", "attn_kv_a_norm", "attn_kv_b", "attn_v_b",
    "indexer.k_norm", "indexer.proj", "indexer.attn_k", "indexer.attn_q_b",
    "attn_k", "attn_k_norm", "attn_v", "attn_v_norm",
    "attn_rel_b", "attn_sinks", "attn_gate", "attn_sub_norm",
    "attn_output", "attn_output_norm",
    // Recurrent layers.
    "ssm_in", "ssm_beta_alpha", "ssm_ba", "ssm_conv1d", "ssm_x", "ssm_dt_norm", "ssm_b_norm", "ssm_c_norm",
    "ssm_beta", "ssm_alpha", "ssm_dt", "ssm_a", "ssm_d", "ssm_norm", "ssm_out",
    "shortconv.in_proj", "shortconv.conv", "shortconv.out_proj",
    "post_attention_norm",
    // Cross attention of encoder-decoder models.
    "cross_attn_norm", "cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_rel_b", "cross_attn_output",
    // Feed-forward network: router and experts, shared experts, dense.
    "ffn_norm", "ffn_pre_norm", "ffn_norm_exps",
    "ffn_gate_inp", "exp_probs_b",
    "ffn_gate_up_exps", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps",
    "ffn_gate_inp_shexp", "ffn_gate_up_shexp", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp",
    "ffn_gate_up", "ffn_gate", "ffn_up", "ffn_act", "ffn_sub_norm", "ffn_down",
    "post_ffw_norm", "layer_output_norm", "layer_output_scale",
];

/// Architectures whose graph expands the value before the key.
const VALUE_BEFORE_KEY: &[&str] = &["llama", "qwen3moe"];

/// Where unknown names go: behind the last known name that begins like them.
const FAMILIES: &[(&str, &str)] = &[
    ("attn", "attn_gate"),
    ("self_attn", "attn_gate"),
    ("indexer", "indexer.attn_q_b"),
    ("ssm", "ssm_d"),
    ("time_mix", "ssm_d"),
    ("shortconv", "shortconv.conv"),
    ("cross_attn", "cross_attn_v"),
    ("ffn", "ffn_up"),
    ("mlp", "ffn_up"),
    ("channel_mix", "ffn_up"),
];

/// The parts of a cycle, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    /// Tables of which single rows are read.
    Rows,
    /// Global tensors that are needed before the layers.
    Start,
    /// Layers of an encoder or a projector.
    Encoder,
    /// The encoder's last norm.
    EncoderEnd,
    /// The layers.
    Layers,
    /// The last norm.
    OutputNorm,
    /// The matrix that makes logits.
    Output,
    /// Not read in ordinary decoding.
    Unread,
}

/// Where a tensor stands in the cycle; tensors with equal keys keep their order in the file.
type Key = (Section, u32, usize, usize);

/// The model of which the tensors are a part, as far as the order depends on it.
struct Context<'a> {
    arch: &'a str,
    /// The first layer that ordinary decoding does not read.
    unread_from: Option<u32>,
    tied: bool,
}

impl<'a> Context<'a> {
    fn of(models: &[&'a Model]) -> Context<'a> {
        let first = models.iter().find(|model| !model.arch.is_empty());
        let arch = first.map_or("", |model| model.arch.as_str());
        let unread_from = first.and_then(|model| model.unread_from());
        Context { arch, unread_from, tied: tied(arch, models) }
    }

    fn key(&self, tensor: &Tensor) -> Key {
        let parts = role::parts(&tensor.name);
        let Parts { stack, layer, stem, suffix } = parts;
        let Some(layer) = layer else {
            let section = match stem {
                "token_embd" if self.tied && suffix == "weight" => Section::Output,
                _ if tensor.is_row_table() => Section::Rows,
                "enc.output_norm" => Section::EncoderEnd,
                "output_norm" | "dec.output_norm" | "output_hc" => Section::OutputNorm,
                _ if stem.starts_with("output") || stem.starts_with("cls") || stem == "dec.output" => Section::Output,
                _ => Section::Start,
            };
            return (section, 0, 0, suffix_rank(suffix));
        };
        let section = match stack {
            _ if self.unread_from.is_some_and(|first| layer >= first) => Section::Unread,
            "enc" | "v" | "a" => Section::Encoder,
            _ => Section::Layers,
        };
        (section, layer, self.stem_rank(stem), suffix_rank(suffix))
    }

    fn stem_rank(&self, stem: &str) -> usize {
        let position = |wanted: &str| STEMS.iter().position(|stem| *stem == wanted);
        // One tensor an expert: the same place as the merged tensor.
        let merged = stem
            .rsplit_once('.')
            .filter(|(_, expert)| expert.parse::<u32>().is_ok())
            .and_then(|(base, _)| position(&format!("{base}_exps")));
        let rank = position(stem).or(merged).map(|rank| 2 * rank);
        let rank = rank.or_else(|| {
            let (_, last) = FAMILIES.iter().find(|(family, _)| stem.starts_with(family))?;
            position(last).map(|rank| 2 * rank + 1)
        });
        let rank = rank.unwrap_or(2 * STEMS.len());
        if !VALUE_BEFORE_KEY.contains(&self.arch) {
            return rank;
        }
        // "attn_k" and "attn_k_norm" stand right before "attn_v".
        let (key, value) = (position("attn_k").map(|rank| 2 * rank), position("attn_v").map(|rank| 2 * rank));
        match (key, value) {
            (Some(key), Some(value)) if rank == value => key,
            (Some(key), Some(value)) if (key..value).contains(&rank) => rank + 2,
            _ => rank,
        }
    }
}

/// A bias is added after its matrix was multiplied.
fn suffix_rank(suffix: &str) -> usize {
    match suffix {
        "weight" | "" => 0,
        "scale" => 1,
        _ => 2,
    }
}

/// True when the token embedding is read whole at the end, as the output matrix.
fn tied(arch: &str, models: &[&Model]) -> bool {
    // The output matrix may lie in a shard that is not here.
    let complete = models.iter().all(|model| model.split.is_none_or(|split| split.count as usize <= models.len()));
    // These make vectors, not logits.
    let no_logits = arch.contains("bert") || arch.contains("embedding") || ["t5encoder", "clip"].contains(&arch);
    let has = |wanted: &[&str]| {
        models.iter().any(|model| model.tensors.iter().any(|tensor| wanted.contains(&tensor.name.as_str())))
    };
    complete && !no_logits && has(&["token_embd.weight"]) && !has(&["output.weight", "dec.output.weight"])
}

/// The order in which one decoded token reads the tensors of `model`, as indexes into its tensors:
/// each exactly once.
///
/// Row tables come first, all but one that is read whole as the output; experts stand where the selected
/// ones are read. Tensors that ordinary decoding does not read come last.
pub fn decode_order(model: &Model) -> Vec<usize> {
    decode_order_of_shards(&[model]).into_iter().map(|(_, tensor)| tensor).collect()
}

/// [`decode_order`] over all shards of a split model, as pairs of shard and tensor.
pub fn decode_order_of_shards(shards: &[&Model]) -> Vec<(usize, usize)> {
    let context = Context::of(shards);
    let mut order: Vec<(Key, usize, usize)> = Vec::with_capacity(shards.iter().map(|model| model.tensors.len()).sum());
    for (shard, model) in shards.iter().enumerate() {
        order.extend(model.tensors.iter().enumerate().map(|(index, tensor)| (context.key(tensor), shard, index)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, shard, index)| (shard, index)).collect()
}

impl Model {
    /// True when there is no output matrix, so that the token embedding is read whole at the end
    /// of every token. A shard of a split model cannot know: there it is false, see
    /// [`tied_embeddings_of_shards`].
    pub fn tied_embeddings(&self) -> bool {
        tied(&self.arch, &[self])
    }
}

/// [`Model::tied_embeddings`] for all shards of a split model.
pub fn tied_embeddings_of_shards(shards: &[&Model]) -> bool {
    tied(shards.iter().find(|model| !model.arch.is_empty()).map_or("", |model| &model.arch), shards)
}
