//! The layout of a page: 512 words of 64 bits in the machine's byte order.
//!
//! | words | content |
//! |---|---|
//! | 0 | magic |
//! | 1 | version |
//! | 2 | sequence number |
//! | 3, 4, 5 | process id, its start in clock ticks after boot, its pid namespace |
//! | 8 to 255 | texts, UTF-8, filled up with zeros |
//! | 256 to 511 | counters, in the order of [`Counters`] |
//!
//! Words 0 to 5 are the same in every version.

use serde::Serialize;

use super::process::Identity;

/// Words of a page.
pub const WORDS: usize = 512;
/// Size of a page in bytes.
pub const BYTES: usize = WORDS * 8;

/// The first word, written last.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"ggpstats");
/// The version of this layout; a new one whenever the meaning of a word changes.
pub const VERSION: u64 = 1;

pub(super) const MAGIC_AT: usize = 0;
pub(super) const VERSION_AT: usize = 1;
pub(super) const SEQUENCE_AT: usize = 2;
pub(super) const IDENTITY_AT: usize = 3;
pub(super) const TEXTS_AT: usize = 8;
pub(super) const COUNTERS_AT: usize = 256;

/// A page as it lies in memory.
pub type Words = [u64; WORDS];

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)*) => {
        /// What a pager is, in words. A text that is too long keeps its end.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        pub struct Texts { $($(#[$doc])* pub $name: String,)* }

        impl Texts {
            /// Words that the texts take.
            pub(super) const WORDS: usize = 0 $(+ $words)*;

            pub(super) fn encode(&self) -> [u64; Texts::WORDS] {
                let mut all = [0; Texts::WORDS];
                let mut rest = &mut all[..];
                $(
                    let (own, others) = rest.split_at_mut($words);
                    encode_text(&self.$name, own);
                    rest = others;
                )*
                let _ = rest;
                all
            }

            fn decode(mut words: &[u64]) -> Texts {
                $(
                    let (own, others) = words.split_at($words);
                    let $name = decode_text(own);
                    words = others;
                )*
                let _ = words;
                Texts { $($name,)* }
            }
        }
    };
}

texts! {
    /// The program's name.
    program: 16,
    /// Path of the first model.
    model: 128,
    /// The strategy that runs: after `auto` has chosen.
    strategy: 2,
    /// The rung of the fill ladder, empty under strategy `kernel`.
    fill_rung: 2,
    /// The rung of the I/O ladder, empty under strategy `kernel`.
    io_rung: 2,
    /// `full` or `user-mode-only`, empty under strategy `kernel`.
    fault_mode: 2,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Numbers of a pager. Those without "now" only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Words that the counters take.
            pub(super) const WORDS: usize = [$(stringify!($name)),*].len();

            pub(super) fn encode(&self) -> [u64; Counters::WORDS] {
                [$(self.$name),*]
            }

            fn decode(words: &[u64; Counters::WORDS]) -> Counters {
                let [$($name),*] = *words;
                Counters { $($name),* }
            }
        }
    };
}

counters! {
    /// When this was written, in nanoseconds of CLOCK_MONOTONIC.
    published_ns,
    /// Nanoseconds since the pager began.
    wall_ns,
    /// Views made.
    views,
    /// Bytes of model files in views now.
    model_bytes,
    /// The pool's size now, in bytes.
    budget_bytes,
    /// Bytes of frames in use now, those that are being read into included.
    held_bytes,
    /// The same at its most.
    held_peak_bytes,
    /// Bytes read into frames.
    read_bytes,
    /// Reads submitted.
    reads,
    /// Reads in flight now.
    reads_in_flight,
    /// Sum of reads in flight times nanoseconds.
    in_flight_ns,
    /// Nanoseconds with at least one read in flight.
    reading_ns,
    /// Touches of blocks that had to be read from nothing.
    faults_demand,
    /// Touches of blocks whose read was in flight.
    faults_in_flight,
    /// Touches of blocks that only had to be put into the view.
    faults_staged,
    /// Threads that sleep on a block now.
    threads_waiting,
    /// Nanoseconds that threads slept, all threads together; without those that sleep now.
    stall_ns,
    /// Nanoseconds with at least one thread asleep.
    stalled_ns,
    /// Blocks taken out of their frames to make room.
    evictions,
    /// Those that nobody had touched.
    evictions_untouched,
    /// Pages that were given to the kernel because they could not be read or kept.
    poisoned_pages,
    /// Passes over the first model that have ended, as the policy sees them. It sees none where
    /// everything is resident, and none under strategy `demand`.
    cycles,
    /// Nanoseconds that the latest of them took; 0 before the second.
    cycle_ns,
    /// CPU time of the pager thread in nanoseconds.
    pager_cpu_ns,
    /// Bytes of mappings that were left to the kernel.
    passthrough_bytes,
    /// Bytes that the program itself read from model files after mapping them.
    program_read_bytes,
}

