//! What `ggpager export` writes, opened by the programs that it is written for.

#[allow(dead_code)] // each test file uses a part of it
mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ggpager::policy::{Block, Role, Touch};
use ggpager::trace::{Encoder, Event, Header, Item, Record, Tensor, View, Why};
use serde_json::Value;
use support::{available, scratch};

const BLOCK: u32 = 64 << 10;
const BLOCKS: u32 = 8;
const CYCLES: u32 = 5;

/// A log of one thread that reads eight blocks in five cycles: even blocks on demand, odd ones after
/// readahead; then one read that fails, and an end without its start. Gives the paths of the log and of
/// the file that it is about.
fn sample() -> (PathBuf, PathBuf) {
    let (path, model) = (scratch("sample.log"), scratch("sample.gguf"));
    File::create(&model).and_then(|file| file.set_len(u64::from(BLOCK * BLOCKS))).expect("a model");
    let header = Header {
        recorder: "a test".to_owned(),
        program: "llama-test".to_owned(),
        strategy: "learned".to_owned(),
        budget_bytes: 4 * u64::from(BLOCK),
        started_unix_ns: 1_700_000_000_000_000_000,
        ..Header::default()
    };
    let mut log = Encoder::new(File::create(&path).expect("a log"), &header).expect("room");
    let block = |index: u32| Block {
        view: 0,
        offset: u64::from(index * BLOCK),
        len: BLOCK,
        frame_bytes: BLOCK,
        role: if index < 6 { Role::Cyclic } else { Role::Expert { layer: 1 } },
    };
    let tensor = |role: &str, layer, first: u32, blocks: u32, experts| Tensor {
        name: format!("{role}.weight"),
        role: role.to_owned(),
        layer,
        offset: u64::from(first * BLOCK),
        bytes: u64::from(blocks * BLOCK),
        experts,
    };
    let view = View {
        at_ns: 0,
        number: 3,
        path: model.display().to_string(),
        file_bytes: u64::from(BLOCK * BLOCKS),
        inode: (libc::makedev(259, 7), 42),
        modified_unix_ns: 0,
        offset: 0,
        bytes: u64::from(BLOCK * BLOCKS),
        first_block: 100,
        blocks: (0..BLOCKS).map(block).collect(),
        expected_order: (0..BLOCKS).collect(),
        tensors: vec![tensor("attention", Some(0), 0, 6, 0), tensor("experts", Some(1), 6, 2, 2)],
    };
    let mut items = vec![Item::View(Box::new(view))];
    let mut now_ns = 0;
    let mut push = |after_ns: u64, event| {
        now_ns += after_ns;
        items.push(Item::Record(Record { at_ns: now_ns, event }));
    };
    let read = |read, index: u32, why| Event::Read { read, block: 100 + index, start: 0, len: BLOCK, source: 0, why };
    for cycle in 0..CYCLES {
        for index in 0..BLOCKS {
            let (block, tid) = (100 + index, 77);
            if index % 2 == 0 {
                push(1_000_000, Event::Touch { block, offset: 4096, tid, found: Touch::Absent });
                push(1_000, read(index, index, Why::Demand));
                push(1_000, read(index + 1, index + 1, Why::Readahead));
                push(40_000_000, Event::ReadEnd { read: index, result: BLOCK as i32 });
                push(0, Event::ReadEnd { read: index + 1, result: BLOCK as i32 });
            } else {
                push(500_000, Event::Touch { block, offset: 0, tid, found: Touch::Staged });
                push(10_000, Event::Install { block });
            }
            push(0, Event::Woken { block, tid });
            push(0, Event::Evict { block, untouched: false });
        }
        push(0, Event::Cycle { number: u64::from(cycle) + 1 });
    }
    push(0, read(50, 2, Why::Demand));
    push(5_000, Event::ReadEnd { read: 50, result: -5 });
    push(0, Event::ReadEnd { read: 51, result: 4096 });
    push(0, Event::Unmapped { view: 3 });
    for item in &items {
        log.push(item).expect("room");
    }
    log.finish().expect("room");
    (path, model)
}

