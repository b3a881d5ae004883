//! Random bytes that can be produced from any place on.

/// The step of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014, with Stafford's variant 13 of the constants).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// An endless row of random bytes. Word `i` is a function of the key and `i` alone, so pieces can
/// be made in any order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Random {
    key: u64,
}

impl Random {
    /// The row that belongs to a tensor.
    pub fn new(seed: u64, name: &str) -> Random {
        let mut key = mix(seed.wrapping_add(STEP));
        for piece in name.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            key = mix(key.wrapping_add(STEP) ^ u64::from_le_bytes(word));
        }
        Random { key }
    }

    /// Word `index` of the row.
    pub fn word(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(STEP.wrapping_mul(index.wrapping_add(1))))
    }

    /// Bytes `offset..offset + out.len()` of the row; `offset` is a multiple of 8.
    pub fn fill(self, offset: u64, out: &mut [u8]) {
        assert!(offset.is_multiple_of(8));
        let mut index = offset / 8;
        let (words, rest) = out.as_chunks_mut::<8>();
        for word in words {
            *word = self.word(index).to_le_bytes();
            index += 1;
        }
        rest.copy_from_slice(&self.word(index).to_le_bytes()[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_into_the_same_row() {
        let random = Random::new(7, "blk.0.attn_q.weight");
        let mut whole = [0; 100];
        random.fill(0, &mut whole);
        let mut pieces = [0; 100];
        random.fill(64, &mut pieces[64..]);
        random.fill(0, &mut pieces[..24]);
        random.fill(24, &mut pieces[24..64]);
        assert_eq!(whole, pieces);
    }

    #[test]
    fn rows_depend_on_seed_and_every_byte_of_the_name() {
        let first = |seed, name| Random::new(seed, name).word(0);
        let all =
            [first(1, "a"), first(2, "a"), first(1, "b"), first(1, "aaaaaaaab"), first(1, "baaaaaaaa"), first(1, "")];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{all:x?}");
        }
    }

    #[test]
    fn bits_are_balanced() {
        let random = Random::new(1, "x");
        let ones: u32 = (0..4096).map(|index| random.word(index).count_ones()).sum();
        // 262144 fair bits: a standard deviation is 256.
        assert!(ones.abs_diff(131_072) < 5 * 256, "{ones}");
    }
}
