//! Metadata: scalars and short strings are kept, long strings and arrays are measured and skipped.

use super::error::Error;
use super::source::{Cursor, ReadAt};

/// Longest string that is kept.
const STRING_BYTES_MAX: usize = 4096;
/// Longest key (the format's own limit).
const KEY_BYTES_MAX: usize = 65_535;
/// Key-value pairs in one file; real files have about 50.
const PAIRS_MAX: u64 = 65_536;
/// Arrays inside arrays; llama.cpp itself reads none.
const DEPTH_MAX: u32 = 4;
/// Key length, type and a value of one byte.
const PAIR_BYTES_MIN: u64 = 8 + 4 + 1;

/// The types of metadata values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// Every type; the index is the id in the file.
    pub const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// Bytes of a value; `None` for strings and arrays, whose length is in the file.
    fn fixed_bytes(self) -> Option<u64> {
        Some(match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            ValueType::String | ValueType::Array => return None,
        })
    }
}

/// A metadata value. Numbers are widened: the width matters to nobody here.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// U8 to U64.
    Unsigned(u64),
    /// I8 to I64.
    Signed(i64),
    /// F32 and F64.
    Float(f64),
    /// Anything but 0 is true.
    Bool(bool),
    /// A string of at most 4096 bytes; what is not UTF-8 in it is replaced.
    String(String),
    /// A longer string, which was skipped.
    LongString {
        /// Its length.
        bytes: u64,
    },
    /// An array, which was skipped.
    Array {
        /// The type of its elements.
        element: ValueType,
        /// How many there are.
        count: u64,
    },
}

impl Value {
    /// The value as a number that cannot be negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(value) => Some(value),
            Value::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// The number of pairs, which must fit into what is left of the file.
pub(super) fn pair_count<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>) -> Result<u64, Error> {
    cursor.count(PAIR_BYTES_MIN, PAIRS_MAX, "the number of metadata pairs")
}

/// Reads `count` pairs.
pub(super) fn read<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>, count: u64) -> Result<Vec<(String, Value)>, Error> {
    let mut pairs = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let key = cursor.text(KEY_BYTES_MAX, "metadata key")?;
        let value = value(cursor, &key)?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn value_type<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>, key: &str) -> Result<ValueType, Error> {
    let id = cursor.u32("metadata value type")?;
    ValueType::ALL.get(id as usize).copied().ok_or_else(|| Error::ValueType { key: key.to_owned(), id })
}

fn value<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>, key: &str) -> Result<Value, Error> {
    const WHAT: &str = "metadata value";
    Ok(match value_type(cursor, key)? {
        ValueType::U8 => Value::Unsigned(u8::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::I8 => Value::Signed(i8::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::U16 => Value::Unsigned(u16::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::I16 => Value::Signed(i16::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::U32 => Value::Unsigned(u32::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::I32 => Value::Signed(i32::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::U64 => Value::Unsigned(u64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I64 => Value::Signed(i64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F32 => Value::Float(f32::from_le_bytes(cursor.array(WHAT)?).into()),
        ValueType::F64 => Value::Float(f64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::Bool => Value::Bool(cursor.array(WHAT)? != [0]),
        ValueType::String => string(cursor)?,
        ValueType::Array => {
            let (element, count) = skip_array(cursor, key, 1)?;
            Value::Array { element, count }
        }
    })
}

fn string<R: ReadAt + ?Sized>(cursor: &mut Cursor<'_, R>) -> Result<Value, Error> {
    let bytes = cursor.count(1, u64::MAX, "the length of a string")?;
    if bytes > STRING_BYTES_MAX as u64 {
        cursor.skip(bytes, "string")?;
        return Ok(Value::LongString { bytes });
    }
    Ok(Value::String(String::from_utf8_lossy(cursor.take(bytes as usize, "string")?).into_owned()))
}

/// Skips an array at `depth` (1 for one that is in no other) and gives the type and number of its
/// elements. Every element moves the cursor on, so the time is bounded by the header's length.
fn skip_array<R: ReadAt + ?Sized>(
    cursor: &mut Cursor<'_, R>,
    key: &str,
    depth: u32,
) -> Result<(ValueType, u64), Error> {
    const WHAT: &str = "the number of array elements";
    if depth > DEPTH_MAX {
        return Err(Error::TooMany { what: "the depth of arrays", value: depth.into(), limit: DEPTH_MAX.into() });
    }
    let element = value_type(cursor, key)?;
    let each_bytes_min = element.fixed_bytes().unwrap_or(match element {
        ValueType::String => 8,
        _ => 4 + 8,
    });
    let count = cursor.count(each_bytes_min, u64::MAX, WHAT)?;
    match element {
        ValueType::String => {
            for _ in 0..count {
                let bytes = cursor.u64("the length of a string")?;
                cursor.skip(bytes, "string")?;
            }
        }
        ValueType::Array => {
            for _ in 0..count {
                skip_array(cursor, key, depth + 1)?;
            }
        }
        // No overflow: the count was checked against the bytes that are left.
        _ => cursor.skip(count * each_bytes_min, "array")?,
    }
    Ok((element, count))
}
