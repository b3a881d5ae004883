//! What the routers of a mixture of experts choose, heard while the graph is computed.
//!
//! llama.cpp lets a program watch its graphs: a callback of the scheduler is asked of every node
//! whether it wants the result, and is called again when the result is there
//! (`ggml_backend_sched_eval_callback` in ggml-backend.h). We put a callback of our own before the
//! program's, and ask for `ffn_moe_topk-<layer>`: the numbers of the experts, before the first of them
//! is read. What the router saw is looked at in the same moment, for the next layer's sake.
//!
//! Nothing here knows the layout of a struct: tensors are asked through ggml's exported functions. Where
//! one of them is missing, and in programs that llama.cpp is linked into statically, nobody calls this.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ggpager_core::pager::command::Choice;
use memchr::memmem;

use crate::engine;
use crate::ggml::{SET_WATCH, TensorCalls, Watch, ggml, set_watch};

/// How the node begins whose result is a layer's choice.
const CHOICE: &str = "ffn_moe_topk";

/// How the nodes begin whose results are the numbers that a layer chooses by.
const SCORES: &str = "ffn_moe_probs";

/// While every expert is in memory, the choices of one pass through the layers in so many are listened to: they tell what is liked,
/// for the time when memory gets scarce and for the next start.
const HEARD_PASSES: u32 = 16;

/// The callback of one scheduler. Only the thread that computes its graph looks at it.
struct Chain {
    calls: TensorCalls,
    /// The program's own callback and pointer.
    theirs: Cell<(Option<Watch>, *mut c_void)>,
    /// The program wants the node that was asked about last.
    wanted: Cell<bool>,
    /// The norm that was asked about last, and its layer. It is looked at in the same pass over the graph.
    norm: Cell<Option<(u32, *const c_void)>>,
    /// The same for scores.
    scores: Cell<Option<(u32, *const c_void)>>,
    /// The layer whose choice was asked about last.
    layer: Cell<u32>,
    /// Passes through the layers.
    passes: Cell<u32>,
}

impl Chain {
    /// Whether the choice of `layer`, which comes next, is listened to.
    fn listens(&self, layer: u32) -> bool {
        if layer <= self.layer.replace(layer) {
            self.passes.set(self.passes.get().wrapping_add(1));
        }
        self.passes.get().is_multiple_of(HEARD_PASSES) || !engine::pager().is_some_and(|pager| pager.has_all_experts())
    }
}

// SAFETY: a scheduler is used by one thread at a time (ggml-backend.h), and so is its chain; the
// pointer in it is only handed back to the program.
unsafe impl Send for Chain {}

/// Chains by scheduler. They stay when it is freed: the next one at its address takes it over.
static CHAINS: Mutex<Option<HashMap<usize, Box<Chain>>>> = Mutex::new(None);

/// Stands in for ggml's function.
///
/// # Safety
/// As for the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ggml_backend_sched_set_eval_callback(
    sched: *mut c_void,
    callback: Option<Watch>,
    data: *mut c_void,
) {
    let wanted = engine::is_active() && engine::pager().is_some_and(|pager| pager.wants_routes());
    let Some(ggml) = catch_unwind(ggml).ok().flatten() else {
        // Whoever could call this has ggml.
        return log::warn!("cannot find ggml's own {}", SET_WATCH.to_string_lossy());
    };
    let calls = ggml.tensor.filter(|_| wanted);
    let chain = calls.and_then(|calls| catch_unwind(|| chained(sched, calls, callback, data)).ok().flatten());
    match chain {
        // SAFETY: the program's own call, with a callback and a pointer that belong together.
        Some(chain) => unsafe { (ggml.set_watch)(sched, Some(watch), chain) },
        // SAFETY: the program's own call.
        None => unsafe { (ggml.set_watch)(sched, callback, data) },
    }
}

