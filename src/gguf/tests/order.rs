//! The order of reads against what running models were seen to do.

use super::writer::{File, Written};
use crate::gguf::{Model, Role, decode_order, decode_order_of_shards, tied_embeddings_of_shards};

/// A model of `arch` with these tensors in this order of the file.
fn model(arch: &str, names: &[&str]) -> Model {
    let file = names.iter().fold(File::new(arch), |file, name| {
        let dims: &[u64] = if name.ends_with("exps.weight") { &[8, 4, 4] } else { &[8, 4] };
        file.tensor(name, dims)
    });
    Model::read(&file.bytes()).unwrap()
}

/// The names in reading order.
fn order(model: &Model) -> Vec<&str> {
    decode_order(model).into_iter().map(|index| model.tensors[index].name.as_str()).collect()
}

/// One layer with the names of `stems`, as the file has them after sorting by name, must be read in
/// the order of `stems`.
fn assert_layer_order(arch: &str, stems: &[&str]) {
    let names: Vec<String> = stems
        .iter()
        .map(|stem| if stem.contains('.') { format!("blk.0.{stem}") } else { format!("blk.0.{stem}.weight") })
        .collect();
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    for _ in 0..2 {
        let model = model(arch, &sorted);
        assert_eq!(order(&model), names, "{arch}");
        sorted.reverse();
    }
}

#[test]
fn layers_are_read_as_recorded() {
    assert_layer_order(
        "llama",
        &["attn_norm", "attn_q", "attn_v", "attn_k", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"],
    );
    assert_layer_order(
        "qwen3moe",
        &[
            "attn_norm",
            "attn_q",
            "attn_q_norm",
            "attn_v",
            "attn_k",
            "attn_k_norm",
            "attn_output",
            "ffn_norm",
            "ffn_gate_inp",
            "ffn_gate_exps",
            "ffn_up_exps",
            "ffn_down_exps",
        ],
    );
    assert_layer_order(
        "gpt-oss",
        &[
            "attn_norm",
            "attn_q",
            "attn_q.bias",
            "attn_k",
            "attn_k.bias",
            "attn_v",
            "attn_v.bias",
            "attn_sinks",
            "attn_output",
            "attn_output.bias",
            "post_attention_norm",
            "ffn_gate_inp",
            "ffn_gate_inp.bias",
            "ffn_gate_exps",
            "ffn_gate_exps.bias",
            "ffn_up_exps",
            "ffn_up_exps.bias",
            "ffn_down_exps",
            "ffn_down_exps.bias",
        ],
    );
    assert_layer_order(
        "deepseek2",
        &[
            "attn_norm",
            "attn_q_a",
            "attn_q_a_norm",
            "attn_q_b",
            "attn_k_b",
            "attn_kv_a_mqa",
            "attn_kv_a_norm",
            "attn_v_b",
            "attn_output",
            "ffn_norm",
            "ffn_gate_inp",
            "exp_probs_b.bias",
            "ffn_gate_exps",
            "ffn_up_exps",
            "ffn_down_exps",
            "ffn_gate_shexp",
            "ffn_up_shexp",
            "ffn_down_shexp",
        ],
    );
    assert_layer_order(
        "never-heard-of",
        &[
            "attn_norm",
            "attn_qkv",
            "attn_strange",
            "attn_output",
            "ffn_norm",
            "ffn_gate_inp",
            "ffn_gate_up_exps",
            "ffn_down_exps",
            "ffn_gate",
            "ffn_up",
            "ffn_strange",
            "ffn_down",
            "strange",
        ],
    );
}

#[test]
fn unknown_names_keep_the_order_of_the_file() {
    let names = ["blk.0.zeta.weight", "blk.0.alpha.weight", "blk.0.attn_q.weight", "zz.weight", "aa.weight"];
    let model = model("x", &names);
    let expected = ["zz.weight", "aa.weight", "blk.0.attn_q.weight", "blk.0.zeta.weight", "blk.0.alpha.weight"];
    assert_eq!(order(&model), expected);
}

#[test]
fn layers_ascend_between_the_embedding_and_the_output() {
    let names = [
        "output.weight",
        "blk.10.attn_q.weight",
        "output_norm.weight",
        "blk.2.attn_q.weight",
        "token_embd.weight",
        "rope_freqs.weight",
        "blk.0.attn_q.weight",
    ];
    let model = model("llama", &names);
    let expected = [
        "token_embd.weight",
        "rope_freqs.weight",
        "blk.0.attn_q.weight",
        "blk.2.attn_q.weight",
        "blk.10.attn_q.weight",
        "output_norm.weight",
        "output.weight",
    ];
    assert_eq!(order(&model), expected);
    assert!(!model.tied_embeddings());
}

#[test]
fn tied_embeddings_are_read_whole_at_the_end() {
    let names = ["token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight", "per_layer_token_embd.weight"];
    let tied = model("gemma3n", &names);
    assert!(tied.tied_embeddings());
    let expected = ["per_layer_token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight", "token_embd.weight"];
    assert_eq!(order(&tied), expected);
    assert!(!model("nomic-bert", &names).tied_embeddings());
}

#[test]
fn layers_for_further_tokens_come_last() {
    let file = File::new("glm4moe")
        .pair("glm4moe.block_count", Written::U32(2))
        .pair("glm4moe.nextn_predict_layers", Written::U32(1))
        .tensor("blk.1.attn_q.weight", &[8])
        .tensor("blk.1.nextn.eh_proj.weight", &[8])
        .tensor("blk.0.attn_q.weight", &[8])
        .tensor("output.weight", &[8]);
    let model = Model::read(&file.bytes()).unwrap();
    assert_eq!(decode_order(&model), [2, 3, 0, 1]);
}

#[test]
fn one_tensor_an_expert_stands_where_the_merged_one_would() {
    let names =
        ["blk.0.ffn_down.0.weight", "blk.0.ffn_gate.0.weight", "blk.0.ffn_gate.1.weight", "blk.0.ffn_norm.weight"];
    let model = model("llama", &names);
    assert_eq!(decode_order(&model), [3, 1, 2, 0]);
    assert!(matches!(model.tensors[0].role, Role::Experts { count: 1, slice_bytes: 128 }));
}

#[test]
fn shards_are_ordered_as_one_model() {
    let shard = |no: u16, arch: &str, names: &[&str]| {
        let mut file = names.iter().fold(File::new(arch), |file, name| file.tensor(name, &[8]));
        if arch.is_empty() {
            file.pairs.clear();
        }
        let file = file
            .pair("split.no", Written::U16(no))
            .pair("split.count", Written::U16(2))
            .pair("split.tensors.count", Written::I32(5));
        Model::read(&file.bytes()).unwrap()
    };
    let first = shard(0, "llama", &["token_embd.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"]);
    let second = shard(1, "", &["blk.0.attn_k.weight", "output_norm.weight"]);
    assert_eq!(first.split.unwrap().tensors, 5);
    assert!(!first.tied_embeddings());
    assert!(tied_embeddings_of_shards(&[&first, &second]));
    assert_eq!(decode_order(&first), [0, 2, 1]);
    assert_eq!(decode_order_of_shards(&[&first, &second]), [(1, 0), (0, 2), (0, 1), (1, 1), (0, 0)]);
}

#[test]
fn expert_slices_follow_each_other() {
    let model = model("qwen3moe", &["blk.0.ffn_up_exps.weight"]);
    let tensor = &model.tensors[0];
    assert_eq!(tensor.role, Role::Experts { count: 4, slice_bytes: 8 * 4 * 4 });
    assert_eq!(tensor.bytes, 4 * 128);
}
