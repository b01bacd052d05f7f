//! Where a generator's decisions come from: a seed, or bytes that a fuzzer mutates.
//!
//! ```
//! use skep_progen::Choices;
//! let mut one = Choices::seeded(7);
//! let mut other = Choices::seeded(7);
//! assert_eq!(one.below(1000), other.below(1000));
//! // Bytes that have run out choose the first of everything, so that a program always ends.
//! assert_eq!(Choices::from_bytes(&[]).below(1000), 0);
//! ```

use skep_isa::Reg;

/// A source of decisions. The same source gives the same decisions on every machine.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    /// State of splitmix64 (Steele, Lea and Flood 2014): every seed is a good one, also 0.
    Seed(u64),
    Bytes(&'a [u8]),
}

/// Constants that arithmetic goes wrong at.
const EDGES: [i64; 30] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    8,
    31,
    32,
    63,
    64,
    127,
    128,
    -128,
    255,
    256,
    0x7fff,
    0x8000,
    -0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    -0x8000_0000,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

impl Choices<'static> {
    /// Endless decisions that follow from a number.
    pub fn seeded(seed: u64) -> Choices<'static> {
        Choices { source: Source::Seed(seed) }
    }
}

impl<'a> Choices<'a> {
    /// Decisions that follow from bytes; where they have run out, the first of all possibilities.
    pub fn from_bytes(bytes: &'a [u8]) -> Choices<'a> {
        Choices { source: Source::Bytes(bytes) }
    }

    /// Any number, from as many bytes.
    fn take(&mut self, bytes: usize) -> u64 {
        match &mut self.source {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ z >> 31
            }
            Source::Bytes(rest) => {
                let (now, later) = rest.split_at(bytes.min(rest.len()));
                *rest = later;
                now.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
        }
    }

    /// Any 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.take(8)
    }

    /// A number below `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let bytes = match limit {
            0 | 1 => return 0,
            2..=256 => 1,
            257..=65536 => 2,
            _ => 4,
        };
        (self.take(bytes) % limit as u64) as usize
    }

    /// A number in the range, both ends included; `low` if the range is empty.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(0) as usize;
        low.saturating_add(self.below(span.saturating_add(1)) as i64)
    }

    /// True so many times of a hundred; false where bytes have run out.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) + percent >= 100
    }

    /// One of these, which must not be none: the default value then.
    pub fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        from.get(self.below(from.len())).copied().unwrap_or_default()
    }

    /// One of these, `None` if there are none.
    pub fn pick_ref<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        from.get(self.below(from.len()))
    }

    /// One of these registers; `R0` if there are none.
    pub fn reg(&mut self, from: &[Reg]) -> Reg {
        self.pick_ref(from).copied().unwrap_or(Reg::R0)
    }

    /// One of two and more possibilities by weight: its index.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if at < *weight {
                return index;
            }
            at -= weight;
        }
        0
    }

    /// An operand that is worth trying: mostly small, often at an edge, sometimes anything.
    pub fn imm32(&mut self) -> i32 {
        self.imm64() as i32
    }

    /// An operand that is worth trying: mostly small, often at an edge, sometimes anything.
    pub fn imm64(&mut self) -> i64 {
        match self.weighted(&[4, 4, 2, 1]) {
            0 => self.between(-16, 64),
            1 => self.pick(&EDGES),
            2 => self.take(4) as u32 as i32 as i64,
            _ => self.u64() as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_bytes_choose_the_first() {
        let mut choices = Choices::from_bytes(&[9]);
        assert_eq!(choices.below(8), 1);
        assert!(!choices.chance(99));
        assert_eq!(choices.weighted(&[0, 3, 1]), 1);
        assert_eq!(choices.between(5, 4), 5);
        assert_eq!(choices.pick::<u8>(&[]), 0);
    }

    #[test]
    fn weights_are_kept_to() {
        let mut choices = Choices::seeded(1);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            counts[choices.weighted(&[1, 0, 9])] += 1;
        }
        assert!(counts[0] > 50 && counts[1] == 0 && counts[2] > 800, "{counts:?}");
    }
}
