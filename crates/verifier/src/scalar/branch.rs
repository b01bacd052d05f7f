//! What a comparison says about its operands, and what the operands say about a comparison.

use super::halves::Halves;
use super::tnum::{Tnum, low};
use super::{Draft, Num};
use skep_isa::{JmpOp, Width};

/// The outcome of `a op b` where it is the same for all that `a` and `b` can be.
pub fn decide<const N: u32>(op: JmpOp, width: Width, a: &Num<N>, b: &Num<N>) -> Option<bool> {
    let (a, b) = (Side::of(a, width), Side::of(b, width));
    let unsigned = (a.umin, a.umax, b.umin, b.umax);
    match op {
        JmpOp::Eq => equal(&a, &b),
        JmpOp::Ne => equal(&a, &b).map(|outcome| !outcome),
        JmpOp::Gt => greater(unsigned),
        JmpOp::Le => greater(unsigned).map(|outcome| !outcome),
        JmpOp::Lt => greater((b.umin, b.umax, a.umin, a.umax)),
        JmpOp::Ge => greater((b.umin, b.umax, a.umin, a.umax)).map(|outcome| !outcome),
        JmpOp::Sgt => greater((a.smin, a.smax, b.smin, b.smax)),
        JmpOp::Sle => greater((a.smin, a.smax, b.smin, b.smax)).map(|outcome| !outcome),
        JmpOp::Slt => greater((b.smin, b.smax, a.smin, a.smax)),
        JmpOp::Sge => greater((b.smin, b.smax, a.smin, a.smax)).map(|outcome| !outcome),
        JmpOp::Set if a.bits.value & b.bits.value != 0 => Some(true),
        JmpOp::Set if a.bits.max() & b.bits.max() == 0 => Some(false),
        JmpOp::Set => None,
    }
}

/// The facts that a comparison of this width looks at.
struct Side {
    bits: Tnum,
    umin: u64,
    umax: u64,
    smin: i64,
    smax: i64,
    /// Bounds of the low half, which equal numbers share too.
    low: (u32, u32, i32, i32),
}

impl Side {
    fn of<const N: u32>(num: &Num<N>, width: Width) -> Side {
        let low = (num.u32_min, num.u32_max, num.s32_min, num.s32_max);
        match width {
            Width::W64 => Side { bits: num.tnum, umin: num.umin, umax: num.umax, smin: num.smin, smax: num.smax, low },
            Width::W32 => Side {
                bits: num.tnum.truncate(N / 2),
                umin: num.u32_min.into(),
                umax: num.u32_max.into(),
                smin: num.s32_min.into(),
                smax: num.s32_max.into(),
                low,
            },
        }
    }
}

fn equal(a: &Side, b: &Side) -> Option<bool> {
    if a.umin == a.umax && a.umin == b.umin && a.umin == b.umax {
        return Some(true);
    }
    let apart = a.umin > b.umax
        || b.umin > a.umax
        || a.smin > b.smax
        || b.smin > a.smax
        || a.low.0 > b.low.1
        || b.low.0 > a.low.1
        || a.low.2 > b.low.3
        || b.low.2 > a.low.3
        || a.bits.intersect(b.bits).is_none();
    apart.then_some(false)
}

/// Of `(a least, a most, b least, b most)` whether a > b.
fn greater<T: PartialOrd>((a_min, a_max, b_min, b_max): (T, T, T, T)) -> Option<bool> {
    if a_min > b_max {
        Some(true)
    } else if a_max <= b_min {
        Some(false)
    } else {
        None
    }
}

/// Narrows `a` and `b` to what they can be once `a op b` came out as `taken`. Gives whether that can happen at all; if not,
/// both stay as they were.
pub fn refine<const N: u32>(op: JmpOp, width: Width, a: &mut Num<N>, b: &mut Num<N>, taken: bool) -> bool {
    let refined = match (op, taken) {
        (JmpOp::Eq, true) | (JmpOp::Ne, false) => same(a, b, width),
        (JmpOp::Ne, true) | (JmpOp::Eq, false) => different(a, b, width),
        (JmpOp::Lt, true) | (JmpOp::Ge, false) => below(a, b, width, Order::Unsigned, true),
        (JmpOp::Le, true) | (JmpOp::Gt, false) => below(a, b, width, Order::Unsigned, false),
        (JmpOp::Gt, true) | (JmpOp::Le, false) => below(b, a, width, Order::Unsigned, true).map(swap),
        (JmpOp::Ge, true) | (JmpOp::Lt, false) => below(b, a, width, Order::Unsigned, false).map(swap),
        (JmpOp::Slt, true) | (JmpOp::Sge, false) => below(a, b, width, Order::Signed, true),
        (JmpOp::Sle, true) | (JmpOp::Sgt, false) => below(a, b, width, Order::Signed, false),
        (JmpOp::Sgt, true) | (JmpOp::Sle, false) => below(b, a, width, Order::Signed, true).map(swap),
        (JmpOp::Sge, true) | (JmpOp::Slt, false) => below(b, a, width, Order::Signed, false).map(swap),
        (JmpOp::Set, true) => common_bit(a, b, width),
        (JmpOp::Set, false) => no_common_bit(a, b, width),
    };
    match refined {
        Some((refined_a, refined_b)) => {
            (*a, *b) = (refined_a, refined_b);
            true
        }
        None => false,
    }
}

