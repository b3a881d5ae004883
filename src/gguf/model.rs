//! A file's header as a whole.

use super::error::Error;
use super::ggml_type::GgmlType;
use super::metadata::{self, Value};
use super::role;
use super::source::{Cursor, ReadAt};
use super::tensor::{Role, Tensor};

/// Longest header: ten times the largest vocabulary seen.
const HEADER_BYTES_MAX: u64 = 256 << 20;
/// Tensors in one file; the largest models with one tensor an expert have 50 000.
const TENSORS_MAX: u64 = 1 << 18;
/// Longest tensor name. llama.cpp itself stops at 64.
const NAME_BYTES_MAX: usize = 1024;
/// Name length, number of dimensions, type and offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 4 + 8;
/// `GGUF_DEFAULT_ALIGNMENT`.
const ALIGNMENT_DEFAULT: u64 = 32;
/// Far beyond any page or sector.
const ALIGNMENT_MAX: u64 = 16 << 20;

/// Which shard of a split model a file is (`split.*` in its metadata).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Counted from 0.
    pub no: u32,
    /// How many shards there are.
    pub count: u32,
    /// Tensors of all shards together.
    pub tensors: u64,
}

/// The header of one GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The format's version: 2 or 3.
    pub version: u32,
    /// Length of the file.
    pub file_bytes: u64,
    /// Where the tensors' data begin. Beyond `file_bytes` only when there are no tensors.
    pub data_offset: u64,
    /// Every tensor's data begin at a multiple of this many bytes from `data_offset`.
    pub alignment: u64,
    /// `general.architecture`; empty in every shard but the first.
    pub arch: String,
    /// `general.name`.
    pub name: Option<String>,
    /// `general.file_type`: the number of a `llama_ftype`.
    pub file_type: Option<u32>,
    /// `{arch}.block_count`.
    pub block_count: Option<u32>,
    /// `{arch}.nextn_predict_layers`: so many of the last layers foretell further tokens and are
    /// not read in ordinary decoding.
    pub nextn_layers: u32,
    /// `{arch}.expert_count`.
    pub expert_count: Option<u32>,
    /// `{arch}.expert_used_count`.
    pub expert_used_count: Option<u32>,
    /// Which shard this file is, if it is one.
    pub split: Option<Split>,
    /// All metadata in file order, long values without their content.
    pub metadata: Vec<(String, Value)>,
    /// All tensors in file order.
    pub tensors: Vec<Tensor>,
}

