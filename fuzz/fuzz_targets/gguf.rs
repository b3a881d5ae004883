//! Any bytes as a model: an error or a sound model, never a panic. `cargo +nightly fuzz run gguf`

#![no_main]

use ggpager::gguf::{Model, Role, decode_order};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::read(bytes) else { return };
    let mut extents: Vec<_> = model.tensors.iter().map(|tensor| tensor.extent()).collect();
    extents.retain(|extent| extent.bytes > 0);
    extents.sort_by_key(|extent| extent.offset);
    assert!(extents.iter().all(|extent| extent.end() <= bytes.len() as u64));
    assert!(extents.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
    for tensor in &model.tensors {
        if let Role::Experts { count, slice_bytes } = tensor.role {
            assert_eq!(u64::from(count) * slice_bytes, tensor.bytes);
        }
    }
    let mut order = decode_order(&model);
    order.sort_unstable();
    assert!(order.into_iter().eq(0..model.tensors.len()));
});
