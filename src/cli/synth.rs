//! `ggpager synth`.

use std::process::ExitCode;

/// Arguments of `ggpager synth`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
