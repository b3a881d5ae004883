//! The one pager of this process, made with the first model mapping.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use ggpager_core::config::Settings;
use ggpager_core::pager::Pager;

use crate::{exit, fork, inject, log, sys};

/// How the names of all our variables begin.
const VARIABLES: &CStr = c"GGPAGER";

const NOT_STARTED: u8 = 0;
const ACTIVE: u8 = 1;
const INERT: u8 = 2;

/// Relaxed everywhere: it says only whether hooks do anything at all. What they then use is
/// published by `PAGER` (a `OnceLock`) or by the table of views, each with its own ordering.
static STATE: AtomicU8 = AtomicU8::new(NOT_STARTED);

/// What the environment said when the library was loaded, and what was wrong with it.
struct Environment {
    settings: Settings,
    complaints: Vec<String>,
}

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
static PAGER: OnceLock<Arc<Pager>> = OnceLock::new();

/// Whether hooks do anything: false before the constructor, with `GGPAGER=off`, and in forked
/// children.
#[inline]
pub fn is_active() -> bool {
    STATE.load(Ordering::Relaxed) == ACTIVE
}

/// For the constructor: hooks act from now on, unless the environment says `GGPAGER=off`.
pub fn start() {
    log::catch_panics();
    inject::arm();
    // The variables are read here, while there is one thread as a rule: the program may change its
    // environment later. A process that no variable concerns pays one walk through `environ`.
    let enabled = !mentioned() || environment().settings.enabled;
    STATE.store(if enabled { ACTIVE } else { INERT }, Ordering::Relaxed);
}

/// Hooks do nothing from now on. Async-signal-safe.
pub fn stop() {
    STATE.store(INERT, Ordering::Relaxed);
}

/// Whether any variable of ours is set. Without allocating: every process of a session asks.
fn mentioned() -> bool {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: `environ` is null or a list of strings that ends with a null; nobody changes it while
    // constructors run, as for `std::env`.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            if libc::strncmp(*at, VARIABLES.as_ptr(), VARIABLES.count_bytes()) == 0 {
                return true;
            }
            at = at.add(1);
        }
    }
    false
}

fn environment() -> &'static Environment {
    ENVIRONMENT.get_or_init(|| {
        let mut complaints = Vec::new();
        let settings = Settings::from_env(|name, error| complaints.push(format!("{name}: {error}; using the default")));
        Environment { settings, complaints }
    })
}

/// The settings. For model mappings only: the first call may read the environment.
pub fn settings() -> &'static Settings {
    &environment().settings
}

/// The pager, if a model has been mapped.
pub fn pager() -> Option<&'static Arc<Pager>> {
    PAGER.get()
}

/// The pager; makes it if there is none. Only inside [`calmly`].
pub fn pager_or_new() -> &'static Arc<Pager> {
    PAGER.get_or_init(|| {
        log::install();
        let environment = environment();
        for complaint in &environment.complaints {
            ::log::warn!("{complaint}");
        }
        fork::watch();
        exit::watch(environment.settings.stats.as_deref());
        Pager::new(environment.settings.clone())
    })
}

thread_local! {
    /// Set while this thread is inside the pager. Constant initialiser and no destructor: reading it
    /// never allocates.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Keeps the thread from being cancelled while it lives.
struct Uncancelled(c_int);

impl Uncancelled {
    fn new() -> Uncancelled {
        let mut old = 0;
        // SAFETY: a valid state and a valid place for the old one.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
        Uncancelled(old)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: gives back the state that the same function reported.
        unsafe { pthread_setcancelstate(self.0, std::ptr::null_mut()) };
    }
}

/// Runs `work`, which may reach a cancellation point although it has something to drop.
pub fn uncancelled<T>(work: impl FnOnce() -> T) -> T {
    let _uncancelled = Uncancelled::new();
    work()
}

/// Undoes what [`calmly`] has set up, also when the work panics.
struct Calm {
    signals: u64,
    _uncancelled: Uncancelled,
}

impl Calm {
    fn set_signals(new: u64) -> u64 {
        let mut old = 0u64;
        let (new, old_at) = (&raw const new, &raw mut old);
        // SAFETY: both masks are of the size that is passed, 8 bytes. The call fails only for bad
        // arguments.
        let _ = unsafe {
            sys::call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, new as usize, old_at as usize, 8, 0, 0])
        };
        old
    }
}

impl Drop for Calm {
    fn drop(&mut self) {
        INSIDE.set(false);
        Self::set_signals(self.signals);
    }
}

/// Runs `work` in the pager on behalf of the program: no signal handler may interrupt it (it could
/// jump out, or call a hook, while a lock is held) and the thread cannot be cancelled in it. `None`
/// when this thread already is inside: the pager's own calls are never about views.
pub fn calmly<T>(work: impl FnOnce() -> T) -> Option<T> {
    if INSIDE.get() || !fork::is_own_memory() {
        return None;
    }
    let _calm = Calm { signals: Calm::set_signals(u64::MAX), _uncancelled: Uncancelled::new() };
    INSIDE.set(true);
    Some(work())
}
