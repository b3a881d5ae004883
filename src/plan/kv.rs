//! What the context takes: the cache of keys and values.

use serde::Serialize;

use crate::gguf::{Model, Value};

/// Bytes of an element: llama.cpp keeps f16 unless told otherwise (`--cache-type-k`, `--cache-type-v`).
const ELEMENT_BYTES: u64 = 2;

/// What one token of context takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KvCache {
    /// Bytes of a token in all layers, at f16.
    pub token_bytes: u64,
    /// Latents that keys and values share are kept, not heads (multi-head latent attention).
    pub latent: bool,
    /// Some layers keep only so many tokens; they are counted as if they kept all.
    pub sliding_window: Option<u64>,
}

impl KvCache {
    /// From the metadata of `model`, a model's first shard; `None` when that does not tell: no attention,
    /// or another number of heads in each layer.
    ///
    /// Heads: `layers x head_count_kv x (key_length + value_length)`. Latents (DeepSeek-V2 report, section
    /// 2.1): `layers x (kv_lora_rank + rope.dimension_count)`, in files with the up-projections of keys and
    /// values apart (`key_length_mla`); from older files llama.cpp keeps heads.
    pub fn of(model: &Model) -> Option<KvCache> {
        let number = |key: &str| model.value(&format!("{}.{key}", model.arch)).and_then(Value::as_u64);
        let layers = u64::from(model.unread_from().or(model.block_count)?);
        let latent = number("attention.kv_lora_rank").filter(|_| number("attention.key_length_mla").is_some());
        let elements = match latent {
            Some(rank) => rank.checked_add(number("rope.dimension_count")?)?,
            None => {
                let heads = number("attention.head_count")?;
                let head = number("embedding_length").unwrap_or(0).checked_div(heads)?;
                let key = number("attention.key_length").unwrap_or(head);
                let value = number("attention.value_length").unwrap_or(head);
                let kv_heads = match model.value(&format!("{}.attention.head_count_kv", model.arch)) {
                    Some(value) => value.as_u64()?,
                    None => heads,
                };
                kv_heads.checked_mul(key.checked_add(value)?)?
            }
        };
        let token_bytes = layers.checked_mul(elements)?.checked_mul(ELEMENT_BYTES)?;
        let sliding_window = number("attention.sliding_window").filter(|&tokens| tokens > 0);
        Some(KvCache { token_bytes, latent: latent.is_some(), sliding_window })
    }
}
