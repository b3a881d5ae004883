use std::fs;

use super::case::{Case, Lock, Setup, Way};
use super::journal::Journal;
use super::matrix::{Axes, cases, estimate};
use super::outcome::{Bottleneck, Outcome};
use super::report::{has_other_text, page};
use super::sweep::{Cell, CellRate, cells};

fn setup() -> Setup {
    Setup { drive_bytes_per_s: Some(800_000_000), room_bytes: 600_000_000, context: 256, tokens: 6, threads: 2 }
}

fn words<T: std::str::FromStr<Err: std::fmt::Debug>>(words: &str) -> Vec<T> {
    words.split(',').map(|word| word.parse().unwrap()).collect()
}

fn axes(ways: &str, locks: &str) -> Axes {
    Axes {
        memory_percent: vec![100, 50],
        swappiness: vec![Some(0), Some(60)],
        ways: words::<Way>(ways),
        locks: words::<Lock>(locks),
        read_bytes: vec![None],
        depth: vec![None],
        rounds: 1,
    }
}

fn of(axes: &Axes) -> Vec<Case> {
    cases("m", 1_000_000_000, axes, &setup())
}

fn outcome(ms: f64, bytes_per_token: f64) -> Outcome {
    Outcome {
        tokens_per_s: Some(1e3 / ms),
        ms_per_token: Some(ms),
        bytes_per_token: Some(bytes_per_token),
        ceiling_bytes_per_s: Some(8e8),
        text: " one two".to_owned(),
        ..Outcome::default()
    }
}

fn columns() -> Vec<&'static str> {
    [&Case::COLUMNS[..], &Outcome::COLUMNS].concat()
}

#[test]
fn every_combination_is_a_case_once() {
    let all = of(&axes("memory,stock-128,stock-own,learned", "none"));
    // Memory alone has neither a size nor swap.
    assert_eq!(all.len(), 1 + 2 * 2 * 3);
    assert_eq!(all.iter().filter(|case| case.way.to_string() == "memory").count(), 1);
    assert!(all.iter().enumerate().all(|(at, case)| !all[..at].contains(case)));
    assert_eq!(all[1].share_bytes(), 1_000_000_000);
    assert_eq!(all.last().unwrap().share_bytes(), 500_000_000);
    let thrice = of(&Axes { rounds: 3, ..axes("stock-128", "none") });
    assert_eq!(thrice.len(), 3 * 4);
}

#[test]
fn what_cannot_be_is_no_case() {
    let locked = of(&axes("stock-128,learned", "none,llama,prefix:50,spread:25"));
    let with = |lock: &str| -> Vec<(String, u32)> {
        let these = locked.iter().filter(|case| case.lock.to_string() == lock && case.swappiness == Some(0));
        these.map(|case| (case.way.to_string(), case.memory_percent)).collect()
    };
    let stock = |percent| ("stock-128".to_owned(), percent);
    assert_eq!(with("llama"), [stock(100)]);
    assert_eq!(with("prefix:50"), [stock(100)]);
    assert_eq!(with("spread:25"), [stock(100), stock(50)]);
    assert_eq!(with("none").len(), 4);
    let forced = Axes {
        read_bytes: vec![None, Some(4096)],
        depth: vec![None, Some(8)],
        ..axes("stock-128,kernel,learned", "none")
    };
    let forced = of(&forced);
    let ways: Vec<_> = forced.iter().filter(|case| !case.is_plain()).map(|case| case.way.to_string()).collect();
    assert!(ways.len() == 4 * 3 && ways.iter().all(|way| way == "learned"), "{ways:?}");
}

#[test]
fn words_are_read_and_written() {
    for word in ["memory", "stock-128", "stock-own", "kernel", "learned"] {
        assert_eq!(word.parse::<Way>().unwrap().to_string(), word);
    }
    for word in ["none", "llama", "prefix:25", "spread:50"] {
        assert_eq!(word.parse::<Lock>().unwrap().to_string(), word);
    }
    assert!("stock".parse::<Way>().is_err() && "half".parse::<Lock>().is_err());
}

#[test]
fn less_memory_takes_longer() {
    let all = of(&axes("stock-128,learned", "none"));
    let time = |way: &str, percent| {
        let case = all.iter().find(|case| case.way.to_string() == way && case.memory_percent == percent);
        estimate(case.unwrap())
    };
    assert!(time("stock-128", 50) > time("learned", 50) && time("learned", 50) > time("learned", 100));
}

