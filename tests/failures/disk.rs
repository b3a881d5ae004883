//! Pages that nobody can read: the thread that touches one gets SIGBUS, as from an ordinary mapping.

use std::ffi::{CString, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{ORDINARY, PAGED, Setting, available, compile, is_root, model, own_model, run, scratch};

fn all_settings() -> impl Iterator<Item = (Setting, bool)> {
    let settings = ORDINARY.map(|setting| (setting, false)).into_iter().chain(PAGED.map(|setting| (setting, true)));
    settings.filter(|(setting, _)| !setting.unprivileged || available("root, to run as another user", is_root()))
}

/// The same program gives the same answers without a view and with one.
#[test]
fn a_truncated_file_gives_sigbus_past_its_end() {
    let program = compile("truncated", false);
    for (setting, paged) in all_settings() {
        let path = own_model();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("writable for everybody");
        let outcome = run(setting, &[], &program, &[path.clone().into()], &[]);
        outcome.require_code(0);
        if paged {
            let stats = outcome.require_paged().stats.clone().expect("checked");
            assert!(stats.poisoned_pages > 0, "{stats:?}");
        }
        std::fs::remove_file(path).expect("the model was there");
    }
}

/// A file system in which part of the model cannot be read. Unmounted when dropped, and by its server
/// when this process ends.
pub struct BadDisk {
    /// Where it is mounted; the model in it is `model.gguf`.
    pub folder: PathBuf,
    server: Child,
    answers: BufReader<ChildStdout>,
}

impl BadDisk {
    /// Mounts it; reads of `model` that touch the bytes `bad` fail.
    pub fn mount(model: &Path, bad: std::ops::Range<u64>) -> Option<BadDisk> {
        let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
        if !available("root with /dev/fuse, for a drive that fails", is_root() && device) {
            return None;
        }
        let folder = scratch("disk");
        std::fs::create_dir(&folder).expect("a folder to mount on");
        let mut server = Command::new(compile("bad_disk", false))
            .args([folder.as_os_str(), model.as_os_str()])
            .args([bad.start.to_string(), bad.end.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the file system starts");
        let answers = BufReader::new(server.stdout.take().expect("piped"));
        let mut disk = BadDisk { folder, server, answers };
        let mounted = disk.answer() == "ready\n";
        if !mounted {
            disk.server.wait().expect("it has ended");
        }
        available("the right to mount", mounted).then_some(disk)
    }

    /// From now on no byte of the model can be read.
    pub fn fail(&mut self) {
        self.server.stdin.as_mut().expect("piped").write_all(b"!").expect("it listens");
        assert_eq!(self.answer(), "failing\n");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        let path = CString::new(self.folder.as_os_str().as_bytes()).expect("a plain path");
        // SAFETY: a string that ends with NUL.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        drop(self.server.stdin.take());
        let _ = self.server.wait();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Reads that really fail, in the kernel, of whatever size and kind they are.
#[test]
fn an_unreadable_page_gives_sigbus_to_whoever_touches_it() {
    // Inside one block and across the border of two.
    for bad in [(16 << 20) + (256 << 10)..(16 << 20) + (512 << 10), (30 << 20) - (128 << 10)..(30 << 20) + (128 << 10)]
    {
        let Some(disk) = BadDisk::mount(model(), bad.clone()) else { return };
        let program = compile("unreadable", false);
        let path = disk.folder.join("model.gguf");
        let args: [OsString; 3] = [path.into(), bad.start.to_string().into(), bad.end.to_string().into()];
        for (setting, paged) in all_settings() {
            for io in ["uring-direct", "uring", "pread"].iter().take(if paged { 3 } else { 1 }) {
                let outcome = run(setting, &[], &program, &args, &[("GGPAGER_IO", io)]);
                outcome.require_code(0);
                if paged {
                    let stats = outcome.require_paged().stats.clone().expect("checked");
                    let blocks = (bad.end - 1) / (2 << 20) - bad.start / (2 << 20) + 1;
                    assert_eq!(stats.poisoned_pages, blocks * 512, "{stats:?}");
                }
            }
        }
    }
}
