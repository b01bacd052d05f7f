//! Every case at small widths, chosen and random ones at full width.
//!
//! `Num<4>` has two-bit halves: few enough values that every abstract pair with every concrete pair can be gone through.
//! Sets of words are bit masks here (bit 5 is the word 5).

use super::alu::concrete;
use super::*;
use proptest::prelude::*;
use skep_isa::{AluOp, JmpOp, SignExtend, SwapBits, SwapOp, Width};
use std::collections::BTreeSet;

const BINARY: [AluOp; 13] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::Div,
    AluOp::Sdiv,
    AluOp::Or,
    AluOp::And,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Arsh,
    AluOp::Mod,
    AluOp::Smod,
    AluOp::Xor,
];

/// The smallest number that holds the words of the set (not empty), by definition.
fn abstraction<const N: u32>(set: u64) -> Num<N> {
    let words = || (0..1_u64 << N).filter(move |word| set >> word & 1 == 1);
    let numbers = || words().map(|word| halves::signed(word, N));
    let half = N / 2;
    let lows = || words().map(move |word| word & low(half));
    let low_numbers = || lows().map(move |word| halves::signed(word, half));
    let bits = words().map(Tnum::constant).reduce(Tnum::union).expect("words");
    Num {
        tnum: bits,
        umin: words().min().expect("words"),
        umax: words().max().expect("words"),
        smin: numbers().min().expect("words"),
        smax: numbers().max().expect("words"),
        u32_min: lows().min().expect("words") as u32,
        u32_max: lows().max().expect("words") as u32,
        s32_min: low_numbers().min().expect("words") as i32,
        s32_max: low_numbers().max().expect("words") as i32,
    }
}

fn words_of<const N: u32>(num: &Num<N>) -> u64 {
    (0..1_u64 << N).filter(|word| num.has(*word)).fold(0, |set, word| set | 1 << word)
}

/// Every number of four bits whose facts agree as well as they can, with its words.
fn every_number() -> Vec<(Num<4>, u64)> {
    let distinct: BTreeSet<u64> = (1..1_u64 << 16).map(|set| words_of(&abstraction::<4>(set))).collect();
    distinct.into_iter().map(|set| (abstraction::<4>(set), set)).collect()
}

/// All ten million pairs with `SKEP_EXHAUSTIVE=1` (some minutes, in a release build); else one pair in so many, others for each
/// operation. The step shares no factor with the number of pairs, so all numbers take part.
fn pairs(numbers: &[(Num<4>, u64)], seed: usize) -> impl Iterator<Item = ((Num<4>, u64), (Num<4>, u64))> {
    let step = if std::env::var_os("SKEP_EXHAUSTIVE").is_some_and(|value| value == "1") { 1 } else { 1499 };
    let count = numbers.len();
    (seed % step..count * count).step_by(step).map(move |at| (numbers[at / count], numbers[at % count]))
}

fn words(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |word| set >> word & 1 == 1)
}

/// How often a result was the smallest possible, and how many words the results had for each that was needed.
#[derive(Default)]
struct Precision {
    results: u64,
    best: u64,
    needed: u64,
    given: u64,
}

impl Precision {
    fn count(&mut self, result: &Num<4>, needed: u64) {
        let best = abstraction::<4>(needed);
        self.results += 1;
        self.best += u64::from(*result == best);
        self.needed += u64::from(words_of(&best).count_ones());
        self.given += u64::from(words_of(result).count_ones());
    }

    /// At least this many of a hundred results are best possible, and this many of a hundred words are needed.
    #[track_caller]
    fn check(&self, what: &str, best: u64, needed: u64) {
        let (is_best, is_needed) = (100 * self.best / self.results, 100 * self.needed / self.given);
        println!("{what}: {is_best}% best possible, {is_needed}% of words needed, of {}", self.results);
        assert!(
            is_best >= best && is_needed >= needed,
            "{what}: {is_best}% and {is_needed}%, not {best}% and {needed}%"
        );
    }
}

#[test]
fn there_are_many_numbers_of_four_bits() {
    let numbers = every_number();
    assert_eq!(numbers.len(), 3175);
    for (number, set) in numbers {
        assert_eq!(words_of(&number), set);
        assert_eq!(number.sync(), Some(number), "already agrees: {number:?}");
    }
}

