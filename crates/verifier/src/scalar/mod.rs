//! Numbers known in part: known bits, signed and unsigned bounds, and both kinds of bounds for the low half.
//!
//! A [`Scalar`] stands for a set of 64-bit words, as Linux's `bpf_reg_state` does for a register that holds a number:
//! those that have the known bits of `tnum`, lie in `umin..=umax` as unsigned and in `smin..=smax` as signed numbers, and
//! whose low 32 bits lie in `u32_min..=u32_max` and `s32_min..=s32_max`. What an operation gives holds every result of
//! every choice of operands: that is what the verifier's word rests on.
//!
//! ```
//! use skep_isa::{AluOp, JmpOp, Width};
//! use skep_verifier::scalar::{Scalar, decide, refine};
//! let mut length = Scalar::zero_extended(16); // loaded from two bytes
//! let mut limit = Scalar::constant(64);
//! assert_eq!(decide(JmpOp::Gt, Width::W64, &length, &limit), None);
//! assert!(refine(JmpOp::Gt, Width::W64, &mut length, &mut limit, false));
//! assert_eq!((length.umin, length.umax), (0, 64));
//! assert_eq!(length.alu(AluOp::And, Width::W64, &Scalar::constant(7)).umax, 7);
//! ```
//!
//! # How
//!
//! Bounds are kept as two spans, of words with and without the uppermost bit ([`halves`]): signed and unsigned order agree
//! in each, so what follows for one kind of bounds from the other needs no cases. Known bits draw the ends of spans in to
//! words that have them; spans give the bits that all their words share. Full width and low half then tell each other what
//! they know ([`Num::sync`]), until neither has news.
//!
//! # What is best possible and what is not
//!
//! "Best possible": the smallest abstract value that holds all results. Measured exhaustively at small widths (`tests.rs`;
//! `SKEP_EXHAUSTIVE=1` goes through every pair).
//!
//! | operation | result |
//! |---|---|
//! | known bits alone: `and`, `or`, `xor`, `add`, `sub`, shifts by a constant | best possible |
//! | known bits with signed and unsigned bounds of one width | best possible |
//! | full width with low half | approximate where the upper half differs between the ends: bounds only see both ends |
//! | `mov`, zero and sign extension, constants | best possible |
//! | `add`, `sub`, `neg` | bounds best possible for bounds, bits for bits; not for what the two say together |
//! | `and`, `or`, `xor` | bits best possible; bounds from bits and from the larger (smaller) operand, as Linux does |
//! | `mul` | bounds best possible where the product does not wrap; bits approximate |
//! | shifts by a constant, byte swaps | bits best possible, bounds best possible where nothing is shifted out on the left |
//! | shifts by a number known in part | union over every amount it can have |
//! | `div`, `mod` and signed ones | bounds best possible for a constant divisor where the quotient does not change; bits from bounds |
//! | `==`, `<` and so on, both outcomes | best possible but for what a hole within an interval would say |
//! | `!=` | takes a value away only at an end |
//! | `&` (any common bit) | exact where only one bit can be common; no common bit: exact where one side is known |
//!
//! All of it is at least as precise as Linux 6.18. What a kernel version does not compute at all (division before 7.0, say)
//! is told by [`kernel_tracks`], so that whoever models that kernel can follow it.

mod alu;
mod branch;
mod halves;
mod tnum;

#[cfg(test)]
mod tests;

pub use alu::{TRACKS_BYTE_SWAP_SINCE, TRACKS_NEG_SINCE, kernel_tracks};
pub use branch::{decide, refine};
pub use tnum::Tnum;

use halves::{Halves, signed};
use skep_isa::{NarrowSize, Size};
use std::fmt;
use tnum::low;

/// What is known of a 64-bit number. See the module.
pub type Scalar = Num<64>;

