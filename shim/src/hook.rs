//! How a hook is declared and what it may answer.

use std::ffi::{c_int, c_void};

use crate::sys;

/// What a hook has decided.
pub enum Verdict<R> {
    /// The real call, as the program asked for it.
    Pass,
    /// The real call; its result times this many bytes were read from a model file.
    PassCounted(usize),
    /// No real call: this result, errno as it was.
    Done(R),
    /// No real call: the error result with this errno.
    Fail(c_int),
}

/// A result type of hooked functions.
pub trait Answer: Copy {
    /// What the function returns on an error.
    const FAILED: Self;
    /// How many units were transferred.
    fn count(self) -> usize;
}

impl Answer for c_int {
    const FAILED: c_int = -1;
    fn count(self) -> usize {
        0
    }
}

impl Answer for isize {
    const FAILED: isize = -1;
    fn count(self) -> usize {
        self.max(0) as usize
    }
}

impl Answer for usize {
    /// `fread` and `fwrite`: nothing was transferred.
    const FAILED: usize = 0;
    fn count(self) -> usize {
        self
    }
}

impl Answer for *mut c_void {
    const FAILED: *mut c_void = libc::MAP_FAILED;
    fn count(self) -> usize {
        0
    }
}

/// The result of a raw system call in the manner of libc: the error result and errno.
pub fn answer<R: Answer>(result: Result<usize, c_int>, convert: impl FnOnce(usize) -> R) -> R {
    match result {
        Ok(value) => convert(value),
        Err(error) => {
            sys::set_errno(error);
            R::FAILED
        }
    }
}

/// Declares hooks: for each the exported symbol, a module of the same name with the `real` function,
/// and for all together `resolve()`, which the constructor calls.
///
/// `early` serves before the constructor has run. `decide` gives a [`Verdict`]; it runs only while
/// the library is active, may panic, and must not call anything that is a cancellation point. After a
/// panic comes the real call, or what `panicked` says where that would harm a view.
/// The ABI is `C-unwind` because pthread_cancel unwinds through the real call: the frames in between
/// have nothing to drop.
macro_rules! hooks {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $result:ty {
        early: $early:expr,
        decide: $decide:expr $(, panicked: $panicked:expr)? $(,)?
    })*) => {
        $(
            pub(crate) mod $name {
                #[allow(unused_imports)]
                use super::*;

                static NEXT: $crate::next::Next = $crate::next::Next::new(concat!(stringify!($name), "\0"));

                /// The next definition of the symbol, or the raw system call.
                ///
                /// # Safety
                /// As for the function itself.
                #[inline]
                pub(crate) unsafe fn real($($arg: $type),*) -> $result {
                    match NEXT.get() {
                        // SAFETY: the address is that of a function of this name, hence this type.
                        Some(address) => unsafe {
                            std::mem::transmute::<*const u8, unsafe extern "C-unwind" fn($($type),*) -> $result>(
                                address,
                            )($($arg),*)
                        },
                        None => $early,
                    }
                }

                /// Looks the symbol up now.
                pub(crate) fn find() -> *const u8 {
                    NEXT.find()
                }
            }

            $(#[$doc])*
            ///
            /// # Safety
            /// As for the function that it stands in for.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $result {
                use $crate::hook::{Answer, Verdict};
                let counted = if $crate::engine::is_active() {
                    let saved = $crate::sys::errno();
                    let verdict = std::panic::catch_unwind(|| -> Verdict<$result> {
                        $crate::inject::point(stringify!($name));
                        $decide
                    });
                    $crate::sys::set_errno(saved);
                    match verdict.unwrap_or_else(|_| $crate::hook::first!($($panicked,)? Verdict::Pass)) {
                        Verdict::Done(value) => return value,
                        Verdict::Fail(error) => {
                            $crate::sys::set_errno(error);
                            return <$result as Answer>::FAILED;
                        }
                        Verdict::PassCounted(unit) => unit,
                        Verdict::Pass => 0,
                    }
                } else {
                    0
                };
                // SAFETY: the program's own call.
                let result = unsafe { $name::real($($arg),*) };
                if counted > 0 {
                    $crate::models::count_read(result.count() * counted);
                }
                result
            }
        )*

        /// Looks up every symbol of this file.
        pub(crate) fn resolve() {
            $($name::find();)*
        }
    };
}
pub(crate) use hooks;

/// The first of one or two expressions.
macro_rules! first {
    ($first:expr $(, $second:expr)?) => {
        $first
    };
}
pub(crate) use first;

/// A hook's `early`: the raw system call.
macro_rules! raw {
    ($number:ident, $($arg:expr),* ; $convert:expr) => {{
        let mut args = [0usize; 6];
        let mut index = 0;
        $(
            args[index] = $arg as usize;
            index += 1;
        )*
        let _ = index;
        // SAFETY: the program's own call.
        $crate::hook::answer(unsafe { $crate::sys::call(libc::$number, args) }, $convert)
    }};
}
pub(crate) use raw;
