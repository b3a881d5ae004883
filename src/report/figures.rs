//! The figures as words: name, value, and how it is computed.

use serde::Serialize;

use super::Report;
use super::bottleneck;
use super::cycles::Sleep;
use super::distribution::Distribution;
use super::how;
use super::told::Told;
use super::units::{binary, percent, size, time};

/// One figure of one log.
pub struct Figure {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub how: &'static str,
    /// Its value.
    pub value: String,
}

/// A figure of several logs.
#[derive(Serialize)]
pub struct Row {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub how: &'static str,
    /// Its value in each log; `-` where it has none.
    pub values: Vec<String>,
}

/// Nothing to say.
const NONE: &str = "-";

fn spread(distribution: &Distribution, unit: impl Fn(f64) -> String) -> String {
    if distribution.count == 0 {
        return NONE.to_owned();
    }
    let Distribution { min, p50, p99, max, .. } = *distribution;
    [min, p50, p99, max].map(|value| unit(value as f64)).join(" / ")
}

/// All figures of `report`.
pub fn figures(report: &Report) -> Vec<Figure> {
    let mut all = Vec::new();
    let add = &mut |section, name: &str, value: String, how| {
        all.push(Figure { section, name: name.to_owned(), how, value });
    };
    run(report, add);
    time_of_a_cycle(report, add);
    requests(report, add);
    touches(report, add);
    experts(report, add);
    all
}

/// Takes section, name, value, and how it is computed.
type Add<'a> = &'a mut dyn FnMut(&'static str, &str, String, &'static str);

fn run(report: &Report, add: Add) {
    let log = &report.log;
    let header = &log.header;
    let or_none = |word: &str| if word.is_empty() { NONE.to_owned() } else { word.to_owned() };
    add(how::RUN, "program", or_none(&header.program), "the program that was paged");
    add(how::RUN, "strategy", or_none(&header.strategy), "what chose the reads");
    let rungs = [&header.fill_rung, &header.io_rung, &header.fault_mode].map(|word| or_none(word)).join(" / ");
    add(how::RUN, "region / reads / faults", rungs, "the rungs that were taken; see the README");
    let machine = &header.machine;
    let machine = match machine.kernel.as_str() {
        "" => NONE.to_owned(),
        kernel => format!("Linux {kernel}, {} processors, {}", machine.processors, size(machine.memory_bytes as f64)),
    };
    add(how::RUN, "machine", machine, "where it was recorded");
    add(how::RUN, "length", time(log.wall_s * 1e9), "first to last record");
    let budget = if log.budget_bytes > 0 { size(log.budget_bytes as f64) } else { NONE.to_owned() };
    add(how::RUN, "budget", budget, "the pool's size at the end");
    add(how::RUN, "records", log.records.to_string(), "in the log");
    let complete = match log.cut_off_at_byte {
        Some(byte) => format!("cut off at byte {byte}"),
        None if log.lost > 0 => format!("{} records lost", log.lost),
        None => "yes".to_owned(),
    };
    add(how::RUN, "complete", complete, "lost records: sleeps and reads that they end are left out");
    if log.unknown_touches > 0 {
        let unknown = log.unknown_touches.to_string();
        add(how::RUN, "touches of unknown blocks", unknown, "no view in the log describes them: times only");
    }
    add(how::RUN, "cycles", report.cycles.iter().filter(|it| it.complete).count().to_string(), "with both ends");
}

fn time_of_a_cycle(report: &Report, add: Add) {
    let time_ = &report.time;
    let part = |seconds: f64| match time_.length_s > 0.0 {
        true => format!("{} ({})", time(seconds * 1e9), percent(seconds / time_.length_s)),
        false => NONE.to_owned(),
    };
    add(how::TIME, "bottleneck", report.bottleneck.as_str().to_owned(), bottleneck::RULE);
    add(
        how::TIME,
        "length",
        time(time_.length_s * 1e9),
        "from the end of a cycle to the next: one token when decoding",
    );
    add(
        how::TIME,
        "compute",
        part(time_.compute_s),
        "length less the time with a thread asleep: of a run without the pager, what the kernel does in faults as well",
    );
    type Kind = (&'static str, fn(&Sleep) -> f64, &'static str);
    let kinds: [Kind; 3] = [
        ("waiting for demand reads", |it| it.demand_s, "a thread sleeps on a block that its touch found absent"),
        ("waiting for reads in flight", |it| it.in_flight_s, "none of those; a thread sleeps on a block being read"),
        (
            "fault handling",
            |it| it.fault_s,
            "none of those; a thread sleeps on a block that is in memory, but not in the view",
        ),
    ];
    for (name, value, text) in kinds {
        add(how::TIME, name, part(value(&time_.wall)), text);
    }
    let summed = format!(
        "{} / {} / {}",
        time(time_.summed.demand_s * 1e9),
        time(time_.summed.in_flight_s * 1e9),
        time(time_.summed.fault_s * 1e9)
    );
    add(how::TIME, "sleep of all threads", summed, "the same three kinds, summed over the threads");
    add(how::TIME, "threads", time_.threads.to_string(), "the most that touched holes in one cycle");
    add(how::TIME, "read", size(time_.read_bytes), "bytes of reads that ended in the cycle");
    let sleeps = &report.sleep_ns;
    for (name, of) in [("demand", &sleeps.demand), ("in flight", &sleeps.in_flight), ("fault", &sleeps.staged)] {
        add(how::SLEEPS, name, spread(of, time), "min / median / 99th percentile / max");
    }
}

