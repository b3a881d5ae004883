//! Random tensor data of a wanted standard deviation.
//!
//! Nothing is quantized: all bytes are random, then each block's scale is replaced by one that
//! gives the block its standard deviation ([`Pattern`]). Where routers shall behave in a certain way, the
//! scale depends on the row, and the codes of topics replace some columns ([`super::shaped`]).

use super::pattern::{LOGIT_SIGMA, Pattern};
use super::random::Random;
use super::shaped::{Overlay, Shaped};
use super::tensors::{Kind, Tensor};
use crate::gguf::GgmlType;

/// The data of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Weights<'a> {
    random: Random,
    block_bytes: usize,
    /// Bytes of a row.
    row_bytes: u64,
    /// Rows of a matrix, of which a tensor may have several.
    rows: u64,
    /// One, or one for each class of rows.
    patterns: Vec<Pattern>,
    shaped: Option<&'a Shaped>,
    overlay: Option<Overlay<'a>>,
}

impl<'a> Weights<'a> {
    /// The data of `tensor` when it has type `ty`. Matrices get a standard deviation of
    /// 1/sqrt(columns), so that products of normed activations have about 1; `shaped` changes that where
    /// routers are concerned.
    ///
    /// # Panics
    /// On a type that [`super::Quant::tensor_type`] never gives.
    pub fn new(seed: u64, tensor: &Tensor, ty: GgmlType, shaped: Option<&'a Shaped>) -> Weights<'a> {
        let columns = tensor.dims[0] as f32;
        let sigma = match tensor.kind {
            Kind::Embedding => 1.0,
            Kind::Output => LOGIT_SIGMA / columns.sqrt(),
            _ => 1.0 / columns.sqrt(),
        };
        let factors = shaped.and_then(|shaped| shaped.row_factors(tensor)).unwrap_or(&[1.0]);
        let router = shaped.and_then(|shaped| shaped.router(tensor));
        let patterns = match router {
            Some(magnitudes) => vec![Pattern::Signs { magnitudes }],
            None => factors.iter().map(|&factor| Pattern::new(tensor.kind, ty, sigma * factor as f32)).collect(),
        };
        Weights {
            random: Random::new(seed, &tensor.name()),
            block_bytes: ty.block_bytes() as usize,
            row_bytes: ty.row_bytes(tensor.dims[0]).expect("the plan checks the row"),
            rows: tensor.dims[1],
            patterns,
            shaped,
            overlay: shaped.and_then(|shaped| shaped.overlay(tensor, ty)),
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
        if let ([pattern], None) = (&self.patterns[..], &self.overlay) {
            return pattern.apply(offset / self.block_bytes as u64, self.block_bytes, out);
        }
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let (row, inside) = (at / self.row_bytes, at % self.row_bytes);
            let length = (self.row_bytes - inside).min(rest.len() as u64) as usize;
            let (piece, behind) = rest.split_at_mut(length);
            let class = match (&self.patterns[..], self.shaped) {
                ([_], _) | (_, None) => 0,
                (_, Some(shaped)) => shaped.class(row % self.rows),
            };
            let first_block = inside / self.block_bytes as u64;
            self.patterns[class].apply(first_block, self.block_bytes, piece);
            if let Some(overlay) = &self.overlay {
                overlay.apply(row, first_block, self.block_bytes, piece);
            }
            (at, rest) = (at + length as u64, behind);
        }
    }
}