#[test]
fn facts_come_to_agree() {
    // Any facts, made of the bounds of three numbers: what they have in common stays, and is described well.
    let numbers = every_number();
    let mut precision = Precision::default();
    for ((a, a_set), (b, b_set)) in pairs(&numbers, 3) {
        let common = a_set & b_set;
        match a.meet(&b) {
            None => assert_eq!(common, 0, "{a:?} and {b:?}"),
            Some(both) => {
                assert_eq!(common & !words_of(&both), 0, "{a:?} and {b:?} give {both:?}");
                if common != 0 {
                    precision.count(&both, common);
                }
            }
        }
        let either = a.union(&b);
        assert_eq!((a_set | b_set) & !words_of(&either), 0, "{a:?} or {b:?} gives {either:?}");
        assert!(either.contains(&a) && either.contains(&b));
        assert_eq!(a.contains(&b), b_set & !a_set == 0, "{a:?} contains {b:?}");
    }
    precision.check("meet", 90, 95);
}

#[test]
fn arithmetic_holds_every_result() {
    let numbers = every_number();
    // Of a hundred: results that are best possible, words that are needed. (Pairs of any numbers: with a constant, as in
    // most programs, shifts and divisions are far better.)
    let wanted = |op| match op {
        AluOp::Add | AluOp::Sub => (80, 95),
        AluOp::Mul => (40, 88),
        AluOp::Div => (50, 75),
        AluOp::Sdiv => (17, 60),
        AluOp::Or | AluOp::And => (25, 80),
        AluOp::Lsh => (5, 65),
        AluOp::Rsh => (12, 70),
        AluOp::Arsh => (65, 85),
        AluOp::Mod => (6, 68),
        AluOp::Smod => (60, 90),
        AluOp::Xor => (70, 93),
        AluOp::Mov => (100, 100),
    };
    for width in [Width::W64, Width::W32] {
        for (number, op) in BINARY.into_iter().enumerate() {
            let bits = if width == Width::W64 { 4 } else { 2 };
            let mut precision = Precision::default();
            for ((a, a_set), (b, b_set)) in pairs(&numbers, number * 31) {
                let mut results = 0;
                for x in words(a_set) {
                    for y in words(b_set) {
                        results |= 1 << concrete(op, x & low(bits), y & low(bits), bits);
                    }
                }
                let result = a.alu(op, width, &b);
                assert_eq!(
                    results & !words_of(&result),
                    0,
                    "{a:?} {} {b:?} ({width:?}) gives {result:?}, not all of {results:#x}",
                    op.symbol()
                );
                precision.count(&result, results);
            }
            let (best, needed) = wanted(op);
            precision.check(&format!("{op:?} {width:?}"), best, needed);
        }
    }
}

#[test]
fn moves_and_extensions_hold_every_result() {
    for (number, set) in every_number() {
        let check = |result: Num<4>, what: &str, image: &dyn Fn(u64) -> u64| {
            let results = words(set).fold(0, |results, word| results | 1 << (image(word) & 0xf));
            assert_eq!(results & !words_of(&result), 0, "{what} of {number:?} gives {result:?}");
        };
        check(number.neg(Width::W64), "neg", &|word| word.wrapping_neg());
        check(number.neg(Width::W32), "neg32", &|word| word.wrapping_neg() & 3);
        check(number.low_half(), "low half", &|word| word & 3);
        for bits in 1..=4 {
            check(number.truncate(bits), "truncate", &|word| word & low(bits));
            check(number.sign_extend(bits), "sign extend", &|word| {
                halves::signed(word & low(bits), bits).cast_unsigned()
            });
        }
    }
}

fn compare(op: JmpOp, a: u64, b: u64, bits: u32) -> bool {
    let (a, b) = (a & low(bits), b & low(bits));
    let (sa, sb) = (halves::signed(a, bits), halves::signed(b, bits));
    match op {
        JmpOp::Eq => a == b,
        JmpOp::Ne => a != b,
        JmpOp::Gt => a > b,
        JmpOp::Ge => a >= b,
        JmpOp::Lt => a < b,
        JmpOp::Le => a <= b,
        JmpOp::Set => a & b != 0,
        JmpOp::Sgt => sa > sb,
        JmpOp::Sge => sa >= sb,
        JmpOp::Slt => sa < sb,
        JmpOp::Sle => sa <= sb,
    }
}