/// What is known of a number of `N` bits (even, 4 to 64): [`Scalar`] is the one in use, narrow ones are for tests that go
/// through every case. Bounds of the low half have half the width; all unused upper bits are 0, or copies of the sign.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Num<const N: u32> {
    /// Known bits.
    pub tnum: Tnum,
    /// Least unsigned value.
    pub umin: u64,
    /// Greatest unsigned value.
    pub umax: u64,
    /// Least signed value.
    pub smin: i64,
    /// Greatest signed value.
    pub smax: i64,
    /// Least unsigned value of the low half.
    pub u32_min: u32,
    /// Greatest unsigned value of the low half.
    pub u32_max: u32,
    /// Least signed value of the low half.
    pub s32_min: i32,
    /// Greatest signed value of the low half.
    pub s32_max: i32,
}

/// A [`Num`] in the making: the same facts as spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Draft {
    bits: Tnum,
    whole: Halves,
    half: Halves,
}

/// How often full width and low half tell each other their news at most. Two rounds settle nearly everything.
const MAX_ROUNDS: u32 = 4;

impl Draft {
    /// The number, or `None` where no word is left.
    fn settle<const N: u32>(mut self) -> Option<Num<N>> {
        let half_width = N / 2;
        for _ in 0..MAX_ROUNDS {
            (self.whole, self.bits) = self.whole.settle(self.bits)?;
            let low_bits = self.bits.truncate(half_width);
            let (half, settled_bits) = self.half.below(self.whole, half_width).settle(low_bits)?;
            self.half = half;
            let whole = self.whole.above(half, half_width);
            // The half has news for the whole in two ways; without either all facts agree.
            if settled_bits == low_bits && whole == self.whole {
                break;
            }
            self.bits = self.bits.with_low(settled_bits, half_width);
            self.whole = whole;
        }
        if self.whole.is_empty() {
            return None;
        }
        let whole = self.whole.unsigned_span();
        let half = self.half.unsigned_span();
        let (smin, smax) = signed_ends(self.whole, N);
        let (s32_min, s32_max) = signed_ends(self.half, half_width);
        Some(Num {
            tnum: self.bits,
            umin: whole.first,
            umax: whole.last,
            smin,
            smax,
            u32_min: half.first as u32,
            u32_max: half.last as u32,
            s32_min: s32_min as i32,
            s32_max: s32_max as i32,
        })
    }

    /// For what cannot come out empty, being made of operands that are not: if it did, nothing would be known.
    fn number<const N: u32>(self) -> Num<N> {
        self.settle().unwrap_or_default()
    }
}

/// Least and greatest, signed. Not empty.
fn signed_ends(halves: Halves, width: u32) -> (i64, i64) {
    let (lower, upper) = (halves.lower, halves.upper);
    let first = if upper.is_empty() { lower.first } else { upper.first };
    let last = if lower.is_empty() { upper.last } else { lower.last };
    (signed(first, width), signed(last, width))
}

impl<const N: u32> Num<N> {
    const HALF: u32 = N / 2;

    /// Nothing known.
    #[inline]
    pub const fn unknown() -> Num<N> {
        Num {
            tnum: Tnum { value: 0, mask: low(N) },
            umin: 0,
            umax: low(N),
            smin: signed(1 << (N - 1), N),
            smax: signed(low(N - 1), N),
            u32_min: 0,
            u32_max: low(N / 2) as u32,
            s32_min: signed(1 << (N / 2 - 1), N / 2) as i32,
            s32_max: signed(low(N / 2 - 1), N / 2) as i32,
        }
    }

    /// One value; bits above the width do not count.
    #[inline]
    pub const fn constant(value: u64) -> Num<N> {
        let value = value & low(N);
        let half = value & low(N / 2);
        Num {
            tnum: Tnum::constant(value),
            umin: value,
            umax: value,
            smin: signed(value, N),
            smax: signed(value, N),
            u32_min: half as u32,
            u32_max: half as u32,
            s32_min: signed(half, N / 2) as i32,
            s32_max: signed(half, N / 2) as i32,
        }
    }

    /// One value, sign-extended: an immediate operand.
    #[inline]
    pub const fn immediate(value: i32) -> Num<N> {
        Num::constant((value as i64).cast_unsigned())
    }

    /// Every number whose upper bits, from this one on, are 0: what a load of 8, 16 or 32 bits gives.
    pub fn zero_extended(bits: u32) -> Num<N> {
        Num::in_unsigned(0, low(bits.min(N))).unwrap_or_default()
    }

