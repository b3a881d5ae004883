//! How much memory the frame pool may have.
//!
//! # The formula of `auto`
//!
//! ```text
//! room   = min(MemAvailable - others, what the cgroup leaves)
//! others = RAM / 32, at least 256 MiB, at most RAM / 8
//! tables = (model + room) / 512
//! own    = (room - tables) / 8, at least 512 MiB, at most 16 GiB, at most half of (room - tables)
//! budget = room - tables - own, whole frames of 2 MiB, at most the model
//! ```
//!
//! * **room**: page cache counts as free on both sides, because the kernel drops it when the pool
//!   grows; that includes a model that an earlier run left there. Anonymous pages that are already
//!   charged (the program itself, its neighbours in the cgroup) do not count as free.
//! * **others**: the machine has more to do than this program. A cgroup needs no such term: its
//!   limit is there to be used.
//! * **tables**: the last level of the page tables, 8 bytes a page of 4 KiB, for the view and for the
//!   pool (a huge page keeps its table in reserve). Charged to the cgroup as well.
//! * **own**: what llama.cpp takes after the mapping: KV cache, compute buffers, sampling, threads'
//!   stacks, and the pages of its own libraries, which ought to stay in the page cache. How long the
//!   context will be is unknown now; it tends to grow with the machine, hence a share. 512 MiB are
//!   the KV cache of 4096 tokens of an 8B model (128 KiB a token at f16) or the compute buffer of a
//!   large vocabulary. Beyond 16 GiB the share would only waste memory. With next to nothing left
//!   the pool still gets half.
//!
//! A limit of 5 GB and a model of 8 GB give 4.3 GB; 28 GB available of 32 GB give up to 23.5 GB.

pub mod cgroup;
pub mod governor;
pub mod memory;
pub mod read;
pub mod rule;

use std::path::{Path, PathBuf};

use crate::config::BudgetSetting;
use cgroup::Cgroup;
use memory::{Machine, Pressure};
use read::Reader;

/// The pool's grain, in bytes: one frame, a huge page of x86-64.
pub const FRAME_BYTES: u64 = 2 << 20;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What others may have in a group that counts as one's own, in bytes: a launcher, a shell, the kernel's bookkeeping.
const OTHERS_BYTES_MAX: u64 = 64 * MIB;

/// The memory of the machine and of the cgroup, as it was at the last reading.
#[derive(Debug)]
pub struct Memory {
    /// The machine; all zero when `/proc/meminfo` cannot be read.
    pub machine: Machine,
    /// Pressure on the machine, where the kernel keeps it.
    pub pressure: Option<Pressure>,
    /// The memory cgroup, where there is one.
    pub cgroup: Option<cgroup::Usage>,
    /// Anonymous memory of this process, in bytes, where the kernel tells.
    pub own_bytes: Option<u64>,
    meminfo: PathBuf,
    statm: PathBuf,
    psi: PathBuf,
    group: Option<Cgroup>,
    reader: Reader,
}

impl Memory {
    /// Finds the cgroup of this process and reads everything once. Never fails: what cannot be read
    /// is missing, and without `/proc/meminfo` nothing counts as available.
    pub fn probe() -> Memory {
        Memory::probe_under(Path::new("/"), "self")
    }

    /// [`Memory::probe`] for `process` (a pid or `self`), with every absolute path below `root`: a
    /// recorded tree, or another process' view of the machine.
    pub fn probe_under(root: &Path, process: &str) -> Memory {
        let mut reader = Reader::default();
        let group = Cgroup::find(root, process, &mut reader);
        let mut memory = Memory {
            machine: Machine::default(),
            pressure: None,
            cgroup: None,
            own_bytes: None,
            meminfo: root.join("proc/meminfo"),
            statm: root.join("proc").join(process).join("statm"),
            psi: root.join("proc/pressure/memory"),
            group,
            reader,
        };
        memory.refresh();
        memory
    }

    /// Reads everything again: at most a dozen small files, a fraction of a millisecond, no
    /// allocation in the steady state apart from the name of the binding group. A process that is
    /// moved to another group is not followed.
    pub fn refresh(&mut self) {
        self.machine = Machine::read(&self.meminfo, &mut self.reader).unwrap_or_default();
        self.pressure = Pressure::read(&self.psi, &mut self.reader);
        self.cgroup = self.group.as_ref().and_then(|group| group.usage(&mut self.reader));
        self.own_bytes = memory::anonymous_bytes(&self.statm, &mut self.reader);
    }

