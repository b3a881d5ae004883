//! Random tensor data of a wanted standard deviation.
//!
//! Nothing is quantized: all bytes are random, then each block's scale is replaced by one that
//! gives the block its standard deviation. Block layouts are those of `ggml-common.h`; the spread
//! of uniformly random quants is worked out beside each type.

use half::f16;

use super::random::Random;
use super::tensors::{Kind, Tensor};
use crate::gguf::GgmlType;

/// Scales to draw from; the number is a power of two.
type Scales = [u16; 64];

/// What replaces random bytes, block by block.
#[derive(Debug, Clone)]
enum Pattern {
    /// f32, `mean` plus a uniform part of at most `reach`.
    Uniform { mean: f32, reach: f32 },
    /// f16 with random sign and mantissa, and this exponent or the next.
    Half { exponent: u16 },
    /// An f16 scale with random sign at byte `at`.
    Scale { at: usize },
    /// f16 scale and minimum, then the 12 bytes of 6-bit scales and minima of Q4_K and Q5_K.
    ScaleAndMin { minima: Box<Scales> },
    /// One byte of power-of-two exponent: `low`, or one more when the byte is below `above`.
    Exponent { low: u8, above: u8 },
}

/// The data of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    random: Random,
    block_bytes: usize,
    pattern: Pattern,
    scales: Box<Scales>,
}

/// Scales around `mean`, an eighth to either side.
fn scales(mean: f32) -> Scales {
    std::array::from_fn(|i| {
        let scale = mean * (0.875 + 0.25 * (i as f32 + 0.5) / 64.0);
        f16::from_f32(scale).max(f16::from_bits(1)).to_bits()
    })
}

/// Standard deviation of logits: large enough that greedy sampling is not decided by rounding.
const LOGIT_SIGMA: f32 = 4.0;

impl Weights {
    /// The data of `tensor` when it has type `ty`. Matrices get a standard deviation of
    /// 1/sqrt(columns), so that products of normed activations have about 1.
    ///
    /// # Panics
    /// On a type that [`super::Quant::tensor_type`] never gives.
    pub fn new(seed: u64, tensor: &Tensor, ty: GgmlType) -> Weights {
        let columns = tensor.dims[0] as f32;
        let sigma = match tensor.kind {
            Kind::Embedding => 1.0,
            Kind::Output => LOGIT_SIGMA / columns.sqrt(),
            _ => 1.0 / columns.sqrt(),
        };
        let uniform = |mean: f32, sigma: f32| Pattern::Uniform { mean, reach: sigma * 3f32.sqrt() };
        // Standard deviation of a weight whose block scale is 1.
        let (pattern, spread) = match ty {
            GgmlType::F32 => match tensor.kind {
                Kind::Norm => (uniform(1.0, 0.1), 1.0),
                Kind::Bias => (uniform(0.0, 0.02), 1.0),
                _ => (uniform(0.0, sigma), 1.0),
            },
            // Magnitudes are uniform in 2^e..2^(e+1) or the next octave: mean square 4^e * 7/3 * 5/2.
            GgmlType::F16 => {
                let exponent = (sigma / (35f32 / 6.0).sqrt()).log2().round() as i32 + 15;
                (Pattern::Half { exponent: exponent.clamp(1, 29) as u16 }, 1.0)
            }
            // d (q - 8), q in 0..16: mean square 344/16.
            GgmlType::Q4_0 => (Pattern::Scale { at: 0 }, 4.637),
            // d (q - 16), q in 0..32: mean square 2736/32.
            GgmlType::Q5_0 => (Pattern::Scale { at: 0 }, 9.247),
            // d q, q in -128..128.
            GgmlType::Q8_0 => (Pattern::Scale { at: 0 }, 73.9),
            // d s (q - 32), s in -128..128, q in 0..64.
            GgmlType::Q6_K => (Pattern::Scale { at: 208 }, 73.9 * 18.48),
            // d s q - m s, s in 32..64 (root mean square 48.4), m = 7.5 d or 15.5 d for a zero mean.
            GgmlType::Q4_K => {
                let spread = 48.4 * 4.61;
                (Pattern::ScaleAndMin { minima: Box::new(scales(7.5 * sigma / spread)) }, spread)
            }
            GgmlType::Q5_K => {
                let spread = 48.4 * 9.233;
                (Pattern::ScaleAndMin { minima: Box::new(scales(15.5 * sigma / spread)) }, spread)
            }
            // 2^(e-128) k, k in 0 1 2 3 4 6 8 12 with sign: mean square 274/8.
            GgmlType::MXFP4 => {
                let exact = (sigma / 5.852).log2() + 128.0;
                let low = exact.floor().clamp(1.0, 253.0);
                // The share of blocks with the larger exponent that makes the mean square exact.
                let share = (4f32.powf(exact - low) - 1.0) / 3.0;
                (Pattern::Exponent { low: low as u8, above: (share * 255.0) as u8 }, 1.0)
            }
            _ => unreachable!("no tensor is given the type {ty}"),
        };
        Weights {
            random: Random::new(seed, &tensor.name()),
            block_bytes: ty.block_bytes() as usize,
            pattern,
            scales: Box::new(scales(sigma / spread)),
        }
    }

    /// The largest multiple of eight blocks (so that every piece begins at a whole random word) that
    /// `bytes` hold, at least eight blocks.
    pub fn piece_bytes(&self, bytes: usize) -> usize {
        let step = 8 * self.block_bytes;
        (bytes / step).max(1) * step
    }

    /// The bytes from `offset` on, whole blocks; `offset` is a multiple of eight blocks.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        assert!(offset.is_multiple_of(8 * self.block_bytes as u64) && out.len().is_multiple_of(self.block_bytes));
        self.random.fill(offset, out);
        let scale = |random: u16| self.scales[usize::from(random & 63)];
        let blocks = out.chunks_exact_mut(self.block_bytes);
        match &self.pattern {
            Pattern::Uniform { mean, reach } => blocks.for_each(|block| {
                // 24 bits, as many as an f32 holds exactly, to -1..1.
                let random = u32::from_le_bytes([block[0], block[1], block[2], 0]);
                let part = random as f32 / 8_388_608.0 - 1.0;
                block.copy_from_slice(&(mean + reach * part).to_le_bytes());
            }),
            Pattern::Half { exponent } => blocks.for_each(|block| {
                // Sign and mantissa stay; a random bit picks one of two neighbouring exponents.
                let random = u16::from_le_bytes([block[0], block[1]]);
                let bits = (random & 0x83ff) | ((exponent + ((random >> 10) & 1)) << 10);
                block.copy_from_slice(&bits.to_le_bytes());
            }),
            Pattern::Scale { at } => blocks.for_each(|block| {
                let field = &mut block[*at..at + 2];
                let random = u16::from_le_bytes([field[0], field[1]]);
                // The random sign takes away the mean that an uneven range of quants has.
                field.copy_from_slice(&(scale(random) | (random & 0x8000)).to_le_bytes());
            }),
            Pattern::ScaleAndMin { minima } => blocks.for_each(|block| {
                let index = usize::from(block[0] & 63);
                block[0..2].copy_from_slice(&self.scales[index].to_le_bytes());
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