    /// Every number of this many bits (1 or more), sign-extended.
    pub fn sign_extended(bits: u32) -> Num<N> {
        let bits = bits.clamp(1, N);
        Num::in_signed(signed(1 << (bits - 1), bits), signed(low(bits - 1), bits)).unwrap_or_default()
    }

    /// From `first` to `last`, unsigned; `None` where that is no number.
    pub fn in_unsigned(first: u64, last: u64) -> Option<Num<N>> {
        let unknown = Num::<N>::unknown().draft();
        Draft { whole: unknown.whole.within_unsigned(first, last), ..unknown }.settle()
    }

    /// From `first` to `last`, signed; `None` where that is no number.
    pub fn in_signed(first: i64, last: i64) -> Option<Num<N>> {
        let unknown = Num::<N>::unknown().draft();
        Draft { whole: unknown.whole.within_signed(first, last, N), ..unknown }.settle()
    }

    /// Every number with these known bits.
    pub fn of_bits(bits: Tnum) -> Num<N> {
        Draft { bits: bits.truncate(N), ..Num::<N>::unknown().draft() }.number()
    }

    /// The value, if there is only one.
    #[inline]
    pub const fn as_const(&self) -> Option<u64> {
        self.tnum.as_const()
    }

    /// Whether there is only one value.
    #[inline]
    pub const fn is_const(&self) -> bool {
        self.tnum.is_const()
    }

    /// The low half, if there is only one.
    #[inline]
    pub const fn low_as_const(&self) -> Option<u32> {
        if self.u32_min == self.u32_max { Some(self.u32_min) } else { None }
    }

    /// Whether nothing is known.
    #[inline]
    pub fn is_unknown(&self) -> bool {
        *self == Num::unknown()
    }

    /// Whether this word is one of the set.
    pub fn has(&self, word: u64) -> bool {
        let (half, number) = (word & low(Self::HALF), signed(word & low(N), N));
        let low_number = signed(half, Self::HALF);
        self.tnum.has(word)
            && (self.umin..=self.umax).contains(&word)
            && (self.smin..=self.smax).contains(&number)
            && (u64::from(self.u32_min)..=u64::from(self.u32_max)).contains(&half)
            && (i64::from(self.s32_min)..=i64::from(self.s32_max)).contains(&low_number)
    }

    /// Whether every word of `other` is one of the set, by the facts that are kept: what holds for `self` then holds for
    /// `other`, so a state with `other` needs no second look.
    #[inline]
    pub fn contains(&self, other: &Num<N>) -> bool {
        self.umin <= other.umin
            && self.umax >= other.umax
            && self.smin <= other.smin
            && self.smax >= other.smax
            && self.u32_min <= other.u32_min
            && self.u32_max >= other.u32_max
            && self.s32_min <= other.s32_min
            && self.s32_max >= other.s32_max
            && self.tnum.contains(other.tnum)
    }

    /// Makes the facts agree: what follows from each for the others is written down. For a number whose fields were
    /// changed by hand; every operation here does it by itself. `None` where no word has it all.
    pub fn sync(self) -> Option<Num<N>> {
        self.draft().settle()
    }

    /// What both have in common, if anything.
    pub fn meet(&self, other: &Num<N>) -> Option<Num<N>> {
        let draft = self.draft();
        let half = draft.half.within_unsigned(other.u32_min.into(), other.u32_max.into());
        Draft {
            bits: self.tnum.intersect(other.tnum)?,
            whole: draft.whole.within_unsigned(other.umin, other.umax).within_signed(other.smin, other.smax, N),
            half: half.within_signed(other.s32_min.into(), other.s32_max.into(), Self::HALF),
        }
        .settle()
    }

    /// What either may be.
    #[must_use]
    pub fn union(&self, other: &Num<N>) -> Num<N> {
        if self == other {
            return *self;
        }
        let (one, two) = (self.draft(), other.draft());
        Draft { bits: one.bits.union(two.bits), whole: one.whole.hull(two.whole), half: one.half.hull(two.half) }
            .number()
    }

