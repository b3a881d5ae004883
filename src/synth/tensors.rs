//! Which tensors a model of some shape has.

use super::arch::{Arch, Shape};

/// What a tensor is for, as far as its type and its values depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The token embeddings.
    Embedding,
    /// The matrix that makes logits.
    Output,
    /// Any other matrix that is quantized.
    Matrix,
    /// The matrices of all experts of a layer.
    Experts,
    /// The matrix that chooses experts.
    Router,
    /// A norm's weights.
    Norm,
    /// Biases, attention sinks.
    Bias,
}

/// A tensor without its type and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The layer's number.
    pub layer: Option<u32>,
    /// The name after `blk.N.`, or the whole name.
    pub stem: &'static str,
    /// Name in a Hugging Face checkpoint, after `model.layers.N.`, or the whole name. Neighbours
    /// with the same name are made of one checkpoint tensor; [`CHECKPOINT_EXPERTS`] stands for one
    /// tensor for each expert and matrix.
    pub checkpoint: &'static str,
    /// Elements of each dimension, the fastest first; 1 for those that are not used.
    pub dims: [u64; 3],
    /// What it is for.
    pub kind: Kind,
}

/// See [`Tensor::checkpoint`].
pub(super) const CHECKPOINT_EXPERTS: &str = "mlp.experts";

impl Tensor {
    /// The name in the file.
    pub fn name(&self) -> String {
        match self.layer {
            Some(layer) => format!("blk.{layer}.{}", self.stem),
            None => self.stem.to_owned(),
        }
    }

    /// Length of the name, without making it.
    pub fn name_bytes(&self) -> u64 {
        let digits = self.layer.map_or(0, |layer| 5 + layer.checked_ilog10().unwrap_or(0) + 1);
        self.stem.len() as u64 + u64::from(digits)
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Dimensions in use, at least 1.
    pub fn n_dims(&self) -> usize {
        self.dims.iter().rposition(|&dim| dim > 1).map_or(1, |last| last + 1)
    }
}

/// Collects the tensors of one layer.
struct Layer<'a> {
    tensors: &'a mut Vec<Tensor>,
    layer: Option<u32>,
}

impl Layer<'_> {
    fn add(&mut self, kind: Kind, checkpoint: &'static str, stem: &'static str, dims: &[u64]) {
        let mut all = [1; 3];
        all[..dims.len()].copy_from_slice(dims);
        self.tensors.push(Tensor { layer: self.layer, stem, checkpoint, dims: all, kind });
    }

    fn matrix(&mut self, checkpoint: &'static str, stem: &'static str, columns: u64, rows: u64) {
        self.add(Kind::Matrix, checkpoint, stem, &[columns, rows]);
    }

    fn norm(&mut self, checkpoint: &'static str, stem: &'static str, elements: u64) {
        self.add(Kind::Norm, checkpoint, stem, &[elements]);
    }

    fn bias(&mut self, checkpoint: &'static str, stem: &'static str, elements: u64) {
        self.add(Kind::Bias, checkpoint, stem, &[elements]);
    }
}

/// Every tensor of the model, in the order of a checkpoint's state dictionary.
///
/// Names and dimensions are those that `llama_model::load_tensors` in llama.cpp asks for.
pub fn tensors(shape: &Shape) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let width = shape.width;
    let mut top = Layer { tensors: &mut tensors, layer: None };
    top.add(Kind::Embedding, "model.embed_tokens.weight", "token_embd.weight", &[width, shape.vocab]);
    for number in 0..shape.layers {
        let mut layer = Layer { tensors: &mut tensors, layer: Some(number) };
        attention(&mut layer, shape);
        feed_forward(&mut layer, shape, number);
        layer.norm("input_layernorm.weight", "attn_norm.weight", width);
        let ffn_norm = if shape.arch == Arch::GptOss { "post_attention_norm.weight" } else { "ffn_norm.weight" };
        layer.norm("post_attention_layernorm.weight", ffn_norm, width);
    }
    let mut top = Layer { tensors: &mut tensors, layer: None };
    top.norm("model.norm.weight", "output_norm.weight", width);
    top.add(Kind::Output, "lm_head.weight", "output.weight", &[width, shape.vocab]);
    tensors
}