fn requests(report: &Report, add: Add) {
    let drive = &report.drive;
    let reasons = [
        ("demand", &drive.size_bytes.demand, &drive.latency_ns.demand, drive.demand_bytes),
        ("readahead", &drive.size_bytes.readahead, &drive.latency_ns.readahead, drive.readahead_bytes),
    ];
    for (name, sizes, latencies, bytes) in reasons {
        add(how::REQUESTS, &format!("{name}: requests"), sizes.count.to_string(), "reads submitted");
        add(how::REQUESTS, &format!("{name}: bytes"), size(bytes as f64), "bytes that came");
        add(how::REQUESTS, &format!("{name}: size"), spread(sizes, binary), "min / median / 99th percentile / max");
        add(
            how::REQUESTS,
            &format!("{name}: latency"),
            spread(latencies, time),
            "min / median / 99th percentile / max",
        );
    }
    if drive.failed + drive.without_start > 0 {
        let odd = format!("{} / {}", drive.failed, drive.without_start);
        add(how::REQUESTS, "failed / without start", odd, "results below 0 / ends of reads that began before the log");
    }
    let rate = |value: f64| size(value) + "/s";
    add(how::DRIVE, "rate", rate(drive.mean_bytes_per_s), "bytes over the length of the log");
    let reading = drive.mean_while_reading_bytes_per_s;
    add(how::DRIVE, "rate while reading", rate(reading), "bytes over the time with a read in flight");
    let text = "median of the seconds with reads in flight for at least 95 % of the time, at least half as many as in the \
                deepest of them";
    add(how::DRIVE, "rate while busy", drive.busy_bytes_per_s.map_or(NONE.to_owned(), rate), text);
    let share = |value: Option<f64>| value.map_or(NONE.to_owned(), percent);
    add(how::DRIVE, "share used", share(drive.share), "rate over what the drive can do");
    let reading = share(drive.share_while_reading);
    add(how::DRIVE, "share while reading", reading, "rate while reading over what the drive can do");
    add(how::DRIVE, "reads in flight", format!("{:.1}", drive.in_flight), "mean over the time with one");
    let gaps = drive.gap_ns.count.to_string();
    add(how::DRIVE, "pauses", gaps, "from the end of the last read in flight to the next submission");
    add(how::DRIVE, "length of a pause", spread(&drive.gap_ns, time), "min / median / 99th percentile / max");
    let idle = time(drive.idle_while_waiting_s * 1e9);
    add(how::DRIVE, "idle while a thread waited", idle, "no read in flight, and a thread sleeps on an absent block");
}

fn touches(report: &Report, add: Add) {
    let sequentiality = &report.sequentiality;
    let whole = &sequentiality.whole;
    let share = |count: u64| match whole.pairs {
        0 => NONE.to_owned(),
        pairs => percent(count as f64 / pairs as f64),
    };
    let next = "touches of the block right behind that of the touch before";
    add(how::SEQUENCE, "next in the file", share(whole.next_in_file), next);
    add(how::SEQUENCE, "next in the compute order", share(whole.next_in_compute), next);
    let share = |count: u64| match whole.first_pairs {
        0 => NONE.to_owned(),
        pairs => percent(count as f64 / pairs as f64),
    };
    let next =
        "first touches of the block that is next among those touched in the cycle: blocks in the view do not count";
    add(how::SEQUENCE, "next touched in the file", share(whole.first_next_in_file), next);
    add(how::SEQUENCE, "next touched in the compute order", share(whole.first_next_in_compute), next);
    for (name, found) in [("file", whole.file), ("compute order", whole.compute)] {
        let value = found.map_or(NONE.to_owned(), |it| format!("{:.4} / {:.4}", it.spearman, it.kendall));
        let text = "Spearman's rho / Kendall's tau of the first touches of a cycle, counted from where the cycle begins if that \
                    agrees better; mean of the cycles";
        add(how::SEQUENCE, &format!("correlation with the {name}"), value, text);
    }
    let count = |value: f64| format!("{value:.0}");
    for (name, runs) in [("file", &sequentiality.run_in_file), ("compute order", &sequentiality.run_in_compute)] {
        let value = spread(runs, count);
        add(how::SEQUENCE, &format!("runs in the {name}"), value, "blocks: min / median / 99th percentile / max");
    }
    for role in &report.uniformity {
        let value = format!("{:.3} / {:.3}, {} of {} untouched", role.gini, role.entropy, role.untouched, role.blocks);
        add(how::UNIFORMITY, &role.role, value, "Gini (0 is even) / normalised entropy (1 is even)");
    }
    let reuse = &report.miss_ratios;
    add(how::REUSE, "touched", size(reuse.touched_bytes as f64), "bytes of all touches");
    add(how::REUSE, "distinct", size(reuse.footprint_bytes as f64), "bytes of all blocks that were touched");
    let distance = spread(&reuse.distance_bytes, size);
    add(how::REUSE, "reuse distance", distance, "distinct bytes since the last touch of the same block (Mattson 1970)");
    add(how::REUSE, "sampled blocks", percent(reuse.sampled_blocks), "share of the blocks that the figures are of");
    let at_budget = reuse.curve.iter().rfind(|it| it.memory_bytes <= report.log.budget_bytes);
    let ratios = at_budget.map_or(NONE.to_owned(), |it| format!("{} / {}", percent(it.lru), percent(it.belady)));
    add(
        how::REUSE,
        "missed by LRU / Belady",
        ratios,
        "bytes missed over bytes touched, at the largest size drawn that fits the budget",
    );
    let pager = report.pager.map_or(NONE.to_owned(), |it| percent(it.ratio));
    add(how::REUSE, "missed by the pager", pager, "bytes read over bytes touched, the whole log");
}

