//! Known bits: which bits of a word are certainly 0, certainly 1, or unknown.
//!
//! A [`Tnum`] stands for a set of words: every one that agrees with `value` where `mask` is 0. `value` is 0 where `mask`
//! is 1, so equal sets are equal values. The empty set has none; what may come out empty is an `Option`.
//!
//! ```
//! use skep_verifier::scalar::Tnum;
//! let aligned = Tnum::range(0, 255).and(Tnum::constant(!3));
//! assert_eq!((aligned.value, aligned.mask), (0, 0xfc));
//! assert!(aligned.add(Tnum::constant(1)).has(5));
//! assert_eq!(aligned.next(57), Some(60));
//! ```
//!
//! Best possible (the smallest such set that holds every result): `and`, `or`, `xor`, `not`, shifts by a constant, `add`,
//! `sub`, `union`, `intersect`, `truncate`, `sign_extend`, `range`. Not so `mul`, where products carry in ways that single
//! bits do not show. After: Harishankar Vishwanathan et al., "Sound, Precise, and Fast Abstract Interpretation with Tristate
//! Numbers" (2022), and Linux `kernel/bpf/tnum.c`.

/// Known bits of a 64-bit word. See the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tnum {
    /// The known ones; 0 where unknown.
    pub value: u64,
    /// 1 where unknown.
    pub mask: u64,
}

