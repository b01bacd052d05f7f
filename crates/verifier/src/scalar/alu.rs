//! What arithmetic does to numbers known in part.
//!
//! Each operation gives known bits and spans for the whole word, and where its low half depends on nothing but the low
//! halves of the operands, spans for that too. A 32-bit operation is the same one on the low halves, the upper half being
//! 0 after it. Semantics are those of RFC 9669: shifts by the low 6 (5) bits of the amount, division by zero gives 0, modulo
//! zero leaves the dividend, the smallest number divided by -1 is itself.

use super::halves::{Arc, Halves, Span, signed};
use super::tnum::{Tnum, low};
use super::{Draft, Num, Scalar};
use skep_abi::KernelVersion;
use skep_isa::{AluOp, SignExtend, SwapBits, SwapOp, Width};

/// Whether a kernel's verifier computes with this operation at all; where it does not, the result is unknown to it: all 64
/// bits ([`Scalar::unknown`]), also after a 32-bit operation. Source: `is_safe_to_compute_dst_reg_range` and
/// `adjust_scalar_min_max_vals` in `kernel/bpf/verifier.c`.
pub fn kernel_tracks(op: AluOp, width: Width, amount: &Scalar, kernel: KernelVersion) -> bool {
    let constant = match width {
        Width::W32 => amount.low_as_const().map(u64::from),
        Width::W64 => amount.as_const(),
    };
    match op {
        AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Mov => true,
        AluOp::Or | AluOp::Xor | AluOp::Mul => constant.is_some() || kernel >= KernelVersion::new(6, 10),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => constant.is_some_and(|by| by < u64::from(bits_of(width))),
        AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod => {
            constant.is_some_and(|by| by != 0) && kernel >= KernelVersion::new(7, 0)
        }
    }
}

/// The first kernel whose verifier computes [`Scalar::neg`]; to earlier ones the result is unknown.
pub const TRACKS_NEG_SINCE: KernelVersion = KernelVersion::new(6, 17);

/// The first kernel whose verifier computes [`Scalar::byte_swap`]; to earlier ones the result is unknown.
pub const TRACKS_BYTE_SWAP_SINCE: KernelVersion = KernelVersion::new(6, 18);

const fn bits_of(width: Width) -> u32 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// The facts about a word of some width, whole or half.
#[derive(Clone, Copy, Debug)]
struct Word {
    bits: Tnum,
    umin: u64,
    umax: u64,
    smin: i64,
    smax: i64,
    width: u32,
}

impl Word {
    fn spans(&self) -> Halves {
        Halves::of_bounds(self.umin, self.umax, self.smin, self.smax, self.width)
    }

    fn as_const(&self) -> Option<u64> {
        (self.umin == self.umax).then_some(self.umin)
    }

    fn may_be_zero(&self) -> bool {
        self.umin == 0 && self.smin <= 0 && self.smax >= 0
    }

    /// Distance between the bounds.
    fn length(&self) -> u64 {
        self.umax - self.umin
    }

    fn signed_length(&self) -> u64 {
        self.smax.wrapping_sub(self.smin).cast_unsigned()
    }
}

/// Bits and spans of a result.
type Result = (Tnum, Halves);

/// All from `start`, `length` steps; all there is where the length is more than the width holds.
fn arc(start: u64, length: Option<u64>, width: u32) -> Arc {
    Arc { start: start & low(width), length: length.unwrap_or(u64::MAX) }
}

/// The result of an operation on words of one width. `Mov` is the second operand.
fn compute(op: AluOp, a: &Word, b: &Word) -> Result {
    let width = a.width;
    let unknown = Tnum { value: 0, mask: low(width) };
    let (bits, spans) = match op {
        AluOp::Mov => (b.bits, b.spans()),
        AluOp::Add => (a.bits.add(b.bits), bounds(op, a, b)),
        AluOp::Sub => (a.bits.sub(b.bits), bounds(op, a, b)),
        AluOp::Mul => (a.bits.mul(b.bits), bounds(op, a, b)),
        AluOp::And => (a.bits.and(b.bits), bounds(op, a, b)),
        AluOp::Or => (a.bits.or(b.bits), bounds(op, a, b)),
        AluOp::Xor => (a.bits.xor(b.bits), bounds(op, a, b)),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => shift_by_any(op, a, b),
        AluOp::Div => divide(a, b),
        AluOp::Mod => modulo(a, b),
        AluOp::Sdiv => (unknown, signed_divide(a, b)),
        AluOp::Smod => (unknown, signed_modulo(a, b)),
    };
    (bits.truncate(width), spans)
}