/// Reads in the sample, and how many of them are demand reads.
const READS: u32 = CYCLES * BLOCKS + 1;
const DEMAND: u32 = CYCLES * BLOCKS / 2 + 1;

fn export(log: &Path, format: &str) -> PathBuf {
    let out = scratch(&format!("sample.{format}"));
    let status = Command::new(env!("CARGO_BIN_EXE_ggpager"))
        .args(["export", "--format", format, "--out"])
        .args([&out, log])
        .status()
        .expect("ggpager runs");
    assert!(status.success(), "{format}: {status}");
    out
}

/// Runs a Python program that has the readers of these formats; `None` when there is no such Python.
/// Gives the JSON that it prints.
fn python(program: &str, args: &[&Path]) -> Option<Value> {
    let python = std::env::var_os("GGPAGER_READERS").map(PathBuf::from);
    if !available("GGPAGER_READERS (scripts/get-readers)", python.is_some()) {
        return None;
    }
    let output = Command::new(python?)
        .args(["-c", program])
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}\n{program}", output.status);
    Some(serde_json::from_slice(&output.stdout).expect("the program prints JSON"))
}

const TABLES: &str = r#"
import json, sys, duckdb, pandas, pyarrow.parquet
csv, parquet = sys.argv[1:]
a, b = pandas.read_csv(csv), pyarrow.parquet.read_table(parquet).to_pandas()
assert list(a.columns) == list(b.columns), (a.columns, b.columns)
for name in a.columns:
    x, y = a[name].astype(object), b[name].astype(object)
    assert (x.isna() == y.isna()).all(), name
    assert (x[~x.isna()].astype(str).str.replace(r"\.0$", "", regex=True)
            == y[~y.isna()].astype(str).str.replace(r"\.0$", "", regex=True)).all(), name
def query(source):
    return duckdb.sql(f"""select count(*) filter (event = 'read'), sum(bytes) filter (event = 'read' and why = 'demand'),
        min(result), count(distinct block), max(role) filter (expert = 1), max(path),
        max(at_ns) - min(at_ns), sum("offset") filter (event = 'touch' and found = 'absent'),
        bool_or(untouched), max(cycle) from '{source}'""").fetchall()[0]
assert query(csv) == query(parquet), (query(csv), query(parquet))
types = dict(duckdb.sql(f"select column_name, column_type from (describe select * from '{parquet}')").fetchall())
print(json.dumps({"rows": len(b), "query": [v if isinstance(v, (str, bool)) else int(v) for v in query(parquet)], "types": types}))
"#;

#[test]
fn pandas_pyarrow_and_duckdb_read_the_tables() {
    let (log, model) = sample();
    let (csv, parquet) = (export(&log, "csv"), export(&log, "parquet"));
    let Some(found) = python(TABLES, &[&csv, &parquet]) else { return };
    // The view; five records for an even block and its successor's read, two more for each touch ...
    assert_eq!(found["rows"], 1 + CYCLES * (BLOCKS / 2 * (7 + 4) + 1) + 4);
    let offsets = CYCLES * (0..BLOCKS).step_by(2).map(|index| index * BLOCK + 4096).sum::<u32>();
    let length = u64::from(CYCLES) * 4 * (1_000_000 + 2_000 + 40_000_000 + 510_000) + 5_000;
    assert_eq!(
        found["query"],
        serde_json::json!([
            READS,
            DEMAND * BLOCK,
            -5,
            BLOCKS,
            "experts",
            model.display().to_string(),
            length,
            offsets,
            false,
            CYCLES
        ])
    );
    let types = ["at_ns", "event", "untouched"].map(|name| found["types"][name].as_str().unwrap_or("none"));
    assert_eq!(types, ["BIGINT", "VARCHAR", "BOOLEAN"]);
}

