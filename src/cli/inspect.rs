//! `ggpager inspect`: what a model's header says, and in which order its tensors are read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::model;
use crate::config::ByteSize;
use crate::gguf::{Model, Role, TokenReads, Value, decode_order_of_shards, tied_embeddings_of_shards};

/// Arguments of `ggpager inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// The model; of a split model any shard, all of them are shown.
    model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Everything that is shown, in the shape of the JSON.
#[derive(Serialize)]
struct Report {
    files: Vec<FileRow>,
    summary: Summary,
    metadata: serde_json::Map<String, serde_json::Value>,
    tensors: Vec<TensorRow>,
}

#[derive(Serialize)]
struct FileRow {
    path: PathBuf,
    gguf_version: u32,
    file_bytes: u64,
    data_offset_bytes: u64,
    alignment_bytes: u64,
    tensor_count: usize,
}

#[derive(Serialize)]
struct Summary {
    architecture: String,
    name: Option<String>,
    /// The number of a `llama_ftype`.
    file_type: Option<u32>,
    layers: Option<u32>,
    expert_count: u32,
    expert_used_count: u32,
    file_bytes: u64,
    tensor_bytes: u64,
    tied_embeddings: bool,
    role_bytes: BTreeMap<&'static str, u64>,
    /// Read whole for every token.
    dense_bytes_per_token: u64,
    expert_bytes: u64,
    expert_bytes_per_token: u64,
    /// Tables of which single rows are read.
    row_table_bytes: u64,
    row_bytes_per_token: u64,
    /// Not read in ordinary decoding.
    unread_bytes: u64,
}

impl Summary {
    fn bytes_per_token(&self) -> u64 {
        self.dense_bytes_per_token + self.expert_bytes_per_token + self.row_bytes_per_token
    }
}

