//! What every benchmark prints and computes.

#![allow(dead_code)] // each benchmark uses a part of it

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes in a GB.
pub const GB: f64 = 1e9;

/// Prints the command, the machine and `what` is measured.
pub fn header(what: &str) {
    let read = |path: &str| std::fs::read_to_string(path).map_or_else(|_| "?".into(), |text| text.trim().to_owned());
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let settings: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("GGPAGER_BENCH"))
        .map(|(name, value)| format!("{name}={value} "))
        .collect();
    println!("## {what}");
    println!("command: {}cargo bench --bench {} {}", settings.concat(), env!("CARGO_CRATE_NAME"), arguments.join(" "));
    println!(
        "machine: Linux {}, {} cores, {}, load {}, THP {}",
        read("/proc/sys/kernel/osrelease"),
        std::thread::available_parallelism().map_or(0, usize::from),
        read("/proc/meminfo").lines().next().unwrap_or("?").split_whitespace().collect::<Vec<_>>().join(" "),
        read("/proc/loadavg"),
        read("/sys/kernel/mm/transparent_hugepage/enabled"),
    );
}

/// `read_ahead_kb` of the drive that holds `path`.
pub fn read_ahead_kb(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(dev) = std::fs::metadata(path).map(|meta| meta.dev()) else { return "?".into() };
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition's queue is that of the whole drive.
    [device.join("queue/read_ahead_kb"), device.join("../queue/read_ahead_kb")]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map_or_else(|| "?".into(), |text| text.trim().to_owned())
}

/// A number from the environment, or `default`.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The value below which the share `q` of the samples lies. Sorts them.
pub fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * q).round() as usize]
}

/// The median. Sorts the samples.
pub fn median(samples: &mut [f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The word at byte `offset` of a test file.
pub fn word(offset: u64) -> u64 {
    (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A file of `bytes` bytes on the drive, every word known; removed when dropped. `GGPAGER_BENCH_DIR`
/// names another folder than the build's.
pub struct TestFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl TestFile {
    /// Writes it.
    pub fn new(bytes: u64) -> io::Result<TestFile> {
        let folder =
            std::env::var_os("GGPAGER_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("ggpager-bench-{}", std::process::id()));
        let file = TestFile { path, bytes };
        let mut writer = io::BufWriter::with_capacity(4 << 20, File::create(&file.path)?);
        for offset in (0..bytes).step_by(8) {
            writer.write_all(&word(offset).to_le_bytes())?;
        }
        writer.into_inner()?.sync_all()?;
        Ok(file)
    }

    /// Opens it.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Drops it from the page cache, or reads it in.
    pub fn cached(&self, wanted: bool) -> io::Result<()> {
        let file = self.open()?;
        match wanted {
            true => io::copy(&mut &file, &mut io::sink()).map(drop),
            false => Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?),
        }
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Copies of a test file in the folders of `GGPAGER_BENCH_COPIES`; removed when dropped.
pub struct Copies(pub Vec<PathBuf>);

impl Copies {
    /// Writes them.
    pub fn of(file: &TestFile) -> io::Result<Copies> {
        let folders = std::env::var_os("GGPAGER_BENCH_COPIES").unwrap_or_default();
        let mut copies = Copies(Vec::new());
        for folder in std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty()) {
            let path = folder.join(file.path.file_name().expect("a file"));
            copies.0.push(path.clone());
            std::fs::copy(&file.path, &path)?;
            let copy = File::open(path)?;
            copy.sync_all()?;
            rustix::fs::fadvise(&copy, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        file.cached(false)?;
        Ok(copies)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for copy in &self.0 {
            let _ = std::fs::remove_file(copy);
        }
    }
}