#[test]
fn fio_replays_the_reads() {
    let has_fio = Command::new("fio").arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success());
    if !available("fio", has_fio) {
        return;
    }
    let (log, _model) = sample();
    let iolog = export(&log, "fio");
    let output = Command::new("fio")
        .args(["--name=replay", "--ioengine=psync", "--replay_no_stall=1", "--output-format=json"])
        .arg(format!("--read_iolog={}", iolog.display()))
        .output()
        .expect("fio runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("fio prints JSON");
    let read = &found["jobs"][0]["read"];
    assert_eq!((&read["total_ios"], &read["io_bytes"]), (&READS.into(), &(READS * BLOCK).into()), "{found}");
    // fio 3.31 and newer take times in microseconds from the first read on.
    let text = std::fs::read_to_string(iolog).expect("a text");
    let times: Vec<u64> = text.lines().skip(1).filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    assert!(times.is_sorted() && text.starts_with("fio version 3 iolog\n0 /"), "{text}");
    assert_eq!(*times.last().unwrap(), 4 * u64::from(CYCLES) * 41_512 - 1_001);
}

const LIBCACHESIM: &str = r#"
import json, sys, libcachesim
reader = libcachesim.TraceReader(sys.argv[1], libcachesim.TraceType.ORACLE_GENERAL_TRACE)
requests = [(r.obj_id, r.obj_size, r.next_access_vtime, r.clock_time) for r in reader]
block, count = int(sys.argv[2]), int(sys.argv[3])
ratio = {}
for name in ("LRU", "Belady"):
    reader.reset()
    ratio[name] = [getattr(libcachesim, name)(cache_size=block * n).process_trace(reader)[1] for n in range(1, count + 1) if not reader.reset()]
print(json.dumps({"requests": requests, "ratio": ratio}))
"#;

#[test]
fn libcachesim_reads_the_touches_and_misses_as_the_report_says() {
    let (log, _model) = sample();
    let trace = export(&log, "oraclegeneral");
    assert_eq!(std::fs::metadata(&trace).expect("a trace").len(), u64::from(24 * CYCLES * BLOCKS));
    let args = [trace.as_path(), Path::new("65536"), Path::new("8")];
    let Some(found) = python(LIBCACHESIM, &args) else { return };
    let requests = found["requests"].as_array().expect("a list");
    assert_eq!(requests.len() as u32, CYCLES * BLOCKS);
    for (index, request) in (0..CYCLES * BLOCKS).zip(requests) {
        assert_eq!((&request[0], &request[1]), (&(index % BLOCKS).into(), &BLOCK.into()));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_ggpager"))
        .args(["report", "--json", "-"])
        .arg(&log)
        .output()
        .expect("ggpager runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let curve = report["logs"][0]["miss_ratios"]["curve"].as_array().expect("a curve");
    let mut compared = 0;
    for point in curve {
        let memory = point["memory_bytes"].as_u64().expect("a size");
        let Some(blocks) = (memory % u64::from(BLOCK) == 0).then_some(memory / u64::from(BLOCK)) else { continue };
        let of = |name: &str| found["ratio"][name][blocks as usize - 1].as_f64().expect("a ratio");
        let ours = |name: &str| point[name].as_f64().expect("a ratio");
        assert!((ours("lru") - of("LRU")).abs() < 1e-9, "{point} {found}");
        assert!((ours("belady") - of("Belady")).abs() < 1e-9, "{point} {found}");
        compared += 1;
    }
    assert!(compared >= 4, "{curve:?}");
}

const HDR: &str = r#"
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
sums, intervals = {}, 0
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 1 << 42, 3))
while True:
    histogram = reader.get_next_interval_histogram()
    if histogram is None:
        break
    intervals += 1
    sums.setdefault(histogram.get_tag(), HdrHistogram(1, 1 << 42, 3)).add(histogram)
print(json.dumps({"intervals": intervals, "tags": {tag: [h.get_total_count(), h.get_value_at_percentile(50)] for tag, h in sums.items()}}))
"#;

