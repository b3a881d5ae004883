//! The user's cache folder: what is found out once is kept there for the next start.

use std::ffi::OsString;
use std::path::PathBuf;

/// `ggpager` in the cache folder of the XDG base directory specification, which ignores relative
/// paths; `None` when the environment (`get`) names no home.
pub fn folder(get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let cache = get("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
    let home = || get("HOME").map(PathBuf::from).filter(absolute).map(|home| home.join(".cache"));
    Some(cache.or_else(home)?.join("ggpager"))
}