#[test]
fn branches_keep_every_word_that_takes_them() {
    let numbers = every_number();
    for (width, bits) in [(Width::W64, 4), (Width::W32, 2)] {
        for (number, op) in JmpOp::ALL.into_iter().enumerate() {
            let mut precision = Precision::default();
            for ((a, a_set), (b, b_set)) in pairs(&numbers, number * 17) {
                let mut kept = [[0_u64; 2]; 2];
                for x in words(a_set) {
                    for y in words(b_set) {
                        let outcome = usize::from(compare(op, x, y, bits));
                        kept[outcome][0] |= 1 << x;
                        kept[outcome][1] |= 1 << y;
                    }
                }
                if let Some(outcome) = decide(op, width, &a, &b) {
                    assert_eq!(kept[usize::from(!outcome)][0], 0, "{a:?} {op:?} {b:?} is not always {outcome}");
                }
                for taken in [false, true] {
                    let (mut new_a, mut new_b) = (a, b);
                    let [keep_a, keep_b] = kept[usize::from(taken)];
                    let feasible = refine(op, width, &mut new_a, &mut new_b, taken);
                    assert!(feasible || keep_a == 0, "{a:?} {op:?} {b:?} ({width:?}) can be {taken}");
                    assert_eq!(keep_a & !words_of(&new_a), 0, "{a:?} {op:?} {b:?} {width:?} {taken}: {new_a:?}");
                    assert_eq!(keep_b & !words_of(&new_b), 0, "{a:?} {op:?} {b:?} {width:?} {taken}: {new_b:?}");
                    if keep_a != 0 {
                        precision.count(&new_a, keep_a);
                        precision.count(&new_b, keep_b);
                    }
                }
            }
            let (best, needed) = if op == JmpOp::Set { (70, 88) } else { (98, 98) };
            precision.check(&format!("{op:?} {width:?}"), best, needed);
        }
    }
}