/// The spans of [`compute`] for operations whose bits at full width say all that they say of the low half.
fn bounds(op: AluOp, a: &Word, b: &Word) -> Halves {
    let all = Halves::all(a.width);
    match op {
        AluOp::Add => sum_spans(a, b),
        AluOp::Sub => difference_spans(a, b),
        AluOp::Mul => product_spans(a, b),
        AluOp::And => all.within_unsigned(0, a.umax.min(b.umax)),
        AluOp::Or => all.within_unsigned(a.umin.max(b.umin), low(a.width)),
        _ => all,
    }
}

fn sum_spans(a: &Word, b: &Word) -> Halves {
    let width = a.width;
    let unsigned = arc(a.umin.wrapping_add(b.umin), a.length().checked_add(b.length()), width);
    let start = a.smin.wrapping_add(b.smin).cast_unsigned();
    let signed = arc(start, a.signed_length().checked_add(b.signed_length()), width);
    Halves::all(width).on_arc(unsigned, width).on_arc(signed, width)
}

fn difference_spans(a: &Word, b: &Word) -> Halves {
    let width = a.width;
    let unsigned = arc(a.umin.wrapping_sub(b.umax), a.length().checked_add(b.length()), width);
    let start = a.smin.wrapping_sub(b.smax).cast_unsigned();
    let signed = arc(start, a.signed_length().checked_add(b.signed_length()), width);
    Halves::all(width).on_arc(unsigned, width).on_arc(signed, width)
}

fn product_spans(a: &Word, b: &Word) -> Halves {
    let width = a.width;
    let (least, most) = (u128::from(a.umin) * u128::from(b.umin), u128::from(a.umax) * u128::from(b.umax));
    let unsigned = arc(least as u64, u64::try_from(most - least).ok(), width);
    let corner = |x: i64, y: i64| i128::from(x) * i128::from(y);
    let corners = [corner(a.smin, b.smin), corner(a.smin, b.smax), corner(a.smax, b.smin), corner(a.smax, b.smax)];
    let (least, most) = corners.iter().fold((i128::MAX, i128::MIN), |(least, most), &at| (least.min(at), most.max(at)));
    let signed = arc(least as u64, u64::try_from(most.wrapping_sub(least)).ok(), width);
    Halves::all(width).on_arc(unsigned, width).on_arc(signed, width)
}

/// Shifted by a known amount below the width.
fn shift(op: AluOp, a: &Word, by: u32) -> Result {
    let width = a.width;
    match op {
        AluOp::Lsh => {
            let grown = |length: u64| (length <= low(width) >> by).then_some(length << by);
            let unsigned = arc(a.umin << by, grown(a.length()), width);
            let signed = arc(a.smin.cast_unsigned() << by, grown(a.signed_length()), width);
            (a.bits.lsh(by), Halves::all(width).on_arc(unsigned, width).on_arc(signed, width))
        }
        AluOp::Rsh => {
            let down = |span: Span| {
                if span.is_empty() { span } else { Span { first: span.first >> by, last: span.last >> by } }
            };
            let spans = a.spans();
            let shifted = down(spans.lower).hull(down(spans.upper));
            (a.bits.rsh(by), Halves::of_unsigned(shifted.first, shifted.last, width))
        }
        _ => (a.bits.arsh(by, width), Halves::all(width).within_signed(a.smin >> by, a.smax >> by, width)),
    }
}

/// Shifted by what is known in part: everything that any possible amount gives.
fn shift_by_any(op: AluOp, a: &Word, b: &Word) -> Result {
    let width = a.width;
    if let Some(by) = b.as_const() {
        return shift(op, a, by as u32 & (width - 1));
    }
    // Only the low bits of the amount count; where it is below the width as a whole, its bounds do too.
    let counted = b.bits.and(Tnum::constant(u64::from(width - 1)));
    let bounded = b.umax < u64::from(width);
    let possible = |by: &u32| {
        let by = u64::from(*by);
        counted.has(by) && (!bounded || (b.umin..=b.umax).contains(&by))
    };
    (0..width)
        .filter(possible)
        .map(|by| shift(op, a, by))
        .reduce(|(bits, spans), (more_bits, more_spans)| (bits.union(more_bits), spans.hull(more_spans)))
        .unwrap_or((Tnum { value: 0, mask: low(width) }, Halves::all(width)))
}

