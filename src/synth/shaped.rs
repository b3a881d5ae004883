//! What the tensors of a model have in common whose routers shall behave as asked.

use std::sync::Arc;

use super::arch::Shape;
use super::element::put;
use super::pattern::LOGIT_SIGMA;
use super::routing::Routing;
use super::stream::{CODE, Stream, Writer};
use super::tensors::{Kind, Tensor};
use super::topics::Topics;
use crate::gguf::GgmlType;

/// The plan of the residual stream and the topics of the vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Shaped {
    stream: Stream,
    topics: Topics,
}

impl Shaped {
    pub fn new(shape: &Shape, routing: Routing, seed: u64) -> Shaped {
        Shaped { stream: Stream::new(shape, routing), topics: Topics::new(seed, shape.vocab) }
    }

    /// Factors of the standard deviation by the class of the row, for matrices that write into the stream.
    pub fn row_factors(&self, tensor: &Tensor) -> Option<&[f64]> {
        let writer = match tensor.stem {
            "attn_output.weight" => Writer::Attention,
            "ffn_down.weight" | "ffn_down_exps.weight" | "ffn_down_shexp.weight" => Writer::FeedForward,
            _ => return None,
        };
        Some(self.stream.factors(writer, tensor.layer?))
    }

    /// The class of a row of such a matrix.
    pub fn class(&self, row: u64) -> usize {
        self.stream.class(row)
    }

    /// The magnitudes of a router's weights by column.
    pub fn router(&self, tensor: &Tensor) -> Option<Arc<[f32]>> {
        (tensor.kind == Kind::Router).then(|| self.stream.router(tensor.layer.expect("routers have one")).into())
    }

    /// What replaces random elements of `tensor`.
    pub fn overlay(&self, tensor: &Tensor, ty: GgmlType) -> Option<Overlay<'_>> {
        let topic = self.stream.topic_columns();
        let (what, columns) = match tensor.kind {
            Kind::Embedding => (What::Codes, self.stream.code_columns()),
            // Makes the code of the topic 1 and -1 again, which other norms have made smaller.
            Kind::Norm if tensor.stem == "output_norm.weight" => {
                (What::Constant((self.stream.last_rms / CODE) as f32), topic)
            }
            Kind::Output => {
                let bonus = self.topics.bonus(f64::from(LOGIT_SIGMA)) / topic as f64;
                (What::Stay(bonus as f32), topic)
            }
            _ => return None,
        };
        Some(Overlay { topics: &self.topics, what, ty, topic, columns })
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// The embedding: the code of the topic, then what is common to all.
    Codes,
    /// A value for all.
    Constant(f32),
    /// The logits: so much of the topic's code.
    Stay(f32),
}

/// Replaces the first columns of each row.
#[derive(Debug, Clone)]
pub(super) struct Overlay<'a> {
    topics: &'a Topics,
    what: What,
    ty: GgmlType,
    topic: u64,
    /// Columns that are replaced.
    columns: u64,
}

impl Overlay<'_> {
    /// Replaces them in `out`, blocks of row `row` from number `first` on.
    pub fn apply(&self, row: u64, first: u64, block_bytes: usize, out: &mut [u8]) {
        if matches!(self.what, What::Stay(_)) && !self.topics.is_word(row) {
            return;
        }
        let elements = self.ty.block_elements();
        for (index, block) in out.chunks_exact_mut(block_bytes).enumerate() {
            let start = (first + index as u64) * elements;
            if start >= self.columns {
                return;
            }
            for column in start..self.columns.min(start + elements) {
                put(self.ty, block, (column - start) as usize, self.value(row, column));
            }
        }
    }

    fn value(&self, row: u64, column: u64) -> f32 {
        match self.what {
            What::Codes if column < self.topic => CODE as f32 * self.topics.code(row, column),
            What::Codes => CODE as f32 * self.topics.common(column),
            What::Constant(value) => value,
            What::Stay(weight) => weight * self.topics.code(row, column),
        }
    }
}
