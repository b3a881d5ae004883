//! What a tensor's name says: its layer and its role.
//!
//! The names are those of `LLM_TENSOR_NAMES` in llama.cpp (`llama-arch.cpp`).

use super::tensor::Role;

/// More experts than any model has; a tensor that claims more is read as a dense one.
const EXPERTS_MAX: u64 = 65_536;

/// A tensor's name in its parts: `dec.blk.3.attn_q.weight` is stack `dec`, layer 3, stem `attn_q`,
/// suffix `weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// What stands before the layer: `enc`, `dec`, `v`, or nothing.
    pub stack: &'a str,
    /// The layer's number.
    pub layer: Option<u32>,
    /// The name inside the layer, or the whole name without the suffix.
    pub stem: &'a str,
    /// `weight`, `bias`, `scale`, ..., or nothing.
    pub suffix: &'a str,
}

/// Takes `name` apart.
pub(super) fn parts(name: &str) -> Parts<'_> {
    let (body, suffix) = match name.rsplit_once('.') {
        Some((body, suffix)) if !is_number(suffix) => (body, suffix),
        _ => (name, ""),
    };
    let mut start = 0;
    let mut before: Option<&str> = None;
    for part in body.split('.') {
        let end = start + part.len();
        // "layers" and "h" are the names of checkpoints that were not renamed.
        if matches!(before, Some("blk" | "layers" | "h"))
            && let Ok(layer) = part.parse::<u32>()
            && is_number(part)
            && end < body.len()
        {
            let head = &body[..start - 1];
            let stack = head.rsplit_once('.').map_or("", |(stack, _)| stack);
            return Parts { stack, layer: Some(layer), stem: &body[end + 1..], suffix };
        }
        before = Some(part);
        start = end + 1;
    }
    Parts { stack: "", layer: None, stem: body, suffix }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The role of a tensor of `n_dims` dimensions and `bytes` bytes.
pub(super) fn role(parts: Parts<'_>, dims: [u64; 4], n_dims: u32, bytes: u64) -> Role {
    let Parts { layer, stem, suffix, .. } = parts;
    if layer.is_none() {
        return match stem {
            "token_embd" | "per_layer_token_embd" if suffix == "weight" => Role::TokenEmbedding,
            "position_embd" => Role::PositionalEmbedding,
            "output" | "cls" | "cls.output" | "dec.output" => Role::Output,
            _ if is_norm(stem) => Role::Norm,
            _ => Role::Other,
        };
    }
    // Before merged experts: `ffn_gate.17`, one matrix each.
    if let Some((base, expert)) = stem.rsplit_once('.')
        && is_number(expert)
        && base.starts_with("ffn_")
        && bytes > 0
    {
        return Role::Experts { count: 1, slice_bytes: bytes };
    }
    if stem.ends_with("shexp") {
        return Role::SharedExpert;
    }
    if stem.ends_with("exps") {
        if n_dims == 3 && bytes > 0 && dims[2] <= EXPERTS_MAX {
            return Role::Experts { count: dims[2] as u32, slice_bytes: bytes / dims[2] };
        }
        // What is not a stack of matrices is a norm, a bias or a scale: a few values an expert.
        return if is_norm(stem) { Role::Norm } else { Role::DenseFfn };
    }
    if stem.starts_with("ffn_gate_inp") || stem.starts_with("exp_probs") {
        return Role::Router;
    }
    if is_norm(stem) {
        return Role::Norm;
    }
    const ATTENTION: [&str; 8] =
        ["attn", "self_attn", "cross_attn", "ssm", "time_mix", "shortconv", "indexer", "attention"];
    if ATTENTION.iter().any(|prefix| stem.starts_with(prefix)) {
        return Role::Attention;
    }
    if ["ffn", "mlp", "channel_mix", "feed_forward"].iter().any(|prefix| stem.starts_with(prefix)) {
        return Role::DenseFfn;
    }
    Role::Other
}

