//! The memory cgroup of a process: its limit, and what is left below it.
//!
//! Source of the file names: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::memory::Pressure;
use super::read::{Reader, field, mounts};

/// More levels than any hierarchy in use has.
const LEVELS_MAX: usize = 64;

/// The generation of the memory controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// One level of the hierarchy that charges for memory.
#[derive(Debug)]
struct Level {
    folder: PathBuf,
    /// Each may hold a limit; the smallest counts.
    limits: Vec<PathBuf>,
    usage: PathBuf,
    stat: PathBuf,
}

/// Where the memory cgroup of a process lies: paths only, nothing is kept open.
#[derive(Debug)]
pub struct Cgroup {
    version: Version,
    /// From the process' own group up to the uppermost visible one.
    levels: Vec<Level>,
    events: PathBuf,
    pressure: PathBuf,
}

/// What the memory cgroup says: the level of the hierarchy that leaves least.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Which controller.
    pub version: Version,
    /// The group whose limit binds; without a limit the process' own.
    pub folder: PathBuf,
    /// The limit in bytes, `None` when no group has one.
    pub limit_bytes: Option<u64>,
    /// Charged to that group, in bytes.
    pub usage_bytes: u64,
    /// The part of the usage that the kernel gives back when asked: page cache, and slab (v2). Shared
    /// memory is not in it.
    pub reclaimable_bytes: u64,
    /// What the group can still take, in bytes: limit - usage + reclaimable.
    pub left_bytes: Option<u64>,
    /// How often the process' own group met a limit (v2: `max` and `high` events; v1: `failcnt`).
    pub limit_hits: u64,
    /// Pressure of the process' own group, where the kernel keeps it.
    pub pressure: Option<Pressure>,
}

impl Cgroup {
    /// Finds the memory cgroup of `process` (a pid or `self`). All absolute paths are taken below
    /// `root`, which is `/` except in tests. `None` when there is no memory controller, or it is
    /// not mounted here.
    pub fn find(root: &Path, process: &str, reader: &mut Reader) -> Option<Cgroup> {
        let proc = root.join("proc").join(process);
        let groups = reader.text(&proc.join("cgroup")).ok()?.to_owned();
        let table = reader.text(&proc.join("mountinfo")).ok()?.to_owned();
        // In a hybrid set-up the memory controller belongs to exactly one hierarchy, and the line of
        // v1 appears only if it is that one.
        let path_of = |wanted: &dyn Fn(&str, &str) -> bool| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                wanted(id, controllers).then_some(Path::new(path))
            })
        };
        let v1 = path_of(&|_, controllers| controllers.split(',').any(|name| name == "memory"));
        let v2 = path_of(&|id, controllers| id == "0" && controllers.is_empty());
        let (version, path) = v1.map(|path| (Version::V1, path)).or(v2.map(|path| (Version::V2, path)))?;
        let (point, own) = mounts(&table)
            .filter(|mount| match version {
                Version::V1 => mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "memory"),
                Version::V2 => mount.kind == "cgroup2",
            })
            .find_map(|mount| {
                let point = root.join(Path::new(&mount.point).strip_prefix("/").ok()?);
                Some((point.clone(), folder_below(&point, Path::new(&mount.root), path)?))
            })?;
        let levels = levels(version, &point, &own, reader);
        if levels.is_empty() {
            return None;
        }
        let events = own.join(if version == Version::V1 { "memory.failcnt" } else { "memory.events" });
        Some(Cgroup { version, levels, events, pressure: own.join("memory.pressure") })
    }

    /// Reads the present state. Groups that have vanished or say nothing are passed over.
    pub fn usage(&self, reader: &mut Reader) -> Option<Usage> {
        let mut limits = [None; LEVELS_MAX];
        for (limit, level) in limits.iter_mut().zip(&self.levels) {
            *limit = level.limits.iter().filter_map(|path| reader.number(path)).min();
        }
        let limits = &mut limits[..self.levels.len()];
        if self.version == Version::V1 {
            // Inside a container an ancestor with a tighter limit may be out of sight. The uppermost
            // visible group stands for it: the ancestor has used at least as much.
            let stat = reader.text(&self.levels[0].stat).unwrap_or_default();
            let seen = limits.iter().flatten().min().copied().unwrap_or(u64::MAX);
            if let Some(unseen) = field(stat, "hierarchical_memory_limit").filter(|unseen| *unseen < seen) {
                *limits.last_mut().expect("there is a level") = Some(unseen);
            }
            // "No limit" is the largest page count.
            limits.iter_mut().for_each(|limit| *limit = limit.filter(|bytes| *bytes < 1 << 62));
        }
        let mut tightest: Option<Usage> = None;
        for (level, limit) in self.levels.iter().zip(limits.iter()) {
            // A group without a limit cannot bind: its own files need not be read, except to have
            // something to report.
            if limit.is_some() || tightest.is_none() {
                let Some(usage) = self.level_usage(level, *limit, reader) else { continue };
                let left = |usage: &Usage| usage.left_bytes.unwrap_or(u64::MAX);
                if tightest.as_ref().is_none_or(|tightest| left(&usage) < left(tightest)) {
                    tightest = Some(usage);
                }
            }
        }
        let mut tightest = tightest?;
        tightest.limit_hits = match self.version {
            Version::V1 => reader.number(&self.events).unwrap_or(0),
            Version::V2 => {
                let events = reader.text(&self.events).unwrap_or_default();
                field(events, "max").unwrap_or(0) + field(events, "high").unwrap_or(0)
            }
        };
        tightest.pressure = Pressure::read(&self.pressure, reader);
        Some(tightest)
    }

    /// What is charged now to the group that `usage` is about, in bytes.
    pub fn charged_bytes(&self, usage: &Usage, reader: &mut Reader) -> Option<u64> {
        let level = self.levels.iter().find(|level| level.folder == usage.folder)?;
        reader.number(&level.usage)
    }

    fn level_usage(&self, level: &Level, limit_bytes: Option<u64>, reader: &mut Reader) -> Option<Usage> {
        let usage_bytes = reader.number(&level.usage)?;
        let stat = reader.text(&level.stat).unwrap_or_default();
        let keys: &[&str] = match self.version {
            Version::V1 => &["total_inactive_file", "total_active_file"],
            Version::V2 => &["inactive_file", "active_file", "slab_reclaimable"],
        };
        // The statistics may lag behind the counter: never give back more than was taken.
        let reclaimable: u64 = keys.iter().filter_map(|key| field(stat, key)).fold(0, u64::saturating_add);
        let reclaimable_bytes = reclaimable.min(usage_bytes);
        Some(Usage {
            version: self.version,
            folder: level.folder.clone(),
            limit_bytes,
            usage_bytes,
            reclaimable_bytes,
            left_bytes: limit_bytes.map(|limit| limit.saturating_sub(usage_bytes - reclaimable_bytes)),
            limit_hits: 0,
            pressure: None,
        })
    }
}