impl Model {
    /// Reads and checks the header of `source`.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the file. Memory is bounded by the header's length and
    /// that by a limit, whatever the file says.
    pub fn read<R: ReadAt + ?Sized>(source: &R) -> Result<Model, Error> {
        let mut cursor = Cursor::new(source, HEADER_BYTES_MAX)?;
        let magic: [u8; 4] = cursor.array("magic")?;
        if &magic != b"GGUF" {
            return Err(Error::Magic { found: magic });
        }
        let version = cursor.u32("version")?;
        match version {
            2 | 3 => {}
            // llama.cpp tells the byte order in the same way: no version has an empty low half.
            _ if version != 0 && version & 0xffff == 0 => return Err(Error::BigEndian),
            _ => return Err(Error::Version { version }),
        }
        let tensor_count = cursor.count(TENSOR_BYTES_MIN, TENSORS_MAX, "the number of tensors")?;
        let pair_count = metadata::pair_count(&mut cursor)?;
        let metadata = metadata::read(&mut cursor, pair_count)?;
        refuse_duplicates("key", metadata.iter().map(|(key, _)| key.as_str()))?;
        let mut model = Model::from_metadata(metadata)?;
        model.version = version;
        model.file_bytes = cursor.file_bytes();
        // The pairs have used up space: checked again, so that the reservation is sound.
        cursor.check_count(tensor_count, TENSOR_BYTES_MIN, TENSORS_MAX, "the number of tensors")?;
        let mut tensors = Vec::with_capacity(tensor_count as usize);
        for _ in 0..tensor_count {
            tensors.push(tensor(&mut cursor)?);
        }
        refuse_duplicates("tensor", tensors.iter().map(|tensor| tensor.name.as_str()))?;
        model.data_offset = cursor.position().next_multiple_of(model.alignment);
        place(&mut tensors, &model)?;
        refuse_overlaps(&tensors)?;
        model.tensors = tensors;
        Ok(model)
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The first layer that ordinary decoding does not read, if there is one.
    pub fn unread_from(&self) -> Option<u32> {
        self.block_count.filter(|_| self.nextn_layers > 0)?.checked_sub(self.nextn_layers)
    }

    fn from_metadata(metadata: Vec<(String, Value)>) -> Result<Model, Error> {
        let mut model = Model {
            version: 0,
            file_bytes: 0,
            data_offset: 0,
            alignment: ALIGNMENT_DEFAULT,
            arch: String::new(),
            name: None,
            file_type: None,
            block_count: None,
            nextn_layers: 0,
            expert_count: None,
            expert_used_count: None,
            split: None,
            metadata,
            tensors: Vec::new(),
        };
        if let Some(value) = model.value("general.alignment") {
            let key = "general.alignment";
            let alignment = value.as_u64().ok_or(Error::Value { key, why: "it is no unsigned integer" })?;
            if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
                return Err(Error::Value { key, why: "it is no power of two up to 16 MiB" });
            }
            model.alignment = alignment;
        }
        if let Some(value) = model.value("general.architecture") {
            let key = "general.architecture";
            model.arch = value.as_str().ok_or(Error::Value { key, why: "it is no short string" })?.to_owned();
        }
        // What follows only informs: a strange value is as good as none.
        let number = |key: &str| model.value(key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
        let of_arch = |key: &str| number(&format!("{}.{key}", model.arch));
        let split = match (number("split.no"), number("split.count")) {
            (Some(no), Some(count)) if count > 1 => {
                let tensors = model.value("split.tensors.count").and_then(Value::as_u64).unwrap_or(0);
                Some(Split { no, count, tensors })
            }
            _ => None,
        };
        Ok(Model {
            name: model.value("general.name").and_then(Value::as_str).map(str::to_owned),
            file_type: number("general.file_type"),
            block_count: of_arch("block_count"),
            nextn_layers: of_arch("nextn_predict_layers").unwrap_or(0),
            expert_count: of_arch("expert_count"),
            expert_used_count: of_arch("expert_used_count"),
            split,
            ..model
        })
    }
}

/// Reads one tensor's entry. Its offset is still relative to the data.
fn tensor<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>) -> Result<Tensor, Error> {
    let name = cursor.text(NAME_BYTES_MAX, "tensor name")?;
    let n_dims = cursor.u32("tensor dimensions")?;
    let mut dims = [1u64; 4];
    let Some(used) = dims.get_mut(..n_dims as usize) else {
        return Err(Error::Dims { tensor: name, why: "it has more than 4 dimensions" });
    };
    for dim in used {
        *dim = cursor.u64("tensor dimensions")?;
    }
    let id = cursor.u32("tensor type")?;
    let offset = cursor.u64("tensor offset")?;
    let ggml_type = match GgmlType::from_id(id) {
        Ok(ggml_type) => ggml_type,
        Err(reason) => return Err(Error::Type { tensor: name, reason }),
    };
    // ggml counts elements and bytes in signed 64-bit numbers.
    let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    if elements.is_none_or(|elements| elements > i64::MAX as u64) || dims.iter().any(|&dim| dim > i64::MAX as u64) {
        return Err(Error::Dims { tensor: name, why: "its number of elements overflows" });
    }
    if !dims[0].is_multiple_of(ggml_type.block_elements()) {
        return Err(Error::Dims { tensor: name, why: "its rows are no whole number of blocks" });
    }
    let bytes =
        dims[1..].iter().try_fold(ggml_type.row_bytes(dims[0]), |product, &dim| Some(product?.checked_mul(dim)));
    let Some(bytes) = bytes.flatten().filter(|&bytes| bytes <= i64::MAX as u64) else {
        return Err(Error::Dims { tensor: name, why: "its number of bytes overflows" });
    };
    let parts = role::parts(&name);
    let (layer, role) = (parts.layer, role::role(parts, dims, n_dims, bytes));
    Ok(Tensor { name, ggml_type, dims, n_dims, offset, bytes, layer, role })
}

/// Makes the offsets absolute. Refuses what is misaligned or reaches beyond the file.
fn place(tensors: &mut [Tensor], model: &Model) -> Result<(), Error> {
    for tensor in tensors {
        let (offset, bytes) = (tensor.offset, tensor.bytes);
        let refuse = |why| Error::Extent { tensor: tensor.name.clone(), why, offset, bytes };
        if !offset.is_multiple_of(model.alignment) {
            return Err(refuse("it does not lie at a multiple of the alignment"));
        }
        let end = model.data_offset.checked_add(offset).and_then(|start| start.checked_add(bytes));
        if end.is_none_or(|end| end > model.file_bytes) {
            return Err(refuse("it reaches beyond the end of the file"));
        }
        tensor.offset = model.data_offset + offset;
    }
    Ok(())
}

fn refuse_overlaps(tensors: &[Tensor]) -> Result<(), Error> {
    let mut sorted: Vec<&Tensor> = tensors.iter().filter(|tensor| tensor.bytes > 0).collect();
    sorted.sort_unstable_by_key(|tensor| tensor.offset);
    match sorted.windows(2).find(|pair| pair[0].extent().end() > pair[1].offset) {
        Some(pair) => Err(Error::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() }),
        None => Ok(()),
    }
}

fn refuse_duplicates<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut sorted: Vec<&str> = names.collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Duplicate { what, name: pair[0].to_owned() }),
        None => Ok(()),
    }
}

impl Tensor {
    /// True for tensors of which one row is read for each token when nothing else reads them.
    pub(super) fn is_row_table(&self) -> bool {
        Role::ROW_TABLES.contains(&self.role)
    }
}