fn is_norm(stem: &str) -> bool {
    stem.ends_with("norm") || stem.contains("_norm_") || stem.contains("layernorm") || stem.starts_with("ln")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(name: &str) -> (Option<u32>, Role) {
        let parts = parts(name);
        (parts.layer, role(parts, [64, 8, 1, 1], 2, 1024))
    }

    #[test]
    fn names_come_apart() {
        let all = |name| {
            let Parts { stack, layer, stem, suffix } = parts(name);
            (stack, layer, stem, suffix)
        };
        assert_eq!(all("blk.3.attn_q.weight"), ("", Some(3), "attn_q", "weight"));
        assert_eq!(all("dec.blk.31.cross_attn_k.bias"), ("dec", Some(31), "cross_attn_k", "bias"));
        assert_eq!(all("blk.0.ffn_gate.7.weight"), ("", Some(0), "ffn_gate.7", "weight"));
        assert_eq!(all("model.layers.9.self_attn.q_proj.weight"), ("model", Some(9), "self_attn.q_proj", "weight"));
        assert_eq!(all("output.weight"), ("", None, "output", "weight"));
        assert_eq!(all("mm.0.weight"), ("", None, "mm.0", "weight"));
        assert_eq!(all("token_embd"), ("", None, "token_embd", ""));
        for odd in ["", ".", "..", "blk", "blk.", "blk.1", "blk.+1.x.weight", "blk.99999999999.x.weight", "blk.1."] {
            assert_eq!(parts(odd).layer, None, "{odd}");
        }
        assert_eq!(parts("blk.1..weight").stem, "");
    }

    #[test]
    fn roles_follow_names() {
        for (name, layer, role) in [
            ("token_embd.weight", None, Role::TokenEmbedding),
            ("position_embd.weight", None, Role::PositionalEmbedding),
            ("output_norm.weight", None, Role::Norm),
            ("output.weight", None, Role::Output),
            ("rope_freqs.weight", None, Role::Other),
            ("blk.1.attn_norm.weight", Some(1), Role::Norm),
            ("blk.1.attn_kv_a_norm.weight", Some(1), Role::Norm),
            ("blk.1.attn_norm_2.weight", Some(1), Role::Norm),
            ("blk.1.attn_qkv.weight", Some(1), Role::Attention),
            ("blk.1.attn_sinks.weight", Some(1), Role::Attention),
            ("blk.1.ssm_in.weight", Some(1), Role::Attention),
            ("blk.1.ffn_gate.weight", Some(1), Role::DenseFfn),
            ("blk.1.ffn_gate_inp.weight", Some(1), Role::Router),
            ("blk.1.exp_probs_b.bias", Some(1), Role::Router),
            ("blk.1.ffn_gate_inp_shexp.weight", Some(1), Role::SharedExpert),
            ("blk.1.ffn_up_shexp.weight", Some(1), Role::SharedExpert),
            ("blk.1.ffn_up_exps.bias", Some(1), Role::DenseFfn),
            ("blk.1.ffn_up.3.weight", Some(1), Role::Experts { count: 1, slice_bytes: 1024 }),
            ("blk.1.strange.weight", Some(1), Role::Other),
        ] {
            assert_eq!(matrix(name), (layer, role), "{name}");
        }
    }

    #[test]
    fn merged_experts_are_counted_within_reason() {
        let exps = |dims: [u64; 4], n_dims, bytes| role(parts("blk.0.ffn_gate_up_exps.weight"), dims, n_dims, bytes);
        assert_eq!(exps([64, 8, 4, 1], 3, 4096), Role::Experts { count: 4, slice_bytes: 1024 });
        assert_eq!(exps([1, 1, 1 << 20, 1], 3, 1 << 20), Role::DenseFfn);
        assert_eq!(exps([64, 8, 0, 1], 3, 0), Role::DenseFfn);
        assert_eq!(exps([64, 8, 4, 2], 4, 8192), Role::DenseFfn);
    }
}
