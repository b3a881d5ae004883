//! Pages that are no pages: errors, and never more than that.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::page::{BYTES, COUNTERS_AT, IDENTITY_AT, MAGIC, SEQUENCE_AT, TEXTS_AT, VERSION, VERSION_AT, WORDS, Words};
use super::process::Identity;
use super::{Counters, ReadError, Texts, list_in, read_in};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.0.path().join(pid.to_string())
    }

    fn write(&self, pid: u32, bytes: &[u8]) {
        std::fs::write(self.path(pid), bytes).expect("writable");
    }

    fn paths(&self) -> [PathBuf; 1] {
        [self.0.path().to_owned()]
    }
}

/// A page that this process could have written.
fn valid() -> (Words, Identity) {
    let own = Identity::own().expect("/proc");
    let mut words = [0; WORDS];
    words[0] = MAGIC;
    words[VERSION_AT] = VERSION;
    words[IDENTITY_AT..IDENTITY_AT + 3].copy_from_slice(&[own.pid.into(), own.start_ticks, own.pid_namespace]);
    let texts = Texts { program: "tester".into(), ..Texts::default() };
    words[TEXTS_AT..TEXTS_AT + Texts::WORDS].copy_from_slice(&texts.encode());
    let counters = Counters { reads: 7, ..Counters::default() };
    words[COUNTERS_AT..COUNTERS_AT + Counters::WORDS].copy_from_slice(&counters.encode());
    (words, own)
}

fn bytes(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn a_valid_page_is_read() {
    let (folder, (words, own)) = (Folder::new(), valid());
    folder.write(own.pid, &bytes(&words));
    let seen = read_in(&folder.paths(), own.pid).expect("a page");
    assert_eq!((seen.identity, seen.texts.program.as_str(), seen.counters.reads), (own, "tester", 7));
    assert_eq!(list_in(&folder.paths()).len(), 1);
}

#[test]
fn broken_pages_are_errors_and_stay() {
    let (words, own) = valid();
    let with = |at: usize, value: u64| {
        let mut words = words;
        words[at] = value;
        bytes(&words)
    };
    let short = bytes(&words)[..BYTES - 1].to_vec();
    for (content, error) in [
        (with(0, MAGIC + 1), "not a page of ggpager: the first bytes are others"),
        (vec![], "not a page of ggpager: too short"),
        (short, "not a page of ggpager: too short"),
        (with(VERSION_AT, 99), "the page has version 99, this is a ggpager for version 1"),
        (with(SEQUENCE_AT, 5), "the page is being written"),
    ] {
        let folder = Folder::new();
        folder.write(own.pid, &content);
        assert_eq!(read_in(&folder.paths(), own.pid).expect_err("broken").to_string(), error);
        assert!(list_in(&folder.paths())[0].1.is_err());
        assert!(folder.path(own.pid).exists(), "this process lives: {error}");
    }
}

#[test]
fn pages_of_ended_processes_go() {
    let (words, own) = valid();
    let changed = |at: usize, value: u64| {
        let mut words = words;
        words[IDENTITY_AT + at] = value;
        bytes(&words)
    };
    // An id beyond the kernel's largest (PID_MAX_LIMIT, 4 Mi).
    const NOBODY: u32 = 5_000_000;
    for (pid, content) in [
        (own.pid, changed(1, own.start_ticks + 1)),
        (own.pid, changed(0, NOBODY.into())),
        (NOBODY, changed(0, NOBODY.into())),
        (NOBODY, bytes(&words)),
        (NOBODY, b"broken".to_vec()),
        (NOBODY, vec![]),
    ] {
        let folder = Folder::new();
        folder.write(pid, &content);
        assert!(matches!(read_in(&folder.paths(), pid), Err(ReadError::Stale)));
        assert!(!folder.path(pid).exists());
    }
    // Another namespace's ids say nothing here.
    let folder = Folder::new();
    let mut far = words;
    far[IDENTITY_AT..IDENTITY_AT + 3].copy_from_slice(&[NOBODY.into(), 1, own.pid_namespace + 1]);
    folder.write(NOBODY, &bytes(&far));
    assert!(read_in(&folder.paths(), NOBODY).is_ok() && folder.path(NOBODY).exists());
}

#[test]
fn only_plain_files_of_ours_are_read() {
    let (words, own) = valid();
    let elsewhere = Folder::new();
    elsewhere.write(1, &bytes(&words));
    let folder = Folder::new();
    std::os::unix::fs::symlink(elsewhere.path(1), folder.path(own.pid)).expect("a link");
    assert!(matches!(read_in(&folder.paths(), own.pid), Err(ReadError::Io(_))), "a link");
    assert!(list_in(&folder.paths()).is_empty());
    std::fs::remove_file(folder.path(own.pid)).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path(own.pid),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    assert!(matches!(read_in(&folder.paths(), own.pid), Err(ReadError::Foreign(_))), "a pipe is not waited for");
    std::fs::remove_file(folder.path(own.pid)).expect("a pipe");
    std::fs::create_dir(folder.path(own.pid)).expect("a folder");
    assert!(matches!(read_in(&folder.paths(), own.pid), Err(ReadError::Foreign(_))), "a folder");
    std::fs::write(folder.0.path().join("007"), bytes(&words)).expect("writable");
    std::fs::write(folder.0.path().join("notes"), bytes(&words)).expect("writable");
    assert!(list_in(&folder.paths()).is_empty());

    let folder = Folder::new();
    folder.write(own.pid, &bytes(&words));
    std::fs::set_permissions(folder.0.path(), PermissionsExt::from_mode(0o770)).expect("ours");
    assert!(matches!(read_in(&folder.paths(), own.pid), Err(ReadError::None(_))), "others may write there");
    assert!(matches!(read_in(&[PathBuf::from("/no/such/folder")], own.pid), Err(ReadError::None(_))));
}

proptest! {
    /// Whatever lies there, reading it ends with an answer.
    #[test]
    fn any_file_is_an_answer(
        mut content in proptest::collection::vec(any::<u8>(), 0..BYTES + 64),
        head in 0usize..7,
        cut in 0..BYTES,
    ) {
        let (words, own) = valid();
        // The first words as they should be, or a whole page that is cut short.
        let good = bytes(&words);
        if head == 6 {
            content = good[..cut].to_vec();
        } else {
            let len = (head * 8).min(content.len());
            content[..len].copy_from_slice(&good[..len]);
        }
        let folder = Folder::new();
        folder.write(own.pid, &content);
        let _ = list_in(&folder.paths());
        if let Ok(seen) = read_in(&folder.paths(), own.pid) {
            prop_assert!(content.len() >= BYTES && head > 0);
            prop_assert!(!seen.texts.model.contains(char::is_control));
        }
    }
}
