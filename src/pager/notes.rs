//! The pager's memory of the drive: loaded when it starts, kept up to date while it runs.

use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::tuner::Tuner;
use crate::drive::profile::{Memory, Profile};

/// How often the tuner is asked as long as it knows nothing, and how often something may be written.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// See [`ASK_EVERY`].
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// See the module's page.
#[derive(Debug, Default)]
pub struct Notes {
    memory: Option<Memory>,
    written: Option<Profile>,
    due_ns: u64,
}

impl Notes {
    /// Notes for `memory`, if there is one.
    pub fn new(memory: Option<Memory>) -> Notes {
        Notes { memory, ..Notes::default() }
    }

    /// What is remembered.
    pub fn load(&self) -> Option<Profile> {
        self.memory.as_ref()?.load(SystemTime::now())
    }

    /// Writes down what `tuner` has found, if it is time and something new. A thread of its own does
    /// it: the folder may be slow, or on a server that is gone. Nobody needs to wait for it.
    pub fn keep(&mut self, tuner: &Tuner, now_ns: u64) -> Option<JoinHandle<()>> {
        let memory = self.memory.as_ref().filter(|_| now_ns >= self.due_ns)?;
        let Some(profile) = tuner.profile() else {
            self.due_ns = now_ns + ASK_EVERY.as_nanos() as u64;
            return None;
        };
        self.due_ns = now_ns + WRITE_EVERY.as_nanos() as u64;
        if self.written.as_ref().is_some_and(|written| written.is_near(&profile)) {
            return None;
        }
        self.written = Some(profile.clone());
        let memory = memory.clone();
        let write = move || {
            if let Err(error) = memory.store(&profile, SystemTime::now()) {
                log::debug!("the drive is not remembered: {error}");
            }
        };
        let started = std::thread::Builder::new().name("ggpager-note".into()).spawn(write);
        started.inspect_err(|error| log::debug!("the drive is not remembered: {error}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pager::tuner::BLOCK;

    /// One read after the other for `s` seconds, each taking `ms`.
    fn read(tuner: &mut Tuner, now_ns: &mut u64, s: u64, ms: u64) {
        let end_ns = *now_ns + s * 1_000_000_000;
        while *now_ns < end_ns {
            tuner.started(BLOCK, *now_ns);
            *now_ns += ms * 1_000_000;
            tuner.ended(BLOCK, *now_ns);
        }
    }

    #[test]
    fn what_one_process_finds_is_where_the_next_begins() {
        let folder = tempfile::tempdir().unwrap();
        let memory = || Some(Memory::new(folder.path(), "disk".into()));
        let mut notes = Notes::new(memory());
        assert_eq!(notes.load(), None);
        let (mut tuner, mut now_ns) = (Tuner::new(None), 0);
        assert!(notes.keep(&tuner, now_ns).is_none(), "nothing is known yet");
        read(&mut tuner, &mut now_ns, 10, 5);
        notes.keep(&tuner, now_ns).expect("something is known").join().unwrap();
        let remembered = Notes::new(memory()).load().unwrap();
        assert!((remembered.base_us - 5000.0).abs() < 1.0, "{remembered:?}");
        assert!((remembered.rate_bytes_per_s / (BLOCK as f64 / 5e-3) - 1.0).abs() < 0.1, "{remembered:?}");
        let next = Tuner::new(Some(&remembered));
        assert_eq!(next.limit_bytes(), tuner.limit_bytes());
        // Not at every turn, and not the same again.
        assert!(notes.keep(&tuner, now_ns).is_none());
        read(&mut tuner, &mut now_ns, 100, 5);
        assert!(notes.keep(&tuner, now_ns).is_none());
        // A drive that has changed is remembered anew.
        read(&mut tuner, &mut now_ns, 100, 20);
        notes.keep(&tuner, now_ns).expect("it has changed").join().unwrap();
        assert!((Notes::new(memory()).load().unwrap().base_us - 20_000.0).abs() < 1.0);
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let (mut tuner, mut now_ns) = (Tuner::new(None), 0);
        read(&mut tuner, &mut now_ns, 10, 5);
        assert!(Notes::default().keep(&tuner, now_ns).is_none());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut notes = Notes::new(Some(Memory::new(&file, "disk".into())));
        notes.keep(&tuner, now_ns).expect("it is tried").join().unwrap();
        assert_eq!(notes.load(), None);
    }
}
