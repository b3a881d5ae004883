//! The program to start: where it is, and whether the loader will preload anything into it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Finds `program` the way execvp(3) does: as it is when it holds a slash, else through `path`.
/// `None` when nothing of this name is an executable file.
pub fn resolve(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let runnable =
        |file: &Path| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.as_bytes().contains(&b'/') {
        let file = PathBuf::from(program);
        return runnable(&file).then_some(file);
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(|file| runnable(file))
}

/// Why the loader ignores `LD_PRELOAD` for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Statically linked: there is no loader.
    Static,
    /// Set-user-ID, set-group-ID or file capabilities: the loader's secure mode (ld.so(8)).
    Privileged,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Obstacle::Static => "is statically linked",
            Obstacle::Privileged => "runs with other privileges than its user's",
        })
    }
}

/// What keeps the library out of `program`, as far as its file tells. A script is judged by its
/// interpreter. A file that cannot be read or understood has no known obstacle.
pub fn obstacle(program: &Path) -> Option<Obstacle> {
    let interpreter = script_interpreter(program);
    let binary = interpreter.as_deref().unwrap_or(program);
    if is_privileged(binary) {
        return Some(Obstacle::Privileged);
    }
    // The loader itself has no interpreter, yet it preloads when it is run as a command.
    let is_loader = binary.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-") || name == "ld.so");
    (!is_loader && is_static(binary) == Some(true)).then_some(Obstacle::Static)
}

/// The interpreter that a `#!` line names.
fn script_interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(word.to_vec())))
}

fn is_privileged(binary: &Path) -> bool {
    let Ok(meta) = binary.metadata() else { return false };
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let set_user = meta.mode() & 0o4000 != 0 && meta.uid() != user;
    let set_group = meta.mode() & 0o2000 != 0 && meta.gid() != group;
    let mut nothing = [0u8; 0];
    let capabilities =
        user != 0 && rustix::fs::getxattr(binary, "security.capability", &mut nothing).is_ok_and(|len| len > 0);
    set_user || set_group || capabilities
}

/// Whether an ELF file has no program interpreter; `None` when it is not an ELF file of this
/// machine's byte order and word size.
fn is_static(binary: &Path) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let file = File::open(binary).ok()?;
    let mut header = [0u8; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let offset = u64::from_le_bytes(header[32..40].try_into().ok()?);
    let entry_bytes = u16::from_le_bytes(header[54..56].try_into().ok()?);
    let entries = u16::from_le_bytes(header[56..58].try_into().ok()?);
    for entry in 0..u64::from(entries) {
        let mut kind = [0u8; 4];
        file.read_exact_at(&mut kind, offset.checked_add(entry * u64::from(entry_bytes))?).ok()?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        let shell = resolve(OsStr::new("sh"), Some(OsStr::new("/nowhere:/bin"))).unwrap();
        assert_eq!(shell, Path::new("/bin/sh"));
        assert_eq!(resolve(OsStr::new("/bin/sh"), None), Some("/bin/sh".into()));
        assert_eq!(resolve(OsStr::new("sh"), None), None);
        assert_eq!(resolve(OsStr::new("/etc/passwd"), None), None);
    }

    #[test]
    fn dynamic_programs_and_scripts_have_no_obstacle() {
        assert_eq!(obstacle(Path::new("/bin/sh")), None);
        assert_eq!(is_static(&std::env::current_exe().unwrap()), Some(false));
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /bin/sh -e\n").unwrap();
        assert_eq!(script_interpreter(&script), Some("/bin/sh".into()));
        assert_eq!(obstacle(&script), None);
    }

    #[test]
    fn a_file_without_interpreter_is_static_and_another_owners_setuid_is_privileged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        let mut elf = vec![0u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        std::fs::write(&file, &elf).unwrap();
        assert_eq!(obstacle(&file), Some(Obstacle::Static));
        let loader = folder.path().join("ld-linux-x86-64.so.2");
        std::fs::write(&loader, &elf).unwrap();
        assert_eq!(obstacle(&loader), None);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: giving a file away takes root");
            assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
            return;
        }
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(obstacle(&file), Some(Obstacle::Privileged));
    }
}
