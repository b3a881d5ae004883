//! `ggpager top`: what running pagers do.

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use console::Term;
use serde::Serialize;

use crate::config::ByteSize;
use crate::launch::signals::Blocked;
use crate::status::rates::Rates;
use crate::status::{self, ReadError, Snapshot};

/// There is no pager to show.
const EXIT_NONE: u8 = 3;

/// Arguments of `ggpager top`.
#[derive(clap::Args)]
#[command(after_help = "Without a terminal one sample is printed.\n\n\
    GB/s, hits, stalls and reads in flight are those of the last interval. Hits are touches that the \
    pager saw and that found their block in memory; it does not see touches of blocks that the program \
    has in its view. Stalls are the share of time with at least one thread asleep on a block.\n\n\
    Exit code: 0 shown, 1 unreadable, 3 there is no pager of this user (or none in process PID).")]
pub struct Args {
    /// Show this process alone
    pid: Option<u32>,
    /// Print one sample
    #[arg(long)]
    once: bool,
    /// Print one sample as JSON
    #[arg(long)]
    json: bool,
    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    match (0.05..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(format!("{text:?} is not a number of seconds from 0.05 to 3600")),
    }
}

/// A pager, in the shape of the JSON.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    page: Snapshot,
    rates: Rates,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Fetched and not caught: it cannot come while the screen is half drawn.
    let signals = Blocked::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT]);
    let mut before = sample(args.pid)?;
    if before.is_empty() {
        match args.pid {
            Some(pid) => eprintln!("ggpager: {}", ReadError::None(pid)),
            None => eprintln!("ggpager: no pager of this user is running"),
        }
        return Ok(ExitCode::from(EXIT_NONE));
    }
    let mut screen = (stdout().is_terminal() && !args.once && !args.json).then(Screen::new);
    loop {
        if let Some(signal) = signals.wait(Some(args.interval)) {
            drop(screen);
            // Ctrl-C is the way out of a screen.
            let asked = signal.number == libc::SIGINT && !args.once && !args.json;
            return Ok(ExitCode::from(if asked { 0 } else { 128 + signal.number as u8 }));
        }
        let now = sample(args.pid)?;
        let rows: Vec<Row> = now.iter().map(|page| row(&before, page)).collect();
        match &mut screen {
            Some(screen) if rows.is_empty() => {
                screen.draw(&["the last pager has ended".to_owned()]);
                return Ok(ExitCode::SUCCESS);
            }
            Some(screen) => screen.draw(&lines(&rows)),
            None if rows.is_empty() => {
                eprintln!("ggpager: the last pager has ended");
                return Ok(ExitCode::from(EXIT_NONE));
            }
            None if args.json => {
                println!("{}", serde_json::to_string_pretty(&rows)?);
                return Ok(ExitCode::SUCCESS);
            }
            None => {
                lines(&rows).iter().for_each(|line| println!("{line}"));
                return Ok(ExitCode::SUCCESS);
            }
        }
        before = now;
    }
}

/// The pages that can be read. Of one process: an error if there is a page that cannot.
fn sample(pid: Option<u32>) -> anyhow::Result<Vec<Snapshot>> {
    if let Some(pid) = pid {
        return match status::read(pid) {
            Ok(page) => Ok(vec![page]),
            Err(ReadError::None(_) | ReadError::Stale) => Ok(Vec::new()),
            Err(error) => Err(anyhow::anyhow!("process {pid}: {error}")),
        };
    }
    let mut pages = Vec::new();
    for (pid, read) in status::list() {
        match read {
            Ok(page) => pages.push(page),
            Err(error) => log::info!("process {pid}: {error}"),
        }
    }
    Ok(pages)
}

fn row(before: &[Snapshot], page: &Snapshot) -> Row {
    let before = before.iter().find(|before| before.identity == page.identity);
    Row { page: page.clone(), rates: Rates::between(before, page) }
}

fn lines(rows: &[Row]) -> Vec<String> {
    let header = [
        "PID",
        "PROGRAM",
        "MODEL",
        "STRATEGY",
        "BUDGET",
        "OF MODEL",
        "IN MEMORY",
        "GB/s",
        "HITS",
        "STALLED",
        "IN FLIGHT",
        "CYCLE ms",
    ];
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for Row { page, rates } in rows {
        let (texts, counters) = (&page.texts, &page.counters);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let model = Path::new(&texts.model).file_name().unwrap_or_default().to_string_lossy().into_owned();
        table.add_row([
            page.identity.pid.to_string(),
            console::truncate_str(&texts.program, 16, "…").into_owned(),
            console::truncate_str(&model, 32, "…").into_owned(),
            texts.strategy.clone(),
            ByteSize(counters.budget_bytes).to_string(),
            ByteSize(counters.model_bytes).to_string(),
            ByteSize(counters.held_bytes).to_string(),
            format!("{:.2}", rates.read_bytes_per_s / 1e9),
            rates.hit_share.map_or_else(|| "-".to_owned(), percent),
            percent(rates.stall_share),
            format!("{:.1}", rates.in_flight),
            if counters.cycle_ns > 0 { (counters.cycle_ns / 1_000_000).to_string() } else { "-".to_owned() },
        ]);
    }
    for column in [0, 4, 5, 6, 7, 8, 9, 10, 11] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// The terminal, drawn in place. Its state is as before when this is dropped.
struct Screen {
    term: Term,
    drawn: usize,
}

impl Screen {
    fn new() -> Screen {
        let term = Term::stdout();
        let _ = term.hide_cursor();
        Screen { term, drawn: 0 }
    }

    fn draw(&mut self, lines: &[String]) {
        let (height, width) = self.term.size();
        let lines: Vec<_> = lines
            .iter()
            .take(usize::from(height).saturating_sub(1))
            .map(|line| console::truncate_str(line, width.into(), "…"))
            .collect();
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        // Less than before leaves lines behind. A terminal that has gone tells by SIGHUP.
        let _ = self.term.write_str(&format!("\r{up}{text}\x1b[J"));
        self.drawn = lines.len();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.term.show_cursor();
    }
}
