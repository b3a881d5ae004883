//! Any bytes as a stored order: an error or an order, never a panic. `cargo +nightly fuzz run order`

#![no_main]

use ggpager::orders;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The key is the file's own, so that the fuzzer gets past it.
    let key = bytes.get(16..32).map_or(0, |key| u128::from_le_bytes(key.try_into().expect("sixteen bytes")));
    let key = orders::Key::from_bits(key);
    if let Ok(offsets) = orders::decode(bytes, key) {
        assert_eq!(orders::encode(key, &offsets), bytes);
    }
});
