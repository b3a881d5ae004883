//! Random files: what is written is read, and what is damaged is refused or read, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::writer::{Entry, File, Written};
use crate::gguf::{GgmlType, Model, ReadAt, Role, ValueType, decode_order};

fn scalar(value_type: ValueType) -> BoxedStrategy<Written> {
    match value_type {
        ValueType::U8 => any::<u8>().prop_map(Written::U8).boxed(),
        ValueType::I8 => any::<i8>().prop_map(Written::I8).boxed(),
        ValueType::U16 => any::<u16>().prop_map(Written::U16).boxed(),
        ValueType::I16 => any::<i16>().prop_map(Written::I16).boxed(),
        ValueType::U32 => any::<u32>().prop_map(Written::U32).boxed(),
        ValueType::I32 => any::<i32>().prop_map(Written::I32).boxed(),
        ValueType::F32 => any::<f32>().prop_map(Written::F32).boxed(),
        ValueType::Bool => any::<bool>().prop_map(Written::Bool).boxed(),
        ValueType::String => "\\PC{0,12}".prop_map(Written::String).boxed(),
        ValueType::U64 => any::<u64>().prop_map(Written::U64).boxed(),
        ValueType::I64 => any::<i64>().prop_map(Written::I64).boxed(),
        ValueType::F64 => any::<f64>().prop_map(Written::F64).boxed(),
        ValueType::Array => array(1),
    }
}

/// An array with up to `depth` arrays around it.
fn array(depth: u32) -> BoxedStrategy<Written> {
    prop::sample::select(&ValueType::ALL[..])
        .prop_flat_map(move |element| {
            let inner = match element {
                ValueType::Array if depth < 4 => array(depth + 1),
                ValueType::Array => return Just(Written::Array(ValueType::U8, Vec::new())).boxed(),
                _ => scalar(element),
            };
            vec(inner, 0..5).prop_map(move |values| Written::Array(element, values)).boxed()
        })
        .boxed()
}

fn value() -> BoxedStrategy<Written> {
    prop_oneof![
        8 => prop::sample::select(&ValueType::ALL[..]).prop_flat_map(scalar),
        1 => (4090usize..5000).prop_map(|bytes| Written::String("s".repeat(bytes))),
    ]
    .boxed()
}

fn name() -> impl Strategy<Value = String> {
    const STEMS: [&str; 8] =
        ["attn_q", "attn_norm", "ffn_gate_exps", "ffn_down.3", "ffn_up_shexp", "odd", "ffn_gate_inp", "nextn.x"];
    prop_oneof![
        (0u32..9, prop::sample::select(&STEMS[..])).prop_map(|(layer, stem)| format!("blk.{layer}.{stem}.weight")),
        prop::sample::select(&["token_embd.weight", "output.weight", "output_norm.weight"][..]).prop_map(str::to_owned),
        "[a-z0-9.]{0,20}",
    ]
}

fn tensor() -> impl Strategy<Value = (String, Vec<u64>, GgmlType)> {
    (name(), vec(0u64..4, 0..=4), prop::sample::select(GgmlType::ALL)).prop_map(|(name, mut dims, ggml_type)| {
        match dims.first_mut() {
            Some(first) => *first *= ggml_type.block_elements(),
            None if ggml_type.block_elements() > 1 => dims.push(ggml_type.block_elements()),
            None => {}
        }
        (name, dims, ggml_type)
    })
}

prop_compose! {
    fn file()(
        arch in prop::sample::select(&["llama", "qwen3moe", "gpt-oss", "deepseek2", "unheard", ""][..]),
        version in 2u32..=3,
        alignment in prop::option::of(0u32..10),
        pairs in vec(("[a-z.]{1,20}", value()), 0..12),
        tensors in vec(tensor(), 0..12),
    ) -> File {
        let mut file = File::new(arch);
        file.version = version;
        if let Some(shift) = alignment {
            file.alignment = 1 << shift;
            file = file.pair("general.alignment", Written::U32(1 << shift));
        }
        for (key, value) in pairs {
            if file.pairs.iter().all(|(known, _)| *known != key) {
                file = file.pair(&key, value);
            }
        }
        for (name, dims, ggml_type) in tensors {
            if file.tensors.iter().all(|known| known.name != name) {
                file.tensors.push(Entry::new(&name, &dims, ggml_type));
            }
        }
        file
    }
}

