//! What one decoded token reads of a model.

use super::model::Model;
use super::prior::tied_embeddings_of_shards;
use super::tensor::Role;

/// Bytes by how a decoded token reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenReads {
    /// Read whole for every token.
    pub dense_bytes: u64,
    /// All experts.
    pub expert_bytes: u64,
    /// The experts that a token uses.
    pub active_expert_bytes: u64,
    /// Tables of which single rows are read.
    pub row_table_bytes: u64,
    /// The rows that a token reads.
    pub row_bytes: u64,
    /// Not read in ordinary decoding.
    pub unread_bytes: u64,
}

impl TokenReads {
    /// Of a model given as its shards, at least one. A tied embedding counts as dense.
    pub fn of(shards: &[&Model]) -> TokenReads {
        let first = shards[0];
        let used = first.expert_used_count.unwrap_or(0);
        let tied = tied_embeddings_of_shards(shards);
        let mut reads = TokenReads::default();
        for tensor in shards.iter().flat_map(|model| &model.tensors) {
            let unread = first.unread_from().zip(tensor.layer).is_some_and(|(from, layer)| layer >= from);
            let whole = tied && tensor.name == "token_embd.weight";
            match tensor.role {
                _ if unread => reads.unread_bytes += tensor.bytes,
                Role::Experts { count, slice_bytes } => {
                    // One tensor an expert: only the share of those that are used is read.
                    let all = if count == 1 { first.expert_count.unwrap_or(0).max(1) } else { count };
                    reads.expert_bytes += tensor.bytes;
                    let whole_matrix = slice_bytes.saturating_mul(used.min(all).into());
                    reads.active_expert_bytes += whole_matrix / u64::from(all / count).max(1);
                }
                _ if tensor.is_row_table() && !whole => {
                    reads.row_table_bytes += tensor.bytes;
                    reads.row_bytes += tensor.row_bytes();
                }
                _ => reads.dense_bytes += tensor.bytes,
            }
        }
        reads
    }

    /// Everything that a token reads.
    pub fn bytes(&self) -> u64 {
        self.dense_bytes + self.active_expert_bytes + self.row_bytes
    }
}
