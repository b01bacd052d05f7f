//! A set of words of some width as two spans: words whose uppermost bit is 0, and words whose uppermost bit is 1.
//!
//! Signed and unsigned order agree within each span, so both kinds of bounds become plain ones here, and what the two
//! orders say together is said without loss. Every bound of a [`Scalar`](super::Scalar) is made this way: an operation gives spans or [`Arc`]s,
//! the known bits tighten them ([`Halves::settle`]), and the bounds are read off.

use super::tnum::{Tnum, differing, low};

/// Words from `first` to `last`, both included; none where `first` is above `last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    pub(super) const NONE: Span = Span { first: 1, last: 0 };

    #[inline]
    pub(super) const fn is_empty(self) -> bool {
        self.first > self.last
    }

    #[inline]
    pub(super) fn meet(self, other: Span) -> Span {
        let span = Span { first: self.first.max(other.first), last: self.last.min(other.last) };
        if span.is_empty() { Span::NONE } else { span }
    }

    /// The smallest span with both.
    #[inline]
    pub(super) fn hull(self, other: Span) -> Span {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            Span { first: self.first.min(other.first), last: self.last.max(other.last) }
        }
    }

    /// Ends drawn in to the next words that have these bits.
    #[inline]
    fn tighten(self, bits: Tnum) -> Span {
        if self.is_empty() {
            return Span::NONE;
        }
        if bits.has(self.first) && bits.has(self.last) {
            return self;
        }
        match (bits.next(self.first), bits.previous(self.last)) {
            (Some(first), Some(last)) if first <= last => Span { first, last },
            _ => Span::NONE,
        }
    }
}

/// Words from `start` upwards, `length` steps, starting again at 0 after the greatest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Halves {
    /// Uppermost bit 0: not negative.
    pub(super) lower: Span,
    /// Uppermost bit 1: negative where signed.
    pub(super) upper: Span,
}

/// The word as a signed number of this width.
#[inline]
pub(super) const fn signed(word: u64, width: u32) -> i64 {
    let by = 64 - width;
    (word << by).cast_signed() >> by
}

impl Halves {
    /// Nothing.
    pub(super) const NONE: Halves = Halves { lower: Span::NONE, upper: Span::NONE };

    /// Every word of the width.
    #[inline]
    pub(super) const fn all(width: u32) -> Halves {
        let sign = 1 << (width - 1);
        Halves { lower: Span { first: 0, last: sign - 1 }, upper: Span { first: sign, last: low(width) } }
    }

    /// What lies within the unsigned and within the signed bounds.
    #[inline]
    pub(super) fn of_bounds(umin: u64, umax: u64, smin: i64, smax: i64, width: u32) -> Halves {
        Halves::all(width).within_unsigned(umin, umax).within_signed(smin, smax, width)
    }

    /// One span of words in unsigned order.
    #[inline]
    pub(super) fn of_unsigned(first: u64, last: u64, width: u32) -> Halves {
        Halves::all(width).within_unsigned(first, last)
    }

    #[inline]
    pub(super) fn within_unsigned(self, first: u64, last: u64) -> Halves {
        let span = Span { first, last };
        Halves { lower: self.lower.meet(span), upper: self.upper.meet(span) }
    }

    #[inline]
    pub(super) fn within_signed(self, first: i64, last: i64, width: u32) -> Halves {
        let word = |number: i64| number.cast_unsigned() & low(width);
        let lower = match last {
            0.. => self.lower.meet(Span { first: first.max(0).cast_unsigned(), last: last.cast_unsigned() }),
            _ => Span::NONE,
        };
        let upper = match first {
            ..0 => self.upper.meet(Span { first: word(first), last: word(last.min(-1)) }),
            _ => Span::NONE,
        };
        Halves { lower, upper }
    }

    #[inline]
    pub(super) const fn is_empty(self) -> bool {
        self.lower.is_empty() && self.upper.is_empty()
    }

    #[inline]
    pub(super) fn hull(self, other: Halves) -> Halves {
        Halves { lower: self.lower.hull(other.lower), upper: self.upper.hull(other.upper) }
    }