    /// Whether the room seems to be `slack_bytes` or more away from that of the last
    /// [`Memory::refresh`]: two files are read instead of a dozen. The values stay those of then.
    pub fn has_moved(&mut self, slack_bytes: u64) -> bool {
        let then = self.room_bytes();
        let Some(machine) = Machine::read(&self.meminfo, &mut self.reader) else { return true };
        let Some((group, usage)) = self.group.as_ref().zip(self.cgroup.as_ref()) else {
            return machine.room_bytes().abs_diff(then) >= slack_bytes;
        };
        let Some(charged) = group.charged_bytes(usage, &mut self.reader) else { return true };
        let left = usage.left_bytes.map(|left| (left + usage.usage_bytes).saturating_sub(charged));
        smaller(machine.room_bytes(), left).abs_diff(then) >= slack_bytes
    }

    /// What this process could take now, in bytes: the `room` of the formula. Memory that the pool
    /// already holds is not in it.
    pub fn room_bytes(&self) -> u64 {
        smaller(self.machine.room_bytes(), self.cgroup.as_ref().and_then(|usage| usage.left_bytes))
    }

    /// What there is to share with others, in bytes: the binding group's limit, or RAM.
    pub fn capacity_bytes(&self) -> u64 {
        let limit = self.cgroup.as_ref().and_then(|usage| usage.limit_bytes);
        limit.map_or(self.machine.total_bytes, |limit| limit.min(self.machine.total_bytes))
    }

    /// Whether this process has nearly all that is charged to the cgroup whose limit binds. Page cache, which can be
    /// dropped, is nobody's. Memory that is shared with other processes does not count as one's own.
    pub fn is_alone(&self) -> bool {
        let Some((usage, own_bytes)) = self.cgroup.as_ref().zip(self.own_bytes) else { return false };
        let charged_bytes = usage.usage_bytes - usage.reclaimable_bytes;
        self.group_binds() && charged_bytes.saturating_sub(own_bytes) <= OTHERS_BYTES_MAX
    }

    /// Whether the cgroup leaves less than the machine.
    fn group_binds(&self) -> bool {
        let left = self.cgroup.as_ref().and_then(|usage| usage.left_bytes);
        left.is_some_and(|left| left <= self.machine.room_bytes())
    }

    /// Pressure on whoever leaves less, the cgroup or the machine, where the kernel keeps it. A group
    /// of v1 has none of its own.
    pub fn binding_pressure(&self) -> Option<Pressure> {
        match &self.cgroup {
            Some(usage) if self.group_binds() => usage.pressure,
            _ => self.pressure,
        }
    }
}

fn smaller(machine: u64, cgroup: Option<u64>) -> u64 {
    cgroup.map_or(machine, |left| left.min(machine))
}

/// A budget is larger than the models by this part at the most: frames are larger than what they hold, since experts begin and end
/// within pages, and what lies between their tensors is not as long as a frame.
const FRAMES_PART: u64 = 16;

/// The pool's size in bytes for models of `model_bytes` altogether. Not much more than they can use; may be less than
/// a pager can work with, even 0.
///
/// A size and a percentage are taken at their word, even beyond [`Memory::room_bytes`].
pub fn resolve(setting: BudgetSetting, model_bytes: u64, memory: &Memory) -> u64 {
    let most = frames_up(model_bytes.saturating_add(model_bytes / FRAMES_PART));
    match setting {
        BudgetSetting::Auto => auto_bytes(memory.room_bytes(), model_bytes).min(frames_up(model_bytes)),
        BudgetSetting::Bytes(size) => size.0.min(most),
        BudgetSetting::Percent(percent) => frames_up((model_bytes as f64 * percent / 100.0) as u64).min(most),
    }
}

/// Whether a pool of [`resolve`]'s size would hold the models whole: then the ordinary mapping
/// serves as well.
pub fn fits(setting: BudgetSetting, model_bytes: u64, memory: &Memory) -> bool {
    resolve(setting, model_bytes, memory) >= model_bytes
}

/// The formula above, from `room` on; not yet limited to the model.
fn auto_bytes(room: u64, model_bytes: u64) -> u64 {
    let tables = model_bytes.saturating_add(room) / 512;
    let rest = room.saturating_sub(tables);
    let own = (rest / 8).clamp(512 * MIB, 16 * GIB).min(rest / 2);
    (rest - own) / FRAME_BYTES * FRAME_BYTES
}