#[test]
fn a_journal_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.csv");
    let all = of(&Axes {
        read_bytes: vec![None, Some(65536)],
        swappiness: vec![None, Some(60)],
        ..axes("memory,stock-own,learned", "none,spread:25")
    });
    let mut journal = Journal::open(&path, &columns()).unwrap();
    for (at, case) in all.iter().enumerate() {
        let failure = (at == 0).then(|| "killed, \"9\"".to_owned());
        let full = Outcome { swapped_zeros_bytes: Some(7), failure, ..outcome(100.0 + at as f64, 0.5) };
        journal.add(case.clone(), full).unwrap();
    }
    let rows = journal.rows().to_vec();
    let second = Journal::<Case, Outcome>::open(&path, &columns());
    assert!(second.unwrap_err().to_string().contains("another process"));
    drop(journal);
    let journal = Journal::<Case, Outcome>::open(&path, &columns()).unwrap();
    assert_eq!(journal.rows(), rows);
    assert!(all.iter().all(|case| journal.has(case)));
    assert!(!journal.has(&Case { round: 1, ..all[0].clone() }));
    assert!(!journal.has(&Case { tokens: 7, ..all[0].clone() }));
}

#[test]
fn a_line_that_was_cut_off_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.csv");
    let all = of(&axes("stock-128", "none"));
    let mut journal = Journal::open(&path, &columns()).unwrap();
    journal.add(all[0].clone(), outcome(1.0, 1.0)).unwrap();
    journal.add(all[1].clone(), outcome(2.0, 1.0)).unwrap();
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for cut in 1..20 {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let mut journal = Journal::<Case, Outcome>::open(&path, &columns()).unwrap();
        assert!(journal.has(&all[0]) && !journal.has(&all[1]));
        journal.add(all[1].clone(), outcome(2.0, 1.0)).unwrap();
        drop(journal);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    let others = Journal::<Case, Outcome>::open(&path, &["model"]);
    assert!(format!("{:#}", others.unwrap_err()).contains("another folder"));
}

#[test]
fn the_bottleneck_is_what_is_busy() {
    let name = |ms: f64, bytes: f64| Bottleneck::of(&outcome(ms, bytes), Some(100.0), Some(8e8)).unwrap().name();
    assert_eq!(name(1000.0, 7.9e8), "drive");
    assert_eq!(name(105.0, 1e6), "computation");
    assert_eq!(name(1000.0, 3e8), "waits");
    assert_eq!(Bottleneck::of(&outcome(1.0, 1.0), None, None), None);
}

#[test]
fn a_sweep_has_every_size_and_depth() {
    let all = cells("m", None, 2);
    assert_eq!(all.len(), 2 * 2 * 12 * 7);
    assert!(all.iter().any(|cell| cell.request_bytes == 4096 && cell.depth == 64));
    assert!(all.iter().any(|cell| cell.request_bytes == 8 << 20 && cell.depth == 1));
    let folder = tempfile::tempdir().unwrap();
    let columns = [&Cell::COLUMNS[..], &CellRate::COLUMNS].concat();
    let path = folder.path().join("drive.csv");
    let mut journal = Journal::open(&path, &columns).unwrap();
    journal.add(all[0].clone(), CellRate { bytes_per_s: 1.5e8, latency_us: 80.0 }).unwrap();
    let rows = journal.rows().to_vec();
    drop(journal);
    assert_eq!(Journal::<Cell, CellRate>::open(&path, &columns).unwrap().rows(), rows);
}

#[test]
fn the_page_has_each_figure_with_how_it_is_computed() {
    let mut rows: Vec<(Case, Outcome)> = Vec::new();
    let varied = Axes {
        read_bytes: vec![None, Some(4096)],
        depth: vec![None, Some(4)],
        ..axes("memory,stock-128,learned", "none,prefix:25")
    };
    for (at, case) in of(&varied).into_iter().enumerate() {
        rows.push((case, outcome(100.0 + 10.0 * at as f64, 4e7)));
    }
    let drive: Vec<_> =
        cells("m", None, 1).into_iter().map(|cell| (cell, CellRate { bytes_per_s: 1.23e9, latency_us: 9.0 })).collect();
    let html = page(&rows, &drive);
    for told in [
        "tokens per second by memory",
        "tokens per second by swappiness",
        "parts of the model locked in memory",
        "size and number of the pager's reads",
        "the drive by size and number of requests",
        "all runs",
        "median over the rounds",
        "swappiness 60",
        "prefix:25",
        "8 MiB",
        "1230",
        "prefers-color-scheme:dark",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert!(!html.contains("NaN") && !html.contains("http") && !html.contains("<script"));
    assert_eq!(html.matches("<tr>").count(), rows.len() + 1);
    assert!(!has_other_text(&rows) && !html.contains("DIFFERS"));
    rows[3].1.text = " three".to_owned();
    assert!(has_other_text(&rows) && page(&rows, &drive).contains("DIFFERS"));
    // A failed run is told, and is no other text.
    rows[3].1.failure = Some("killed by the OOM killer (signal 9)".to_owned());
    assert!(!has_other_text(&rows) && page(&rows, &drive).contains("killed by the OOM killer"));
}