type Pair<const N: u32> = Option<(Num<N>, Num<N>)>;

fn swap<const N: u32>((a, b): (Num<N>, Num<N>)) -> (Num<N>, Num<N>) {
    (b, a)
}

#[derive(Clone, Copy)]
enum Order {
    Signed,
    Unsigned,
}

impl Draft {
    /// The spans that a comparison of this width is about.
    fn spans(&mut self, width: Width) -> &mut Halves {
        match width {
            Width::W64 => &mut self.whole,
            Width::W32 => &mut self.half,
        }
    }
}

/// How many bits a comparison of this width looks at.
const fn compared<const N: u32>(width: Width) -> u32 {
    match width {
        Width::W64 => N,
        Width::W32 => N / 2,
    }
}

fn same<const N: u32>(a: &Num<N>, b: &Num<N>, width: Width) -> Pair<N> {
    if width == Width::W64 {
        return a.meet(b).map(|both| (both, both));
    }
    let half = N / 2;
    let (mut one, mut two) = (a.draft(), b.draft());
    let low_bits = a.tnum.truncate(half).intersect(b.tnum.truncate(half))?;
    one.bits = one.bits.with_low(low_bits, half);
    two.bits = two.bits.with_low(low_bits, half);
    let meet = Halves { lower: one.half.lower.meet(two.half.lower), upper: one.half.upper.meet(two.half.upper) };
    (one.half, two.half) = (meet, meet);
    Some((one.settle()?, two.settle()?))
}

fn different<const N: u32>(a: &Num<N>, b: &Num<N>, width: Width) -> Pair<N> {
    let constant = |num: &Num<N>| match width {
        Width::W64 => num.as_const(),
        Width::W32 => num.low_as_const().map(u64::from),
    };
    Some((without(a, constant(b), width)?, without(b, constant(a), width)?))
}

/// The number without one value, where that is an end of a span: what lies in between stays.
fn without<const N: u32>(num: &Num<N>, value: Option<u64>, width: Width) -> Option<Num<N>> {
    let Some(value) = value else { return Some(*num) };
    let mut draft = num.draft();
    let spans = draft.spans(width);
    for span in [&mut spans.lower, &mut spans.upper] {
        if span.is_empty() {
            continue;
        }
        if span.first == value && span.last == value {
            *span = super::halves::Span::NONE;
        } else if span.first == value {
            span.first += 1;
        } else if span.last == value {
            span.last -= 1;
        }
    }
    settled(draft, num)
}

/// `a < b`, or `a <= b` where not `strictly`.
fn below<const N: u32>(a: &Num<N>, b: &Num<N>, width: Width, order: Order, strictly: bool) -> Pair<N> {
    let (one, two) = (Side::of(a, width), Side::of(b, width));
    let (mut low_side, mut high_side) = (a.draft(), b.draft());
    let bits = compared::<N>(width);
    let (low_spans, high_spans) = (low_side.spans(width), high_side.spans(width));
    match order {
        Order::Unsigned => {
            let step = u64::from(strictly);
            *low_spans = low_spans.within_unsigned(0, two.umax.checked_sub(step)?);
            *high_spans = high_spans.within_unsigned(one.umin.checked_add(step)?, low(bits));
        }
        Order::Signed => {
            let step = i64::from(strictly);
            *low_spans = low_spans.within_signed(i64::MIN, two.smax.checked_sub(step)?, bits);
            *high_spans = high_spans.within_signed(one.smin.checked_add(step)?, i64::MAX, bits);
        }
    }
    Some((settled(low_side, a)?, settled(high_side, b)?))
}

/// The number of a draft that was made from `num`: the same where nothing has changed.
fn settled<const N: u32>(draft: Draft, num: &Num<N>) -> Option<Num<N>> {
    if draft == num.draft() { Some(*num) } else { draft.settle() }
}

/// `a & b` is not 0.
fn common_bit<const N: u32>(a: &Num<N>, b: &Num<N>, width: Width) -> Pair<N> {
    let common = a.tnum.max() & b.tnum.max() & low(compared::<N>(width));
    if common == 0 {
        return None;
    }
    let with = |num: &Num<N>| {
        // Where one bit alone can be the common one, both have it.
        let bit = if common.is_power_of_two() { common } else { 0 };
        let bits = Tnum::new(num.tnum.value | bit, num.tnum.mask & !bit);
        let mut draft = Draft { bits, ..num.draft() };
        // And neither is 0.
        let spans = draft.spans(width);
        *spans = spans.within_unsigned(common & common.wrapping_neg(), u64::MAX);
        settled(draft, num)
    };
    Some((with(a)?, with(b)?))
}

/// `a & b` is 0: where one has a 1, the other has a 0.
fn no_common_bit<const N: u32>(a: &Num<N>, b: &Num<N>, width: Width) -> Pair<N> {
    let compared = low(compared::<N>(width));
    if a.tnum.value & b.tnum.value & compared != 0 {
        return None;
    }
    let clear = |num: &Num<N>, ones: u64| {
        let bits = Tnum { value: num.tnum.value, mask: num.tnum.mask & !(ones & compared) };
        settled(Draft { bits, ..num.draft() }, num)
    };
    Some((clear(a, b.tnum.value)?, clear(b, a.tnum.value)?))
}