#[derive(Serialize)]
struct TensorRow {
    name: String,
    #[serde(rename = "type")]
    type_name: &'static str,
    dims: Vec<u64>,
    shard: usize,
    offset_bytes: u64,
    bytes: u64,
    layer: Option<u32>,
    role: &'static str,
    expert_count: Option<u32>,
    expert_slice_bytes: Option<u64>,
    /// Place among the reads of one token, from 0; none for what decoding does not read.
    read_order: Option<usize>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (paths, shards) = model::read(&args.model)?;
    let report = report(&paths, &shards);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print(&mut out, &report)
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough: `ggpager inspect MODEL | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Nothing more may be written when the buffer is dropped.
            let _ = out.into_parts();
            Ok(ExitCode::SUCCESS)
        }
        written => written.map(|()| ExitCode::SUCCESS).context("cannot write"),
    }
}

fn report(paths: &[PathBuf], shards: &[Model]) -> Report {
    let models: Vec<&Model> = shards.iter().collect();
    let files = paths.iter().zip(shards).map(|(path, model)| FileRow {
        path: path.clone(),
        gguf_version: model.version,
        file_bytes: model.file_bytes,
        data_offset_bytes: model.data_offset,
        alignment_bytes: model.alignment,
        tensor_count: model.tensors.len(),
    });
    // Shards repeat no key but their own split.*; the first one tells.
    let pairs = shards[0].metadata.iter().map(|(key, value)| (key.clone(), json(value)));
    Report { files: files.collect(), summary: summary(&models), metadata: pairs.collect(), tensors: tensors(&models) }
}

fn summary(shards: &[&Model]) -> Summary {
    let first = shards[0];
    let reads = TokenReads::of(shards);
    let mut summary = Summary {
        architecture: first.arch.clone(),
        name: first.name.clone(),
        file_type: first.file_type,
        layers: first.block_count,
        expert_count: first.expert_count.unwrap_or(0),
        expert_used_count: first.expert_used_count.unwrap_or(0),
        file_bytes: shards.iter().map(|model| model.file_bytes).sum(),
        tensor_bytes: 0,
        tied_embeddings: tied_embeddings_of_shards(shards),
        role_bytes: BTreeMap::new(),
        dense_bytes_per_token: reads.dense_bytes,
        expert_bytes: reads.expert_bytes,
        expert_bytes_per_token: reads.active_expert_bytes,
        row_table_bytes: reads.row_table_bytes,
        row_bytes_per_token: reads.row_bytes,
        unread_bytes: reads.unread_bytes,
    };
    for tensor in shards.iter().flat_map(|model| &model.tensors) {
        summary.tensor_bytes += tensor.bytes;
        *summary.role_bytes.entry(tensor.role.as_str()).or_default() += tensor.bytes;
    }
    summary
}

fn tensors(shards: &[&Model]) -> Vec<TensorRow> {
    let unread_from = shards[0].unread_from();
    let mut rows: Vec<Vec<TensorRow>> = Vec::new();
    for (shard, model) in shards.iter().enumerate() {
        let row = model.tensors.iter().map(|tensor| {
            let (expert_count, expert_slice_bytes) = match tensor.role {
                Role::Experts { count, slice_bytes } => (Some(count), Some(slice_bytes)),
                _ => (None, None),
            };
            TensorRow {
                name: tensor.name.clone(),
                type_name: tensor.ggml_type.name(),
                dims: tensor.dims[..tensor.n_dims as usize].to_vec(),
                shard: shard + 1,
                offset_bytes: tensor.offset,
                bytes: tensor.bytes,
                layer: tensor.layer,
                role: tensor.role.as_str(),
                expert_count,
                expert_slice_bytes,
                read_order: None,
            }
        });
        rows.push(row.collect());
    }
    for (place, (shard, index)) in decode_order_of_shards(shards).into_iter().enumerate() {
        let row = &mut rows[shard][index];
        if unread_from.zip(row.layer).is_none_or(|(from, layer)| layer < from) {
            row.read_order = Some(place);
        }
    }
    rows.into_iter().flatten().collect()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Unsigned(value) => (*value).into(),
        Value::Signed(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::LongString { bytes } => serde_json::json!({ "string_bytes": bytes }),
        Value::Array { element, count } => {
            serde_json::json!({ "array_of": format!("{element:?}").to_lowercase(), "elements": count })
        }
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { summary, files, tensors, .. } = report;
    for file in files {
        let (version, tensors) = (file.gguf_version, file.tensor_count);
        let path = printable(&file.path.display().to_string());
        writeln!(out, "{path}: GGUF v{version}, {}, {tensors} tensors", ByteSize(file.file_bytes))?;
    }
    let number = |number: Option<u32>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    let architecture = if summary.architecture.is_empty() { "unknown" } else { &summary.architecture };
    writeln!(out, "architecture  {}", printable(architecture))?;
    if let Some(name) = &summary.name {
        writeln!(out, "name          {}", printable(name))?;
    }
    writeln!(out, "layers        {}", number(summary.layers))?;
    if summary.expert_count > 0 {
        writeln!(out, "experts       {}, {} used per token", summary.expert_count, summary.expert_used_count)?;
    }
    writeln!(out, "tensor data   {}", ByteSize(summary.tensor_bytes))?;
    for (role, bytes) in &summary.role_bytes {
        let share = 100.0 * *bytes as f64 / summary.tensor_bytes.max(1) as f64;
        writeln!(out, "  {role:<20} {:>10} {share:5.1} %", ByteSize(*bytes).to_string())?;
    }
    writeln!(out, "read per token {}", ByteSize(summary.bytes_per_token()))?;
    let tied = if summary.tied_embeddings { " (token embedding included: it is the output matrix)" } else { "" };
    writeln!(out, "  dense        {}{tied}", ByteSize(summary.dense_bytes_per_token))?;
    if summary.expert_bytes > 0 {
        let (used, all) = (ByteSize(summary.expert_bytes_per_token), ByteSize(summary.expert_bytes));
        writeln!(out, "  experts      {used} of {all}")?;
    }
    if summary.row_table_bytes > 0 {
        let (row, table) = (ByteSize(summary.row_bytes_per_token), ByteSize(summary.row_table_bytes));
        writeln!(out, "  embedding    {row} of {table}")?;
    }
    if summary.unread_bytes > 0 {
        writeln!(out, "never read in ordinary decoding: {}", ByteSize(summary.unread_bytes))?;
    }
    let shard = files.len() > 1;
    let mut header = vec!["tensor", "type", "dims", "offset", "bytes", "layer", "role", "read"];
    let mut numbers = vec![3, 4, 5, 7];
    if shard {
        header.push("shard");
        numbers.push(8);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in tensors {
        let dims: Vec<String> = row.dims.iter().map(u64::to_string).collect();
        let place = |number: Option<usize>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let mut cells = vec![
            printable(&row.name),
            row.type_name.to_owned(),
            dims.join(" x "),
            row.offset_bytes.to_string(),
            row.bytes.to_string(),
            place(row.layer.map(|layer| layer as usize)),
            row.role.to_owned(),
            place(row.read_order),
        ];
        if shard {
            cells.push(row.shard.to_string());
        }
        table.add_row(cells);
    }
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A file's own text must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
