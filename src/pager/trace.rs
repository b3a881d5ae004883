//! The fault log: one CSV line a fault, written by the pager thread when the faulting thread is
//! woken.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::policy::{BlockId, Touch};

const BUFFER_BYTES: usize = 64 << 10;

/// See the module's page.
pub struct Trace {
    file: OwnedFd,
    lines: String,
}

impl Trace {
    /// Creates the file and writes the header line.
    pub fn create(path: &Path) -> io::Result<Trace> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
        let mut lines = String::with_capacity(BUFFER_BYTES + 128);
        lines.push_str("time_ns,tid,view,offset_bytes,block,touch,wait_ns\n");
        Ok(Trace { file, lines })
    }

    /// Logs a fault that came at `time_ns` (the pager's clock) and was answered `wait_ns` later.
    #[allow(clippy::too_many_arguments)] // the fields of one line
    pub fn fault(
        &mut self,
        time_ns: u64,
        tid: u32,
        view: u32,
        offset: u64,
        block: BlockId,
        touch: Touch,
        wait_ns: u64,
    ) {
        let touch = match touch {
            Touch::Absent => "demand",
            Touch::Reading => "in_flight",
            Touch::Staged => "staged",
        };
        let _ = writeln!(self.lines, "{time_ns},{tid},{view},{offset},{block},{touch},{wait_ns}");
        if self.lines.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) {
        let mut rest = self.lines.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                // A full disk costs the log, not the run.
                Err(_) => break,
            }
        }
        self.lines.clear();
    }
}