#[test]
fn hdrhistogram_reads_the_distributions() {
    let (log, _model) = sample();
    let Some(found) = python(HDR, &[&export(&log, "hdr")]) else { return };
    let near = |tag: &str, count: u32, median: f64| {
        let values = &found["tags"][tag];
        let value = values[1].as_f64().unwrap_or_default();
        assert!(values[0] == count && (value / median - 1.0).abs() < 2e-3, "{tag}: {found}");
    };
    near("latency_demand_ns", DEMAND, 40_001_000.0);
    near("latency_readahead_ns", READS - DEMAND, 40_000_000.0);
    near("size_demand_bytes", DEMAND, f64::from(BLOCK));
    near("size_readahead_bytes", READS - DEMAND, f64::from(BLOCK));
    near("sleep_demand_ns", CYCLES * BLOCKS / 2, 40_002_000.0);
    near("sleep_staged_ns", CYCLES * BLOCKS / 2, 10_000.0);
    assert!(found["tags"]["sleep_in_flight_ns"].is_null());
}

#[test]
fn perfetto_events_are_well_formed() {
    let (log, _model) = sample();
    let text = std::fs::read(export(&log, "perfetto")).expect("a trace");
    let trace: Value = serde_json::from_slice(&text).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let mut open = std::collections::BTreeMap::new();
    let mut slices = std::collections::BTreeMap::new();
    for event in events {
        let phase = event["ph"].as_str().expect("a phase");
        assert!(event["pid"].is_u64(), "{event}");
        assert!(phase == "M" || event["ts"].as_f64().is_some_and(|ts| ts >= 0.0), "{event}");
        assert!(event["name"].is_string(), "{event}");
        match phase {
            "X" => {
                assert!(event["dur"].as_f64().is_some_and(|it| it > 0.0) && event["tid"] == 77, "{event}");
                *slices.entry(event["name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
            "b" => {
                let key = (event["cat"].to_string(), event["id"].to_string());
                assert!(open.insert(key, event["ts"].as_f64()).is_none(), "twice: {event}");
            }
            "e" => {
                let key = (event["cat"].to_string(), event["id"].to_string());
                assert!(open.remove(&key).is_some_and(|begin| begin <= event["ts"].as_f64()), "{event}");
                *slices.entry(event["cat"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
            "C" => assert!(event["args"]["value"].is_u64(), "{event}"),
            "M" | "i" => {}
            other => panic!("unknown phase {other}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let half = CYCLES * BLOCKS / 2;
    let expected = [("cycle", CYCLES - 1), ("demand read", half), ("fault", half), ("read", READS)];
    assert_eq!(slices, expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect());
}

#[test]
fn blkparse_lines_have_its_columns() {
    let (log, _model) = sample();
    let text = std::fs::read_to_string(export(&log, "blkparse")).expect("a text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len() as u32, 3 * READS);
    assert_eq!(lines[0], "259,7    0        1     0.001001000     0  Q   R 0 + 128 [ggpager]");
    assert_eq!(lines[3], "259,7    0        4     0.001002000     0  D  RA 128 + 128 [ggpager]");
    assert_eq!(lines[4], "259,7    0        5     0.041002000     0  C   R 0 + 128 [0]");
    assert!(lines.last().unwrap().ends_with("C   R 256 + 0 [-5]"), "{lines:?}");
    let mut last = 0.0;
    for (index, line) in lines.iter().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((fields.len(), fields[2].parse()), (11, Ok(index + 1)), "{line}");
        let at: f64 = fields[3].parse().expect("a time");
        assert!(at >= last, "{line}");
        last = at;
    }
}

#[test]
fn a_damaged_log_is_an_error_with_its_place() {
    let (log, _model) = sample();
    let mut bytes = std::fs::read(&log).expect("a log");
    let at = bytes.len() / 2;
    bytes[at] ^= 0x40;
    std::fs::write(&log, bytes).expect("room");
    for args in [&["report"][..], &["export", "--format", "csv"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ggpager")).args(args).arg(&log).output().expect("ggpager runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("sample.log") && message.contains("byte "), "{message}");
    }
}
