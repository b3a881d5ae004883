//! Everything that a folder of results has, as one page.

use super::case::{Case, Setup};
use super::outcome::{Bottleneck, Outcome};
use super::plots::{self, Figure, short};
use super::sweep::{Cell, CellRate};
use crate::bench::plan::Who;
use crate::bench::quantile::median;
use crate::bench::record::{TextMatch, compare};
use crate::config::ByteSize;
use crate::replay::report::distinct;
use crate::report::html::{END, captioned, head, section};
use crate::report::svg::escaped;

/// A kind of figure: its heading, how it is computed, and how a group's are drawn.
type Plot = (&'static str, &'static str, fn(&Group) -> Vec<Figure>);

const PLOTS: [Plot; 4] = [
    (
        "tokens per second by memory",
        "median over the rounds of the decode phase, by llama.cpp's own clock: 1000 / ms_per_token. Memory is the \
         share of the model that the control group has room for besides what the program needs, and the pager's \
         budget; `memory` is a run without limits and with everything cached",
        plots::by_memory,
    ),
    (
        "tokens per second by swappiness",
        "as above, with a swap file on the model's own drive; memory.swappiness of the run's group (version 2 of \
         control groups: vm.swappiness)",
        plots::by_swappiness,
    ),
    (
        "parts of the model locked in memory",
        "stock runs. prefix:N and spread:N: another process in the same group has locked the first N % of the file, \
         or N % of it in even pieces of 2 MiB (mlock), within the same memory limit, and the rest was dropped from \
         the page cache before the run; llama: llama.cpp's own (--mlock, or -lm mmap+mlock)",
        plots::by_lock,
    ),
    (
        "size and number of the pager's reads",
        "tokens per second with GGPAGER_READ_SIZE and GGPAGER_QUEUE_DEPTH. A read is a piece of a block of 2 MiB at \
         most; the number in flight counts blocks",
        plots::by_request,
    ),
];

const DRIVE_HOW: &str = "MB/s of a null consumer (io_uring, O_DIRECT) that reads the model's file and throws the bytes \
                         away; median over the rounds. The largest size is beyond what the pager asks for";

const TABLE_HOW: &str = "every run that was made. MB a token: what the program's threads had read from drives \
    (/proc/PID/io), swap included. Drive: MB a token / the drive's rate / ms a token; the rate is the limit that the \
    drive is held to, or else the median of what a null consumer got with 16 reads of 2 MiB in these sessions. \
    Computing: ms a token of the run `memory` / ms a token. Bottleneck: `drive` or `computation` when its share is \
    85 % or more; `waits` otherwise: neither was busy. Faults and swap are of the group from start to end; pages of \
    zeros go to swap without being written. Text: compared with the run `memory`";

/// Runs of one model in one setup.
pub struct Group<'a> {
    setup: Setup,
    rows: Vec<&'a (Case, Outcome)>,
}

impl<'a> Group<'a> {
    fn all(rows: &'a [(Case, Outcome)]) -> Vec<Group<'a>> {
        let key = |case: &Case| (case.model.clone(), case.model_bytes, case.setup());
        distinct(rows.iter().map(|(case, _)| key(case)))
            .into_iter()
            .map(|wanted| Group {
                setup: wanted.2.clone(),
                rows: rows.iter().filter(|(case, _)| key(case) == wanted).collect(),
            })
            .collect()
    }

    /// The words of everybody who ran.
    pub fn ways(&self) -> Vec<String> {
        distinct(self.rows.iter().map(|(case, _)| case.way.to_string()))
    }

    /// The rows that `wanted` says.
    pub fn rows_where(&self, wanted: impl Fn(&Case) -> bool) -> Vec<&'a (Case, Outcome)> {
        self.rows.iter().copied().filter(|(case, _)| wanted(case)).collect()
    }

    /// Median of the speed of those rows.
    pub fn tokens_per_s(&self, wanted: impl Fn(&Case) -> bool) -> Option<f64> {
        median(self.rows_where(wanted).iter().filter_map(|(_, outcome)| outcome.tokens_per_s))
    }

    fn name(&self) -> String {
        let Some((case, _)) = self.rows.first() else { return String::new() };
        let drive = self.setup.drive_bytes_per_s.map_or("free".to_owned(), |rate| format!("{} MB/s", rate / 1_000_000));
        format!(
            "{}, {}: drive {drive}, {} threads, {} tokens, context {}, {} besides the model's share",
            case.model,
            ByteSize(case.model_bytes),
            self.setup.threads,
            self.setup.tokens,
            self.setup.context,
            ByteSize(self.setup.room_bytes)
        )
    }

    /// How `row`'s text compares with that of the run in memory, or of the first run.
    fn text(&self, row: &Outcome) -> Option<TextMatch> {
        let sound = || self.rows.iter().filter(|(_, outcome)| outcome.failure.is_none());
        let in_memory = sound().find(|(case, _)| case.way.0 == Who::InMemory);
        let (_, reference) = in_memory.or_else(|| sound().next())?;
        let is_sound = row.failure.is_none();
        is_sound.then(|| compare(row.text.as_bytes(), reference.text.as_bytes()))
    }

