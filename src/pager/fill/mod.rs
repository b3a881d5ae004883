//! The fill ladder: how a block's bytes get from a frame into the view and out again.
//!
//! | rung | view | install | evict |
//! |---|---|---|---|
//! | [`flip`] (`move`) | private anonymous | UFFDIO_MOVE, no copy | UFFDIO_MOVE back |
//! | [`shared`] (`continue`) | memfd | UFFDIO_CONTINUE, no copy | punch a hole |
//! | [`copy`] (`copy`) | private anonymous | UFFDIO_COPY | MADV_DONTNEED |

pub mod copy;
pub mod flip;
mod fresh;
pub mod pool;
mod remnants;
pub mod shared;
pub mod slots;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::uffd::Uffd;
use crate::config::FillRung;

/// Where a block lives in the program's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First address in the view.
    pub addr: usize,
    /// Length in bytes; whole pages.
    pub len: usize,
    /// Size of the frame in bytes, at least `len`.
    pub frame_bytes: usize,
}

impl Place {
    /// The addresses in the view.
    pub fn range(&self) -> Range<usize> {
        self.addr..self.addr + self.len
    }
}

/// Memory that a block is read into. It belongs to the block while that is `Reading` or `Staged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Address that reads may be aimed at: always backed by memory or allocating on touch, never a
    /// tracked hole.
    pub addr: usize,
    /// The rung's own number for it.
    pub slot: u32,
}

/// One rung. All calls come from the pager thread.
///
/// A block's frame goes `acquire -> (read) -> install` or `-> discard`; out of the view it goes
/// `evict` (the content is lost) or `rearm` (the frame comes back).
pub trait Fill {
    /// Which rung this is.
    fn rung(&self) -> FillRung;

    /// Makes the address range of a view of `len` bytes whose first byte is file offset `offset`;
    /// touches of it become events.
    fn open_view(&mut self, offset: u64, len: usize) -> io::Result<Range<usize>>;

    /// Forgets `range`, which is page aligned and holds no block with a frame: after this the
    /// addresses are unmapped or replaced by the caller. Releases what lies behind them.
    fn close(&mut self, range: Range<usize>);

    /// Memory to read the block into.
    fn acquire(&mut self, place: &Place) -> io::Result<Frame>;

    /// Puts the frame's content into the view and wakes who waits there; the frame is given up. On
    /// an error the block is not in the view and the frame is given up all the same.
    fn install(&mut self, place: &Place, frame: Frame) -> io::Result<()>;

    /// Takes the block out of the view and keeps its content in a frame.
    fn rearm(&mut self, place: &Place) -> io::Result<Frame>;

    /// Takes the block out of the view; its content is lost.
    fn evict(&mut self, place: &Place);

    /// A touch of `page`, which belongs to a block in the view, became an event. False when the page
    /// has been taken away behind the pager's back (a madvise that no hook saw) and its content is
    /// lost; true when the page is there (again), as it is when the event was a late one.
    fn is_intact(&mut self, page: usize) -> bool;

    /// Gives up a frame that is not in the view.
    fn discard(&mut self, place: &Place, frame: Frame);

    /// Bytes of memory that no block holds.
    fn spare_bytes(&self) -> u64;

    /// Bytes of memory that frames can have at once; `None` where fresh memory takes no longer than a
    /// read.
    fn ready_bytes(&mut self) -> Option<u64> {
        None
    }

    /// Bytes of [`Fill::spare_bytes`] that are promised and not there yet: nobody is charged for them.
    fn unmade_bytes(&mut self) -> u64 {
        0
    }

    /// Foretells that more frames will be acquired, for which memory of `room_bytes` may be added to what
    /// there is: a rung whose frames take long to make has some made ready.
    fn prepare(&mut self, room_bytes: u64) {
        let _ = room_bytes;
    }

    /// CPU time of the rung's own threads, in nanoseconds.
    fn cpu_ns(&self) -> u64 {
        0
    }

    /// Frees memory that no block holds until at most `keep_bytes` of such memory are left.
    fn trim(&mut self, keep_bytes: u64);
}

/// The best rung that this machine has, or the forced one; each is tried on a small view of its own
/// before it is believed.
pub fn choose(uffd: &Arc<Uffd>, forced: Option<FillRung>) -> io::Result<Box<dyn Fill>> {
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for &rung in FillRung::ALL.iter().filter(|&&rung| forced.is_none_or(|only| only == rung)) {
        match try_rung(uffd, rung) {
            Ok(fill) => return Ok(fill),
            Err(error) => {
                log::info!("fill rung {rung} is not available: {error}");
                last = error;
            }
        }
    }
    Err(last)
}

/// Builds the rung and takes one huge block through its whole life.
fn try_rung(uffd: &Arc<Uffd>, rung: FillRung) -> io::Result<Box<dyn Fill>> {
    let mut fill: Box<dyn Fill> = match rung {
        FillRung::Move => Box::new(flip::Flip::new(uffd.clone())?),
        FillRung::Continue => Box::new(shared::Shared::new(uffd.clone())?),
        FillRung::Copy => Box::new(copy::Copy::new(uffd.clone())),
    };
    let bytes = super::region::HUGE;
    let view = fill.open_view(0, bytes)?;
    let place = Place { addr: view.start, len: bytes, frame_bytes: bytes };
    let trial = (|| {
        let frame = fill.acquire(&place)?;
        // As after a read, every page of the frame has been written to.
        // SAFETY: a frame is writable memory of `len` bytes that nobody else uses.
        unsafe {
            std::ptr::write_bytes(frame.addr as *mut u8, 0, place.len);
            (frame.addr as *mut u64).write(0x6767_7061_6765_7221);
        }
        fill.install(&place, frame)?;
        let frame = fill.rearm(&place)?;
        // SAFETY: as above; the content must have survived.
        let kept = unsafe { (frame.addr as *const u64).read() } == 0x6767_7061_6765_7221;
        fill.install(&place, frame)?;
        fill.evict(&place);
        if kept { Ok(()) } else { Err(io::Error::other("content lost")) }
    })();
    fill.close(view.clone());
    super::region::unmap(view)?;
    trial.map(|()| fill)
}

/// Repeats `step(done)` until `len` bytes are done. `step` gives the bytes it did, or those and an
/// error. EAGAIN and EBUSY are transient and tried again for some 20 ms without progress: another
/// thread holds the folio lock, or a direct read that has completed has not unpinned its pages yet
/// (the kernel signals first and unpins then, possibly from a work queue that waits for a core).
fn until_done(
    len: usize,
    mut step: impl FnMut(usize) -> Result<usize, (usize, io::Error)>,
) -> Result<(), (usize, io::Error)> {
    const YIELDS: u32 = 50;
    const SLEEPS: u32 = 250;
    const SLEEP: std::time::Duration = std::time::Duration::from_micros(100);
    let mut done = 0;
    let mut tries = 0;
    while done < len {
        match step(done) {
            Ok(bytes) => done += bytes,
            Err((bytes, error)) => {
                done += bytes;
                tries = if bytes > 0 { 0 } else { tries + 1 };
                let transient = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR));
                match tries {
                    _ if !transient => return Err((done, error)),
                    0..YIELDS => std::thread::yield_now(),
                    YIELDS..SLEEPS => std::thread::sleep(SLEEP),
                    _ => return Err((done, error)),
                }
            }
        }
    }
    Ok(())
}
