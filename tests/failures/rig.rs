//! The pager as a library on the test model, with faulty parts, and readers that check every word.

use std::os::fd::AsFd;
use std::sync::Arc;

use ggpager::config::{BudgetSetting, ByteSize, FillRung, Settings, Strategy};
use ggpager::pager::file::Sharing;
use ggpager::pager::link::Parts;
use ggpager::pager::region::{self, PAGE, page_ceil};
use ggpager::pager::{MapError, Pager};

pub use crate::support::Watchdog;
use crate::support::{MODEL_BYTES, model, word_at};

/// Pages of the model.
pub const PAGES: usize = (MODEL_BYTES as usize).div_ceil(PAGE);

/// The usual settings: a pool smaller than the model.
pub fn settings(fill: FillRung) -> Settings {
    Settings {
        budget: BudgetSetting::Bytes(ByteSize(32 << 20)),
        strategy: Strategy::Demand,
        fill: Some(fill),
        ..Settings::default()
    }
}

/// The model's view in a pager of its own.
pub struct Rig {
    /// The pager.
    pub pager: Arc<Pager>,
    base: usize,
    _watchdog: Watchdog,
}

impl Rig {
    /// Maps the model.
    pub fn new(test: &'static str, settings: Settings, parts: Parts) -> Rig {
        let watchdog = Watchdog::new(test);
        let pager = Pager::with_parts(settings, parts);
        let base = map(&pager).expect("a view");
        Rig { pager, base, _watchdog: watchdog }
    }

    /// Maps the model once more; unmaps it at once when that works.
    pub fn map_again(&self) -> Result<(), MapError> {
        let base = map(&self.pager)?;
        self.pager.unmap(base, MODEL_BYTES as usize).expect("unmapping");
        Ok(())
    }

    /// Compares every word of page `page` with the file.
    pub fn check_page(&self, page: usize) {
        for at in (page * PAGE..(page + 1) * PAGE).step_by(8) {
            // SAFETY: the view is mapped until the rig is dropped, and whole pages can be read.
            let seen = unsafe { ((self.base + at) as *const u64).read_volatile() };
            let wanted = if (at as u64) < MODEL_BYTES { word_at(at as u64) } else { 0 };
            assert_eq!(seen, wanted, "at byte {at}");
        }
    }

    /// `threads` threads read pages at random, then every page, and compare all that they read.
    pub fn read_everything(&self, threads: usize) {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread as u64);
                    (0..150).for_each(|_| self.check_page(random.usize(0..PAGES)));
                    (thread..PAGES).step_by(threads).for_each(|page| self.check_page(page));
                });
            }
        });
    }

    /// Every page is right, whoever serves it.
    pub fn check_all(&self) {
        (0..PAGES).for_each(|page| self.check_page(page));
    }

    /// The pager has stopped: new mappings are refused, and refused at once.
    pub fn require_stopped(&self) {
        let again = self.map_again();
        assert!(matches!(again, Err(MapError::Stopped)), "{again:?}");
        assert!(!ggpager::pager::views::overlaps(self.base, MODEL_BYTES as usize), "a view is still listed");
    }

    /// Unmaps the ordinary mapping that a stopped pager has left.
    pub fn unmap_ordinary(self) {
        region::unmap(self.base..self.base + page_ceil(MODEL_BYTES as usize)).expect("unmapping");
    }

    /// Unmaps the view and requires that nothing is left at its addresses.
    pub fn unmap(self) {
        let len = page_ceil(MODEL_BYTES as usize);
        self.pager.unmap(self.base, len).expect("unmapping");
        let mut resident = vec![0u8; len / PAGE];
        // SAFETY: the vector has one byte for each page; mincore reads no memory of the range.
        let result = unsafe { libc::mincore(self.base as *mut _, len, resident.as_mut_ptr()) };
        let error = std::io::Error::last_os_error().raw_os_error();
        assert!(result == -1 && error == Some(libc::ENOMEM), "something is still mapped");
    }
}

fn map(pager: &Pager) -> Result<usize, MapError> {
    let file = std::fs::File::open(model()).expect("the model");
    pager.map(file.as_fd(), 0, MODEL_BYTES as usize, Sharing::Shared).map(|start| start as usize)
}
