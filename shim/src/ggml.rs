//! ggml in this process: its functions, wherever they were loaded from.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use crate::router::ggml_backend_sched_set_eval_callback;

/// `ggml_backend_sched_eval_callback`: the tensor, whether this is the question, the program's pointer.
pub type Watch = unsafe extern "C-unwind" fn(*mut c_void, bool, *mut c_void) -> bool;
pub type SetWatch = unsafe extern "C-unwind" fn(*mut c_void, Option<Watch>, *mut c_void);

/// The functions of ggml that are needed.
pub struct Ggml {
    /// Its own function, which ours stands in for.
    pub set_watch: SetWatch,
    /// Those that look at tensors; `None` when one of them is missing.
    pub tensor: Option<TensorCalls>,
}

/// What is asked of tensors, by the names in ggml.h and ggml-backend.h.
#[derive(Clone, Copy)]
pub struct TensorCalls {
    pub name: unsafe extern "C" fn(*const c_void) -> *const c_char,
    pub elements: unsafe extern "C" fn(*const c_void) -> i64,
    pub rows: unsafe extern "C" fn(*const c_void) -> i64,
    pub element_bytes: unsafe extern "C" fn(*const c_void) -> usize,
    pub bytes: unsafe extern "C" fn(*const c_void) -> usize,
    pub get: unsafe extern "C" fn(*const c_void, *mut c_void, usize, usize),
}

pub const SET_WATCH: &CStr = c"ggml_backend_sched_set_eval_callback";

/// Looked up when it is first needed: by then the library is loaded, whoever loads it and however.
pub fn ggml() -> Option<&'static Ggml> {
    static GGML: OnceLock<Option<Ggml>> = OnceLock::new();
    GGML.get_or_init(find).as_ref()
}

/// ggml's own function in a library, if ggml is one.
pub fn set_watch() -> Option<*mut c_void> {
    // SAFETY: a name that ends with a NUL.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, SET_WATCH.as_ptr()) };
    if !address.is_null() {
        return Some(address);
    }
    // A library that was loaded for its loader alone.
    loaded().iter().find_map(|name| symbol(opened(name)?, SET_WATCH).filter(|&found| found != ours()))
}

fn find() -> Option<Ggml> {
    let address = set_watch()?;
    let tensor = library_of(address).and_then(|library| {
        // SAFETY: ggml's functions of these names have these types (ggml.h, ggml-backend.h).
        let calls = unsafe {
            TensorCalls {
                name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_void) -> *const c_char>(symbol(
                    library,
                    c"ggml_get_name",
                )?),
                elements: number(library, c"ggml_nelements")?,
                rows: number(library, c"ggml_nrows")?,
                element_bytes: size(library, c"ggml_element_size")?,
                bytes: size(library, c"ggml_nbytes")?,
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_void, *mut c_void, usize, usize)>(
                    symbol(library, c"ggml_backend_tensor_get")?,
                ),
            }
        };
        Some(calls)
    });
    if tensor.is_none() {
        log::info!("this ggml does not tell what routers choose; experts are read when they are touched");
    }
    // SAFETY: the function of this name has this type.
    let set_watch = unsafe { std::mem::transmute::<*mut c_void, SetWatch>(address) };
    Some(Ggml { set_watch, tensor })
}

/// # Safety
/// The symbol is a function of this type.
unsafe fn number(library: *mut c_void, name: &CStr) -> Option<unsafe extern "C" fn(*const c_void) -> i64> {
    // SAFETY: the caller's promise.
    symbol(library, name).map(|address| unsafe { std::mem::transmute(address) })
}

/// # Safety
/// The symbol is a function of this type.
unsafe fn size(library: *mut c_void, name: &CStr) -> Option<unsafe extern "C" fn(*const c_void) -> usize> {
    // SAFETY: the caller's promise.
    symbol(library, name).map(|address| unsafe { std::mem::transmute(address) })
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a handle that dlopen gave, and a name that ends with a NUL.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// What the program finds under the name.
fn ours() -> *mut c_void {
    ggml_backend_sched_set_eval_callback as *const () as *mut c_void
}

/// A handle of the loaded library that `address` lies in.
fn library_of(address: *const c_void) -> Option<*mut c_void> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr fills `info` in when it gives a number other than 0; the name is the loader's.
    let name = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        CStr::from_ptr(info.assume_init().dli_fname)
    };
    opened(name)
}

/// A handle of a library, if it is loaded.
fn opened(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a name that ends with a NUL; nothing is loaded that is not loaded already.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

/// The names of all loaded libraries. They are opened afterwards: the walk holds a lock of the loader that
/// another thread's dlopen waits for while it holds the one that dlopen takes first.
fn loaded() -> Vec<CString> {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, names: *mut c_void) -> c_int {
        // SAFETY: the loader's own name of a library, or an empty one for the program; the walk's last
        // argument is the list below.
        let (name, names) = unsafe { ((*info).dlpi_name, &mut *names.cast::<Vec<CString>>()) };
        if !name.is_null() {
            // SAFETY: as above.
            names.push(unsafe { CStr::from_ptr(name) }.to_owned());
        }
        0
    }
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the callback has the type that is asked for, and the list outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut names).cast()) };
    names.retain(|name| !name.is_empty());
    names
}
