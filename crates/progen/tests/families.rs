//! Every family: programs are the same each time, survive a round trip through text, and are well formed.

use skep_isa::{decode, encode};
use skep_progen::{Choices, Family, Generated, Options, generate, generate_from};

#[test]
fn programs_come_back_from_their_text() {
    for &family in Family::ALL {
        assert_eq!(Family::from_name(family.name()), Some(family));
        for seed in 0..100 {
            for options in [Options::valid(), Options::mixed()] {
                let program = generate(family, seed, &options);
                assert_eq!(program, generate(family, seed, &options), "{family:?} {seed}");
                let text = program.to_string();
                let back = Generated::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
                assert_eq!(back, program, "{text}");
            }
        }
    }
}

#[test]
fn programs_without_mistakes_are_well_formed() {
    for &family in Family::ALL {
        for seed in 0..200 {
            let program = generate(family, seed, &Options::valid());
            let slots = encode(&program.insns);
            assert!(slots.len() <= 4000, "{}: {} slots", program.name, slots.len());
            let insns = decode(&slots).expect("what was encoded");
            for (at, insn) in &insns {
                let Some(target) = insn.target(*at) else { continue };
                assert!(insns.iter().any(|(at, _)| *at == target), "{at}: {insn} leads to {target}\n{program}");
            }
            let spec = program.to_spec();
            assert_eq!(spec.programs.len(), 1);
            let typed = program.funcs.len() > 1 || !program.kfuncs.is_empty();
            assert!(!typed || spec.btf.is_some(), "{program}");
        }
    }
}

#[test]
fn any_bytes_make_a_program() {
    let bytes: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for &family in Family::ALL {
        for length in [0, 1, 7, 100, 4096] {
            let program = generate_from(family, &mut Choices::from_bytes(&bytes[..length]), &Options::mixed());
            assert!(!program.insns.is_empty());
        }
    }
}

#[test]
fn a_shrunk_program_still_has_what_matters() {
    let mut shrunk = 0;
    for seed in 0..20 {
        let program = generate(Family::ArithXdp, seed, &Options::valid());
        let divides = |p: &Generated| p.insns.iter().any(|insn| insn.to_string().contains("/="));
        if !divides(&program) {
            continue;
        }
        let small = program.shrink(divides);
        assert_eq!(small.insns.len(), 1, "{small}");
        assert_eq!(small.funcs.len(), 1);
        shrunk += 1;
    }
    assert!(shrunk > 0);
}

#[test]
fn dropping_instructions_keeps_targets() {
    let text = "type xdp\nfunc 0 prog global ctx\nfunc 7 sub static\ncode\nr1 = 5 ll\nif r1 == 0 goto +2\nr2 = 1\n\
                goto +0\ncall pc+1\nexit\nr0 = 0\nexit\n";
    let program = Generated::parse(text).expect("a program");
    let shown = program.without(0..1).to_string();
    assert!(shown.contains("0: if r1 == 0 goto +2 <3>") && shown.contains("3: call pc+1 <5>"), "{shown}");
    assert!(shown.contains("func 5 sub"), "{shown}");
    let shown = program.without(2..4).to_string();
    assert!(shown.contains("2: if r1 == 0 goto +0 <3>"), "{shown}");
    let shown = program.without(6..8).to_string();
    assert!(!shown.contains("func 7 sub"), "{shown}");
    assert!(Generated::parse("map a hash key x\ncode\n").unwrap_err().to_string().starts_with("line 1: "));
    assert_eq!(Generated::parse("code\nr0 = 1\nr0 = r99\n").unwrap_err().line, 3);
}

#[test]
fn large_programs_are_as_large_as_asked_for() {
    for family in [Family::Mixed, Family::Scalars, Family::Packet] {
        let few = generate(family, 1, &Options::large(5)).insns.len();
        let many = generate(family, 1, &Options::large(200)).insns.len();
        assert!(few < 300 && many > 1500, "{family:?}: {few}, {many}");
    }
}