    /// What holds for both, given up where they differ: a loop that changes a number so comes to an end.
    #[must_use]
    pub fn widen(&self, newer: &Num<N>) -> Num<N> {
        if self.contains(newer) { *self } else { Num::unknown() }
    }

    /// The low bits, those above 0: what a narrower store followed by a load gives.
    #[must_use]
    pub fn truncate(&self, bits: u32) -> Num<N> {
        if bits >= N {
            return *self;
        }
        Draft {
            bits: self.tnum.truncate(bits),
            whole: Halves { lower: self.low_part(bits).unsigned_span(), upper: halves::Span::NONE },
            half: Halves::all(Self::HALF),
        }
        .number()
    }

    /// The low bits (at least 1), the uppermost of them copied to all above.
    #[must_use]
    pub fn sign_extend(&self, bits: u32) -> Num<N> {
        let bits = bits.clamp(1, N);
        if bits == N {
            return *self;
        }
        let part = self.low_part(bits);
        let upper = match part.upper {
            span if span.is_empty() => span,
            span => {
                let sign = low(N) & !low(bits);
                halves::Span { first: span.first | sign, last: span.last | sign }
            }
        };
        Draft {
            bits: self.tnum.sign_extend(bits).truncate(N),
            whole: Halves { lower: part.lower, upper },
            half: Halves::all(Self::HALF),
        }
        .number()
    }

    /// Spans of the low bits.
    fn low_part(&self, bits: u32) -> Halves {
        let draft = self.draft();
        let part = Halves::all(bits).below(draft.whole, bits);
        if bits <= Self::HALF { part.below(draft.half, bits) } else { part }
    }

    fn draft(&self) -> Draft {
        Draft {
            bits: self.tnum,
            whole: Halves::of_bounds(self.umin, self.umax, self.smin, self.smax, N),
            half: Halves::of_bounds(
                self.u32_min.into(),
                self.u32_max.into(),
                self.s32_min.into(),
                self.s32_max.into(),
                Self::HALF,
            ),
        }
    }
}

impl Scalar {
    /// What a load of this size from unknown memory gives.
    pub fn loaded(size: Size) -> Scalar {
        match size {
            Size::DW => Scalar::unknown(),
            _ => Scalar::zero_extended(size.bits().into()),
        }
    }

    /// What a sign-extending load of this size from unknown memory gives.
    pub fn loaded_signed(size: NarrowSize) -> Scalar {
        Scalar::sign_extended(Size::from(size).bits().into())
    }
}

impl<const N: u32> Default for Num<N> {
    fn default() -> Num<N> {
        Num::unknown()
    }
}

/// `7`, `0..=64`, `-3..=5`, `0..=252 with bits 0xfc`, `any number`: what a person wants to know of it.
impl<const N: u32> fmt::Display for Num<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = self.as_const() {
            // A small negative number is meant as one.
            return match signed(value, N) {
                number @ -0x8000_0000..0 => write!(f, "{number}"),
                _ => write!(f, "{value}"),
            };
        }
        if self.is_unknown() {
            return f.write_str("any number");
        }
        let all = Num::<N>::unknown();
        if (self.smin, self.smax) != (all.smin, all.smax) && self.smin < 0 {
            write!(f, "{}..={}", self.smin, self.smax)?;
        } else {
            write!(f, "{}..={}", self.umin, self.umax)?;
        }
        let implied = Tnum::range(self.umin, self.umax);
        if self.tnum.mask & implied.mask != implied.mask {
            write!(f, " with bits {:#x}", self.tnum.mask)?;
            if self.tnum.value & implied.mask != 0 {
                write!(f, " and {:#x}", self.tnum.value)?;
            }
        }
        Ok(())
    }
}

impl<const N: u32> fmt::Debug for Num<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Num<{N}>(bits {:#x}/{:#x}, u {}..={}, s {}..={}, low u {}..={}, low s {}..={})",
            self.tnum.value,
            self.tnum.mask,
            self.umin,
            self.umax,
            self.smin,
            self.smax,
            self.u32_min,
            self.u32_max,
            self.s32_min,
            self.s32_max
        )
    }
}