fn experts(report: &Report, add: Add) {
    let Told { layers, told } = report.expert_layers;
    if layers == 0 && report.experts.is_none() {
        return;
    }
    let from = match (&report.experts, told) {
        (Some(experts), _) => experts.source.to_owned(),
        (None, 0) => "nothing: blocks are too large".to_owned(),
        (None, _) => "nothing: no token after the prompt".to_owned(),
    };
    add(how::EXPERTS, "known from", from, "where the uses come from");
    let text = "each expert has a block that lies within one of its slices; the other layers are left out, unless the \
                router is known. Smaller blocks: strategy observe with a smaller grain";
    add(how::EXPERTS, "layers that touches tell", format!("{told} of {layers}"), text);
    let Some(experts) = &report.experts else { return };
    let share = |value: Option<f64>| value.map_or(NONE.to_owned(), percent);
    let used = format!("{:.1} of {}", experts.per_token, experts.experts);
    add(how::EXPERTS, "used", used, "experts of one layer for one token (one cycle, when known from touches)");
    add(
        how::EXPERTS,
        "popularity",
        format!("Gini {:.3}", experts.gini),
        "over the experts of a layer, mean of the layers",
    );
    add(how::EXPERTS, "used by the token before", share(experts.reused), "share of the uses, in the same layer");
    add(how::EXPERTS, "the same by chance", share(experts.chance), "if experts were chosen independently and alike");
    let popular = share(experts.chance_by_popularity);
    add(how::EXPERTS, "the same by popularity", popular, "shared by any two tokens, neighbours or not");
    let popular = share(experts.by_popularity);
    add(how::EXPERTS, "foretold by popularity", popular, "hits of as many guesses: the most used so far");
    let before = share(experts.by_previous_token);
    add(
        how::EXPERTS,
        "foretold by the token before",
        before,
        "hits of as many guesses, by counts of successions so far",
    );
    let below = share(experts.by_lower_layer);
    add(
        how::EXPERTS,
        "foretold by the layer below",
        below,
        "hits of as many guesses, by counts of co-occurrence so far",
    );
    for guesses in &report.guesses {
        let mut add = |name: &str, value, how| add(how::EXPERTS, &format!("{}: {name}", guesses.by), value, how);
        add("foretold", guesses.foretold.to_string(), "experts that the pager expected of a router which then chose");
        add("precision", percent(guesses.precision), "chosen ones among the foretold");
        add("recall", percent(guesses.recall), "foretold ones among all experts that those routers chose");
        let text =
            "bytes asked for of foretold experts before the router chose / those of experts that it did not choose";
        let bytes = format!("{} / {}", size(guesses.read_bytes as f64), size(guesses.unused_bytes as f64));
        add("read / for nothing", bytes, text);
    }
}

/// The figures of several logs beside each other.
pub fn rows(reports: &[Report]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (column, report) in reports.iter().enumerate() {
        for Figure { section, name, how, value } in figures(report) {
            let known = rows.iter().position(|row| row.section == section && row.name == name);
            let at = known.unwrap_or_else(|| {
                // Behind the last one of its section.
                let behind = rows.iter().rposition(|row| row.section == section).map_or(rows.len(), |at| at + 1);
                rows.insert(behind, Row { section, name, how, values: vec![NONE.to_owned(); reports.len()] });
                behind
            });
            rows[at].values[column] = value;
        }
    }
    rows
}
