//! The residual stream of a model whose routers shall behave as asked, planned before any weight is made.
//!
//! The stream's columns are of three kinds. Nothing but noise is ever added to the first two:
//!
//! - **topic** columns hold a code of the token's topic ([`super::topics`]),
//! - **common** columns hold the same for every token,
//! - **own** columns hold the token's embedding and what the layers add to it. They form groups: a router looks
//!   at one group, by turns, and what is added to that group since the layer below decides how much of the
//!   routing could have been foretold. A group that is not read next gets less, so that the stream does not
//!   grow without bounds.
//!
//! A router's weights then mix topic, common and own columns in the shares that were asked for.

use super::arch::{Arch, Shape};
use super::routing::Routing;

/// Values of topic and common columns in the embedding; own ones have a standard deviation of 1. So small that
/// attention and experts hardly see them; routers have weights that make up for it.
pub(super) const CODE: f64 = 0.4;
/// A group of own columns is read by so many routers at most.
const READS_MAX: u32 = 6;
/// What a layer adds to topic and common columns.
const NOISE: f64 = 0.01;
/// What it adds to groups that are not read next, relative to what they hold.
const ASIDE: f64 = 0.1;
/// The share of attention in the variance that is added to the group that is read next. The rest is the
/// experts': what attention adds is much alike for all tokens.
const ATTENTION_SHARE: f64 = 0.1;
/// Standard deviation of attention's result: a mean of values of many tokens.
const ATTENTION_SIGMA: f64 = 0.5;
/// Root mean square of silu(g) u for normal g and u.
const SWIGLU_SIGMA: f64 = 0.596;
/// The same of gpt-oss' g sigmoid(1.702 g) (u + 1).
const SWIGLU_OAI_SIGMA: f64 = 0.919;
/// The sum of the squared weights of k experts is a little more than 1/k: they are not equal.
const UNEQUAL: f64 = 1.2;
/// The factor of deepseek2's experts (`expert_weights_scale`).
pub(super) const DEEPSEEK_SCALE: f64 = 2.5;

/// Who adds to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Attention,
    FeedForward,
}

/// Standard deviations of one layer's part of the stream, by class: see [`Stream::class`].
#[derive(Debug, Clone)]
struct Layer {
    attention: Vec<f64>,
    feed_forward: Vec<f64>,
    /// Of the group that the router reads.
    read_sigma: f64,
    /// Root mean square of the whole stream at the router.
    rms: f64,
}

/// The plan of the stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    routing: Routing,
    width: u64,
    topic: u64,
    common: u64,
    groups: u64,
    layers: Vec<Layer>,
    /// Root mean square behind the last layer.
    pub last_rms: f64,
}

/// Standard deviation of what a feed-forward part with unit weights adds.
fn feed_forward_sigma(shape: &Shape, layer: u32) -> f64 {
    let Some(experts) = shape.experts.filter(|_| layer >= shape.dense_layers) else { return SWIGLU_SIGMA };
    let mixed = (UNEQUAL / experts.used as f64).sqrt().min(1.0);
    match shape.arch {
        Arch::GptOss => SWIGLU_OAI_SIGMA * mixed,
        Arch::Deepseek2 => SWIGLU_SIGMA * ((DEEPSEEK_SCALE * mixed).powi(2) + experts.shared.min(1) as f64).sqrt(),
        Arch::Llama | Arch::Qwen3Moe => SWIGLU_SIGMA * mixed,
    }
}

/// Adds one writer's part to the variances of the classes. Gives the factors of its weights, when its result
/// has a standard deviation of `sigma` without them.
fn grow(variance: &mut [f64], read_next: usize, added: f64, share: f64, sigma: f64) -> Vec<f64> {
    let each = |(class, held): (usize, &mut f64)| {
        let more = match class {
            0 => NOISE * NOISE,
            _ if class == read_next => added * share * *held,
            _ => added.min(ASIDE * ASIDE) * *held,
        };
        *held += more;
        more.sqrt() / sigma
    };
    variance.iter_mut().enumerate().map(each).collect()
}

impl Stream {
    pub fn new(shape: &Shape, routing: Routing) -> Stream {
        let width = shape.width;
        let groups = u64::from(shape.layers.div_ceil(READS_MAX));
        let mut stream =
            Stream { routing, width, topic: width / 4, common: width / 16, groups, layers: Vec::new(), last_rms: 1.0 };
        let mut variance = vec![1.0; groups as usize + 1];
        variance[0] = CODE * CODE;
        let added = routing.own_similarity().powi(-2) - 1.0;
        for layer in 0..shape.layers {
            let read = stream.read_class(layer);
            let attention = grow(&mut variance, read, added, ATTENTION_SHARE, ATTENTION_SIGMA);
            let (read_sigma, rms) = (variance[read].sqrt(), stream.rms(&variance));
            let (next, share) = (stream.read_class(layer + 1), 1.0 - ATTENTION_SHARE);
            let feed_forward = grow(&mut variance, next, added, share, feed_forward_sigma(shape, layer));
            stream.layers.push(Layer { attention, feed_forward, read_sigma, rms });
        }
        stream.last_rms = stream.rms(&variance);
        stream
    }

    /// Classes of columns: 0 for topic and common ones, then one for each group.
    pub fn class(&self, column: u64) -> usize {
        match self.is_own(column) {
            true => 1 + (column % self.groups) as usize,
            false => 0,
        }
    }

    fn is_own(&self, column: u64) -> bool {
        column >= self.topic + self.common
    }

    /// The class that the router of `layer` reads.
    fn read_class(&self, layer: u32) -> usize {
        1 + (u64::from(layer) % self.groups) as usize
    }

    /// Columns from 0 on that hold the code of the topic.
    pub fn topic_columns(&self) -> u64 {
        self.topic
    }

    /// Columns from 0 on that hold no part of the token's own.
    pub fn code_columns(&self) -> u64 {
        self.topic + self.common
    }

    fn rms(&self, variance: &[f64]) -> f64 {
        let sum: f64 = (0..self.width).map(|column| variance[self.class(column)]).sum();
        (sum / self.width as f64).sqrt()
    }

    /// What the weights of `writer` in `layer` are multiplied with, by the class of the column that they write.
    pub fn factors(&self, writer: Writer, layer: u32) -> &[f64] {
        let layer = &self.layers[layer as usize];
        match writer {
            Writer::Attention => &layer.attention,
            Writer::FeedForward => &layer.feed_forward,
        }
    }

    /// The magnitude of a router's weights, column by column.
    pub fn router(&self, layer: u32) -> Vec<f32> {
        let plan = &self.layers[layer as usize];
        let read = self.read_class(layer);
        let own = (0..self.width).filter(|&column| self.class(column) == read).count().max(1);
        let shared = self.routing.token_similarity;
        // A sum over n columns of standard deviation `held` shall have `sigma`; the norm divides by `rms`.
        let weight = |sigma: f64, held: f64, n: f64| (sigma * plan.rms / (held * n.sqrt())) as f32;
        let topic = weight(shared.sqrt(), CODE, self.topic as f64);
        let common = weight(self.routing.skew, CODE, self.common as f64);
        let own = weight((1.0 - shared).sqrt(), plan.read_sigma, own as f64);
        let of = |column| match self.class(column) {
            0 if column < self.topic => topic,
            0 => common,
            class if class == read => own,
            _ => 0.0,
        };
        (0..self.width).map(of).collect()
    }
}
