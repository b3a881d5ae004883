//! From a wanted file size to hyperparameters.
//!
//! Every width and feed-forward size on a grid is tried with the number of layers that comes
//! nearest; the vocabulary takes up the remainder. Of what hits the size, the shape that is most
//! like published models wins.

use std::path::PathBuf;

use super::arch::{Arch, LAYERS_MAX, Shape};
use super::error::Error;
use super::header::table_line_bytes;
use super::order::Order;
use super::plan::{Plan, typed};
use super::quant::Quant;
use super::routing::Routing;
use super::tensors::tensors;
use super::vocab;
use crate::config::ByteSize;

/// How far the file may be from the size that was asked for.
const TOLERANCE: f64 = 0.03;

/// Vocabularies are sought in steps of this many tokens.
const VOCAB_STEP: u64 = 32;

/// What a model shall be like.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file, or the stem of the files of a split model.
    pub out: PathBuf,
    /// The architecture.
    pub arch: Arch,
    /// The types.
    pub quant: Quant,
    /// The order of the tensors.
    pub order: Order,
    /// Seed of the weights.
    pub seed: u64,
    /// How routers behave; `None` leaves it to the luck of random weights. Without experts it means nothing.
    pub routing: Option<Routing>,
    /// Bytes of all files together, within 3 %.
    pub size: ByteSize,
    /// Bytes of tensors in one file, at most.
    pub split_max: Option<ByteSize>,
    /// Fixes the number of layers.
    pub layers: Option<u32>,
    /// Fixes the width.
    pub width: Option<u64>,
    /// Fixes the vocabulary.
    pub vocab: Option<u64>,
    /// The context length that the model claims.
    pub ctx: Option<u32>,
    /// Fixes the number of experts in a layer.
    pub experts: Option<u64>,
    /// Fixes the number of experts that a token uses.
    pub used: Option<u64>,
}

/// A shape and how much we like it.
struct Candidate {
    shape: Shape,
    /// Relative distance from the wanted size.
    error: f64,
    /// Size in bytes.
    bytes: u64,
    /// Distance from the usual proportions, squared.
    strangeness: f64,
}

/// Bytes that the metadata have besides the tokens, roughly.
const METADATA_BYTES: u64 = 2500;
/// Bytes of one token: text with its length, score, type.
const TOKEN_BYTES: u64 = 8 + 8 + 4 + 4;

/// The size of the file, exact but for the metadata.
fn file_bytes(shape: &Shape, quant: Quant) -> Result<u64, Error> {
    let all = typed(shape, quant, tensors(shape))?;
    let data: u64 = all.iter().map(|typed| typed.padded_bytes() + table_line_bytes(&typed.tensor)).sum();
    Ok(data + METADATA_BYTES + TOKEN_BYTES * shape.vocab)
}

fn widths(arch: Arch) -> impl Iterator<Item = u64> {
    let published = (arch == Arch::GptOss).then_some(2880);
    (256..4096).step_by(256).chain((4096..8192).step_by(512)).chain((8192..=16384).step_by(1024)).chain(published)
}

impl Request {
    /// A request with nothing fixed but the size.
    pub fn new(out: impl Into<PathBuf>, arch: Arch, quant: Quant, size: ByteSize) -> Request {
        Request {
            out: out.into(),
            arch,
            quant,
            order: quant.usual_order(),
            seed: 1,
            routing: Some(Routing::default()),
            size,
            split_max: None,
            layers: None,
            width: None,
            vocab: None,
            ctx: None,
            experts: None,
            used: None,
        }
    }

    /// Chooses the hyperparameters and lays the file out.
    ///
    /// # Errors
    /// [`Error::Size`] when no shape comes near enough; else what [`Plan::new`] says.
    pub fn plan(&self) -> Result<Plan, Error> {
        if self.quant == Quant::Mxfp4 && self.arch == Arch::Llama {
            return Err(Error::NoExperts(self.arch));
        }
        if self.arch == Arch::Llama {
            let why = "it has no experts";
            for (what, value) in [("--experts", self.experts), ("--used", self.used)] {
                if let Some(value) = value {
                    return Err(Error::Parameter { arch: self.arch, what, value, why });
                }
            }
        }
        self.routing.map_or(Ok(()), |routing| routing.check(self.arch))?;
        let shape = self.shape()?;
        let split = self.split_max.map(|size| size.0);
        let plan = Plan::new(&self.out, shape, self.quant, self.order, self.seed, split)?;
        Ok(Plan { routing: self.routing, ..plan })
    }