/// The pointer that [`watch`] gets for `sched`.
fn chained(sched: *mut c_void, calls: TensorCalls, callback: Option<Watch>, data: *mut c_void) -> Option<*mut c_void> {
    engine::calmly(|| {
        let mut chains = CHAINS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let chain = chains.get_or_insert_default().entry(sched as usize).or_insert_with(|| {
            Box::new(Chain {
                calls,
                theirs: Cell::new((None, std::ptr::null_mut())),
                wanted: Cell::new(false),
                norm: Cell::new(None),
                scores: Cell::new(None),
                layer: Cell::new(0),
                passes: Cell::new(0),
            })
        });
        chain.theirs.set((callback, data));
        (&raw mut **chain).cast()
    })
}

/// Asked and told by ggml about every node of a graph.
unsafe extern "C-unwind" fn watch(tensor: *mut c_void, ask: bool, chain: *mut c_void) -> bool {
    // SAFETY: `chained` made it, and boxes of the table stay where they are.
    let chain = unsafe { &*chain.cast::<Chain>() };
    let calls = chain.calls;
    let node = catch_unwind(|| node(&calls, tensor)).ok().flatten();
    let (theirs, data) = chain.theirs.get();
    if ask {
        let mut listens = false;
        match node {
            Some(Node::Norm(layer)) => chain.norm.set(Some((layer, tensor.cast_const()))),
            Some(Node::Scores(layer)) => chain.scores.set(Some((layer, tensor.cast_const()))),
            Some(Node::Choice(layer)) => {
                listens = catch_unwind(AssertUnwindSafe(|| chain.listens(layer))).unwrap_or(false)
            }
            None => {}
        }
        // SAFETY: the program's callback, as ggml would have called it.
        let wanted = theirs.is_some_and(|theirs| unsafe { theirs(tensor, true, data) });
        chain.wanted.set(wanted);
        return wanted || listens;
    }
    if let Some(Node::Choice(layer)) = node {
        let of_layer =
            |seen: &Cell<Option<(u32, *const c_void)>>| seen.take().filter(|it| it.0 == layer).map(|it| it.1);
        let (norm, scores) = (of_layer(&chain.norm), of_layer(&chain.scores));
        // What fails here is read when it is touched.
        let _ = catch_unwind(|| tell(&calls, tensor, norm, scores, layer));
    }
    match theirs {
        // SAFETY: as above.
        Some(theirs) if chain.wanted.get() => unsafe { theirs(tensor, false, data) },
        _ => true,
    }
}

/// The nodes of a layer that matter here.
#[derive(Clone, Copy)]
enum Node {
    /// What the router has chosen: `ffn_moe_topk-7`.
    Choice(u32),
    /// A state as the next operation sees it: `ffn_norm-7`, `attn_post_norm-7`. The last one before a choice is
    /// what the router saw; it is still needed then, by the experts.
    Norm(u32),
    /// What the router gave every expert: `ffn_moe_probs-7`, or `ffn_moe_probs_biased-7` where it chooses by another number
    /// than it weights by. The last one before a choice is what that was made from; nothing has been written over it then.
    Scores(u32),
}

/// Which of them `tensor` is.
fn node(calls: &TensorCalls, tensor: *const c_void) -> Option<Node> {
    // SAFETY: ggml gives a name that ends with a NUL, for every tensor.
    let name = unsafe { CStr::from_ptr((calls.name)(tensor)) }.to_str().ok()?;
    let (what, layer) = name.rsplit_once('-')?;
    let node = match what {
        CHOICE => Node::Choice,
        _ if what.ends_with("norm") => Node::Norm,
        _ if what.starts_with(SCORES) => Node::Scores,
        _ => return None,
    };
    layer.parse().ok().map(node)
}