/// `bytes` rounded up to whole frames.
fn frames_up(bytes: u64) -> u64 {
    bytes.div_ceil(FRAME_BYTES).saturating_mul(FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;
    use proptest::prelude::*;

    const GB: u64 = 1_000_000_000;

    /// A machine without cgroups.
    fn machine(total_bytes: u64, available_bytes: u64) -> Memory {
        let mut memory = Memory::probe_under(Path::new("/nowhere"), "self");
        assert_eq!(memory.room_bytes(), 0, "nothing is known, nothing is available");
        memory.machine = Machine { total_bytes, available_bytes, ..Machine::default() };
        memory
    }

    /// The same, with `left_bytes` in its cgroup.
    fn limited(left_bytes: u64) -> Memory {
        let mut memory = machine(24 * GIB, 23 * GIB);
        memory.cgroup = Some(cgroup::Usage {
            version: cgroup::Version::V1,
            folder: PathBuf::new(),
            limit_bytes: Some(left_bytes),
            usage_bytes: 0,
            reclaimable_bytes: 0,
            left_bytes: Some(left_bytes),
            limit_hits: 0,
            pressure: None,
        });
        memory
    }

    fn auto(model_bytes: u64, memory: &Memory) -> u64 {
        resolve(BudgetSetting::Auto, model_bytes, memory)
    }

    #[test]
    fn auto_leaves_headroom_in_proportion() {
        let at_5 = auto(8 * GB, &limited(5 * GB));
        assert!((4_250_000_000..4_400_000_000).contains(&at_5), "{at_5}");
        let desktop = auto(64 * GB, &machine(32 * GB, 28 * GB));
        assert!((23 * GB..25 * GB).contains(&desktop), "{desktop}");
        let small = auto(8 * GB, &limited(1_600_000_000));
        assert!((GB..1_100_000_000).contains(&small), "{small}");
        let server = auto(600 * GB, &machine(512 * GIB, 500 * GIB));
        assert!(server > 460 * GIB, "{server}");
    }

    #[test]
    fn the_smaller_of_cgroup_and_machine_counts() {
        let mut memory = limited(100 * GB);
        assert!(auto(64 * GB, &memory) < 23 * GIB);
        memory.cgroup.as_mut().unwrap().left_bytes = None;
        assert_eq!(auto(64 * GB, &memory), auto(64 * GB, &machine(24 * GIB, 23 * GIB)));
    }

    #[test]
    fn sizes_and_percentages_are_taken_at_their_word_up_to_the_model() {
        let memory = limited(GB);
        let model = 10 * FRAME_BYTES + 1;
        let bytes = |size| resolve(BudgetSetting::Bytes(ByteSize(size)), model, &memory);
        assert_eq!(bytes(12345), 12345);
        assert_eq!(bytes(u64::MAX), 11 * FRAME_BYTES, "room for a frame that is not full");
        assert_eq!(resolve(BudgetSetting::Bytes(ByteSize(u64::MAX)), 16 * FRAME_BYTES, &memory), 17 * FRAME_BYTES);
        let percent = |share| resolve(BudgetSetting::Percent(share), model, &memory);
        assert_eq!(percent(50.0), 5 * FRAME_BYTES);
        assert_eq!(percent(51.0), 6 * FRAME_BYTES, "whole frames");
        assert_eq!(percent(100.0), 11 * FRAME_BYTES);
        assert_eq!(percent(1000.0), 11 * FRAME_BYTES);
    }

    #[test]
    fn a_model_fits_when_its_headroom_fits_as_well() {
        let memory = limited(5 * GB);
        assert!(fits(BudgetSetting::Auto, 4 * GB, &memory));
        assert!(!fits(BudgetSetting::Auto, 4_900_000_000, &memory));
        assert!(fits(BudgetSetting::Percent(100.0), 8 * GB, &memory));
        assert!(!fits(BudgetSetting::Percent(99.0), 8 * GB, &memory));
    }

    proptest! {
        #[test]
        fn auto_stays_within_room_and_model(room: u64, model: u64) {
            let budget = auto_bytes(room, model);
            prop_assert!(budget <= room);
            prop_assert_eq!(budget % FRAME_BYTES, 0);
            let budget = auto(model, &limited(room));
            prop_assert!(budget <= frames_up(model));
        }

        #[test]
        fn more_room_is_never_less_budget(room in 0..1u64 << 42, more in 0..1u64 << 40, model in 1..1u64 << 42) {
            prop_assert!(auto_bytes(room + more, model) >= auto_bytes(room, model));
        }
    }
}
