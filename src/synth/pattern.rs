//! What makes random bytes into blocks of a wanted standard deviation.
//!
//! Block layouts are those of `ggml-common.h`; the spread of uniformly random quants is worked out
//! beside each type.

use std::sync::Arc;

use half::f16;

use super::tensors::Kind;
use crate::gguf::GgmlType;

/// Standard deviation of logits: large enough that greedy sampling is not decided by rounding.
pub(super) const LOGIT_SIGMA: f32 = 4.0;

/// Scales to draw from; the number is a power of two.
type Scales = [u16; 64];

/// What replaces random bytes, block by block.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// f32, `mean` plus a uniform part of at most `reach`.
    Uniform { mean: f32, reach: f32 },
    /// f32 of a given magnitude for each column, with random sign.
    Signs { magnitudes: Arc<[f32]> },
    /// f16 with random sign and mantissa, and this exponent or the next.
    Half { exponent: u16 },
    /// An f16 scale with random sign at byte `at`.
    Scale { at: usize, scales: Box<Scales> },
    /// f16 scale and minimum, then the 12 bytes of 6-bit scales and minima of Q4_K and Q5_K.
    ScaleAndMin { scales: Box<Scales>, minima: Box<Scales> },
    /// One byte of power-of-two exponent: `low`, or one more when the byte is below `above`.
    Exponent { low: u8, above: u8 },
}

/// Scales around `mean`, an eighth to either side.
fn scales(mean: f32) -> Box<Scales> {
    Box::new(std::array::from_fn(|i| {
        let scale = mean * (0.875 + 0.25 * (i as f32 + 0.5) / 64.0);
        f16::from_f32(scale).max(f16::from_bits(1)).to_bits()
    }))
}

impl Pattern {
    /// The pattern that gives weights of type `ty` the standard deviation `sigma`; norms and biases have their own.
    pub fn new(kind: Kind, ty: GgmlType, sigma: f32) -> Pattern {
        let uniform = |mean: f32, sigma: f32| Pattern::Uniform { mean, reach: sigma * 3f32.sqrt() };
        // `spread` is the standard deviation of a weight whose block scale is 1.
        let scale = |at: usize, spread: f32| Pattern::Scale { at, scales: scales(sigma / spread) };
        match ty {
            GgmlType::F32 => match kind {
                Kind::Norm => uniform(1.0, 0.1),
                Kind::Bias => uniform(0.0, 0.02),
                _ => uniform(0.0, sigma),
            },
            // Magnitudes are uniform in 2^e..2^(e+1) or the next octave: mean square 4^e * 7/3 * 5/2.
            GgmlType::F16 => {
                let exponent = (sigma / (35f32 / 6.0).sqrt()).log2().round() as i32 + 15;
                Pattern::Half { exponent: exponent.clamp(1, 29) as u16 }
            }
            // d (q - 8), q in 0..16: mean square 344/16.
            GgmlType::Q4_0 => scale(0, 4.637),
            // d (q - 16), q in 0..32: mean square 2736/32.
            GgmlType::Q5_0 => scale(0, 9.247),
            // d q, q in -128..128.
            GgmlType::Q8_0 => scale(0, 73.9),
            // d s (q - 32), s in -128..128, q in 0..64.
            GgmlType::Q6_K => scale(208, 73.9 * 18.48),
            // d s q - m s, s in 32..64 (root mean square 48.4), m = 7.5 d or 15.5 d for a zero mean.
            GgmlType::Q4_K => {
                let mean = sigma / (48.4 * 4.61);
                Pattern::ScaleAndMin { scales: scales(mean), minima: scales(7.5 * mean) }
            }
            GgmlType::Q5_K => {
                let mean = sigma / (48.4 * 9.233);
                Pattern::ScaleAndMin { scales: scales(mean), minima: scales(15.5 * mean) }
            }
            // 2^(e-128) k, k in 0 1 2 3 4 6 8 12 with sign: mean square 274/8.
            GgmlType::MXFP4 => {
                let exact = (sigma / 5.852).log2() + 128.0;
                let low = exact.floor().clamp(1.0, 253.0);
                // The share of blocks with the larger exponent that makes the mean square exact.
                let share = (4f32.powf(exact - low) - 1.0) / 3.0;
                Pattern::Exponent { low: low as u8, above: (share * 255.0) as u8 }
            }
            _ => unreachable!("no tensor is given the type {ty}"),
        }
    }

    /// Makes the blocks in `out`, of `block_bytes` each; the first of them is number `first` of its row (or of
    /// the tensor).
    pub fn apply(&self, first: u64, block_bytes: usize, out: &mut [u8]) {
        let blocks = out.chunks_exact_mut(block_bytes);
        match self {
            Pattern::Uniform { mean, reach } => blocks.for_each(|block| {
                // 24 bits, as many as an f32 holds exactly, to -1..1.
                let random = u32::from_le_bytes([block[0], block[1], block[2], 0]);
                let part = random as f32 / 8_388_608.0 - 1.0;
                block.copy_from_slice(&(mean + reach * part).to_le_bytes());
            }),
            Pattern::Signs { magnitudes } => blocks.enumerate().for_each(|(index, block)| {
                let magnitude = magnitudes[(first as usize + index) % magnitudes.len()];
                let signed = if block[0] & 1 == 0 { magnitude } else { -magnitude };
                block.copy_from_slice(&signed.to_le_bytes());
            }),
            Pattern::Half { exponent } => blocks.for_each(|block| {
                // Sign and mantissa stay; a random bit picks one of two neighbouring exponents.
                let random = u16::from_le_bytes([block[0], block[1]]);
                let bits = (random & 0x83ff) | ((exponent + ((random >> 10) & 1)) << 10);
                block.copy_from_slice(&bits.to_le_bytes());
            }),
            Pattern::Scale { at, scales } => blocks.for_each(|block| {
                let field = &mut block[*at..at + 2];
                let random = u16::from_le_bytes([field[0], field[1]]);
                let scale = scales[usize::from(random & 63)];
                // The random sign takes away the mean that an uneven range of quants has.
                field.copy_from_slice(&(scale | (random & 0x8000)).to_le_bytes());
            }),
            Pattern::ScaleAndMin { scales, minima } => blocks.for_each(|block| {
                let index = usize::from(block[0] & 63);
                block[0..2].copy_from_slice(&scales[index].to_le_bytes());
                block[2..4].copy_from_slice(&minima[index].to_le_bytes());
                // Scales 0 to 3 and the top bits of 4 to 7; minima likewise; low bits of 4 to 7 of both.
                for i in 0..4 {
                    let first = (block[4 + i] & 0xdf) | 0xa0;
                    let low = block[12 + i] & 0x0f;
                    block[4 + i] = first;
                    block[8 + i] = first;
                    block[12 + i] = low | (low << 4);
                }
            }),
            Pattern::Exponent { low, above } => blocks.for_each(|block| {
                block[0] = low + u8::from(block[0] < *above);
            }),
        }
    }
}