fn attention(layer: &mut Layer<'_>, shape: &Shape) {
    let Shape { width, heads, kv_heads, head, .. } = *shape;
    if let Some(mla) = shape.mla {
        layer.matrix("self_attn.q_a_proj.weight", "attn_q_a.weight", width, mla.q_rank);
        layer.norm("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", mla.q_rank);
        layer.matrix("self_attn.q_b_proj.weight", "attn_q_b.weight", mla.q_rank, heads * (mla.nope + mla.rope));
        layer.matrix("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight", width, mla.kv_rank + mla.rope);
        layer.norm("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", mla.kv_rank);
        const KV_B: &str = "self_attn.kv_b_proj.weight";
        layer.add(Kind::Matrix, KV_B, "attn_k_b.weight", &[mla.nope, mla.kv_rank, heads]);
        layer.add(Kind::Matrix, KV_B, "attn_v_b.weight", &[mla.kv_rank, mla.value, heads]);
        layer.matrix("self_attn.o_proj.weight", "attn_output.weight", heads * mla.value, width);
        return;
    }
    layer.matrix("self_attn.q_proj.weight", "attn_q.weight", width, heads * head);
    layer.matrix("self_attn.k_proj.weight", "attn_k.weight", width, kv_heads * head);
    layer.matrix("self_attn.v_proj.weight", "attn_v.weight", width, kv_heads * head);
    layer.matrix("self_attn.o_proj.weight", "attn_output.weight", heads * head, width);
    match shape.arch {
        Arch::GptOss => {
            layer.bias("self_attn.q_proj.bias", "attn_q.bias", heads * head);
            layer.bias("self_attn.k_proj.bias", "attn_k.bias", kv_heads * head);
            layer.bias("self_attn.v_proj.bias", "attn_v.bias", kv_heads * head);
            layer.bias("self_attn.o_proj.bias", "attn_output.bias", width);
            layer.bias("self_attn.sinks", "attn_sinks.weight", heads);
        }
        Arch::Qwen3Moe => {
            layer.norm("self_attn.q_norm.weight", "attn_q_norm.weight", head);
            layer.norm("self_attn.k_norm.weight", "attn_k_norm.weight", head);
        }
        Arch::Llama | Arch::Deepseek2 => {}
    }
}

fn feed_forward(layer: &mut Layer<'_>, shape: &Shape, number: u32) {
    let Shape { width, ff, .. } = *shape;
    let Some(experts) = shape.experts.filter(|_| number >= shape.dense_layers) else {
        layer.matrix("mlp.gate_proj.weight", "ffn_gate.weight", width, ff);
        layer.matrix("mlp.up_proj.weight", "ffn_up.weight", width, ff);
        layer.matrix("mlp.down_proj.weight", "ffn_down.weight", ff, width);
        return;
    };
    let (count, ff) = (experts.count, experts.ff);
    let router = if shape.arch == Arch::GptOss { "mlp.router.weight" } else { "mlp.gate.weight" };
    layer.add(Kind::Router, router, "ffn_gate_inp.weight", &[width, count]);
    if shape.arch == Arch::GptOss {
        const GATE_UP_BIAS: &str = "mlp.experts.gate_up_proj_bias";
        const GATE_UP: &str = "mlp.experts.gate_up_proj_scales";
        layer.bias("mlp.router.bias", "ffn_gate_inp.bias", count);
        layer.add(Kind::Bias, GATE_UP_BIAS, "ffn_gate_exps.bias", &[ff, count]);
        layer.add(Kind::Bias, GATE_UP_BIAS, "ffn_up_exps.bias", &[ff, count]);
        layer.add(Kind::Bias, "mlp.experts.down_proj_bias", "ffn_down_exps.bias", &[width, count]);
        layer.add(Kind::Experts, GATE_UP, "ffn_gate_exps.weight", &[width, ff, count]);
        layer.add(Kind::Experts, GATE_UP, "ffn_up_exps.weight", &[width, ff, count]);
        layer.add(Kind::Experts, "mlp.experts.down_proj_scales", "ffn_down_exps.weight", &[ff, width, count]);
        return;
    }
    if shape.arch == Arch::Deepseek2 {
        layer.bias("mlp.gate.e_score_correction_bias", "exp_probs_b.bias", count);
    }
    layer.add(Kind::Experts, CHECKPOINT_EXPERTS, "ffn_down_exps.weight", &[ff, width, count]);
    layer.add(Kind::Experts, CHECKPOINT_EXPERTS, "ffn_gate_exps.weight", &[width, ff, count]);
    layer.add(Kind::Experts, CHECKPOINT_EXPERTS, "ffn_up_exps.weight", &[width, ff, count]);
    if experts.shared > 0 {
        let ff = ff * experts.shared;
        layer.matrix("mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight", width, ff);
        layer.matrix("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight", width, ff);
        layer.matrix("mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight", ff, width);
    }
}
