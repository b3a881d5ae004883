//! The reader against an independent one: files that `gguf-rs-lib` writes and reads.

use std::io::Cursor;

use ggpager::gguf::{GgmlType, Model, Value};
use gguf_rs_lib::prelude::{GGUFBuilder, GGUFFileReader, MetadataValue};
use gguf_rs_lib::tensor::TensorType;
use proptest::collection::vec;
use proptest::prelude::*;

/// A tensor of `dims` blocks and elements, zeros as data.
fn add(builder: GGUFBuilder, name: &str, ggml_type: GgmlType, dims: &[u64]) -> GGUFBuilder {
    let mut dims = dims.to_vec();
    dims[0] *= ggml_type.block_elements();
    let bytes = dims.iter().product::<u64>() / ggml_type.block_elements() * ggml_type.block_bytes();
    let oracle_type = TensorType::from_u32(ggml_type.id()).unwrap();
    // The builder refuses data whose length is not what it computes from its own table of types.
    builder.add_tensor(name, dims, oracle_type, vec![0; bytes as usize]).unwrap()
}

/// Both readers see the same file.
fn assert_agreement(bytes: Vec<u8>) {
    let ours = Model::read(&bytes).unwrap();
    let theirs = GGUFFileReader::new(Cursor::new(bytes)).unwrap();
    assert_eq!(ours.data_offset, theirs.tensor_data_offset());
    assert_eq!(ours.alignment, theirs.tensor_alignment());
    assert_eq!(ours.tensors.len(), theirs.tensor_count());
    for (our, their) in ours.tensors.iter().zip(theirs.tensor_infos()) {
        assert_eq!(our.name, their.name());
        assert_eq!(&our.dims[..our.n_dims as usize], their.shape().dims());
        assert_eq!(our.ggml_type.id(), their.tensor_type() as u32);
        assert_eq!(our.offset, theirs.tensor_data_offset() + their.data_offset());
        assert_eq!(our.bytes, their.checked_expected_data_size().unwrap());
    }
    assert_eq!(ours.metadata.len(), theirs.metadata().data.len());
    for (key, value) in &ours.metadata {
        let same = match (value, &theirs.metadata().data[key]) {
            (Value::Unsigned(our), MetadataValue::U32(their)) => *our == u64::from(*their),
            (Value::Unsigned(our), MetadataValue::U64(their)) => our == their,
            (Value::Signed(our), MetadataValue::I64(their)) => our == their,
            (Value::Bool(our), MetadataValue::Bool(their)) => our == their,
            (Value::Float(our), MetadataValue::F64(their)) => our == their,
            (Value::String(our), MetadataValue::String(their)) => our == their,
            _ => false,
        };
        assert!(same, "{key}: {value:?}");
    }
}

#[test]
fn every_type_has_the_same_size() {
    let mut builder = GGUFBuilder::new().add_metadata("general.architecture", MetadataValue::String("llama".into()));
    for ggml_type in GgmlType::ALL.iter().copied() {
        builder = add(builder, &format!("blk.0.{ggml_type}.weight"), ggml_type, &[3, 2]);
    }
    let (bytes, _) = builder.build_to_bytes().unwrap();
    assert_eq!(Model::read(&bytes).unwrap().tensors.len(), GgmlType::ALL.len());
    assert_agreement(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_files_are_seen_alike(
        tensors in vec((prop::sample::select(GgmlType::ALL), vec(1u64..5, 1..=4)), 1..20),
        number in any::<u64>(),
        signed in any::<i64>(),
        flag in any::<bool>(),
        text in "\\PC{0,40}",
        shift in 5u32..12,
    ) {
        let mut builder = GGUFBuilder::new()
            .with_tensor_alignment(1 << shift)
            .add_metadata("general.architecture", MetadataValue::String("llama".into()))
            .add_metadata("general.alignment", MetadataValue::U32(1 << shift))
            .add_metadata("x.number", MetadataValue::U64(number))
            .add_metadata("x.signed", MetadataValue::I64(signed))
            .add_metadata("x.flag", MetadataValue::Bool(flag))
            .add_metadata("x.text", MetadataValue::String(text));
        for (index, (ggml_type, dims)) in tensors.iter().enumerate() {
            builder = add(builder, &format!("blk.{index}.attn_q.weight"), *ggml_type, dims);
        }
        let (bytes, _) = builder.build_to_bytes().unwrap();
        assert_agreement(bytes);
    }
}
