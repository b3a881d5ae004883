//! The module as a whole: sizes, content, and what llama.cpp would read.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use half::f16;

use super::plan::typed;
use super::tensors::{Kind, Tensor, tensors};
use super::weights::Weights;
use super::*;
use crate::config::ByteSize;
use crate::gguf::GgmlType;

const ARCHS: [Arch; 4] = [Arch::Llama, Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss];
const QUANTS: [Quant; 5] = [Quant::F16, Quant::Q8_0, Quant::Q4_0, Quant::Q4_K, Quant::Mxfp4];

fn combinations() -> impl Iterator<Item = (Arch, Quant)> {
    let all = ARCHS.into_iter().flat_map(|arch| QUANTS.into_iter().map(move |quant| (arch, quant)));
    all.filter(|&pair| pair != (Arch::Llama, Quant::Mxfp4))
}

fn write(plan: &Plan) -> Summary {
    plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("writable")
}

#[test]
fn sizes_are_met() {
    for (arch, quant) in combinations() {
        // 11 MB: the smallest deepseek2 with 16-bit weights has 10.6.
        for size in [11_000_000, 40 << 20, 1 << 30, 9_999_999_999, 200_000_000_000] {
            let plan = Request::new("x", arch, quant, ByteSize(size)).plan();
            let plan = plan.unwrap_or_else(|error| panic!("{arch:?} {quant:?} {size}: {error}"));
            let ratio = plan.bytes() as f64 / size as f64;
            assert!((ratio - 1.0).abs() <= 0.031, "{arch:?} {quant:?} {size}: {ratio}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let request = |arch, quant, size| Request::new("x", arch, quant, ByteSize(size));
    let llama = request(Arch::Llama, Quant::Q4_0, 1 << 30);
    let error = |request: Request| request.plan().expect_err("refused").to_string();
    assert!(error(request(Arch::Llama, Quant::Mxfp4, 1 << 30)).contains("expert matrices"));
    assert!(error(request(Arch::Llama, Quant::Q4_0, 300_000)).contains("nearest"));
    assert!(error(Request { width: Some(100), ..llama.clone() }).contains("--width 100"));
    assert!(error(Request { layers: Some(0), ..llama.clone() }).contains("--layers 0"));
    assert!(error(Request { vocab: Some(3), ..llama.clone() }).contains("--vocab 3"));
    assert!(error(Request { experts: Some(8), ..llama }).contains("--experts 8"));
    let moe = request(Arch::Qwen3Moe, Quant::Q4_K, 1 << 30);
    assert!(error(Request { experts: Some(16), used: Some(17), ..moe }).contains("--used 17"));
    let lite = request(Arch::Deepseek2, Quant::Q4_K, 1 << 30);
    assert!(error(Request { layers: Some(27), ..lite.clone() }).contains("lite"));
    let routed = |skew, token_similarity, layer_similarity| {
        error(Request { routing: Some(Routing { skew, token_similarity, layer_similarity }), ..lite.clone() })
    };
    assert!(routed(-0.1, 0.4, 0.94).contains("--router-skew -0.1"));
    assert!(routed(f64::NAN, 0.4, 0.94).contains("--router-skew NaN"));
    assert!(routed(0.4, 0.95, 0.99).contains("--token-similarity 0.95"));
    assert!(routed(0.4, 0.4, 1.0).contains("--layer-similarity 1"));
    assert!(routed(0.4, 0.8, 0.85).contains("--layer-similarity 0.85"));
    let shape = Shape { ff: 100, ..Shape::usual(Arch::Llama, 256, 1.0).expect("valid") };
    let rows = Plan::new(Path::new("x"), shape, Quant::Q8_0, Order::Convert, 1, None);
    assert!(matches!(rows, Err(Error::Row { row: 100, block: 32, .. })));
}

#[test]
fn what_the_caller_fixes_stays() {
    let request = Request {
        layers: Some(9),
        vocab: Some(12_345),
        experts: Some(24),
        used: Some(3),
        ctx: Some(777),
        ..Request::new("x", Arch::Qwen3Moe, Quant::Q4_K, ByteSize(290_000_000))
    };
    let shape = request.plan().expect("possible").shape;
    let experts = shape.experts.expect("has experts");
    let fixed = (shape.layers, shape.vocab, experts.count, experts.used, shape.ctx);
    assert_eq!(fixed, (9, 12_345, 24, 3, 777));
}

/// Values of a block, by the layouts in `ggml-common.h`.
pub(super) fn decode(ty: GgmlType, block: &[u8]) -> Vec<f32> {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let nibbles = |bytes: &[u8]| {
        let low = bytes.iter().map(|byte| byte & 15).collect::<Vec<_>>();
        low.into_iter().chain(bytes.iter().map(|byte| byte >> 4)).collect::<Vec<u8>>()
    };
    match ty {
        GgmlType::F32 => vec![f32::from_le_bytes(block.try_into().expect("4 bytes"))],
        GgmlType::F16 => vec![half(0)],
        GgmlType::Q4_0 => nibbles(&block[2..]).iter().map(|&q| half(0) * (f32::from(q) - 8.0)).collect(),
        GgmlType::Q5_0 => {
            let high = u32::from_le_bytes(block[2..6].try_into().expect("4 bytes"));
            let quants = nibbles(&block[6..]).into_iter().enumerate();
            quants.map(|(i, q)| half(0) * (f32::from(q | (((high >> i) & 1) as u8) << 4) - 16.0)).collect()
        }
        GgmlType::Q8_0 => block[2..].iter().map(|&q| half(0) * f32::from(q as i8)).collect(),
        GgmlType::Q4_K | GgmlType::Q5_K => {
            let field = &block[4..16];
            let scale_min = |j: usize| match j {
                0..4 => (field[j] & 63, field[j + 4] & 63),
                _ => ((field[j + 4] & 15) | ((field[j - 4] >> 6) << 4), (field[j + 4] >> 4) | ((field[j] >> 6) << 4)),
            };
            let (high, quants) = match ty {
                GgmlType::Q4_K => (None, &block[16..]),
                _ => (Some(&block[16..48]), &block[48..]),
            };
            let value = |i: usize| {
                let (group, lane) = (i / 32, i % 32);
                let byte = quants[group / 2 * 32 + lane];
                let low = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
                let q = low | high.map_or(0, |high| ((high[lane] >> group) & 1) << 4);
                let (scale, min) = scale_min(group);
                half(0) * f32::from(scale) * f32::from(q) - half(2) * f32::from(min)
            };
            (0..256).map(value).collect()
        }
        GgmlType::Q6_K => {
            let value = |i: usize| {
                let (upper, quarter, lane) = (i / 128, i % 128 / 32, i % 32);
                let byte = block[64 * upper + 32 * (quarter % 2) + lane];
                let low = if quarter < 2 { byte & 15 } else { byte >> 4 };
                let high = (block[128 + 32 * upper + lane] >> (2 * quarter)) & 3;
                half(208) * f32::from(block[192 + i / 16] as i8) * (f32::from(low | (high << 4)) - 32.0)
            };
            (0..256).map(value).collect()
        }
        GgmlType::MXFP4 => {
            let value = |q: u8| {
                let magnitude = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0][usize::from(q & 7)];
                let sign = if q < 8 { 1.0 } else { -1.0 };
                sign * magnitude * 2f32.powi(i32::from(block[0]) - 128)
            };
            nibbles(&block[1..]).into_iter().map(value).collect()
        }
        other => unreachable!("{other} is not written"),
    }
}

#[test]
fn weights_are_finite_with_the_wanted_spread() {
    let types = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Q4_0,
        GgmlType::Q5_0,
        GgmlType::Q8_0,
        GgmlType::Q4_K,
        GgmlType::Q5_K,
        GgmlType::Q6_K,
        GgmlType::MXFP4,
    ];
    for ty in types {
        // The widest rows have the smallest scales, next to what f16 can hold.
        for columns in [256u64, 1536, 65_536] {
            let kind = if ty == GgmlType::F32 { Kind::Router } else { Kind::Matrix };
            let tensor = Tensor { layer: Some(3), stem: "w.weight", checkpoint: "w", dims: [columns, 1, 1], kind };
            let block_bytes = ty.block_bytes() as usize;
            let mut data = vec![0; 65_536 / ty.block_elements() as usize * block_bytes];
            Weights::new(1, &tensor, ty, None).fill(0, &mut data);
            let values: Vec<f32> = data.chunks(block_bytes).flat_map(|block| decode(ty, block)).collect();
            assert!(values.iter().all(|value| value.is_finite()), "{ty} {columns}");
            let sigma = 1.0 / (columns as f64).sqrt();
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
            assert!(mean.abs() < 0.06 * sigma, "{ty} {columns}: mean {mean} of sigma {sigma}");
            // f16 has only powers of two to choose from, the others are near.
            let allowed = if ty == GgmlType::F16 { 1.42 } else { 1.1 };
            let ratio = square.sqrt() / sigma;
            assert!((1.0 / allowed..allowed).contains(&ratio), "{ty} {columns}: {ratio}");
        }
    }
}

#[test]
fn pieces_of_a_tensor_join() {
    for ty in [GgmlType::Q4_0, GgmlType::Q6_K, GgmlType::MXFP4, GgmlType::F32] {
        let tensor =
            Tensor { layer: None, stem: "output.weight", checkpoint: "x", dims: [4096, 8, 1], kind: Kind::Output };
        let weights = Weights::new(9, &tensor, ty, None);
        let mut whole = vec![0; (4096 * 8 / ty.block_elements() * ty.block_bytes()) as usize];
        weights.fill(0, &mut whole);
        let step = weights.piece_bytes(3000);
        for (index, piece) in whole.chunks(step).enumerate() {
            let mut again = vec![0; piece.len()];
            weights.fill((index * step) as u64, &mut again);
            assert!(again == piece, "{ty} piece {index}");
        }
    }
}

fn names(order: Order, arch: Arch, layers: u32) -> Vec<String> {
    let shape = Shape { layers, ..Shape::usual(arch, 256, 1.0).expect("valid") };
    order.arrange(tensors(&shape)).iter().map(Tensor::name).collect()
}

#[test]
fn orders_keep_every_tensor() {
    for arch in ARCHS {
        let shape = Shape { layers: 12, ..Shape::usual(arch, 256, 1.0).expect("valid") };
        let mut expected: Vec<String> = tensors(&shape).iter().map(Tensor::name).collect();
        expected.sort();
        for order in [Order::Quantize, Order::Convert] {
            let mut found = names(order, arch, 12);
            found.sort();
            assert_eq!(found, expected, "{arch:?} {order:?}");
        }
    }
}

#[test]
fn orders_are_those_of_the_tools() {
    let at = |names: &[String], name: &str| names.iter().position(|n| n == name).expect(name);
    let quantize = names(Order::Quantize, Arch::Llama, 12);
    assert_eq!(quantize[..4], ["output.weight", "output_norm.weight", "token_embd.weight", "blk.0.attn_k.weight"]);
    assert!(at(&quantize, "blk.2.attn_k.weight") < at(&quantize, "blk.10.attn_k.weight"));
    let convert = names(Order::Convert, Arch::Llama, 12);
    assert_eq!(convert[0], "output.weight");
    assert!(at(&convert, "blk.10.attn_k.weight") < at(&convert, "blk.2.attn_k.weight"));
    let packed = names(Order::Convert, Arch::GptOss, 12);
    assert!(packed[..36].iter().all(|name| name.ends_with("_exps.weight")), "{packed:?}");
    assert_eq!(packed[0], "blk.0.ffn_down_exps.weight");
}

#[test]
fn content_depends_on_seed_and_name_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let content = |name: &str, order, seed, split| -> HashMap<String, Vec<u8>> {
        let request = Request {
            order,
            seed,
            split_max: split,
            ..Request::new(folder.path().join(name), Arch::GptOss, Quant::Q4_K, ByteSize(12_000_000))
        };
        let plan = request.plan().expect("possible");
        write(&plan);
        let mut found = HashMap::new();
        for file in &plan.files {
            let bytes = std::fs::read(&file.path).expect("written");
            assert_eq!(bytes.len() as u64, file.bytes());
            let mut at = file.header.len();
            for typed in &file.tensors {
                found.insert(typed.tensor.name(), bytes[at..at + typed.bytes as usize].to_vec());
                at += typed.padded_bytes() as usize;
            }
        }
        found
    };
    let one = content("a.gguf", Order::Quantize, 1, None);
    assert!(one == content("b.gguf", Order::Convert, 1, None));
    assert!(one == content("c.gguf", Order::Quantize, 1, Some(ByteSize(3_000_000))));
    let other = content("d.gguf", Order::Quantize, 2, None);
    assert!(one.iter().all(|(name, data)| &other[name] != data));
}