/// The folder of group `path` in a hierarchy whose folder `mounted` appears at `point`.
///
/// The path in `/proc/self/cgroup` need not lie below the mount: a container without a cgroup
/// namespace sees the host's path, with a mount that begins at the container's own group, and a
/// process outside of its namespace's root sees `/../`. Then the longest tail of the path that
/// exists is taken, at worst the mount itself.
fn folder_below(point: &Path, mounted: &Path, path: &Path) -> Option<PathBuf> {
    let plain = |path: &Path| path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain(path) && plain(mounted) {
        let below = path.strip_prefix(mounted).ok().map(|rest| point.join(rest)).filter(|folder| folder.is_dir());
        let tails = || {
            let parts: Vec<Component> = path.components().skip(1).take(LEVELS_MAX).collect();
            (0..parts.len()).map(|at| point.join(parts[at..].iter().collect::<PathBuf>())).find(|tail| tail.is_dir())
        };
        if let Some(folder) = below.or_else(tails) {
            return Some(folder);
        }
    }
    point.is_dir().then(|| point.to_owned())
}

/// The groups from `own` up to the mount at `point` that charge for memory.
fn levels(version: Version, point: &Path, own: &Path, reader: &mut Reader) -> Vec<Level> {
    let mut levels = Vec::new();
    for folder in own.ancestors().take_while(|folder| folder.starts_with(point)).take(LEVELS_MAX) {
        let (limits, usage): (&[&str], _) = match version {
            Version::V1 => (&["memory.limit_in_bytes"], "memory.usage_in_bytes"),
            // Above `high` a group is throttled and reclaimed until it is below again: for a pool
            // that never gives way that is as bad as the limit.
            Version::V2 => (&["memory.max", "memory.high"], "memory.current"),
        };
        // Before Linux 5.11 a group of v1 could leave its children out of its own account.
        let apart = version == Version::V1
            && !levels.is_empty()
            && reader.number(&folder.join("memory.use_hierarchy")) == Some(0);
        if apart {
            break;
        }
        if folder.join(usage).is_file() {
            levels.push(Level {
                folder: folder.to_owned(),
                limits: limits.iter().map(|name| folder.join(name)).collect(),
                usage: folder.join(usage),
                stat: folder.join("memory.stat"),
            });
        }
    }
    levels
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
