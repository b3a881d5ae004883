//! Apache Parquet, with the columns of [`Row`]; a row group at a time is in memory.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::Items;
use super::row::Row;
use crate::report::blocks::Blocks;

/// Rows of a group.
const GROUP_ROWS: usize = 1 << 17;

/// How the values of a column are got.
enum Values {
    Number(fn(&Row) -> Option<i64>),
    Word(fn(&Row) -> Option<&str>),
    Flag(fn(&Row) -> Option<bool>),
}

use Values::{Flag, Number, Word};

/// The columns, in the order of [`Row`]'s fields.
const COLUMNS: [(&str, Values); 23] = [
    ("at_ns", Number(|row| Some(row.at_ns as i64))),
    ("event", Word(|row| Some(row.event))),
    ("view", Number(|row| row.view.map(i64::from))),
    ("path", Word(|row| row.path.as_deref())),
    ("file", Number(|row| row.file.map(i64::from))),
    ("block", Number(|row| row.block.map(i64::from))),
    ("offset", Number(|row| row.offset.map(|value| value as i64))),
    ("bytes", Number(|row| row.bytes.map(|value| value as i64))),
    ("role", Word(|row| row.role.as_deref())),
    ("layer", Number(|row| row.layer.map(i64::from))),
    ("expert", Number(|row| row.expert.map(i64::from))),
    ("tid", Number(|row| row.tid.map(i64::from))),
    ("found", Word(|row| row.found)),
    ("read", Number(|row| row.read.map(i64::from))),
    ("why", Word(|row| row.why)),
    ("source", Number(|row| row.source.map(i64::from))),
    ("result", Number(|row| row.result.map(i64::from))),
    ("untouched", Flag(|row| row.untouched)),
    ("cycle", Number(|row| row.cycle.map(|value| value as i64))),
    ("token", Number(|row| row.token.map(i64::from))),
    ("by", Word(|row| row.by)),
    ("level", Number(|row| row.level.map(i64::from))),
    ("records", Number(|row| row.records.map(|value| value as i64))),
];

/// Writes all items.
pub fn write(items: Items, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let fields = COLUMNS.iter().map(|(name, values)| {
        let field = match values {
            Number(_) => Type::primitive_type_builder(name, Physical::INT64),
            Word(_) => {
                Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String))
            }
            Flag(_) => Type::primitive_type_builder(name, Physical::BOOLEAN),
        };
        field.with_repetition(Repetition::OPTIONAL).build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let schema = Arc::new(Type::group_type_builder("record").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let mut blocks = Blocks::default();
    let mut rows = Vec::with_capacity(GROUP_ROWS);
    for item in items {
        rows.push(Row::of(&item?, &mut blocks));
        if rows.len() == GROUP_ROWS {
            write_group(&mut file, &rows)?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        write_group(&mut file, &rows)?;
    }
    file.close()?;
    Ok(())
}

fn write_group<W: Write + Send>(file: &mut SerializedFileWriter<W>, rows: &[Row]) -> anyhow::Result<()> {
    /// The values that are there, and for each row whether it has one.
    fn column<T>(rows: &[Row], value: impl Fn(&Row) -> Option<T>) -> (Vec<T>, Vec<i16>) {
        let all: Vec<Option<T>> = rows.iter().map(value).collect();
        let levels = all.iter().map(|value| i16::from(value.is_some())).collect();
        (all.into_iter().flatten().collect(), levels)
    }
    let mut group = file.next_row_group()?;
    for (_, values) in &COLUMNS {
        let mut writer = group.next_column()?.expect("the schema has as many columns");
        match values {
            Number(value) => {
                let (values, levels) = column(rows, value);
                writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
            }
            Word(value) => {
                let (values, levels) =
                    column(rows, |row| value(row).map(|word| ByteArray::from(word.as_bytes().to_vec())));
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
            }
            Flag(value) => {
                let (values, levels) = column(rows, value);
                writer.typed::<BoolType>().write_batch(&values, Some(&levels), None)?;
            }
        }
        writer.close()?;
    }
    group.close()?;
    Ok(())
}
