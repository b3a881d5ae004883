//! What it costs a program to have the library preloaded that has nothing to do with models: pairs of
//! runs with and without it, in changing order.

mod common;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{header, median, quantile, setting};

/// The release build of the library.
fn library() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("GGPAGER_LIB") {
        return Ok(path.into());
    }
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "ggpager-shim", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .find(|name| name.file_name() == Some(OsStr::new("libggpager.so")))
        .ok_or_else(|| io::Error::other("the library does not build"))
}

/// Milliseconds and output of one run.
fn run(script: &str, folder: &Path, preload: Option<&Path>) -> io::Result<(f64, Vec<u8>)> {
    let mut words = script.split(' ');
    let mut command = Command::new(words.next().unwrap_or("true"));
    command.args(words).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::null()).env_remove("LD_PRELOAD");
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let start = Instant::now();
    let output = command.output()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, output.stdout))
}

fn main() -> io::Result<()> {
    header("inert: milliseconds of everyday programs without and with the library");
    let pairs = setting("GGPAGER_BENCH_ROUNDS", 101) as usize;
    let library = library()?;
    println!("library {} bytes; {pairs} pairs each", std::fs::metadata(&library)?.len());
    let repository = tempfile::tempdir()?;
    Command::new("git").args(["init", "-q"]).arg(repository.path()).status()?;
    (0..200).try_for_each(|i| std::fs::write(repository.path().join(format!("file-{i}")), "text"))?;
    // The library must be in, or nothing is measured.
    let maps = run("cat /proc/self/maps", repository.path(), Some(&library))?.1;
    assert!(String::from_utf8_lossy(&maps).contains("libggpager"), "the library is not preloaded");
    for script in ["/bin/true", "ls -l /usr/bin", "bash -c :", "git status --short", "python3 -c pass"] {
        if run(script, repository.path(), None).is_err() {
            println!("{script:<20} not installed");
            continue;
        }
        let (mut without, mut with, mut extra) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            let order = if pair % 2 == 0 { [None, Some(&*library)] } else { [Some(&*library), None] };
            let (first, second) =
                (run(script, repository.path(), order[0])?, run(script, repository.path(), order[1])?);
            assert_eq!(first.1, second.1, "{script}: another output");
            let (plain, loaded) = if pair % 2 == 0 { (first.0, second.0) } else { (second.0, first.0) };
            without.push(plain);
            with.push(loaded);
            extra.push(loaded - plain);
        }
        println!(
            "{script:<20} without {:7.3}, with {:7.3}, difference of a pair: median {:+.3} (quartiles {:+.3} to {:+.3})",
            median(&mut without),
            median(&mut with),
            median(&mut extra),
            quantile(&mut extra, 0.25),
            quantile(&mut extra, 0.75),
        );
    }
    Ok(())
}