/// Reads the numbers of the experts and what the router saw, and hands them to the pager.
fn tell(
    calls: &TensorCalls,
    choice: *const c_void,
    norm: Option<*const c_void>,
    scores: Option<*const c_void>,
    layer: u32,
) {
    engine::calmly(|| {
        let Some(pager) = engine::pager() else { return };
        // SAFETY: questions about a tensor of ggml's.
        let (elements, rows) = unsafe { ((calls.elements)(choice), (calls.rows)(choice)) };
        let (Ok(elements), Ok(rows)) = (usize::try_from(elements), usize::try_from(rows)) else { return };
        let Some(words) = words(calls, choice, rows, rows).filter(|_| rows > 0 && elements > 0) else { return };
        let used = elements / rows;
        // A view of the sorted experts of each token: its rows lie further apart than they are long.
        let stride = if rows > 1 { (words.len() - used) / (rows - 1) } else { used };
        let chosen = (0..rows).filter_map(|row| words.get(row * stride..row * stride + used)).flatten().copied();
        let states = norm.filter(|_| pager.wants_states());
        let told = rows.min(Choice::TOLD_MAX);
        let floats = |tensor| {
            let words = self::words(calls, tensor, rows, told).unwrap_or_default();
            words.into_iter().map(f32::from_bits).collect()
        };
        pager.routed(Choice {
            layer,
            used: used as u32,
            experts: chosen.collect(),
            states: states.map_or_else(Vec::new, floats),
            scores: scores.map_or_else(Vec::new, floats),
        });
    });
}

/// The last `wanted` of `rows` rows of a tensor whose elements have four bytes each.
fn words(calls: &TensorCalls, tensor: *const c_void, rows: usize, wanted: usize) -> Option<Vec<u32>> {
    // SAFETY: questions about a tensor of ggml's.
    let (element_bytes, bytes) = unsafe { ((calls.element_bytes)(tensor), (calls.bytes)(tensor)) };
    if element_bytes != size_of::<u32>() || !bytes.is_multiple_of(element_bytes) {
        return None;
    }
    let elements = bytes / element_bytes;
    let skipped = match rows.saturating_sub(wanted) {
        0 => 0,
        // Another tensor's rows.
        _ if !elements.is_multiple_of(rows) => return None,
        others => elements / rows * others,
    };
    let mut words = vec![0u32; elements - skipped];
    // SAFETY: `words` has room for the elements from `skipped` on, of four bytes each, which are inside of the tensor.
    unsafe { (calls.get)(tensor, words.as_mut_ptr().cast(), skipped * element_bytes, words.len() * element_bytes) };
    Some(words)
}

/// Says once when a model with experts is mapped and nobody will call our function: llama.cpp is linked into
/// the program together with ggml.
pub fn say_if_deaf() {
    /// Relaxed: a second line would do no harm.
    static SAID: AtomicBool = AtomicBool::new(false);
    let wanted = engine::pager().is_some_and(|pager| pager.wants_routes());
    if wanted && !SAID.swap(true, Ordering::Relaxed) && set_watch().is_none() && is_linked_in() {
        log::warn!("the routers cannot be heard, ggml is part of the program: experts are read when they are touched");
    }
}

/// Whether the program itself holds the name of the node that tells the choice, without the layer.
fn is_linked_in() -> bool {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
        let name = CHOICE.as_bytes();
        // SAFETY: the loader's list of segments, which are mapped where it says as long as the program runs.
        let holds = |segment: &libc::Elf64_Phdr, base: u64| unsafe {
            let start = (base + segment.p_vaddr) as *const u8;
            memmem::find(std::slice::from_raw_parts(start, segment.p_memsz as usize), name).is_some()
        };
        let is_constant = |segment: &&libc::Elf64_Phdr| {
            segment.p_type == libc::PT_LOAD && segment.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R
        };
        // SAFETY: as above; the walk's last argument is the answer's place.
        unsafe {
            let segments = std::slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into());
            let base = (*info).dlpi_addr;
            *found.cast::<bool>() = segments.iter().filter(is_constant).any(|segment| holds(segment, base));
        }
        // The program comes first.
        1
    }
    let mut found = false;
    // SAFETY: the callback has the type that is asked for, and the answer outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}
