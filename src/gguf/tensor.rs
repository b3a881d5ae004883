//! One tensor: where it lies in the file and what it is for.

use super::ggml_type::GgmlType;

/// A byte range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Extent {
    /// The byte after the last one.
    pub fn end(self) -> u64 {
        self.offset + self.bytes
    }
}

/// What a tensor is for, as far as paging cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// One row is read for each token, unless it is also the output matrix
    /// ([`Model::tied_embeddings`](super::Model::tied_embeddings)).
    TokenEmbedding,
    /// One row is read for each position.
    PositionalEmbedding,
    /// Projections of attention and of the recurrent layers that stand in its place.
    Attention,
    /// A feed-forward network that every token reads whole, and the small per-expert biases.
    DenseFfn,
    /// Chooses the experts.
    Router,
    /// The same matrix of all experts; the slices lie one behind the other.
    Experts {
        /// Experts in this tensor, at least 1. Files from before merged experts have 1 here and
        /// one tensor an expert.
        count: u32,
        /// Bytes of one expert's matrix.
        slice_bytes: u64,
    },
    /// An expert that every token reads.
    SharedExpert,
    /// Norms and their like: small and read whole.
    Norm,
    /// The matrix that makes logits.
    Output,
    /// Anything else.
    Other,
}

impl Role {
    /// Tensors of which single rows are read, unless they are the output as well.
    pub const ROW_TABLES: [Role; 2] = [Role::TokenEmbedding, Role::PositionalEmbedding];

    /// A word for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::TokenEmbedding => "token_embedding",
            Role::PositionalEmbedding => "positional_embedding",
            Role::Attention => "attention",
            Role::DenseFfn => "dense_ffn",
            Role::Router => "router",
            Role::Experts { .. } => "experts",
            Role::SharedExpert => "shared_expert",
            Role::Norm => "norm",
            Role::Output => "output",
            Role::Other => "other",
        }
    }
}

/// One tensor of a file. Invariant: `offset + bytes` does not exceed the file's length, and no two
/// tensors of a model share a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// As in the file: `blk.0.attn_q.weight`.
    pub name: String,
    /// The element type.
    pub ggml_type: GgmlType,
    /// Elements in each dimension, the contiguous one first; unused ones are 1.
    pub dims: [u64; 4],
    /// Dimensions in use, 0 to 4.
    pub n_dims: u32,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Size in bytes, without padding.
    pub bytes: u64,
    /// Which layer it belongs to.
    pub layer: Option<u32>,
    /// What it is for.
    pub role: Role,
}

impl Tensor {
    /// Where it lies.
    pub fn extent(&self) -> Extent {
        Extent { offset: self.offset, bytes: self.bytes }
    }

    /// Bytes of one row (the first dimension); the reader refuses rows of broken blocks.
    pub fn row_bytes(&self) -> u64 {
        self.ggml_type.row_bytes(self.dims[0]).unwrap_or_default()
    }
}
