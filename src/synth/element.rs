//! Single elements of quantized blocks.

use half::f16;

use crate::gguf::GgmlType;

/// The sub-scale that a group of Q6_K gets when its first element is put: 74 of at most 127, the root mean
/// square of random ones.
const GROUP_SCALE: u8 = 74;

/// Sets element `index` of `block` to the value nearest to `value` that the block's scales allow. Q6_K has
/// random scales for groups of 16: they are put as a whole, from the first element on.
///
/// # Panics
/// On a type that neither embeddings nor norms have.
pub(super) fn put(ty: GgmlType, block: &mut [u8], index: usize, value: f32) {
    let half = |at: usize, block: &[u8]| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let scale = half(0, block);
    // The quant nearest to `value`, when a step is `scale` and quant `zero` stands for 0.
    let quant = |scale: f32, zero: f32, max: f32| (value / scale + zero).round().clamp(0.0, max) as u8;
    match ty {
        GgmlType::F32 => block.copy_from_slice(&value.to_le_bytes()),
        GgmlType::F16 => block.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        GgmlType::Q8_0 => block[2 + index] = (value / scale).round().clamp(-127.0, 127.0) as i8 as u8,
        GgmlType::Q4_0 => nibble(&mut block[2 + index % 16], index >= 16, quant(scale, 8.0, 15.0)),
        GgmlType::Q5_0 => {
            let quant = quant(scale, 16.0, 31.0);
            let (byte, bit) = (&mut block[2 + index / 8], index % 8);
            *byte = *byte & !(1 << bit) | (quant >> 4) << bit;
            nibble(&mut block[6 + index % 16], index >= 16, quant & 15);
        }
        GgmlType::Q4_K => {
            let (minimum, group, field) = (half(2, block), index / 32, &block[4..16]);
            let (step, low) = match group {
                0..4 => (field[group] & 63, field[group + 4] & 63),
                _ => (
                    (field[group + 4] & 15) | ((field[group - 4] >> 6) << 4),
                    (field[group + 4] >> 4) | ((field[group] >> 6) << 4),
                ),
            };
            let step = scale * f32::from(step);
            let quant = quant(step, minimum * f32::from(low) / step, 15.0);
            nibble(&mut block[16 + index / 64 * 32 + index % 32], group % 2 == 1, quant);
        }
        GgmlType::Q6_K => {
            if index.is_multiple_of(16) {
                block[192 + index / 16] = GROUP_SCALE;
            }
            let quant = quant(half(208, block) * f32::from(GROUP_SCALE), 32.0, 63.0);
            let (upper, quarter, lane) = (index / 128, index % 128 / 32, index % 32);
            nibble(&mut block[64 * upper + 32 * (quarter % 2) + lane], quarter >= 2, quant & 15);
            let byte = &mut block[128 + 32 * upper + lane];
            *byte = *byte & !(3 << (2 * quarter)) | (quant >> 4) << (2 * quarter);
        }
        other => unreachable!("no embedding has the type {other}"),
    }
}

fn nibble(byte: &mut u8, high: bool, value: u8) {
    *byte = if high { *byte & 0x0f | value << 4 } else { *byte & 0xf0 | value };
}