/// The lowest `bits` bits, up to 64.
#[inline]
pub(super) const fn low(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

impl Tnum {
    /// Nothing known.
    pub const UNKNOWN: Tnum = Tnum { value: 0, mask: u64::MAX };

    /// One value.
    #[inline]
    pub const fn constant(value: u64) -> Tnum {
        Tnum { value, mask: 0 }
    }

    /// From known ones and unknown bits; a bit that is both is unknown.
    #[inline]
    pub const fn new(value: u64, mask: u64) -> Tnum {
        Tnum { value: value & !mask, mask }
    }

    /// The smallest set that holds all from `first` to `last`: their common upper bits are known.
    #[inline]
    pub const fn range(first: u64, last: u64) -> Tnum {
        Tnum::new(first, differing(first, last))
    }

    /// The value, if there is only one.
    #[inline]
    pub const fn as_const(self) -> Option<u64> {
        if self.mask == 0 { Some(self.value) } else { None }
    }

    /// Whether there is only one value.
    #[inline]
    pub const fn is_const(self) -> bool {
        self.mask == 0
    }

    /// Whether nothing is known.
    #[inline]
    pub const fn is_unknown(self) -> bool {
        self.mask == u64::MAX
    }

    /// The least value, unsigned.
    #[inline]
    pub const fn min(self) -> u64 {
        self.value
    }

    /// The greatest value, unsigned.
    #[inline]
    pub const fn max(self) -> u64 {
        self.value | self.mask
    }

    /// Whether the word is one of the set.
    #[inline]
    pub const fn has(self, word: u64) -> bool {
        word & !self.mask == self.value
    }

    /// Whether every word of `other` is one of the set.
    #[inline]
    pub const fn contains(self, other: Tnum) -> bool {
        other.mask & !self.mask == 0 && other.value & !self.mask == self.value
    }

    /// Whether every word is a multiple of `size`, a power of two; 0 and 1 divide everything.
    #[inline]
    pub const fn is_aligned(self, size: u64) -> bool {
        size == 0 || (self.value | self.mask) & (size - 1) == 0
    }

    /// The smallest set with all of both.
    #[inline]
    pub const fn union(self, other: Tnum) -> Tnum {
        Tnum::new(self.value, self.mask | other.mask | (self.value ^ other.value))
    }

    /// What both have; `None` where they have nothing in common.
    #[inline]
    pub const fn intersect(self, other: Tnum) -> Option<Tnum> {
        if (self.value ^ other.value) & !self.mask & !other.mask != 0 {
            return None;
        }
        Some(Tnum { value: self.value | other.value, mask: self.mask & other.mask })
    }

    /// Sums, modulo 2^64.
    #[inline]
    pub const fn add(self, other: Tnum) -> Tnum {
        // A bit of the sum is known where no unknown bit can have carried into it: the sums with every unknown bit 0 and
        // with every unknown bit 1 then agree.
        let unknown = self.mask.wrapping_add(other.mask);
        let least = self.value.wrapping_add(other.value);
        let carried = unknown.wrapping_add(least) ^ least;
        Tnum::new(least, carried | self.mask | other.mask)
    }

    /// Differences, modulo 2^64.
    #[inline]
    pub const fn sub(self, other: Tnum) -> Tnum {
        let middle = self.value.wrapping_sub(other.value);
        let most = middle.wrapping_add(self.mask);
        let least = middle.wrapping_sub(other.mask);
        Tnum::new(middle, (most ^ least) | self.mask | other.mask)
    }

    /// Products, modulo 2^64. Sound, not best possible.
    #[expect(clippy::should_implement_trait, reason = "named like the other operations, none of which is an operator")]
    pub fn mul(self, other: Tnum) -> Tnum {
        if self.is_const() || other.is_const() {
            // By the constant's bits: fewer additions of unknowns.
            return if self.is_const() { self.mul_by_bits(other) } else { other.mul_by_bits(self) };
        }
        if self.is_unknown() && other.is_unknown() {
            return Tnum::UNKNOWN;
        }
        let one = self.mul_by_bits(other);
        // Both orders are right, so what is in only one of them cannot be.
        one.intersect(other.mul_by_bits(self)).unwrap_or(one)
    }

    /// Long multiplication: for each bit of `self`, add `other` shifted, or do not, or (bit unknown) either.
    fn mul_by_bits(self, other: Tnum) -> Tnum {
        let (mut bits, mut term) = (self, other);
        let mut sum = Tnum::constant(0);
        while bits.max() != 0 {
            let added = sum.add(term);
            if bits.value & 1 == 1 {
                sum = added;
            } else if bits.mask & 1 == 1 {
                sum = sum.union(added);
            }
            bits = bits.rsh(1);
            term = term.lsh(1);
        }
        sum
    }

    /// Bitwise and.
    #[inline]
    pub const fn and(self, other: Tnum) -> Tnum {
        let ones = self.value & other.value;
        Tnum::new(ones, self.max() & other.max() & !ones)
    }

    /// Bitwise or.
    #[inline]
    pub const fn or(self, other: Tnum) -> Tnum {
        let ones = self.value | other.value;
        Tnum::new(ones, (self.mask | other.mask) & !ones)
    }

    /// Bitwise exclusive or.
    #[inline]
    pub const fn xor(self, other: Tnum) -> Tnum {
        Tnum::new(self.value ^ other.value, self.mask | other.mask)
    }

    /// Every bit turned.
    #[inline]
    pub const fn not(self) -> Tnum {
        Tnum::new(!self.value, self.mask)
    }

    /// Shifted left, below 64.
    #[inline]
    pub const fn lsh(self, by: u32) -> Tnum {
        Tnum { value: self.value << (by & 63), mask: self.mask << (by & 63) }
    }

    /// Shifted right by less than 64, zeros coming in.
    #[inline]
    pub const fn rsh(self, by: u32) -> Tnum {
        Tnum { value: self.value >> (by & 63), mask: self.mask >> (by & 63) }
    }

    /// Shifted right within the lowest `bits` bits, which are what is looked at, copies of their uppermost coming in; `by`
    /// is less than `bits`. Upper bits of the result are 0.
    #[inline]
    pub const fn arsh(self, by: u32, bits: u32) -> Tnum {
        let wide = self.sign_extend(bits);
        let shifted = Tnum {
            value: (wide.value.cast_signed() >> (by & 63)).cast_unsigned(),
            mask: (wide.mask.cast_signed() >> (by & 63)).cast_unsigned(),
        };
        shifted.truncate(bits)
    }

    /// The lowest bits; those above become 0.
    #[inline]
    pub const fn truncate(self, bits: u32) -> Tnum {
        Tnum { value: self.value & low(bits), mask: self.mask & low(bits) }
    }

    /// The lowest `size` bytes; those above become 0.
    #[inline]
    pub const fn cast(self, bytes: u32) -> Tnum {
        self.truncate(bytes.saturating_mul(8))
    }

    /// The lowest bits, the uppermost of them copied to all above. 1 to 64 bits.
    #[inline]
    pub const fn sign_extend(self, bits: u32) -> Tnum {
        let by = 64 - if bits >= 64 { 64 } else { bits };
        // An unknown sign is copied as unknown: in the mask as in the value.
        Tnum {
            value: ((self.value << (by & 63)).cast_signed() >> (by & 63)).cast_unsigned(),
            mask: ((self.mask << (by & 63)).cast_signed() >> (by & 63)).cast_unsigned(),
        }
    }

    /// The low half, the upper half 0.
    #[inline]
    pub const fn subreg(self) -> Tnum {
        self.truncate(32)
    }

    /// The upper half of `self` with the low half of `half`.
    #[inline]
    pub const fn with_subreg(self, half: Tnum) -> Tnum {
        self.with_low(half, 32)
    }

    /// `self` with its lowest bits taken from `part`.
    #[inline]
    pub(super) const fn with_low(self, part: Tnum, bits: u32) -> Tnum {
        let low = low(bits);
        Tnum { value: self.value & !low | part.value & low, mask: self.mask & !low | part.mask & low }
    }

    /// The lowest `bytes` bytes (2, 4, 8) in reverse order; those above become 0.
    #[inline]
    pub const fn byte_swap(self, bytes: u32) -> Tnum {
        let by = 64_u32.saturating_sub(bytes.saturating_mul(8));
        if by >= 64 {
            return Tnum::constant(0);
        }
        Tnum { value: self.value.swap_bytes() >> by, mask: self.mask.swap_bytes() >> by }
    }

    /// The least word of the set that is not below `word`, unsigned.
    #[inline]
    pub const fn next(self, word: u64) -> Option<u64> {
        let wrong = (word & !self.mask) ^ self.value;
        if wrong == 0 {
            return Some(word);
        }
        // The uppermost bit that is known to be otherwise decides.
        let bit = 1 << (63 - wrong.leading_zeros());
        if self.value & bit != 0 {
            // The set has a 1 there: past `word` already, so all unknown bits below can be 0.
            return Some(self.value | word & self.mask & !(bit - 1));
        }
        // The set has a 0 there, so an unknown bit further up must go from 0 to 1: count up in the unknown bits only, known
        // ones passing the carry on.
        match (word | !self.mask | bit | (bit - 1)).checked_add(1) {
            Some(counted) => Some(self.value | counted & self.mask),
            None => None,
        }
    }

    /// The greatest word of the set that is not above `word`, unsigned.
    #[inline]
    pub const fn previous(self, word: u64) -> Option<u64> {
        // With every bit turned, greatest and least change places.
        match self.not().next(!word) {
            Some(word) => Some(!word),
            None => None,
        }
    }
}

/// The bits from the uppermost in which they differ downwards.
#[inline]
pub(super) const fn differing(first: u64, last: u64) -> u64 {
    match first ^ last {
        0 => 0,
        other => u64::MAX >> other.leading_zeros(),
    }
}
