//! The model that a verb is about.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::gguf::{Model, shard_paths};

/// The paths of all shards of the model that `path` belongs to, and what their headers say.
pub fn read(path: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<Model>)> {
    let paths = shard_paths(path);
    let read = |path: &PathBuf| {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Model::read(&file).with_context(|| format!("cannot read {}", path.display()))
    };
    let shards = paths.iter().map(read).collect::<anyhow::Result<_>>()?;
    Ok((paths, shards))
}
