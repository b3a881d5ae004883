//! How a run is kept within its limits: control groups of our own, a scope of the user's systemd,
//! or not at all.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cgroup::{Group, Hierarchy, Limits};

/// What this user can do on this machine.
#[derive(Debug)]
pub enum Fence {
    /// Control groups made by ourselves (root).
    Groups(Hierarchy),
    /// `systemd-run --user --scope`.
    Scope,
    /// Nothing: the budget alone.
    None,
}

impl Fence {
    /// Finds what works for `limits`, by trying.
    pub fn find(limits: &Limits) -> Fence {
        if *limits == Limits::default() {
            return Fence::None;
        }
        let hierarchy = Hierarchy::find().and_then(|hierarchy| {
            let _trial = hierarchy.create(&format!("ggpager-trial-{}", std::process::id()), limits)?;
            Ok(hierarchy.clone())
        });
        match hierarchy {
            Ok(hierarchy) => Fence::Groups(hierarchy),
            Err(error) => {
                log::info!("no control group: {error}");
                // A scope knows nothing of swappiness.
                let [program, args @ ..] = &scope(limits)[..] else { return Fence::None };
                if limits.swap.is_some() {
                    return Fence::None;
                }
                let mut trial = Command::new(program);
                trial.args(args).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                if trial.status().is_ok_and(|status| status.success()) { Fence::Scope } else { Fence::None }
            }
        }
    }

    /// The group of a run, where groups are the way; it must outlive the run.
    ///
    /// # Errors
    /// When the group cannot be made.
    pub fn group(&self, name: &str, limits: &Limits) -> io::Result<Option<Group>> {
        match self {
            Fence::Groups(hierarchy) if *limits != Limits::default() => Ok(Some(hierarchy.create(name, limits)?)),
            _ => Ok(None),
        }
    }

    /// A command for `program` within `limits`, in `group` where there is one.
    pub fn command(&self, group: Option<&Group>, limits: &Limits, program: &Path, args: &[OsString]) -> Command {
        let mut words = match self {
            Fence::Scope if *limits != Limits::default() => scope(limits),
            _ => Vec::new(),
        };
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args);
        if let Some(group) = group {
            group.hold(&mut command);
        }
        command
    }
}

/// The words before a command that put it into a scope with `limits`. systemd-run becomes the
/// command (exec), so process id, environment and exit status are the command's.
fn scope(limits: &Limits) -> Vec<OsString> {
    let mut words = ["systemd-run", "--user", "--scope", "--quiet"].map(OsString::from).to_vec();
    let mut property = |text: String| words.extend([OsString::from("-p"), text.into()]);
    if let Some(bytes) = limits.memory_bytes {
        property(format!("MemoryMax={bytes}"));
        property("MemorySwapMax=0".to_owned());
    }
    if let Some((device, rate)) = &limits.drive {
        property(format!("IOReadBandwidthMax=/dev/block/{device} {rate}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_limits_there_is_no_fence() {
        let none = Limits::default();
        assert!(matches!(Fence::find(&none), Fence::None));
        assert!(Fence::None.group("x", &none).unwrap().is_none());
        let mut command = Fence::None.command(None, &none, Path::new("/bin/sh"), &["-c".into(), "exit 4".into()]);
        assert_eq!(command.status().unwrap().code(), Some(4));
    }

    #[test]
    fn a_scope_names_every_limit() {
        let limits = Limits { memory_bytes: Some(1 << 30), drive: Some(("8:0".into(), 800_000_000)), swap: None };
        let command = Fence::Scope.command(None, &limits, Path::new("/bin/true"), &["a".into()]);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let text = args.join(" ");
        assert_eq!(
            text,
            "--user --scope --quiet -p MemoryMax=1073741824 -p MemorySwapMax=0 \
             -p IOReadBandwidthMax=/dev/block/8:0 800000000 /bin/true a"
        );
    }
}
