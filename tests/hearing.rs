//! What routers have chosen is heard before anything has to go for something else, whether it woke the pager or not.

#[allow(dead_code)]
mod support;

use std::ops::{ControlFlow, Range};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use ggpager::config::{BudgetSetting, ByteSize, Settings, Strategy};
use ggpager::pager::Pager;
use ggpager::pager::command::Choice;
use ggpager::pager::file::Sharing;
use ggpager::pager::link::Parts;
use ggpager::pager::region::PAGE;
use ggpager::policy::{self, BlockId, BlockTable, Need, Placement, Policy, Touch};
use ggpager::synth::{Arch, Quant, Request, WriteOptions};

/// What the policy and the test share.
#[derive(Default)]
struct Shared {
    pager: OnceLock<Weak<Pager>>,
    /// Routers choose. Locked while they do: the pager's handle answers one caller at a time.
    on: Mutex<bool>,
    /// A choice has been sent, and the policy knows nothing of it.
    unheard: AtomicBool,
    victims: AtomicUsize,
    /// Those that were named meanwhile.
    too_early: AtomicUsize,
}

/// The usual policy. A router chooses each time that it is asked what to read.
struct Witness {
    inner: Box<dyn Policy>,
    shared: Arc<Shared>,
}

impl Witness {
    fn names_one(&self) {
        self.shared.victims.fetch_add(1, Ordering::Relaxed);
        self.shared.too_early.fetch_add(self.shared.unheard.load(Ordering::Relaxed).into(), Ordering::Relaxed);
    }
}

impl Policy for Witness {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.inner.mapped(table, ids, order);
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.inner.unmapped(table, ids);
    }

    fn budget_changed(&mut self, table: &BlockTable) {
        self.inner.budget_changed(table);
    }

    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, now_ns: u64) {
        self.inner.touched(table, id, touch, now_ns);
    }

    fn routed(&mut self, table: &BlockTable, chosen: &[(BlockId, f64)]) {
        self.shared.unheard.store(false, Ordering::Relaxed);
        self.inner.routed(table, chosen);
    }

    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        self.inner.filled(table, id)
    }

    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        let next = self.inner.next_read(table, in_flight);
        let pager = self.shared.pager.get().and_then(Weak::upgrade);
        let on = self.shared.on.lock().expect("sound");
        if let Some(pager) = pager.filter(|_| *on) {
            self.shared.unheard.store(true, Ordering::Relaxed);
            pager.routed(Choice { used: 1, experts: vec![0], ..Choice::default() });
        }
        next
    }

    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.names_one();
        self.inner.victim(table, wanted, need)
    }

    fn exchange(&mut self, table: &BlockTable, wanted: BlockId) -> Option<BlockId> {
        self.names_one();
        self.inner.exchange(table, wanted)
    }
}

#[test]
fn no_victim_is_named_before_every_choice_has_been_heard() {
    let path = support::scratch("mixture.gguf");
    let usual = Request::new(&path, Arch::Qwen3Moe, Quant::usual(Arch::Qwen3Moe), ByteSize(48 << 20));
    let plan = usual.plan().expect("possible");
    plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("room");

    let shared = Arc::<Shared>::default();
    let of_policy = shared.clone();
    let make = move |strategy| -> Box<dyn Policy> {
        Box::new(Witness { inner: policy::for_strategy(strategy), shared: of_policy.clone() })
    };
    let settings = Settings {
        budget: BudgetSetting::Bytes(ByteSize(24 << 20)),
        strategy: Strategy::Experts,
        order_cache: false,
        ..Settings::default()
    };
    let _watchdog = support::Watchdog::new("hearing");
    let pager = Pager::with_parts(settings, Parts { make_policy: Some(Arc::new(make)), ..Parts::default() });
    assert!(shared.pager.set(Arc::downgrade(&pager)).is_ok());
    let file = std::fs::File::open(&path).expect("written");
    let len = file.metadata().expect("open").len() as usize;
    let start = pager.map(file.as_fd(), 0, len, Sharing::Shared).expect("a view");

    *shared.on.lock().expect("sound") = true;
    for page in (0..len).step_by(PAGE) {
        // SAFETY: the view is mapped until the test ends.
        unsafe { start.add(page).read_volatile() };
    }
    // Another choice would wait for this thread, which waits for the pager.
    *shared.on.lock().expect("sound") = false;
    pager.unmap(start as usize, len).expect("unmapping");
    let [victims, too_early] = [&shared.victims, &shared.too_early].map(|count| count.load(Ordering::Relaxed));
    assert!(victims > 10 && too_early == 0, "{too_early} of {victims} victims");
    std::fs::remove_file(path).expect("written before");
}
