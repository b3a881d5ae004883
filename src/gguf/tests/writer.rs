//! Writes headers: right ones, and wrong ones on demand.

use crate::gguf::{GgmlType, Value, ValueType};

/// A value as it is written, with its width.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// The type of the elements, and the elements without their types.
    Array(ValueType, Vec<Written>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Written {
    fn value_type(&self) -> ValueType {
        match self {
            Written::U8(_) => ValueType::U8,
            Written::I8(_) => ValueType::I8,
            Written::U16(_) => ValueType::U16,
            Written::I16(_) => ValueType::I16,
            Written::U32(_) => ValueType::U32,
            Written::I32(_) => ValueType::I32,
            Written::F32(_) => ValueType::F32,
            Written::Bool(_) => ValueType::Bool,
            Written::String(_) => ValueType::String,
            Written::Array(..) => ValueType::Array,
            Written::U64(_) => ValueType::U64,
            Written::I64(_) => ValueType::I64,
            Written::F64(_) => ValueType::F64,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Written::U8(v) => out.extend(v.to_le_bytes()),
            Written::I8(v) => out.extend(v.to_le_bytes()),
            Written::U16(v) => out.extend(v.to_le_bytes()),
            Written::I16(v) => out.extend(v.to_le_bytes()),
            Written::U32(v) => out.extend(v.to_le_bytes()),
            Written::I32(v) => out.extend(v.to_le_bytes()),
            Written::F32(v) => out.extend(v.to_le_bytes()),
            Written::Bool(v) => out.push((*v).into()),
            Written::String(v) => put_text(out, v),
            Written::Array(element, values) => {
                out.extend(type_id(*element).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.put(out));
            }
            Written::U64(v) => out.extend(v.to_le_bytes()),
            Written::I64(v) => out.extend(v.to_le_bytes()),
            Written::F64(v) => out.extend(v.to_le_bytes()),
        }
    }

    /// What a reader should make of it.
    pub fn expected(&self) -> Value {
        match self {
            Written::U8(v) => Value::Unsigned((*v).into()),
            Written::U16(v) => Value::Unsigned((*v).into()),
            Written::U32(v) => Value::Unsigned((*v).into()),
            Written::U64(v) => Value::Unsigned(*v),
            Written::I8(v) => Value::Signed((*v).into()),
            Written::I16(v) => Value::Signed((*v).into()),
            Written::I32(v) => Value::Signed((*v).into()),
            Written::I64(v) => Value::Signed(*v),
            Written::F32(v) => Value::Float((*v).into()),
            Written::F64(v) => Value::Float(*v),
            Written::Bool(v) => Value::Bool(*v),
            Written::String(v) if v.len() > 4096 => Value::LongString { bytes: v.len() as u64 },
            Written::String(v) => Value::String(v.clone()),
            Written::Array(element, values) => Value::Array { element: *element, count: values.len() as u64 },
        }
    }
}

fn type_id(value_type: ValueType) -> u32 {
    ValueType::ALL.iter().position(|candidate| *candidate == value_type).unwrap() as u32
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor's entry. The offset is computed unless it is given.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub dims: Vec<u64>,
    pub type_id: u32,
    pub offset: Option<u64>,
}

impl Entry {
    pub fn new(name: &str, dims: &[u64], ggml_type: GgmlType) -> Entry {
        Entry { name: name.into(), dims: dims.into(), type_id: ggml_type.id(), offset: None }
    }

    pub fn bytes(&self) -> u64 {
        let elements: u64 = self.dims.iter().product();
        GgmlType::from_id(self.type_id).ok().and_then(|t| t.row_bytes(elements)).unwrap_or(0)
    }
}

/// A file in parts; whatever is set to nonsense is written as nonsense.
#[derive(Debug, Clone)]
pub struct File {
    pub magic: [u8; 4],
    pub version: u32,
    pub pairs: Vec<(String, Written)>,
    pub tensors: Vec<Entry>,
    pub alignment: u64,
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
}

impl File {
    pub fn new(arch: &str) -> File {
        let pairs = vec![("general.architecture".into(), Written::String(arch.into()))];
        let (tensors, alignment) = (Vec::new(), 32);
        File { magic: *b"GGUF", version: 3, pairs, tensors, alignment, tensor_count: None, pair_count: None }
    }

    pub fn pair(mut self, key: &str, value: Written) -> File {
        self.pairs.push((key.into(), value));
        self
    }

    pub fn tensor(mut self, name: &str, dims: &[u64]) -> File {
        self.tensors.push(Entry::new(name, dims, GgmlType::F32));
        self
    }

    /// The whole file: header, padding, zeros as data.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.magic);
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            put_text(&mut out, key);
            out.extend(type_id(value.value_type()).to_le_bytes());
            value.put(&mut out);
        }
        let mut next = 0u64;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            let offset = tensor.offset.unwrap_or(next);
            out.extend(offset.to_le_bytes());
            next = (offset.saturating_add(tensor.bytes())).checked_next_multiple_of(self.alignment).unwrap_or(0);
        }
        let data = (out.len() as u64).next_multiple_of(self.alignment);
        out.resize((data + next.min(1 << 24)) as usize, 0);
        out
    }
}