    /// All of it as one span, in unsigned order.
    #[inline]
    pub(super) fn unsigned_span(self) -> Span {
        self.lower.hull(self.upper)
    }

    /// What also lies on the arc.
    #[inline]
    pub(super) fn on_arc(self, arc: Arc, width: u32) -> Halves {
        if arc.length >= low(width) {
            return self;
        }
        let end = arc.start.wrapping_add(arc.length) & low(width);
        if arc.start <= end {
            return self.within_unsigned(arc.start, end);
        }
        // Around the end: two pieces, of which a half may meet both.
        let (head, tail) = (Span { first: arc.start, last: low(width) }, Span { first: 0, last: end });
        let meet = |span: Span| span.meet(head).hull(span.meet(tail));
        Halves { lower: meet(self.lower), upper: meet(self.upper) }
    }

    /// What also is the low part, of this width, of a word of the wider set.
    #[inline]
    pub(super) fn below(self, wider: Halves, width: u32) -> Halves {
        // Nothing is said by a span that goes through every low part.
        let says_nothing = |span: Span| !span.is_empty() && span.last - span.first >= low(width);
        if says_nothing(wider.lower) || says_nothing(wider.upper) {
            return self;
        }
        let part = |span: Span| {
            if span.is_empty() {
                return Halves::NONE;
            }
            self.on_arc(Arc { start: span.first & low(width), length: span.last - span.first }, width)
        };
        part(wider.lower).hull(part(wider.upper))
    }

    /// Ends drawn in to the next words whose low part, of this width, is in the narrower set.
    #[inline]
    pub(super) fn above(self, narrower: Halves, width: u32) -> Halves {
        if narrower == Halves::all(width) {
            return self;
        }
        let part = |span: Span| {
            if span.is_empty() {
                return Span::NONE;
            }
            match (narrower.next_above(span.first, width), narrower.last_below(span.last, width)) {
                (Some(first), Some(last)) if first <= last => Span { first, last },
                _ => Span::NONE,
            }
        };
        Halves { lower: part(self.lower), upper: part(self.upper) }
    }

    /// The least word, not below this one, whose low part is in the set.
    #[inline]
    fn next_above(self, word: u64, width: u32) -> Option<u64> {
        let (part, rest) = (word & low(width), word & !low(width));
        for span in [self.lower, self.upper] {
            if !span.is_empty() && part <= span.last {
                return Some(rest | part.max(span.first));
            }
        }
        // With the next upper part, from the first on. (There is none above the last.)
        let rest = rest.checked_add(low(width).checked_add(1)?)?;
        Some(rest | self.unsigned_span().first)
    }

    /// The greatest word, not above this one, whose low part is in the set.
    #[inline]
    fn last_below(self, word: u64, width: u32) -> Option<u64> {
        let (part, rest) = (word & low(width), word & !low(width));
        for span in [self.upper, self.lower] {
            if !span.is_empty() && part >= span.first {
                return Some(rest | part.min(span.last));
            }
        }
        let rest = rest.checked_sub(low(width).checked_add(1)?)?;
        Some(rest | self.unsigned_span().last)
    }

    /// Spans and bits that agree: ends that have the bits, and the bits that all words from end to end have in common.
    /// `None` where nothing is left. Both are then best possible for the set of words that lie in the spans and have the
    /// bits: the ends are such words, and below the uppermost bit in which two ends differ every unknown bit takes both
    /// values between them.
    #[inline]
    pub(super) fn settle(self, bits: Tnum) -> Option<(Halves, Tnum)> {
        let lower = self.lower.tighten(bits);
        let upper = self.upper.tighten(bits);
        let known = |span: Span| {
            let open = differing(span.first, span.last);
            Tnum { value: span.first & !open | bits.value & open, mask: bits.mask & open }
        };
        let bits = match (lower.is_empty(), upper.is_empty()) {
            (true, true) => return None,
            (false, true) => known(lower),
            (true, false) => known(upper),
            (false, false) => known(lower).union(known(upper)),
        };
        Some((Halves { lower, upper }, bits))
    }
}
