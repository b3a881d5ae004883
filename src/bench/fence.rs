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
                let [program, args @ ..] = &scope(limits)[..] else { return Fence::None };
                let mut trial = Command::new(program);
                trial.args(args).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                if trial.status().is_ok_and(|status| status.success()) { Fence::Scope } else { Fence::None }
            }
        }
    }

    /// A command for `program` within `limits`, and the group that must outlive it.
    ///
    /// # Errors
    /// When the group cannot be made.
    pub fn command(
        &self,
        name: &str,
        limits: &Limits,
        program: &Path,
        args: &[OsString],
    ) -> io::Result<(Command, Option<Group>)> {
        let bounded = *limits != Limits::default();
        match self {
            Fence::Groups(hierarchy) if bounded => {
                let group = hierarchy.create(name, limits)?;
                let mut command = Command::new(program);
                command.args(args);
                group.hold(&mut command);
                Ok((command, Some(group)))
            }
            Fence::Scope if bounded => {
                let mut words = scope(limits).into_iter();
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words).arg(program).args(args);
                Ok((command, None))
            }
            _ => {
                let mut command = Command::new(program);
                command.args(args);
                Ok((command, None))
            }
        }
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
        let (mut command, group) =
            Fence::None.command("x", &none, Path::new("/bin/sh"), &["-c".into(), "exit 4".into()]).unwrap();
        assert!(group.is_none());
        assert_eq!(command.status().unwrap().code(), Some(4));
    }

    #[test]
    fn a_scope_names_every_limit() {
        let limits = Limits { memory_bytes: Some(1 << 30), drive: Some(("8:0".into(), 800_000_000)) };
        let (command, _) = Fence::Scope.command("x", &limits, Path::new("/bin/true"), &["a".into()]).unwrap();
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let text = args.join(" ");
        assert_eq!(
            text,
            "--user --scope --quiet -p MemoryMax=1073741824 -p MemorySwapMax=0 \
             -p IOReadBandwidthMax=/dev/block/8:0 800000000 /bin/true a"
        );
    }
}
