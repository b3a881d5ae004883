//! The architectures and their hyperparameters.

use super::error::Error;

/// An architecture of llama.cpp that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Arch {
    /// Dense, grouped-query attention.
    Llama,
    /// Experts in every layer.
    #[value(name = "qwen3moe")]
    Qwen3Moe,
    /// Experts, shared experts, a dense first layer, multi-head latent attention.
    Deepseek2,
    /// Experts with biases, attention sinks, sliding window in every other layer.
    GptOss,
}

impl Arch {
    /// The value of `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Llama => "llama",
            Arch::Qwen3Moe => "qwen3moe",
            Arch::Deepseek2 => "deepseek2",
            Arch::GptOss => "gpt-oss",
        }
    }
}

/// The experts of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts in a layer.
    pub count: u64,
    /// Experts that a token uses.
    pub used: u64,
    /// Rows of an expert's gate matrix.
    pub ff: u64,
    /// Experts that every token uses besides.
    pub shared: u64,
}

/// Multi-head latent attention: see the DeepSeek-V2 report, section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mla {
    /// Elements of a head without position.
    pub nope: u64,
    /// Elements of a head with rotary position.
    pub rope: u64,
    /// Elements of a head's value.
    pub value: u64,
    /// Elements of the latent that keys and values share.
    pub kv_rank: u64,
    /// Elements of the latent of the queries.
    pub q_rank: u64,
}

/// A model's hyperparameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The architecture.
    pub arch: Arch,
    /// Transformer blocks.
    pub layers: u32,
    /// Elements of the residual stream.
    pub width: u64,
    /// Rows of a dense layer's gate matrix; 0 where every layer has experts.
    pub ff: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Elements of a head.
    pub head: u64,
    /// Tokens in the vocabulary.
    pub vocab: u64,
    /// The context length that the model claims.
    pub ctx: u32,
    /// Layers before the first one with experts.
    pub dense_layers: u32,
    /// Experts, in architectures that have them.
    pub experts: Option<Experts>,
    /// Latent attention, in architectures that have it.
    pub mla: Option<Mla>,
}

/// Layers beyond which llama.cpp refuses a model (`LLAMA_MAX_LAYERS`).
pub(super) const LAYERS_MAX: u32 = 512;

fn round_to(value: u64, step: u64) -> u64 {
    (value.max(step) + step / 2) / step * step
}

impl Shape {
    /// The proportions that published models of this architecture have at `width`, with the
    /// feed-forward part scaled by `ff_scale`.
    ///
    /// Feed-forward sizes are multiples of 256, a superblock of the K quantizations.
    ///
    /// # Errors
    /// [`Error::Parameter`] when heads do not divide the width.
    pub fn usual(arch: Arch, width: u64, ff_scale: f64) -> Result<Shape, Error> {
        let head = if width < 1024 || arch == Arch::GptOss { 64 } else { 128 };
        if !width.is_multiple_of(head) || width == 0 || width > 65_536 {
            let why = "a multiple of 64, from 1024 on of 128 (gpt-oss: 64), at most 65536";
            return Err(Error::Parameter { arch, what: "--width", value: width, why });
        }
        let ff = |ratio: f64| round_to((width as f64 * ratio * ff_scale) as u64, 256);
        let experts = |full: u64, used, ratio, shared| {
            let count = match width {
                0..=512 => full / 4,
                513..=1024 => full / 2,
                _ => full,
            };
            Some(Experts { count: count.max(16), used, ff: ff(ratio), shared })
        };
        let mut shape = Shape {
            arch,
            layers: 1,
            width,
            ff: 0,
            heads: width / head,
            kv_heads: 1,
            head,
            vocab: if width <= 512 { 4096 } else { 32_000 },
            ctx: 8192,
            dense_layers: 0,
            experts: None,
            mla: None,
        };
        match arch {
            Arch::Llama => {
                shape.ff = ff(3.5);
                shape.kv_heads = divisor(shape.heads, shape.heads / 4);
            }
            Arch::Qwen3Moe => {
                shape.heads *= 2;
                shape.kv_heads = divisor(shape.heads, 4);
                shape.experts = experts(128, 8, 0.375, 0);
            }
            Arch::Deepseek2 => {
                let large = width >= 1024;
                shape.ff = ff(4.0);
                shape.dense_layers = 1;
                shape.experts = experts(64, 6, 0.625, 2);
                shape.mla = Some(Mla {
                    nope: if large { 128 } else { 64 },
                    rope: if large { 64 } else { 32 },
                    value: if large { 128 } else { 64 },
                    kv_rank: if large { 512 } else { 256 },
                    q_rank: round_to(width * 3 / 4, 256).min(1536),
                });
            }
            Arch::GptOss => {
                shape.heads = round_to(width / 45, 8);
                shape.kv_heads = shape.heads / 8;
                shape.experts = experts(32, 4, 1.0, 0);
                if ff_scale == 1.0 {
                    // As published: 2880 is no multiple of 256, and neither is the feed-forward part.
                    shape.experts.as_mut().expect("set above").ff = width;
                }
            }
        }
        Ok(shape)
    }

    /// Layers that published models have at this width, roughly.
    pub(super) fn usual_layers(&self) -> f64 {
        let width_per_layer = match self.arch {
            Arch::Llama => 110.0,
            Arch::Qwen3Moe => 43.0,
            Arch::Deepseek2 => 80.0,
            Arch::GptOss => 96.0,
        };
        (self.width as f64 / width_per_layer).max(3.0)
    }

    /// Whether llama.cpp would take this for DeepSeek-V2-Lite or one of its like, which it knows by
    /// their number of layers and which have no latent queries.
    pub(super) fn looks_lite(&self) -> bool {
        self.arch == Arch::Deepseek2 && (matches!(self.layers, 26 | 27) || (self.layers == 48 && self.vocab == 128_256))
    }

    /// Checks what a caller may have changed.
    ///
    /// # Errors
    /// [`Error::Parameter`] names the first value that llama.cpp would refuse.
    pub fn check(&self) -> Result<(), Error> {
        let arch = self.arch;
        let bad = |what, value, why| Err(Error::Parameter { arch, what, value, why });
        if self.layers <= self.dense_layers || self.layers > LAYERS_MAX {
            return bad("--layers", self.layers.into(), "1 to 512, for deepseek2 at least 2");
        }
        if self.looks_lite() {
            return bad("--layers", self.layers.into(), "llama.cpp takes it for a lite model without latent queries");
        }
        if self.vocab < super::vocab::TOKENS_MIN || self.vocab > super::vocab::TOKENS_MAX {
            return bad("--vocab", self.vocab, "384 to 500000");
        }
        if self.ctx == 0 {
            return bad("--ctx", 0, "at least 1");
        }
        if let Some(experts) = self.experts {
            // LLAMA_MAX_EXPERTS
            if experts.count < 2 || experts.count > 512 {
                return bad("--experts", experts.count, "2 to 512");
            }
            if experts.used == 0 || experts.used > experts.count {
                return bad("--used", experts.used, "1 to the number of experts");
            }
        }
        Ok(())
    }
}

/// The largest divisor of `n` that is at most `wanted`, at least 1.
fn divisor(n: u64, wanted: u64) -> u64 {
    (1..=wanted.max(1)).rev().find(|d| n.is_multiple_of(*d)).unwrap_or(1)
}
