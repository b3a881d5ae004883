//! Which type each tensor gets: the mixes of llama-quantize.

use super::arch::{Arch, Shape};
use super::error::Error;
use super::order::Order;
use super::tensors::{Kind, Tensor};
use crate::gguf::GgmlType;

/// A quantization mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
#[allow(non_camel_case_types)]
pub enum Quant {
    /// 16-bit floats.
    #[value(name = "F16", alias = "f16")]
    F16,
    /// 8.5 bits per weight.
    #[value(name = "Q8_0", alias = "q8_0")]
    Q8_0,
    /// 4.5 bits per weight.
    #[value(name = "Q4_0", alias = "q4_0")]
    Q4_0,
    /// Q4_K_M: 4.5 bits per weight, with 6.56 for what suffers most.
    #[value(name = "Q4_K", aliases = ["q4_K", "q4_k", "Q4_K_M", "q4_k_m"])]
    Q4_K,
    /// Experts with 4.25 bits per weight, the rest Q8_0.
    #[value(name = "MXFP4", alias = "mxfp4")]
    Mxfp4,
}

impl Quant {
    /// What models of this architecture are usually distributed as.
    pub fn usual(arch: Arch) -> Quant {
        match arch {
            Arch::Llama => Quant::Q4_0,
            Arch::Qwen3Moe | Arch::Deepseek2 => Quant::Q4_K,
            Arch::GptOss => Quant::Mxfp4,
        }
    }

    /// Who makes files of this type: the converter does, unless only llama-quantize can.
    pub fn usual_order(self) -> Order {
        match self {
            Quant::Q4_0 | Quant::Q4_K => Order::Quantize,
            Quant::F16 | Quant::Q8_0 | Quant::Mxfp4 => Order::Convert,
        }
    }

    /// The value of `general.file_type` (`enum llama_ftype`).
    pub(super) fn file_type(self) -> u32 {
        match self {
            Quant::F16 => 1,
            Quant::Q4_0 => 2,
            Quant::Q8_0 => 7,
            Quant::Q4_K => 15,
            Quant::Mxfp4 => 38,
        }
    }

    fn base(self) -> GgmlType {
        match self {
            Quant::F16 => GgmlType::F16,
            Quant::Q8_0 | Quant::Mxfp4 => GgmlType::Q8_0,
            Quant::Q4_0 => GgmlType::Q4_0,
            Quant::Q4_K => GgmlType::Q4_K,
        }
    }

    /// The type of `tensor`: the rules of `llama_tensor_get_type` (`llama-quant.cpp`) as far as these
    /// architectures and types need them.
    ///
    /// # Errors
    /// [`Error::Row`] when rows are no whole number of blocks and there is no type to fall back to.
    pub fn tensor_type(self, shape: &Shape, tensor: &Tensor) -> Result<GgmlType, Error> {
        let wanted = match tensor.kind {
            Kind::Norm | Kind::Bias | Kind::Router => return Ok(GgmlType::F32),
            _ if self == Quant::F16 => GgmlType::F16,
            // Every stack of matrices counts as experts there, those of latent attention too.
            _ if self == Quant::Mxfp4 => match tensor.kind != Kind::Output && tensor.dims[2] > 1 {
                true => GgmlType::MXFP4,
                false => GgmlType::Q8_0,
            },
            Kind::Output if self == Quant::Q8_0 => GgmlType::Q8_0,
            Kind::Output => GgmlType::Q6_K,
            Kind::Embedding => self.base(),
            Kind::Matrix | Kind::Experts => self.mixed(shape, tensor),
        };
        let row = tensor.dims[0];
        let fits = |ty: GgmlType| row.is_multiple_of(ty.block_elements());
        let fallback = match wanted {
            _ if fits(wanted) => wanted,
            GgmlType::Q4_K => GgmlType::Q5_0,
            GgmlType::Q5_K => GgmlType::Q5_1,
            GgmlType::Q6_K => GgmlType::Q8_0,
            _ => wanted,
        };
        match fits(fallback) {
            true => Ok(fallback),
            false => Err(Error::Row { quant: self, tensor: tensor.name(), row, block: fallback.block_elements() }),
        }
    }

    fn mixed(self, shape: &Shape, tensor: &Tensor) -> GgmlType {
        let eight_experts = shape.experts.is_some_and(|experts| experts.count == 8);
        let more_bits = self == Quant::Q4_K && more_bits(tensor.layer.unwrap_or(0), shape.layers);
        match tensor.stem {
            "attn_v.weight" | "attn_k.weight" if eight_experts => GgmlType::Q8_0,
            "attn_output.weight" if eight_experts && self == Quant::Q4_K => GgmlType::Q5_K,
            "attn_v.weight" if more_bits => GgmlType::Q6_K,
            // What llama.cpp takes for a 70B.
            "attn_v.weight" if shape.arch == Arch::Llama && shape.layers == 80 && self == Quant::Q4_K => GgmlType::Q5_K,
            "ffn_down.weight" | "ffn_down_exps.weight" | "ffn_down_shexp.weight" if more_bits => GgmlType::Q6_K,
            _ => self.base(),
        }
    }
}

/// The layers that get more bits: the first and the last eighth, and every third between.
fn more_bits(layer: u32, layers: u32) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}