/// What holds for every model that was read, whatever the file.
fn assert_sound(model: &Model) {
    let mut extents: Vec<_> = model.tensors.iter().map(|tensor| tensor.extent()).collect();
    for tensor in &model.tensors {
        assert!(tensor.extent().end() <= model.file_bytes);
        if let Role::Experts { count, slice_bytes } = tensor.role {
            assert_eq!(u64::from(count) * slice_bytes, tensor.bytes);
        }
    }
    extents.retain(|extent| extent.bytes > 0);
    extents.sort_by_key(|extent| extent.offset);
    assert!(extents.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
    let mut order = decode_order(model);
    order.sort_unstable();
    assert!(order.into_iter().eq(0..model.tensors.len()));
}

/// Counts the bytes that are read.
struct Counted<'a>(&'a [u8], std::cell::Cell<u64>);

impl ReadAt for Counted<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let bytes = self.0.read_at(buffer, offset)?;
        self.1.set(self.1.get() + bytes as u64);
        Ok(bytes)
    }

    fn file_bytes(&self) -> std::io::Result<u64> {
        self.0.file_bytes()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(file in file()) {
        let bytes = file.bytes();
        let model = Model::read(&bytes).unwrap();
        prop_assert_eq!(model.version, file.version);
        prop_assert_eq!(model.alignment, file.alignment);
        prop_assert_eq!(model.metadata.len(), file.pairs.len());
        for ((key, value), (written_key, written)) in model.metadata.iter().zip(&file.pairs) {
            prop_assert_eq!(key, written_key);
            prop_assert_eq!(value, &written.expected());
        }
        prop_assert_eq!(model.tensors.len(), file.tensors.len());
        let mut next = model.data_offset;
        for (tensor, written) in model.tensors.iter().zip(&file.tensors) {
            prop_assert_eq!(&tensor.name, &written.name);
            prop_assert_eq!(&tensor.dims[..tensor.n_dims as usize], &written.dims[..]);
            prop_assert_eq!(tensor.ggml_type.id(), written.type_id);
            prop_assert_eq!(tensor.bytes, written.bytes());
            prop_assert_eq!(tensor.offset, next);
            next = model.data_offset + (next + tensor.bytes - model.data_offset).next_multiple_of(file.alignment);
        }
        assert_sound(&model);
    }

    #[test]
    fn damage_never_panics(
        file in file(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file.bytes();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let source = Counted(&bytes, Default::default());
        if let Ok(model) = Model::read(&source) {
            assert_sound(&model);
        }
        // No byte is read twice, but for what a window holds beyond a skip.
        prop_assert!(source.1.get() <= 2 * bytes.len() as u64);
    }

    #[test]
    fn noise_never_panics(mut bytes in vec(any::<u8>(), 0..300), tensors in 0u64..9, pairs in 0u64..9) {
        if bytes.len() >= 24 {
            bytes[..8].copy_from_slice(b"GGUF\x03\0\0\0");
            bytes[8..16].copy_from_slice(&tensors.to_le_bytes());
            bytes[16..24].copy_from_slice(&pairs.to_le_bytes());
        }
        if let Ok(model) = Model::read(&bytes) {
            assert_sound(&model);
        }
    }
}

#[test]
fn large_vocabularies_are_read_once() {
    let tokens = (0..128_000).map(|i| Written::String(format!("token{i}"))).collect();
    let file = File::new("llama")
        .pair("tokenizer.ggml.tokens", Written::Array(ValueType::String, tokens))
        .pair("tokenizer.ggml.scores", Written::Array(ValueType::F32, vec![Written::F32(0.0); 128_000]))
        .pair("llama.block_count", Written::U32(7));
    let bytes = file.bytes();
    let source = Counted(&bytes, Default::default());
    let model = Model::read(&source).unwrap();
    assert_eq!(model.block_count, Some(7));
    assert_eq!(model.metadata[1].1, crate::gguf::Value::Array { element: ValueType::String, count: 128_000 });
    assert!(source.1.get() <= bytes.len() as u64 + (256 << 10), "{} of {}", source.1.get(), bytes.len());
}
