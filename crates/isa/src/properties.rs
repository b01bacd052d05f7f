//! What must hold for every instruction and every input: bytes, values and text say the same; nothing panics.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::classic::{self, SockFilter};
use crate::{Endian, Insn, InsnIdx, Listing, Raw, assemble, decode, decode_at, encode, strategy};

/// An accepted slot must encode to itself, and its text must mean it.
fn check_slots(slots: &[Raw]) -> Option<Insn> {
    let insn = decode_at(slots, InsnIdx(0)).ok()?;
    let encoded = insn.encode();
    assert_eq!(encoded.as_slice(), &slots[..insn.slots() as usize], "{insn}");
    let text = insn.to_string();
    assert_eq!(assemble(&text), Ok(vec![insn]), "{text}");
    Some(insn)
}

/// All opcodes, with all that a decoder can look at in the other fields.
#[test]
fn every_accepted_slot_means_itself() {
    let registers = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 15];
    let offsets = [0, 1, 2, 7, 8, 16, 24, 32, 64, -1, i16::MIN, i16::MAX];
    let mut immediates: Vec<i32> = (-1..=0x120).collect();
    immediates.extend([0x1_0000, 0x1_0001, i32::MAX, i32::MIN, 0x7fff, 0x8000, -0x8000]);
    let mut accepted = 0u64;
    let mut opcodes = BTreeSet::new();
    for opcode in 0..=255u8 {
        for dst in registers {
            for src in registers {
                for off in offsets {
                    // All immediates where registers are the plainest, the telling ones elsewhere.
                    let plain = matches!((dst, src), (0 | 1, 0 | 1)) && off == 0;
                    let some = [0, 1, 16, 0x41, 0x100, 0x1_0000, -1];
                    let immediates = if plain { immediates.as_slice() } else { &some[..] };
                    for &imm in immediates {
                        let slots = [Raw { opcode, dst, src, off, imm }, Raw::default()];
                        if decode_at(&slots, InsnIdx(0)).is_ok() {
                            opcodes.insert(opcode);
                            accepted += 1;
                            // Text is slow; a third of the slots has it all.
                            if accepted.is_multiple_of(3) || plain {
                                check_slots(&slots);
                            } else if let Ok(insn) = decode_at(&slots, InsnIdx(0)) {
                                assert_eq!(insn.encode()[0], slots[0]);
                            }
                        }
                    }
                }
            }
        }
    }
    // Counted by hand from RFC 9669, section 4 and 5: arithmetic 12 operations * 2 sources * 2 classes, negation 2,
    // byte swaps 3; comparisons 11 * 2 * 2, jumps 2, call, exit; loads 4, sign-extending 3, stores 4 + 4, atomics 2,
    // packet loads 6, 64-bit immediate 1. And what came after: may_goto, gotox, callx, atomics of 1 and 2 bytes.
    let rfc = 12 * 4 + 2 + 3 + 11 * 4 + 2 + 2 + 4 + 3 + 8 + 2 + 6 + 1;
    assert_eq!(opcodes.len(), rfc + 3 + 2);
    assert!(accepted > 10_000, "{accepted}");
}

/// The second slot of a 64-bit immediate load has one field, the immediate.
#[test]
fn every_second_slot_field_counts() {
    for src in 0..16 {
        for second in [
            Raw { imm: 1, ..Raw::default() },
            Raw { opcode: 0x18, ..Raw::default() },
            Raw { dst: 1, ..Raw::default() },
            Raw { src: 1, ..Raw::default() },
            Raw { off: 1, ..Raw::default() },
        ] {
            let slots = [Raw { opcode: 0x18, dst: 1, src, off: 0, imm: 7 }, second];
            let accepted = check_slots(&slots).is_some();
            assert_eq!(accepted, second.imm == 1 && matches!(src, 0 | 2 | 3 | 6), "{slots:?}");
        }
    }
}

