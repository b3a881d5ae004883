//! Programs of the system that a comparison calls.

use std::process::Command;

use anyhow::{Context, ensure};

/// Runs `name` and gives its stdout.
pub fn tool(name: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(name).args(args).output().with_context(|| name.to_owned())?;
    ensure!(output.status.success(), "{name} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