fn divide(a: &Word, b: &Word) -> Result {
    let width = a.width;
    let unknown = Tnum { value: 0, mask: low(width) };
    if let Some(by) = b.as_const().filter(|by| by.is_power_of_two()) {
        return shift(AluOp::Rsh, a, by.trailing_zeros());
    }
    if b.umax == 0 {
        return (Tnum::constant(0), Halves::of_unsigned(0, 0, width));
    }
    // Division by zero gives 0.
    let least = if b.may_be_zero() { 0 } else { a.umin / b.umax };
    (unknown, Halves::of_unsigned(least, a.umax / b.umin.max(1), width))
}

fn modulo(a: &Word, b: &Word) -> Result {
    let width = a.width;
    let unknown = Tnum { value: 0, mask: low(width) };
    if b.umax == 0 || !b.may_be_zero() && a.umax < b.umin {
        return (a.bits, a.spans());
    }
    if b.may_be_zero() {
        // Modulo zero leaves the dividend.
        return (unknown, Halves::of_unsigned(0, a.umax, width));
    }
    if let Some(by) = b.as_const() {
        if by.is_power_of_two() {
            let mask = by - 1;
            let one_turn = a.umin & !mask == a.umax & !mask;
            let (least, most) = if one_turn { (a.umin & mask, a.umax & mask) } else { (0, mask) };
            return (a.bits.and(Tnum::constant(mask)), Halves::of_unsigned(least, most, width));
        }
        if a.umin / by == a.umax / by {
            return (unknown, Halves::of_unsigned(a.umin % by, a.umax % by, width));
        }
    }
    (unknown, Halves::of_unsigned(0, a.umax.min(b.umax - 1), width))
}

fn signed_divide(a: &Word, b: &Word) -> Halves {
    // The quotient is monotonic in the dividend for each divisor, and in a divisor of one sign for each dividend, so the
    // corners hold the extremes.
    let (mut least, mut most) = (i128::MAX, i128::MIN);
    let mut see = |quotient: i128| {
        least = least.min(quotient);
        most = most.max(quotient);
    };
    if b.may_be_zero() {
        see(0);
    }
    for (first, last) in [(b.smin.max(1), b.smax), (b.smin, b.smax.min(-1))] {
        if first > last {
            continue;
        }
        for divisor in [first, last] {
            for dividend in [a.smin, a.smax] {
                see(i128::from(dividend) / i128::from(divisor));
            }
        }
    }
    if least > most {
        return Halves::all(a.width);
    }
    // The smallest number by -1 is one too large for the width, and comes round to itself.
    let length = u64::try_from(most - least).ok();
    Halves::all(a.width).on_arc(arc(least as u64, length, a.width), a.width)
}

fn signed_modulo(a: &Word, b: &Word) -> Halves {
    let all = Halves::all(a.width);
    let magnitude = b.smin.unsigned_abs().max(b.smax.unsigned_abs());
    if magnitude == 0 {
        return a.spans();
    }
    let nearest = if b.smin > 0 {
        b.smin.unsigned_abs()
    } else if b.smax < 0 {
        b.smax.unsigned_abs()
    } else {
        0
    };
    let largest = a.smin.unsigned_abs().max(a.smax.unsigned_abs());
    if b.may_be_zero() || largest < nearest {
        // The dividend may stay, or surely does; the rest has its sign and is not larger.
        let spans = if largest < nearest { (a.smin, a.smax) } else { (a.smin.min(0), a.smax.max(0)) };
        return all.within_signed(spans.0, spans.1, a.width);
    }
    let most = i64::try_from(magnitude - 1).unwrap_or(i64::MAX);
    all.within_signed(a.smin.clamp(-most, 0), a.smax.clamp(0, most), a.width)
}

/// What the machine computes.
pub(super) fn concrete(op: AluOp, a: u64, b: u64, width: u32) -> u64 {
    let (sa, sb) = (signed(a, width), signed(b, width));
    let by = (b & u64::from(width - 1)) as u32;
    let result = match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Sdiv if sb == 0 => 0,
        AluOp::Sdiv => sa.wrapping_div(sb).cast_unsigned(),
        AluOp::Smod if sb == 0 => a,
        AluOp::Smod => sa.wrapping_rem(sb).cast_unsigned(),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Lsh => a << by,
        AluOp::Rsh => a >> by,
        AluOp::Arsh => (sa >> by).cast_unsigned(),
    };
    result & low(width)
}