#[test]
fn nothing_is_overwritten_or_left_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("m.gguf");
    let plan = Request::new(&out, Arch::Llama, Quant::Q8_0, ByteSize(12_000_000)).plan().expect("possible");
    let mut made = 0;
    let stopped = plan.write(WriteOptions::default(), &mut |bytes| {
        made += bytes;
        if made > 6_000_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    std::fs::write(&out, b"precious").expect("writable");
    let refused = plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Exists(_))));
    assert_eq!(std::fs::read(&out).expect("readable"), b"precious");
    let forced = WriteOptions { force: true, keep_cache: true };
    let summary = plan.write(forced, &mut |_| ControlFlow::Continue(())).expect("writable");
    assert_eq!(std::fs::metadata(&out).expect("there").len(), summary.bytes);
}

#[test]
fn a_full_file_system_is_noticed_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("m.gguf");
    let shape = Shape { layers: 500, vocab: 400_000, ..Shape::usual(Arch::Llama, 65_536, 1.0).expect("valid") };
    let plan = Plan::new(&out, shape, Quant::F16, Order::Convert, 1, None).expect("possible");
    // 33 TB: a machine with that much room proves nothing here.
    assert!(plan.bytes() > 30_000_000_000_000);
    match plan.write(WriteOptions::default(), &mut |_| ControlFlow::Break(())) {
        Err(Error::Space { needed, .. }) => assert_eq!(needed.0, plan.bytes()),
        other => eprintln!("skipped: the file system has room for 30 TB ({other:?})"),
    }
    assert!(!out.exists());
}

#[test]
fn types_fall_back_as_in_llama_quantize() {
    let types = |arch, width, quant| -> HashMap<String, GgmlType> {
        let shape = Shape { layers: 8, ..Shape::usual(arch, width, 1.0).expect("valid") };
        let all = typed(&shape, quant, tensors(&shape)).expect("fits");
        all.into_iter().map(|typed| (typed.tensor.name(), typed.ty)).collect()
    };
    let odd = types(Arch::GptOss, 2880, Quant::Q4_K);
    assert_eq!(odd["blk.1.ffn_gate_exps.weight"], GgmlType::Q5_0);
    assert_eq!(odd["output.weight"], GgmlType::Q8_0);
    assert_eq!(odd["blk.0.attn_output.weight"], GgmlType::Q4_K);
    let llama = types(Arch::Llama, 512, Quant::Q4_K);
    assert_eq!(llama["blk.0.ffn_down.weight"], GgmlType::Q6_K);
    assert_eq!(llama["blk.1.ffn_down.weight"], GgmlType::Q4_K);
    assert_eq!(llama["blk.0.attn_norm.weight"], GgmlType::F32);
}