/// Classic codes fit in 16 bits, so all of them are tried.
#[test]
fn every_accepted_classic_instruction_means_itself() {
    let mut codes = BTreeSet::new();
    for code in 0..=u16::MAX {
        let ks: &[u32] =
            if code <= 0xff { &[0, 1, 15, 16, 31, 32, 0xffff_f000, 0xffff_f004, 0xffff_f001, u32::MAX] } else { &[0] };
        for &k in ks {
            for (jt, jf) in [(0, 0), (1, 2), (255, 0)] {
                let raw = SockFilter { code, jt, jf, k };
                let Ok(insn) = raw.decode() else { continue };
                codes.insert(code);
                // A field that comes back as zero is one that the instruction does not use.
                let again = insn.encode();
                assert_eq!(again.code, raw.code);
                assert_eq!(again.decode(), Ok(insn));
                for (field, before) in [(again.k, k), (again.jt.into(), jt.into()), (again.jf.into(), jf.into())] {
                    assert!(field == before || field == 0, "{raw:?} {again:?}");
                }
                let text = classic::Text(&[insn]).to_string();
                assert_eq!(classic::assemble(&text), Ok(vec![insn]), "{text}");
            }
        }
    }
    // The table in chk_code_allowed of net/core/filter.c: arithmetic 21, loads 13 (A: ABS 3, LEN, IND 3, IMM, MEM;
    // X: LEN, MSH, IMM, MEM), stores 2, MISC 2, RET 2, JA, comparisons 8.
    assert_eq!(codes.len(), 21 + 13 + 2 + 2 + 2 + 1 + 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn instructions_round_trip(insn in strategy::insn()) {
        let slots = insn.encode();
        prop_assert_eq!(decode(&slots).map(|found| found.into_iter().map(|(_, insn)| insn).collect::<Vec<_>>()), Ok(vec![insn]));
        let text = insn.to_string();
        prop_assert_eq!(assemble(&text), Ok(vec![insn]), "{}", text);
        for endian in [Endian::Little, Endian::Big] {
            for &slot in slots.iter() {
                prop_assert_eq!(Raw::from_bytes(slot.to_bytes(endian), endian), slot);
            }
        }
    }

    #[test]
    fn listings_round_trip(insns in vec(strategy::insn(), 0..20), first in 0u32..1000) {
        let slots = encode(&insns);
        let text = Listing::new(&slots).numbered_from(InsnIdx(first)).to_string();
        prop_assert_eq!(assemble(&text), Ok(insns), "{}", text);
    }

    #[test]
    fn any_slots_decode_or_say_where_they_fail(slots in vec(strategy::raw(), 0..6)) {
        match decode(&slots) {
            Ok(insns) => {
                let insns: Vec<Insn> = insns.into_iter().map(|(_, insn)| insn).collect();
                prop_assert_eq!(encode(&insns), slots.clone());
            }
            Err(error) => prop_assert!(error.at.as_usize() < slots.len()),
        }
        check_slots(&slots);
        let listing = Listing::new(&slots).to_string();
        prop_assert_eq!(assemble(&listing).is_ok(), decode(&slots).is_ok(), "{}", listing);
    }

    #[test]
    fn any_text_assembles_or_fails_at_a_place_in_it(text in "(\\PC|\n){0,80}") {
        if let Err(errors) = assemble(&text) {
            for error in errors {
                let line = text.lines().nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{}", error);
            }
        }
        let _ = classic::assemble(&text);
        let _ = classic::parse_numbers(&text);
    }

    #[test]
    fn changed_instructions_do_not_panic(insn in strategy::insn(), at in 0usize..60, with in "[-+*/<>=()\\[\\]:,#;0-9a-z \u{e9}]{0,3}") {
        let mut text = insn.to_string();
        let at = text.char_indices().map(|(at, _)| at).nth(at).unwrap_or(text.len());
        text.insert_str(at, &with);
        if let Ok(insns) = assemble(&text) {
            for insn in insns {
                prop_assert_eq!(assemble(&insn.to_string()), Ok(vec![insn]));
            }
        }
    }

    #[test]
    fn classic_instructions_round_trip(program in vec(strategy::classic_insn(), 1..20)) {
        let filter = classic::encode(&program);
        prop_assert_eq!(classic::decode(&filter), Ok(program.clone()));
        let text = classic::Text(&program).to_string();
        prop_assert_eq!(classic::assemble(&text), Ok(program.clone()), "{}", text);
        prop_assert_eq!(classic::parse_numbers(&classic::to_numbers(&filter)), Ok(filter.clone()));
        let initializers: String = filter.iter().map(|raw| format!("{raw}\n")).collect();
        prop_assert_eq!(classic::parse_numbers(&initializers), Ok(filter.clone()));
        let _ = classic::check(&filter);
        for endian in [Endian::Little, Endian::Big] {
            let bytes: Vec<u8> = filter.iter().flat_map(|raw| raw.to_bytes(endian)).collect();
            prop_assert_eq!(SockFilter::parse(&bytes, endian), Ok(filter.clone()));
            prop_assert_eq!(SockFilter::parse(&bytes[1..], endian).is_err(), true);
        }
    }

    #[test]
    fn any_classic_filter_is_judged(raws in vec((0u16..0x100, any::<u8>(), any::<u8>(), 0u32..40), 0..20)) {
        let filter: Vec<SockFilter> = raws.into_iter().map(|(code, jt, jf, k)| SockFilter { code, jt, jf, k }).collect();
        if let Err(errors) = classic::check(&filter) {
            prop_assert!(errors.iter().all(|error| error.at < filter.len().max(1)));
        }
    }
}
