//! The report as one page: no script, nothing from elsewhere, colours for light and dark background.

use super::figures::{Row, rows};
use super::plots::{PLOTS, nothing};
use super::svg::escaped;
use super::table::{CYCLE_HEADINGS, CYCLE_HOW, cycle_cells, some_cycles};
use super::{Report, how};

/// Cycles that the table shows: so many of the first, and so many of the last.
const FIRST: usize = 60;
const LAST: usize = 20;

/// Colours: those of M. Okabe and K. Ito, which the colour-blind can tell apart; lighter on dark
/// background.
const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--faint:#5b6570;--grid:#e3e6ea;--box:#f5f6f8;\
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#d55e00;--c4:#cc79a7;--c5:#6b7280;--c6:#857500;--heat:#0072b2}\
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e9ed;--faint:#9aa4af;--grid:#2c323a;--box:#1d2127;\
--c0:#56b4e9;--c1:#f0b429;--c2:#2fc99b;--c3:#ff8a4c;--c4:#e39ac6;--c5:#a3adb9;--c6:#ddd35a;--heat:#7cc7f2}}\
body{background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;\
max-width:1500px}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .2rem}h3{font-size:.95rem;margin:.4rem 0;font-weight:600}\
p.how,td.how{color:var(--faint);font-size:.85rem}p.how{margin:.2rem 0 .6rem}\
.logs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:1rem}\
.logs.wide{grid-template-columns:minmax(0,1fr)}\
figure{margin:0;background:var(--box);border-radius:6px;padding:.5rem}svg{width:100%;height:auto;display:block}\
svg text{fill:var(--ink);font:11px system-ui,sans-serif}svg text.title{fill:var(--faint)}svg text.word{font-weight:600}\
.grid{stroke:var(--grid);fill:none}.axis{stroke:var(--faint);fill:none}.line{fill:none;stroke-width:1.6}\
.dot{fill:none;stroke-linecap:round}.line.c0,.dot.c0{stroke:var(--c0)}.line.c1,.dot.c1{stroke:var(--c1)}\
.line.c2,.dot.c2{stroke:var(--c2)}.line.c3,.dot.c3{stroke:var(--c3)}.line.c4,.dot.c4{stroke:var(--c4)}.line.c5,.dot.c5{stroke:var(--c5)}.line.c6,.dot.c6{stroke:var(--c6)}\
.fill.c0{fill:var(--c0)}.fill.c1{fill:var(--c1)}.fill.c2{fill:var(--c2)}.fill.c3{fill:var(--c3)}\
.fill.c4{fill:var(--c4)}.fill.c5{fill:var(--c5)}.fill.c6{fill:var(--c6)}.fill.heat{fill:var(--heat)}\
.table{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .6rem;\
border-bottom:1px solid var(--grid);vertical-align:top}.cycles td,.cycles th{text-align:right;white-space:nowrap}\
td.value{white-space:nowrap;font-variant-numeric:tabular-nums}";

/// The page of `reports`, beside each other; `names` are those of the logs.
pub fn page(reports: &[Report], names: &[String]) -> String {
    let title = escaped(&names.join(", "));
    let mut out = head(&title);
    out.push_str(&format!("<h1>Fault log{}: {title}</h1>", if names.len() > 1 { "s" } else { "" }));
    let rows = rows(reports);
    for (section, text) in how::SECTIONS {
        let of_section: Vec<&Row> = rows.iter().filter(|row| row.section == section).collect();
        if !of_section.is_empty() {
            out.push_str(&figures(section, text, &of_section, names));
        }
    }
    for plot in PLOTS {
        let pictures: Vec<Option<String>> = reports.iter().map(plot.draw).collect();
        if pictures.iter().all(Option::is_none) {
            continue;
        }
        let pictures = pictures.into_iter().map(|it| it.unwrap_or_else(|| nothing("not in this log")));
        let pictures = pictures.zip(names).map(|(picture, name)| captioned(&picture, name, names.len()));
        out.push_str(&section(plot.name, plot.how, "logs", &pictures.collect::<String>()));
    }
    let tables = reports.iter().zip(names).map(|(report, name)| cycles(report, name, names.len()));
    out.push_str(&section("table of cycles", CYCLE_HOW, "logs wide", &tables.collect::<String>()));
    out.push_str(END);
    out
}

/// The end of a page that [`head`] begins.
pub(crate) const END: &str = "</body></html>\n";

/// The beginning of a page, up to its first heading; `title` is HTML.
pub(crate) fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>ggpager: {title}</title><style>{STYLE}</style></head><body>"
    )
}

/// A part of the page: its heading, how it is computed, and what it shows, which is HTML, in a box of
/// `class`.
pub(crate) fn section(name: &str, how: &str, class: &str, logs: &str) -> String {
    let (name, how) = (escaped(name), escaped(how));
    format!("<section><h2>{name}</h2><p class=\"how\">{how}</p><div class=\"{class}\">{logs}</div></section>")
}

/// A figure, with its name where it is one `of` several.
pub(crate) fn captioned(content: &str, name: &str, of: usize) -> String {
    let caption = if of > 1 { format!("<h3>{}</h3>", escaped(name)) } else { String::new() };
    format!("<figure>{caption}{content}</figure>")
}

fn figures(section: &str, text: &str, rows: &[&Row], names: &[String]) -> String {
    let mut out = format!("<section><h2>{}</h2><p class=\"how\">{}</p>", escaped(section), escaped(text));
    out.push_str("<div class=\"table\"><table><tr><th></th>");
    names.iter().for_each(|name| out.push_str(&format!("<th>{}</th>", escaped(name))));
    out.push_str("<th>how it is computed</th></tr>");
    for row in rows {
        out.push_str(&format!("<tr><td>{}</td>", escaped(&row.name)));
        row.values.iter().for_each(|value| out.push_str(&format!("<td class=\"value\">{}</td>", escaped(value))));
        out.push_str(&format!("<td class=\"how\">{}</td></tr>", escaped(row.how)));
    }
    out.push_str("</table></div></section>");
    out
}

fn cycles(report: &Report, name: &str, of: usize) -> String {
    let mut out = String::from("<div class=\"table cycles\"><table><tr>");
    CYCLE_HEADINGS.iter().for_each(|heading| out.push_str(&format!("<th>{heading}</th>")));
    out.push_str("</tr>");
    let (some, left_out) = some_cycles(&report.cycles, FIRST, LAST);
    for cycle in some {
        out.push_str("<tr>");
        cycle_cells(cycle).iter().for_each(|cell| out.push_str(&format!("<td>{}</td>", escaped(cell))));
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    if left_out > 0 {
        out.push_str(&format!("<p class=\"how\">{left_out} in the middle are not shown</p>"));
    }
    captioned(&out, name, of)
}