const _: () = assert!(TEXTS_AT + Texts::WORDS <= COUNTERS_AT);
const _: () = assert!(COUNTERS_AT + Counters::WORDS <= WORDS);

/// A page as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The process.
    #[serde(flatten)]
    pub identity: Identity,
    /// What runs there.
    #[serde(flatten)]
    pub texts: Texts,
    /// Its counters.
    #[serde(flatten)]
    pub counters: Counters,
    /// The moment for which the counters hold, in nanoseconds of CLOCK_MONOTONIC: a page that has
    /// not been written for longer than [`super::PERIOD`] belongs to a pager with nothing to do,
    /// and is as good as new.
    pub at_ns: u64,
}

/// The identity, whatever the version; `None` when this is no page.
pub(super) fn identity(words: &Words) -> Option<Identity> {
    let [pid, start_ticks, pid_namespace] = words[IDENTITY_AT..IDENTITY_AT + 3].try_into().expect("three words");
    let pid = u32::try_from(pid).ok()?;
    (words[MAGIC_AT] == MAGIC).then_some(Identity { pid, start_ticks, pid_namespace })
}

/// Texts and counters of a page of this version.
pub(super) fn decode(words: &Words) -> (Texts, Counters) {
    let counters = words[COUNTERS_AT..COUNTERS_AT + Counters::WORDS].try_into().expect("of this length");
    (Texts::decode(&words[TEXTS_AT..COUNTERS_AT]), Counters::decode(counters))
}

fn encode_text(text: &str, words: &mut [u64]) {
    let mut start = text.len().saturating_sub(words.len() * 8);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    for (word, chunk) in words.iter_mut().zip(text.as_bytes()[start..].chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(bytes);
    }
}

/// The text, fit to be shown: control characters are replaced.
fn decode_text(words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|&byte| byte != 0).collect();
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(&bytes).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_texts_keep_their_end() {
        let texts = Texts { strategy: "0äbcdefghijklmnop".into(), program: "a\u{1b}[2Jb".into(), ..Texts::default() };
        let back = Texts::decode(&texts.encode());
        assert_eq!(back.strategy, "bcdefghijklmnop", "cut at a character");
        assert_eq!(back.program, "a\u{fffd}[2Jb", "a terminal must not obey it");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            names in proptest::collection::vec("[ -~äß€𝄞]{0,16}", 6),
            counts in proptest::collection::vec(any::<u64>(), Counters::WORDS),
        ) {
            let [program, model, strategy, fill_rung, io_rung, fault_mode] = names.try_into().expect("six");
            let cut = |text: String| text.chars().take(4).collect();
            let texts = Texts {
                program, model, strategy: cut(strategy), fill_rung: cut(fill_rung), io_rung: cut(io_rung),
                fault_mode: cut(fault_mode),
            };
            let counters = Counters::decode(counts.as_slice().try_into().expect("of this length"));
            let mut words = [0; WORDS];
            words[TEXTS_AT..TEXTS_AT + Texts::WORDS].copy_from_slice(&texts.encode());
            words[COUNTERS_AT..COUNTERS_AT + Counters::WORDS].copy_from_slice(&counters.encode());
            prop_assert_eq!(decode(&words), (texts, counters));
        }

        #[test]
        fn any_page_can_be_decoded(words in proptest::collection::vec(any::<u64>(), WORDS)) {
            let words: Words = words.try_into().expect("of this length");
            let (texts, _) = decode(&words);
            prop_assert!(!texts.model.contains(char::is_control));
            prop_assert!(identity(&words).is_none() || words[0] == MAGIC);
        }
    }
}