#[test]
fn known_bits_are_exact_where_the_table_says_so() {
    // Every pair of four-bit tnums.
    let all: Vec<Tnum> =
        (0..256).map(|n| Tnum::new(n & 15, n >> 4)).collect::<std::collections::HashSet<_>>().into_iter().collect();
    assert_eq!(all.len(), 81);
    let members = |tnum: Tnum| (0..16_u64).filter(move |word| tnum.has(*word));
    type Case = (&'static str, fn(Tnum, Tnum) -> Tnum, fn(u64, u64) -> u64);
    let exact: [Case; 5] = [
        ("add", Tnum::add, u64::wrapping_add),
        ("sub", Tnum::sub, u64::wrapping_sub),
        ("and", Tnum::and, |a, b| a & b),
        ("or", Tnum::or, |a, b| a | b),
        ("xor", Tnum::xor, |a, b| a ^ b),
    ];
    let (mut products, mut best_products) = (0, 0);
    for &a in &all {
        for &b in &all {
            let image = |f: fn(u64, u64) -> u64| {
                let results = members(a).flat_map(|x| members(b).map(move |y| f(x, y) & 15));
                results.map(Tnum::constant).reduce(Tnum::union).expect("members")
            };
            for (name, of_tnums, of_words) in exact {
                assert_eq!(of_tnums(a, b).truncate(4), image(of_words), "{name} of {a:?} and {b:?}");
            }
            let (product, best) = (a.mul(b).truncate(4), image(u64::wrapping_mul));
            assert!(product.contains(best), "{a:?} * {b:?}");
            products += 1;
            best_products += u32::from(product == best);
            let common: Vec<u64> = members(a).filter(|word| b.has(*word)).collect();
            assert_eq!(a.intersect(b), common.iter().copied().map(Tnum::constant).reduce(Tnum::union));
            assert_eq!(a.contains(b), members(b).all(|word| a.has(word)));
            assert!(members(a).chain(members(b)).all(|word| a.union(b).has(word)));
        }
        for word in 0..16 {
            assert_eq!(a.next(word), members(a).find(|member| *member >= word), "next in {a:?} from {word}");
            assert_eq!(a.previous(word), members(a).rfind(|member| *member <= word), "{a:?} down from {word}");
        }
        for by in 0..4 {
            let image = |f: &dyn Fn(u64) -> u64| members(a).map(|x| Tnum::constant(f(x) & 15)).reduce(Tnum::union);
            assert_eq!(Some(a.lsh(by).truncate(4)), image(&|x| x << by));
            assert_eq!(Some(a.rsh(by)), image(&|x| x >> by));
            assert_eq!(Some(a.arsh(by, 4)), image(&|x| concrete(AluOp::Arsh, x, by.into(), 4)));
            assert_eq!(
                Some(a.sign_extend(by + 1).truncate(4)),
                image(&|x| halves::signed(x & low(by + 1), by + 1).cast_unsigned())
            );
        }
        let (first, last) = (a.min(), a.max());
        assert!((first..=last).all(|word| Tnum::range(first, last).has(word)));
    }
    assert!(best_products * 100 >= products * 90, "{best_products} of {products}");
}

/// A word and a number that has it, of the kinds that programs make.
fn member() -> impl Strategy<Value = (u64, Scalar)> {
    let word = prop_oneof![
        any::<u64>(),
        (0..300_u64),
        (0..300_u64).prop_map(|n| n.wrapping_neg()),
        any::<u32>().prop_map(u64::from),
        any::<i32>().prop_map(|n| i64::from(n).cast_unsigned()),
        (0..64_u32, -2_i64..=2).prop_map(|(bit, near)| (1_u64 << bit).wrapping_add_signed(near)),
    ];
    let others = proptest::collection::vec(word.clone(), 0..4);
    (word, others, any::<u64>(), 0..6_u8).prop_map(|(word, others, mask, kind)| {
        let hull = others.iter().fold(Scalar::constant(word), |num, other| num.union(&Scalar::constant(*other)));
        let number = match kind {
            0 => Scalar::unknown(),
            1 => Scalar::constant(word),
            2 => Scalar::of_bits(Tnum::new(word, mask)),
            3 => hull.meet(&Scalar::of_bits(Tnum::new(word, mask))).expect("has the word"),
            _ => hull,
        };
        (word, number)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn members_stay_members((x, a) in member(), (y, b) in member()) {
        prop_assert!(a.has(x) && b.has(y));
        prop_assert_eq!(a.sync(), Some(a));
        prop_assert!(a.union(&b).has(x) && a.union(&b).has(y));
        for op in AluOp::ALL {
            let result = a.alu(op, Width::W64, &b);
            prop_assert!(result.has(concrete(op, x, y, 64)), "{:?} {:?} {:?} gives {:?}", a, op, b, result);
            let result = a.alu(op, Width::W32, &b);
            prop_assert!(result.has(concrete(op, x & low(32), y & low(32), 32)), "{:?} {:?} {:?}", a, op, b);
        }
        for (width, bits) in [(Width::W64, 64), (Width::W32, 32)] {
            prop_assert!(a.neg(width).has(x.wrapping_neg() & low(bits)));
            for op in JmpOp::ALL {
                let outcome = compare(op, x, y, bits);
                let (mut new_a, mut new_b) = (a, b);
                prop_assert!(refine(op, width, &mut new_a, &mut new_b, outcome));
                prop_assert!(new_a.has(x) && new_b.has(y), "{:?} {:?} {:?} {} gives {:?} {:?}", a, op, b, outcome, new_a, new_b);
                prop_assert!(a.contains(&new_a) && b.contains(&new_b), "{:?} {:?} {:?} grew", a, op, b);
                prop_assert_ne!(decide(op, width, &a, &b), Some(!outcome));
            }
        }
        for form in SignExtend::ALL {
            let extended = halves::signed(x & low(form.bits().into()), form.bits().into()).cast_unsigned();
            let extended = if form.width() == Width::W32 { extended & low(32) } else { extended };
            prop_assert!(a.sign_extend_as(form).has(extended));
        }
        for bits in [8, 16, 32] {
            prop_assert!(a.truncate(bits).has(x & low(bits)));
        }
        for bits in SwapBits::ALL {
            let swapped = x.swap_bytes() >> (64 - bits.bits());
            prop_assert!(a.byte_swap(SwapOp::Swap, bits).has(swapped));
            prop_assert!(a.byte_swap(SwapOp::ToLe, bits).has(x.to_le() & low(bits.bits().into())) || cfg!(target_endian = "big"));
            prop_assert!(a.byte_swap(SwapOp::ToBe, bits).has(swapped) || cfg!(target_endian = "big"));
        }
    }
}

/// Bounds that the kernel is known to find, one a line.
#[test]
fn as_precise_as_the_kernel_in_known_cases() {
    let check = |number: Scalar, expected: &str| assert_eq!(number.to_string(), expected, "{number:?}");
    let unsigned = |first, last| Scalar::in_unsigned(first, last).expect("range");
    let signed = |first, last| Scalar::in_signed(first, last).expect("range");
    let c = Scalar::constant;
    check(unsigned(0, 255).alu(AluOp::And, Width::W64, &c(0xfffc)), "0..=252 with bits 0xfc");
    check(unsigned(3, 10).alu(AluOp::Mul, Width::W64, &c(8)), "24..=80 with bits 0x78");
    check(signed(-3, 10).alu(AluOp::Mul, Width::W64, &c(2)), "-6..=20 with bits 0xfffffffffffffffe");
    check(unsigned(1, 4).alu(AluOp::Lsh, Width::W64, &c(32)).alu(AluOp::Arsh, Width::W64, &c(32)), "1..=4");
    check(signed(-4, 4).alu(AluOp::Lsh, Width::W64, &c(32)).alu(AluOp::Arsh, Width::W64, &c(32)), "-4..=4");
    check(signed(-4, 4).alu(AluOp::Mov, Width::W32, &signed(-4, -1)), "4294967292..=4294967295");
    // Both ends wrap: the range stays (Linux 6.17).
    check(unsigned(5, 9).alu(AluOp::Sub, Width::W64, &c(10)), "-5..=-1");
    // Only one end wraps: nothing is left unsigned, signed is as good.
    check(unsigned(5, 15).alu(AluOp::Sub, Width::W64, &c(10)), "-5..=5");
    check(unsigned(0, 100).alu(AluOp::Mod, Width::W64, &c(7)), "0..=6");
    check(unsigned(0, 100).alu(AluOp::Div, Width::W64, &c(7)), "0..=14");
    check(signed(-100, 100).alu(AluOp::Sdiv, Width::W64, &signed(-7, -3)), "-33..=33");
    check(signed(-100, 3).alu(AluOp::Smod, Width::W64, &c(7)), "-6..=3");
    // Signed and unsigned 32-bit bounds of a range that crosses the sign on one side only (Linux 6.16).
    let mut number = Scalar { u32_min: 0x8000_0000 - 2, ..Scalar::unknown() };
    number.s32_max = -5;
    let number = number.sync().expect("not empty");
    assert_eq!((number.u32_min, number.u32_max, number.s32_min), (0x8000_0000, 0xffff_fffb, i32::MIN));
    // The upper halves of the bounds follow each other by one: the low half crosses zero (Linux 6.8).
    let number = unsigned(0xffff_fff0, 0x1_0000_0010);
    assert_eq!((number.s32_min, number.s32_max), (-16, 16));
    // 32-bit checks bound the whole once it is known to be short.
    let (mut number, mut limit) = (Scalar::zero_extended(32), c(63));
    assert!(refine(JmpOp::Gt, Width::W32, &mut number, &mut limit, false));
    check(number, "0..=63");
    let (mut number, mut limit) = (Scalar::sign_extended(32), c(63));
    assert!(refine(JmpOp::Gt, Width::W32, &mut number, &mut limit, false));
    check(number, "0..=63");
    // != at an end.
    let (mut number, mut limit) = (unsigned(0, 8), c(8));
    assert!(refine(JmpOp::Ne, Width::W64, &mut number, &mut limit, true));
    check(number, "0..=7");
    // x & 1 == 0
    let (mut number, mut bit) = (unsigned(0, 9), c(1));
    assert!(refine(JmpOp::Set, Width::W64, &mut number, &mut bit, false));
    check(number, "0..=8 with bits 0xe");
    assert!(!refine(JmpOp::Eq, Width::W64, &mut number, &mut c(3), true));
    check(Scalar::immediate(-1), "-1");
    check(Scalar::loaded(skep_isa::Size::H), "0..=65535");
}

#[test]
fn a_number_is_small() {
    assert!(std::mem::size_of::<Scalar>() <= 80);
}
