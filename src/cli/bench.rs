//! `ggpager bench`.

use std::process::ExitCode;

/// Arguments of `ggpager bench`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