impl<const N: u32> Num<N> {
    fn word(&self) -> Word {
        Word { bits: self.tnum, umin: self.umin, umax: self.umax, smin: self.smin, smax: self.smax, width: N }
    }

    fn low_word(&self) -> Word {
        Word {
            bits: self.tnum.truncate(Self::HALF),
            umin: self.u32_min.into(),
            umax: self.u32_max.into(),
            smin: self.s32_min.into(),
            smax: self.s32_max.into(),
            width: Self::HALF,
        }
    }

    /// `self op= other`, at full width or on the low halves (the upper half is 0 then).
    #[must_use]
    pub fn alu(&self, op: AluOp, width: Width, other: &Num<N>) -> Num<N> {
        match width {
            Width::W64 => self.alu_whole(op, other),
            Width::W32 => self.alu_half(op, other),
        }
    }

    fn alu_whole(&self, op: AluOp, other: &Num<N>) -> Num<N> {
        if op == AluOp::Mov {
            return *other;
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Num::constant(concrete(op, a, b, N));
        }
        if matches!(op, AluOp::Add | AluOp::Sub | AluOp::Xor) && (self.is_unknown() || other.is_unknown()) {
            return Num::unknown();
        }
        let (bits, whole) = compute(op, &self.word(), &other.word());
        let mut half = Halves::all(Self::HALF);
        match op {
            // The low half of the result depends on the low halves only.
            AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => {
                half = bounds(op, &self.low_word(), &other.low_word());
            }
            AluOp::Lsh => {
                if let Some(by) = other.as_const().map(|by| by as u32 & (N - 1)) {
                    return self.shift_left(by, bits, whole);
                }
            }
            _ => {}
        }
        Draft { bits, whole, half }.number()
    }

    /// Left by a known amount, where the bounds of the low half say more than those of the whole.
    fn shift_left(&self, by: u32, bits: Tnum, whole: Halves) -> Num<N> {
        let (low_word, mut whole, mut half) = (self.low_word(), whole, Halves::all(Self::HALF));
        if by >= Self::HALF {
            // The upper half has gone: what stays is made of the low half alone.
            let grown = |length: u64| (length <= low(N) >> by).then_some(length << by);
            let start = low_word.smin.cast_unsigned() << by;
            whole = whole
                .on_arc(arc(low_word.umin << by, grown(low_word.length()), N), N)
                .on_arc(arc(start, grown(low_word.signed_length()), N), N);
        } else {
            half = shift(AluOp::Lsh, &low_word, by).1;
        }
        Draft { bits, whole, half }.number()
    }

    fn alu_half(&self, op: AluOp, other: &Num<N>) -> Num<N> {
        if let (Some(a), Some(b)) = (self.low_as_const(), other.low_as_const()) {
            return Num::constant(concrete(op, a.into(), b.into(), Self::HALF));
        }
        let (bits, half) = compute(op, &self.low_word(), &other.low_word());
        Num::from_low(bits, half)
    }

    /// The upper half 0.
    fn from_low(bits: Tnum, half: Halves) -> Num<N> {
        Draft { bits, whole: Halves { lower: half.unsigned_span(), upper: Span::NONE }, half }.number()
    }

    /// `self = -self`.
    #[must_use]
    pub fn neg(&self, width: Width) -> Num<N> {
        Num::constant(0).alu(AluOp::Sub, width, self)
    }

    /// `w = w`: the low half, the upper half 0.
    #[must_use]
    pub fn low_half(&self) -> Num<N> {
        Num::from_low(self.tnum.truncate(Self::HALF), self.low_word().spans())
    }
}

impl Scalar {
    /// `dst = (s8)src` and the other sign-extending moves.
    #[must_use]
    pub fn sign_extend_as(&self, form: SignExtend) -> Scalar {
        let wide = self.sign_extend(form.bits().into());
        match form.width() {
            Width::W64 => wide,
            Width::W32 => wide.low_half(),
        }
    }

    /// Bytes in another order, bits above those that take part 0. The machine that runs the program has this one's byte
    /// order, as the object has.
    #[must_use]
    pub fn byte_swap(&self, op: SwapOp, bits: SwapBits) -> Scalar {
        let swaps = match op {
            SwapOp::Swap => true,
            SwapOp::ToLe => cfg!(target_endian = "big"),
            SwapOp::ToBe => cfg!(target_endian = "little"),
        };
        if swaps {
            Scalar::of_bits(self.tnum.byte_swap(u32::from(bits.bits()) / 8))
        } else {
            self.truncate(bits.bits().into())
        }
    }
}
