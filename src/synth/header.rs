//! The header of a GGUF file: metadata and tensor table.
//!
//! Layout: `docs/gguf.md` of the ggml repository, version 3.

use super::arch::{Arch, Shape};
use super::quant::Quant;
use super::stream::DEEPSEEK_SCALE;
use super::tensors::Tensor;
use super::vocab;
use crate::gguf::GgmlType;

/// Tensors begin at multiples of this many bytes (`general.alignment`, its default).
pub(super) const ALIGNMENT: u64 = 32;

/// `enum gguf_type`.
#[derive(Clone, Copy)]
enum ValueType {
    U16 = 2,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
}

/// Key-value pairs, already in the file's form.
#[derive(Debug, Clone, Default)]
pub(super) struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Metadata {
    fn key(&mut self, key: &str, ty: ValueType) -> &mut Vec<u8> {
        self.count += 1;
        put_string(&mut self.bytes, key);
        self.bytes.extend((ty as u32).to_le_bytes());
        &mut self.bytes
    }

    fn u16(&mut self, key: &str, value: u16) {
        self.key(key, ValueType::U16).extend(value.to_le_bytes());
    }

    fn u32(&mut self, key: &str, value: u64) {
        let value = u32::try_from(value).expect("hyperparameters are checked before");
        self.key(key, ValueType::U32).extend(value.to_le_bytes());
    }

    fn i32(&mut self, key: &str, value: i32) {
        self.key(key, ValueType::I32).extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.key(key, ValueType::F32).extend(value.to_le_bytes());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key, ValueType::Bool).push(value.into());
    }

    fn string(&mut self, key: &str, value: &str) {
        put_string(self.key(key, ValueType::String), value);
    }

    fn array(&mut self, key: &str, ty: ValueType, count: usize) -> &mut Vec<u8> {
        let bytes = self.key(key, ValueType::Array);
        bytes.extend((ty as u32).to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
        bytes
    }

    /// What describes the model.
    pub fn model(shape: &Shape, quant: Quant, seed: u64) -> Metadata {
        let mut meta = Metadata::default();
        meta.string("general.architecture", shape.arch.name());
        meta.string("general.type", "model");
        meta.string("general.name", &format!("synthetic {}", shape.arch.name()));
        meta.string("general.description", &format!("random weights, ggpager synth --seed {seed}"));
        meta.u32("general.file_type", quant.file_type().into());
        // GGML_QNT_VERSION
        meta.u32("general.quantization_version", 2);
        meta.hyperparameters(shape);
        meta.tokenizer(shape.vocab);
        meta
    }

    /// Adds what makes a file one part of several, as llama-gguf-split does.
    pub fn split(&mut self, number: usize, count: usize, tensors: usize) {
        let part = |value| u16::try_from(value).expect("the plan checks the number of shards");
        self.u16("split.no", part(number));
        self.u16("split.count", part(count));
        self.i32("split.tensors.count", i32::try_from(tensors).expect("thousands at most"));
    }

    fn hyperparameters(&mut self, shape: &Shape) {
        let arch = shape.arch.name();
        let key = |name: &str| format!("{arch}.{name}");
        self.u32(&key("block_count"), shape.layers.into());
        self.u32(&key("context_length"), shape.ctx.into());
        self.u32(&key("embedding_length"), shape.width);
        let ff = if shape.ff > 0 { shape.ff } else { shape.experts.map_or(0, |experts| experts.ff) };
        self.u32(&key("feed_forward_length"), ff);
        self.u32(&key("vocab_size"), shape.vocab);
        self.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
        self.u32(&key("attention.head_count"), shape.heads);
        self.u32(&key("attention.head_count_kv"), shape.kv_heads);
        let rope_base = match shape.arch {
            Arch::Llama => 500_000.0,
            Arch::Qwen3Moe => 1_000_000.0,
            Arch::Deepseek2 => 10_000.0,
            Arch::GptOss => 150_000.0,
        };
        self.f32(&key("rope.freq_base"), rope_base);
        match shape.mla {
            None => {
                self.u32(&key("attention.key_length"), shape.head);
                self.u32(&key("attention.value_length"), shape.head);
                self.u32(&key("rope.dimension_count"), shape.head);
            }
            // Stored as one key-value head of the latent, which every query head reads.
            Some(mla) => {
                self.u32(&key("attention.q_lora_rank"), mla.q_rank);
                self.u32(&key("attention.kv_lora_rank"), mla.kv_rank);
                self.u32(&key("attention.key_length"), mla.kv_rank + mla.rope);
                self.u32(&key("attention.value_length"), mla.kv_rank);
                self.u32(&key("attention.key_length_mla"), mla.nope + mla.rope);
                self.u32(&key("attention.value_length_mla"), mla.value);
                self.u32(&key("rope.dimension_count"), mla.rope);
            }
        }
        if let Some(experts) = shape.experts {
            self.u32(&key("expert_count"), experts.count);
            self.u32(&key("expert_used_count"), experts.used);
            self.u32(&key("expert_feed_forward_length"), experts.ff);
            if shape.arch == Arch::Deepseek2 {
                self.u32(&key("leading_dense_block_count"), shape.dense_layers.into());
                self.u32(&key("expert_shared_count"), experts.shared);
                self.f32(&key("expert_weights_scale"), DEEPSEEK_SCALE as f32);
                self.bool(&key("expert_weights_norm"), true);
                // LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID
                self.u32(&key("expert_gating_func"), 2);
            }
        }
        if shape.arch == Arch::GptOss {
            self.u32(&key("attention.sliding_window"), 128);
            self.string(&key("rope.scaling.type"), "yarn");
            self.f32(&key("rope.scaling.factor"), 32.0);
            self.u32(&key("rope.scaling.original_context_length"), 4096);
        }
    }

    fn tokenizer(&mut self, count: u64) {
        let tokens = vocab::tokens(count);
        self.string("tokenizer.ggml.model", "llama");
        self.string("tokenizer.ggml.pre", "default");
        let texts = self.array("tokenizer.ggml.tokens", ValueType::String, tokens.len());
        tokens.iter().for_each(|token| put_string(texts, &token.text));
        let scores = self.array("tokenizer.ggml.scores", ValueType::F32, tokens.len());
        tokens.iter().for_each(|token| scores.extend(token.score.to_le_bytes()));
        let kinds = self.array("tokenizer.ggml.token_type", ValueType::I32, tokens.len());
        tokens.iter().for_each(|token| kinds.extend((token.kind as i32).to_le_bytes()));
        self.u32("tokenizer.ggml.bos_token_id", vocab::BEGIN.into());
        self.u32("tokenizer.ggml.eos_token_id", vocab::END.into());
        self.u32("tokenizer.ggml.unknown_token_id", vocab::UNKNOWN.into());
        self.bool("tokenizer.ggml.add_bos_token", true);
        self.bool("tokenizer.ggml.add_eos_token", false);
        self.string(
            "tokenizer.chat_template",
            "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}\
             {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
        );
    }
}

/// Bytes of one line of the tensor table.
pub(super) fn table_line_bytes(tensor: &Tensor) -> u64 {
    8 + tensor.name_bytes() + 4 + 8 * tensor.n_dims() as u64 + 4 + 8
}

/// The whole header with its padding: the tensor data begin where it ends. Offsets count from there.
pub(super) fn header<'a>(
    metadata: &Metadata,
    tensors: impl ExactSizeIterator<Item = (&'a Tensor, GgmlType, u64)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(metadata.bytes.len() + 128 * tensors.len() + 64);
    out.extend(b"GGUF");
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(metadata.count.to_le_bytes());
    out.extend(&metadata.bytes);
    for (tensor, ty, offset) in tensors {
        put_string(&mut out, &tensor.name());
        out.extend((tensor.n_dims() as u32).to_le_bytes());
        tensor.dims[..tensor.n_dims()].iter().for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(ty.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}