    fn bottleneck(&self, row: &Outcome) -> Option<Bottleneck> {
        let in_memory = self.rows_where(|case| case.way.0 == Who::InMemory);
        let compute = median(in_memory.iter().filter_map(|(_, outcome)| outcome.ms_per_token));
        // A limit lets a short measurement through faster than a long one.
        let measured = || median(self.rows.iter().filter_map(|(_, outcome)| outcome.ceiling_bytes_per_s));
        let limit = self.setup.drive_bytes_per_s.map(|rate| rate as f64);
        Bottleneck::of(row, compute, limit.or_else(measured))
    }
}

/// True when a run failed to write the text of the others: what no measurement can excuse.
pub fn has_other_text(rows: &[(Case, Outcome)]) -> bool {
    let differs = |group: &Group, outcome: &Outcome| matches!(group.text(outcome), Some(TextMatch::Differs(_)));
    Group::all(rows).iter().any(|group| group.rows.iter().any(|(_, outcome)| differs(group, outcome)))
}

/// The page of `rows` and of the drive's `cells`.
pub fn page(rows: &[(Case, Outcome)], cells: &[(Cell, CellRate)]) -> String {
    let mut out = head("experiment");
    out.push_str("<h1>Memory, swap, strategies and requests</h1>");
    for group in Group::all(rows) {
        out.push_str(&format!("<h1>{}</h1>", escaped(&group.name())));
        for (name, how, draw) in PLOTS {
            out.push_str(&figures(name, how, &draw(&group)));
        }
        out.push_str(&table(&group));
    }
    out.push_str(&figures("the drive by size and number of requests", DRIVE_HOW, &plots::drive(cells)));
    out.push_str(END);
    out
}

fn figures(name: &str, how: &str, figures: &[Figure]) -> String {
    match figures {
        [] => String::new(),
        // Several captions even of one: it says for what the chart holds.
        _ => section(
            name,
            how,
            "logs",
            &figures.iter().map(|(name, chart)| captioned(chart, name, 2)).collect::<String>(),
        ),
    }
}

const HEADINGS: [&str; 18] = [
    "memory %",
    "swappiness",
    "who",
    "locked",
    "read",
    "in flight",
    "tokens/s",
    "ms a token",
    "MB a token",
    "drive %",
    "computing %",
    "bottleneck",
    "first token s",
    "major faults",
    "swapped in MB",
    "swapped out MB",
    "zeros swapped MB",
    "text",
];

fn table(group: &Group) -> String {
    let mut out = format!("<section><h2>all runs</h2><p class=\"how\">{}</p>", escaped(TABLE_HOW));
    out.push_str("<div class=\"table cycles\"><table><tr>");
    HEADINGS.iter().for_each(|heading| out.push_str(&format!("<th>{heading}</th>")));
    out.push_str("</tr>");
    for (case, outcome) in &group.rows {
        out.push_str("<tr>");
        cells(group, case, outcome).iter().for_each(|cell| out.push_str(&format!("<td>{}</td>", escaped(cell))));
        out.push_str("</tr>");
    }
    out.push_str("</table></div></section>");
    out
}

fn cells(group: &Group, case: &Case, outcome: &Outcome) -> [String; 18] {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), short);
    let mb = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
    let bottleneck = group.bottleneck(outcome);
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.0}", share * 100.0));
    let text = match (&outcome.failure, group.text(outcome)) {
        (Some(failure), _) => format!("failed: {failure}"),
        (None, Some(TextMatch::Differs(_))) => "DIFFERS".to_owned(),
        (None, Some(TextMatch::Shorter(_))) => "same, cut off".to_owned(),
        (None, Some(TextMatch::Identical | TextMatch::Reference)) => "same".to_owned(),
        (None, Some(TextMatch::Missing) | None) => "-".to_owned(),
    };
    let is_limited = case.way.0 != Who::InMemory;
    [
        if is_limited { case.memory_percent.to_string() } else { "no limit".to_owned() },
        case.swappiness.map_or("no swap".to_owned(), |swappiness| swappiness.to_string()),
        case.way.to_string(),
        case.lock.to_string(),
        case.read_bytes.map_or("own".to_owned(), |bytes| format!("{} KiB", bytes >> 10)),
        case.depth.map_or("own".to_owned(), |depth| depth.to_string()),
        number(outcome.tokens_per_s),
        number(outcome.ms_per_token),
        number(outcome.bytes_per_token.map(|bytes| bytes / 1e6)),
        percent(bottleneck.map(|it| it.drive_share)),
        percent(bottleneck.and_then(|it| it.compute_share)),
        bottleneck.map_or("-", Bottleneck::name).to_owned(),
        number(outcome.first_token_s),
        outcome.major_faults.map_or("-".to_owned(), |faults| faults.to_string()),
        mb(outcome.swapped_in_bytes),
        mb(outcome.swapped_out_bytes),
        mb(outcome.swapped_zeros_bytes),
        text,
    ]
}