    fn shape(&self) -> Result<Shape, Error> {
        let widths: Vec<u64> = self.width.map_or_else(|| widths(self.arch).collect(), |width| vec![width]);
        let expert_counts: &[u64] = match (self.arch, self.experts) {
            (Arch::Llama, _) | (_, Some(_)) => &[1],
            _ => &[1, 2, 4],
        };
        let mut candidates = Vec::new();
        // The usual scale first: of scales that round to the same sizes, the first counts.
        let sixteenths = match self.layers {
            None => (8..=24).step_by(2),
            // Without layers to choose, the size hangs on this.
            Some(_) => (4..=64).step_by(1),
        };
        let ff_scales = std::iter::once(1.0).chain(sixteenths.map(|sixteenths| f64::from(sixteenths) / 16.0));
        for width in widths {
            for &divided_by in expert_counts {
                let mut ffs = Vec::new();
                for scale in ff_scales.clone() {
                    let mut shape = Shape::usual(self.arch, width, scale)?;
                    let ff = (shape.ff, shape.experts.map(|experts| experts.ff));
                    if ffs.contains(&ff) {
                        continue;
                    }
                    ffs.push(ff);
                    if let Some(experts) = &mut shape.experts {
                        experts.count = self.experts.unwrap_or((experts.count / divided_by).max(16));
                        experts.used = self.used.unwrap_or(experts.used.min(experts.count));
                    }
                    shape.ctx = self.ctx.unwrap_or(shape.ctx);
                    shape.vocab = self.vocab.unwrap_or(shape.vocab);
                    let strangeness = scale.ln().powi(2) + (divided_by as f64).ln().powi(2) / 4.0;
                    self.with_layers(shape, strangeness, &mut candidates)?;
                }
            }
        }
        let fits = candidates.iter().filter(|candidate| candidate.error <= TOLERANCE);
        // A percent of error weighs as much as a tenth of strangeness.
        let cost = |candidate: &&Candidate| candidate.strangeness + (candidate.error / 0.01 / 3.0).powi(2);
        if let Some(best) = fits.min_by(|a, b| cost(a).total_cmp(&cost(b))) {
            return Ok(best.shape.clone());
        }
        let nearest = candidates.iter().min_by(|a, b| a.error.total_cmp(&b.error));
        let nearest = ByteSize(nearest.map_or(0, |candidate| candidate.bytes));
        Err(Error::Size { arch: self.arch, asked: self.size, nearest })
    }

    /// Adds `shape` with the numbers of layers that come nearest to the size.
    fn with_layers(&self, shape: Shape, strangeness: f64, candidates: &mut Vec<Candidate>) -> Result<(), Error> {
        let at = |layers| Shape { layers, ..shape.clone() };
        let numbers = match self.layers {
            Some(layers) => layers..=layers,
            None => {
                let (few, many) = (file_bytes(&at(8), self.quant)?, file_bytes(&at(24), self.quant)?);
                let guess = 8.0 + (self.size.0 as f64 - few as f64) * 16.0 / (many - few) as f64;
                let guess = guess.clamp(f64::from(shape.dense_layers + 1), f64::from(LAYERS_MAX)) as u32;
                guess..=(guess + 1).min(LAYERS_MAX)
            }
        };
        for layers in numbers {
            let mut shape = at(layers);
            if self.layers.is_none() && shape.looks_lite() {
                continue;
            }
            shape.check()?;
            let mut bytes = file_bytes(&shape, self.quant)?;
            let mut strangeness = strangeness + (f64::from(layers) / shape.usual_layers()).ln().powi(2);
            if self.vocab.is_none() {
                let usual = shape.vocab;
                shape.vocab = self.vocab_for(&shape, bytes)?;
                bytes = file_bytes(&shape, self.quant)?;
                strangeness += (shape.vocab as f64 / usual as f64).ln().powi(2);
            }
            let error = (bytes as f64 / self.size.0 as f64 - 1.0).abs();
            candidates.push(Candidate { shape, error, bytes, strangeness });
        }
        Ok(())
    }

    /// The vocabulary that brings a model of `bytes` to the wanted size, as far as a third more of it
    /// or a quarter of it can.
    fn vocab_for(&self, shape: &Shape, bytes: u64) -> Result<u64, Error> {
        // The difference is the same with few layers, and sooner known.
        let with = |vocab| file_bytes(&Shape { vocab, layers: shape.dense_layers + 1, ..shape.clone() }, self.quant);
        let step = with(shape.vocab + VOCAB_STEP)? - with(shape.vocab)?;
        let steps = ((self.size.0 as f64 - bytes as f64) / step as f64).round() as i64;
        let wanted = shape.vocab.saturating_add_signed(steps.saturating_mul(VOCAB_STEP as i64));
        let least = (shape.vocab / 4).max(vocab::TOKENS_MIN);
        Ok(wanted.clamp(least, shape.vocab * 4 / 3) / VOCAB_STEP * VOCAB_STEP)
    }
}
