//! Models whose routers shall behave as asked, before any program has run them.

use super::element::put;
use super::shaped::Shaped;
use super::tensors::{Kind, Tensor, tensors};
use super::tests::decode;
use super::weights::Weights;
use super::*;
use crate::gguf::GgmlType;

const ARCHS: [Arch; 3] = [Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss];

fn shape(arch: Arch, width: u64, layers: u32) -> Shape {
    Shape { layers, ..Shape::usual(arch, width, 1.0).expect("valid") }
}

fn tensor(shape: &Shape, name: &str) -> Tensor {
    tensors(shape).into_iter().find(|tensor| tensor.name() == name).expect(name)
}

/// Elements `range` of `tensor` as type `ty`.
fn content(shaped: &Shaped, tensor: &Tensor, ty: GgmlType, seed: u64) -> Vec<f32> {
    let blocks = tensor.elements() / ty.block_elements();
    let mut data = vec![0; (blocks * ty.block_bytes()) as usize];
    Weights::new(seed, tensor, ty, Some(shaped)).fill(0, &mut data);
    data.chunks(ty.block_bytes() as usize).flat_map(|block| decode(ty, block)).collect()
}

#[test]
fn an_element_is_put_where_it_is_read() {
    let types =
        [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::F32];
    for ty in types {
        let tensor = Tensor { layer: None, stem: "x", checkpoint: "x", dims: [256, 1, 1], kind: Kind::Embedding };
        let bytes = (256 / ty.block_elements() * ty.block_bytes()) as usize;
        let mut data = vec![0; bytes];
        Weights::new(5, &tensor, ty, None).fill(0, &mut data);
        let read = |data: &[u8]| -> Vec<f32> {
            data.chunks(ty.block_bytes() as usize).flat_map(|block| decode(ty, block)).collect()
        };
        let (before, elements) = (read(&data), ty.block_elements() as usize);
        // Whole groups of 16, as Q6_K wants them, and every place in them.
        for (index, value) in (0..256).filter(|index| index / 16 % 3 == 1).map(|i| (i, [0.4, -0.7][i % 2])) {
            let block = &mut data[index / elements * ty.block_bytes() as usize..][..ty.block_bytes() as usize];
            put(ty, block, index % elements, value);
        }
        for (index, (now, was)) in read(&data).into_iter().zip(before).enumerate() {
            match index / 16 % 3 {
                1 => assert!((now - [0.4, -0.7][index % 2]).abs() < 0.17, "{ty} {index}: {now}"),
                _ => assert_eq!(now, was, "{ty} {index}"),
            }
        }
    }
}

#[test]
fn pieces_of_a_shaped_tensor_join() {
    // Three superblocks a row: pieces begin anywhere in a row.
    let shape = shape(Arch::Qwen3Moe, 768, 7);
    let shaped = Shaped::new(&shape, Routing::default(), 3);
    let all = [
        ("token_embd.weight", GgmlType::Q4_K),
        ("output.weight", GgmlType::Q6_K),
        ("blk.3.ffn_gate_inp.weight", GgmlType::F32),
        ("blk.3.ffn_down_exps.weight", GgmlType::Q4_K),
        ("blk.3.attn_output.weight", GgmlType::Q8_0),
    ];
    for (name, ty) in all {
        let tensor = tensor(&shape, name);
        let weights = Weights::new(3, &tensor, ty, Some(&shaped));
        let mut whole = vec![0; (tensor.elements() / ty.block_elements() * ty.block_bytes()) as usize];
        weights.fill(0, &mut whole);
        let step = weights.piece_bytes(5000);
        for (index, piece) in whole.chunks(step).enumerate() {
            let mut again = vec![0; piece.len()];
            weights.fill((index * step) as u64, &mut again);
            assert!(again == piece, "{name} piece {index}");
        }
    }
}

/// A layer's experts add to what the next router reads, and next to nothing to topics.
#[test]
fn rows_are_scaled_by_what_is_read_next() {
    for (arch, ty) in [(Arch::Qwen3Moe, GgmlType::Q4_K), (Arch::GptOss, GgmlType::MXFP4)] {
        let shape = shape(arch, 512, 12);
        let shaped = Shaped::new(&shape, Routing::default(), 1);
        let tensor = tensor(&shape, "blk.3.ffn_down_exps.weight");
        let values = content(&shaped, &tensor, ty, 1);
        let spread = |row: u64| {
            let of_expert = |expert: u64| {
                let start = ((expert * tensor.dims[1] + row) * tensor.dims[0]) as usize;
                values[start..start + tensor.dims[0] as usize].iter().map(|value| value * value).sum::<f32>()
            };
            (0..tensor.dims[2]).map(of_expert).sum::<f32>().sqrt()
        };
        // Twelve layers: two groups, and layer 4 reads the even columns. 160 columns are no token's own.
        assert!(spread(160) > 3.0 * spread(161) && spread(161) > 3.0 * spread(159), "{arch:?}");
        assert!(spread(510) > 3.0 * spread(511) && spread(0) < 0.2 * spread(511), "{arch:?}");
        let ratio = spread(400) / spread(402);
        assert!((0.8..1.25).contains(&ratio), "{arch:?} {ratio}");
    }
}

