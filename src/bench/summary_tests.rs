//! Tests of the summary.

use super::*;
use crate::bench::roofline::Cycle;
use crate::config::Strategy;
use crate::launch::environment::OmpSpin;

pub const STOCK: Contender = Contender { who: Who::Stock(Readahead::Own), threads: 2, cache: Cache::Cold };
pub const PAGED: Contender =
    Contender { who: Who::Paged(Strategy::Learned, OmpSpin::Rounds(10_000)), threads: 2, cache: Cache::Cold };

pub fn bounds(bytes_min: Option<u64>) -> Bounds {
    let cycle = Cycle { bytes: 2_000_000, has_experts: false };
    Bounds { name: "m.gguf".to_owned(), cycle, budget_bytes: Some(1_000_000), bytes_min }
}

pub fn yardstick(bounds: &Bounds) -> Yardstick<'_> {
    Yardstick {
        bounds,
        lane: 0,
        drive_limit: Some(2_000_000),
        ubatch: 4,
        stock: &[Readahead::Own],
        against: None,
        skip: 0,
    }
}

fn record(contender: Contender, ms: f64, bytes: f64, text: TextMatch) -> Record {
    let lane = Lane {
        first_token_s: Some(ms / 1e3 * 5.0),
        prefill: Some(Span { count: 8.0, ms: ms * 2.0, bytes: bytes * 2.0, ..Span::default() }),
        prompts: 1,
        decode: Some(Span {
            count: 3.0,
            ms: ms * 3.0,
            bytes: bytes * 3.0,
            pager_cpu_s: bytes * 3.0 / 1e10,
            ..Span::default()
        }),
        gaps: vec![Gap { ms, bytes }; 3],
        counted: vec![true; 3],
        ..Lane::default()
    };
    Record { text, lanes: vec![lane], ..Record { failure: None, ..Record::failed(0, contender, String::new()) } }
}

fn round(compute_ms: f64, stock_ms: f64, paged_ms: f64, text: TextMatch) -> Round {
    Round {
        ceiling: Some(Ceiling { bytes_per_s: 1e6, bytes: 1, time_s: 1.0, latency_us: 1.0 }),
        records: vec![
            record(Contender::in_memory(2), compute_ms, 0.0, TextMatch::Reference),
            record(STOCK, stock_ms, 2e6, TextMatch::Identical),
            record(PAGED, paged_ms, 1.1e6, text),
        ],
    }
}

fn near(value: Option<f64>, expected: f64) {
    assert!(value.is_some_and(|value| (value - expected).abs() < 1e-9), "{value:?} {expected}");
}

#[test]
fn ratios_are_formed_within_a_round() {
    // The machine is twice as slow in the second round: the ratio stays.
    let rounds =
        [round(100.0, 4000.0, 1250.0, TextMatch::Identical), round(200.0, 8000.0, 2500.0, TextMatch::Shorter(3))];
    let bounds = bounds(Some(1_000_000));
    let paged = summarize(&rounds, PAGED, yardstick(&bounds));
    assert_eq!(paged.runs, 2);
    let speedup = Speedup { decode: Some(3.2), prefill: Some(3.2), first_token: Some(3.2) };
    assert_eq!(paged.speedups, [("own readahead".to_owned(), speedup)]);
    near(paged.bytes_ratio, 1.1);
    // T_min is 1000 ms in both rounds: 0.8 and 0.4; against the limit 500 ms.
    near(paged.roofline_share, 0.6);
    near(paged.roofline_share_of_limit, 0.3);
    near(paged.drive_share, (0.88 + 0.44) / 2.0);
    near(paged.drive_share_of_limit, (0.44 + 0.22) / 2.0);
    near(paged.in_memory_share, 0.08);
    // 1.1 MB at the limit of 2 MB/s: 550 ms.
    near(paged.overlapped_share, (100.0 / 550.0 + 200.0 / 550.0) / 2.0);
    near(paged.pager_cpu_s_per_gb, 0.1);
    assert_eq!(paged.text, TextMatch::Shorter(3));
    assert_eq!(paged.gaps, [Gap { ms: 1875.0, bytes: 1.1e6 }; 3]);
    let in_memory = summarize(&rounds, Contender::in_memory(2), yardstick(&bounds));
    assert_eq!((in_memory.roofline_share, in_memory.speedups[0].1.decode), (None, None));
}

#[test]
fn a_prompt_reads_the_minimum_once_for_each_ubatch() {
    let rounds = [round(100.0, 4000.0, 1250.0, TextMatch::Identical)];
    let bounds = bounds(Some(1_000_000));
    let paged = summarize(&rounds, PAGED, yardstick(&bounds));
    // Eight tokens are two passes of four: 2.2 MB of 2 MB, and 2 s of 2.5 s.
    near(paged.prefill_bytes, 2.2e6);
    near(paged.prefill_bytes_ratio, 1.1);
    near(paged.prefill_roofline_share, 0.8);
    near(paged.prompt_ms_per_token, 2500.0 / 8.0);
}

#[test]
fn other_threads_and_a_warm_cache_have_a_stock_of_their_own() {
    let mut rounds = [round(100.0, 4000.0, 1250.0, TextMatch::Identical)];
    let warm = Contender { cache: Cache::Warm, ..PAGED };
    rounds[0].records.push(record(warm, 100.0, 0.0, TextMatch::Identical));
    let bounds = bounds(Some(1_000_000));
    assert_eq!(summarize(&rounds, warm, yardstick(&bounds)).speedups[0].1, Speedup::default());
    rounds[0].records.push(record(warm.stock(Readahead::Own), 150.0, 0.0, TextMatch::Identical));
    near(summarize(&rounds, warm, yardstick(&bounds)).speedups[0].1.decode, 1.5);
}

#[test]
fn failed_runs_count_for_nothing_but_are_told() {
    let mut rounds = [round(100.0, 4000.0, 1250.0, TextMatch::Identical), round(1.0, 1.0, 1.0, TextMatch::Differs(2))];
    rounds[1].records[1].failure = Some("killed".to_owned());
    let bounds = bounds(None);
    let stock = summarize(&rounds, STOCK, yardstick(&bounds));
    assert_eq!((stock.runs, stock.failures.len(), stock.ms_per_token), (1, 1, Some(4000.0)));
    let paged = summarize(&rounds, PAGED, yardstick(&bounds));
    near(paged.speedups[0].1.decode, 3.2);
    assert_eq!(paged.text, TextMatch::Differs(2));
    assert_eq!(paged.bytes_ratio, None);
}
