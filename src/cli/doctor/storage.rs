//! Where the model lies, and how fast it can be read.

use std::path::{Path, PathBuf};

use super::report::{Check, Status};
use crate::config::ByteSize;
use crate::drive::device::{Device, allows_direct};
use crate::drive::{Options, Rate, measure};

/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// The readahead that distributions set, and that suits ordinary mappings of models best.
const READ_AHEAD_USUAL_KIB: u64 = 128;

/// The file to look at: `path` itself, or the largest model in a folder.
pub fn model_in(path: &Path) -> Option<(PathBuf, u64)> {
    let size = |path: &Path| std::fs::metadata(path).ok().filter(|facts| facts.is_file()).map(|facts| facts.len());
    if !path.is_dir() {
        return size(path).map(|bytes| (path.to_owned(), bytes));
    }
    let entries = std::fs::read_dir(path).ok()?.take(ENTRIES_MAX).flatten().map(|entry| entry.path());
    let models = entries.filter(|path| path.extension().is_some_and(|name| name.eq_ignore_ascii_case("gguf")));
    models.filter_map(|path| Some((size(&path)?, path))).max().map(|(bytes, path)| (path, bytes))
}

/// Whether the page cache can be avoided at `path`.
pub fn direct(path: &Path, device: &Device) -> (bool, Check) {
    let place = device.filesystem.as_deref().unwrap_or("unknown file system");
    let (status, finding, mend) = match allows_direct(path) {
        Some(true) => {
            let align = device
                .direct_align
                .map(|(memory, offset)| format!(", aligned to {memory} bytes in memory and {offset} in the file"));
            (Status::Ok, format!("{place} allows O_DIRECT{}", align.unwrap_or_default()), None)
        }
        Some(false) => {
            let mend = "copy the model to a file system on a local drive (ext4, xfs, btrfs)".to_owned();
            (Status::Warn, format!("{place} refuses O_DIRECT: reads pass through the page cache"), Some(mend))
        }
        None => (Status::Note, format!("O_DIRECT on {place} could not be tried here"), None),
    };
    (status != Status::Warn, Check { name: "direct I/O", status, finding, mend })
}

/// A second of the pager's kind of reads.
pub fn drive(model: Option<&Path>, device: &Device, uring: bool) -> (Option<Rate>, Check) {
    let name = "drive";
    let what = device.drive.as_deref().or(device.source.as_deref()).unwrap_or("unknown drive");
    let turns = if device.rotational == Some(true) { ", says that it turns" } else { "" };
    let check = |status, finding, mend| Check { name, status, finding, mend };
    let Some(model) = model else {
        return (None, check(Status::Note, format!("{what}{turns}; name a model to measure it"), None));
    };
    match measure(model, &Options { uring, ..Options::default() }) {
        Ok(rate) => {
            let mut finding = format!(
                "{what}{turns}: {}/s in {} reads of {} KiB, {} in flight, {:.1} ms each",
                ByteSize(rate.bytes_per_s as u64),
                rate.reads,
                rate.request_bytes / 1024,
                rate.depth,
                rate.mean_latency_us / 1e3,
            );
            if !rate.direct {
                finding.push_str(" (through the page cache)");
            }
            (Some(rate), check(Status::Ok, finding, None))
        }
        Err(error) => (None, check(Status::Warn, format!("{what}: cannot read {}: {error}", model.display()), None)),
    }
}

/// The kernel's readahead: no matter to the pager, much to ordinary mappings.
pub fn read_ahead(device: &Device) -> Option<Check> {
    let (kib, path) = (device.read_ahead_kib?, device.read_ahead_path.as_ref()?);
    let name = "readahead";
    Some(if kib > READ_AHEAD_USUAL_KIB * 8 {
        let finding = format!("{kib} KiB: slows ordinary mappings of models larger than RAM, not the pager");
        let mend = Some(format!("echo {READ_AHEAD_USUAL_KIB} | sudo tee {}", path.display()));
        Check { name, status: Status::Note, finding, mend }
    } else {
        Check { name, status: Status::Ok, finding: format!("{kib} KiB"), mend: None }
    })
}