#[test]
fn words_of_a_topic_share_its_code_and_no_other() {
    let shape = shape(Arch::Qwen3Moe, 512, 4);
    let shaped = Shaped::new(&shape, Routing::default(), 1);
    let embedding = content(&shaped, &tensor(&shape, "token_embd.weight"), GgmlType::Q4_K, 1);
    let output = content(&shaped, &tensor(&shape, "output.weight"), GgmlType::Q6_K, 1);
    let signs = |values: &[f32], token: u64, columns: std::ops::Range<usize>| -> Vec<bool> {
        values[token as usize * 512..][columns].iter().map(|value| *value > 0.0).collect()
    };
    // As many topics as there are last syllables.
    let (word, akin, stranger) = (vocab::FIXED + 5, vocab::FIXED + 5 + 80 * 3, vocab::FIXED + 6);
    assert_eq!(signs(&embedding, word, 0..128), signs(&embedding, akin, 0..128));
    assert_eq!(signs(&embedding, word, 0..128), signs(&output, akin, 0..128));
    let (a, b) = (signs(&embedding, word, 0..128), signs(&embedding, stranger, 0..128));
    let same = a.iter().zip(b).filter(|(a, b)| *a == b).count();
    assert!((32..96).contains(&same), "{same} of 128");
    // What all tokens have alike, and what is their own.
    assert_eq!(signs(&embedding, word, 128..160), signs(&embedding, stranger, 128..160));
    assert_ne!(signs(&embedding, word, 160..512), signs(&embedding, akin, 160..512));
    // What is spelled is one topic.
    assert_eq!(signs(&embedding, 300, 0..128), signs(&embedding, 301, 0..128));
}

#[test]
fn routers_read_what_the_options_say() {
    let shape = shape(Arch::Qwen3Moe, 512, 12);
    let power = |routing: Routing, layer: u32| {
        let shaped = Shaped::new(&shape, routing, 1);
        let gate = content(&shaped, &tensor(&shape, &format!("blk.{layer}.ffn_gate_inp.weight")), GgmlType::F32, 1);
        let part = |columns: &dyn Fn(usize) -> bool| -> f32 {
            (0..512).filter(|&column| columns(column)).map(|column| gate[column] * gate[column]).sum()
        };
        let own = |odd: usize| part(&move |column| column >= 160 && column % 2 == odd);
        (part(&|column| column < 128), part(&|column| (128..160).contains(&column)), own(0), own(1))
    };
    let usual = Routing::default();
    let (topic, common, even, odd) = power(usual, 4);
    assert!(topic > 0.0 && common > 0.0 && even > 0.0 && odd == 0.0);
    assert!(power(usual, 5).2 == 0.0 && power(usual, 5).3 > 0.0);
    assert_eq!(power(Routing { skew: 0.0, ..usual }, 4).1, 0.0);
    assert_eq!(power(Routing { token_similarity: 0.0, ..usual }, 4).0, 0.0);
    let doubled = power(Routing { skew: 2.0 * usual.skew, ..usual }, 4).1;
    assert!((doubled / common - 4.0).abs() < 0.01, "{doubled} {common}");
}

/// Deep models with the least similarity: the stream grows, but nothing in it becomes too large.
#[test]
fn nothing_grows_out_of_bounds() {
    let hardest = Routing { skew: 4.0, token_similarity: 0.9, layer_similarity: 0.93 };
    for (arch, routing) in ARCHS.iter().flat_map(|&arch| [(arch, Routing::default()), (arch, hardest)]) {
        hardest.check(arch).expect("allowed");
        let shape = shape(arch, 256, 94);
        let shaped = Shaped::new(&shape, routing, 1);
        for name in ["blk.1.ffn_gate_inp.weight", "blk.93.ffn_gate_inp.weight", "output_norm.weight"] {
            let values = content(&shaped, &tensor(&shape, name), GgmlType::F32, 1);
            assert!(values.iter().all(|value| value.abs() < 1e5), "{arch:?} {routing:?} {name}");
        }
        // f16 holds up to 65504.
        let down = content(&shaped, &tensor(&shape, "blk.92.ffn_down_exps.weight"), GgmlType::Q8_0, 1);
        assert!(down.iter().all(|value| value.is_finite() && value.abs() < 1e5), "{arch:?} {routing:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_routers() {
    let shape = shape(Arch::Deepseek2, 256, 5);
    let of = |routing, seed| {
        let shaped = Shaped::new(&shape, routing, seed);
        let names = ["token_embd.weight", "blk.2.ffn_gate_inp.weight"];
        names.map(|name| content(&shaped, &tensor(&shape, name), GgmlType::F32, seed))
    };
    let usual = Routing::default();
    assert!(of(usual, 1) == of(usual, 1));
    let other = of(usual, 2);
    assert!(of(usual, 1).iter().zip(&other).all(|(one, other)| one != other));
    assert!(of(Routing { skew: 1.0, ..usual }, 1)[1] != of(usual, 1)[1]);
}
