use super::*;
use crate::{Code, LostBy, Origin, Place, Stats, Step, StepKind};
use skep_abi::ProgramType;
use skep_isa::{Endian, Reg, assemble, encode};
use skep_object::{FuncSpan, Hook, Target};

pub(crate) fn spec(text: &str) -> ObjectSpec {
    let program = ProgramSpec {
        name: "prog".into(),
        section: "xdp".into(),
        hook: Hook {
            prog_type: ProgramType::Xdp,
            attach_type: None,
            target: Target::Unspecified,
            sleepable: false,
            xdp_frags: false,
            autoload: true,
        },
        insns: encode(&assemble(text).expect("assembles")),
        relocs: Vec::new(),
        core_relocs: Vec::new(),
        funcs: vec![FuncSpan { start: InsnIdx(0), name: "prog".into(), ty: skep_btf::TypeId::VOID }],
        lines: Vec::new(),
        poisoned: Vec::new(),
    };
    ObjectSpec {
        name: "test".into(),
        endian: Endian::NATIVE,
        license: "GPL".into(),
        kernel_version: 0,
        programs: vec![program],
        maps: Vec::new(),
        externs: Vec::new(),
        btf: None,
        warnings: Vec::new(),
    }
}

fn report(verdict: Verdict) -> Report {
    Report { verdict, warnings: Vec::new(), stats: Stats::default(), complexity: Vec::new() }
}

#[test]
fn without_lines_instructions_are_shown() {
    let spec = spec("r1 = *(u32 *)(r1 + 0)\ncall 44\nr0 = *(u8 *)(r1 + 0)\nexit");
    let rejection = Rejection {
        code: Code::PacketBounds,
        insn: InsnIdx(2),
        title: "`r1` may point past the end of the packet".into(),
        label: "r1 is read here\x1b[31m".into(),
        path: vec![
            Step {
                insn: InsnIdx(0),
                kind: StepKind::Origin {
                    place: Place::Reg(Reg::R1),
                    what: Origin::Context { field: Some("data"), offset: 0 },
                },
            },
            Step {
                insn: InsnIdx(1),
                kind: StepKind::CheckLost {
                    place: Place::Reg(Reg::R1),
                    by: LostBy::Call { function: "bpf_xdp_adjust_head".into() },
                },
            },
        ],
        facts: vec!["nothing is known of the packet's length".into()],
        help: Some("compare with data_end".into()),
        kernel_says: None,
    };
    let text = render(&spec, ProgramIdx(0), &report(Verdict::Fail(Box::new(rejection))), &Layout::default());
    let expected = "\
error[SKEP0008]: `r1` may point past the end of the packet
 --> prog, instructions:2:1
  |
0 | r1 = *(u32 *)(r1 + 0)
  | --------------------- r1 is loaded from `data` of the context here
1 | call 44  ; bpf_xdp_adjust_head
  | ------------------------------ what was checked of r1 no longer holds after `bpf_xdp_adjust_head`: check again behind it
2 | r0 = *(u8 *)(r1 + 0)
  | ^^^^^^^^^^^^^^^^^^^^ r1 is read here\u{fffd}[31m
  |
  = note: instruction 2 of `prog` (\"xdp\"): r0 = *(u8 *)(r1 + 0)
  = note: nothing is known of the packet's length
  = help: compare with data_end";
    assert_eq!(text.as_deref(), Some(expected), "{}", text.as_deref().unwrap_or_default());
}

#[test]
fn what_is_not_modelled_says_so() {
    let spec = spec("r0 = 0\nexit");
    let verdict = Verdict::Unsupported(Unsupported { feature: "arena maps".into(), insn: Some(InsnIdx(7)) });
    let text = render(&spec, ProgramIdx(0), &report(verdict), &Layout::default()).expect("not passed");
    assert!(text.starts_with("unsupported: arena maps\n"), "{text}");
    assert_eq!(render(&spec, ProgramIdx(0), &report(Verdict::Pass), &Layout::default()), None);
    assert_eq!(render(&spec, ProgramIdx(3), &report(Verdict::Pass), &Layout::default()), None);
}

#[test]
fn one_byte_is_one_byte() {
    let check = |text: &str, expected: &str| assert_eq!(singular(text), expected);
    check("accesses 1 bytes at offset 11", "accesses 1 byte at offset 11");
    check("1 bytes, 21 bytes, -1 bytes", "1 byte, 21 bytes, -1 bytes");
    check("", "");
}
