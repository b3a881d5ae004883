//! The `ggpager` command line tool; see [`ggpager::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ggpager::cli::main()
}
