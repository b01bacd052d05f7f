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

mod any {
    use super::*;
    use crate::scalar::Scalar;
    use proptest::prelude::*;
    use skep_isa::Raw;
    use skep_object::{Line, MapIdx};

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![(0_usize..11).prop_map(|n| Place::Reg(Reg::ALL[n])), any::<i16>().prop_map(Place::Stack)]
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop_oneof![
            (0_usize..3).prop_map(|map| Origin::Lookup { map: Some(MapIdx(map)) }),
            any::<i32>().prop_map(|offset| Origin::Context { field: None, offset }),
            (0_usize..3, any::<Option<u32>>())
                .prop_map(|(map, value_offset)| Origin::Map { map: MapIdx(map), value_offset }),
            any::<u64>().prop_map(Origin::Constant),
            any::<u8>().prop_map(Origin::Argument),
            Just(Origin::Uninitialised),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let insn = prop_oneof![0_u32..12, any::<u32>()].prop_map(InsnIdx);
        let kind = prop_oneof![
            any::<bool>().prop_map(|taken| StepKind::Branch { taken }),
            (place(), origin()).prop_map(|(place, what)| StepKind::Origin { place, what }),
            (place(), place()).prop_map(|(from, to)| StepKind::Copied { from, to }),
            place().prop_map(|place| StepKind::CheckLost { place, by: LostBy::Write }),
            (place(), any::<u64>()).prop_map(|(place, n)| StepKind::Changed { place, now: Scalar::constant(n) }),
            any::<u32>().prop_map(|function| StepKind::Call { function: InsnIdx(function) }),
            Just(StepKind::Return),
        ];
        (insn, kind).prop_map(|(insn, kind)| Step { insn, kind })
    }

    proptest! {
        #[test]
        fn any_report_of_any_program_is_text(
            slots in proptest::collection::vec((any::<u8>(), 0_u8..16, 0_u8..16, any::<i16>(), any::<i32>()), 0..12),
            lines in proptest::collection::vec((0_u32..14, 0_u32..400, 0_u32..400, prop_oneof![0_u32..9, any::<u32>()], 0_u32..60), 0..8),
            texts in proptest::collection::vec("[ -~\t\u{1b}\u{e9}]{0,40}", 1..6),
            starts in proptest::collection::vec(0_u32..14, 0..4),
            insn in prop_oneof![0_u32..14, any::<u32>()],
            path in proptest::collection::vec(step(), 0..10),
            styled: bool,
        ) {
            let mut spec = spec("exit");
            let mut types = skep_btf::Builder::new();
            for text in texts {
                types.string(&text.replace('\0', "")).expect("string");
            }
            spec.btf = skep_btf::Btf::parse(types.build().expect("types")).ok();
            let program = &mut spec.programs[0];
            program.insns = slots
                .into_iter()
                .map(|(opcode, dst, src, off, imm)| Raw { opcode, dst, src, off, imm })
                .collect();
            let function = program.funcs[0].clone();
            program.funcs = starts.into_iter().map(|start| FuncSpan { start: InsnIdx(start), ..function.clone() }).collect();
            program.lines = lines
                .into_iter()
                .map(|(insn, file, text, line, column)| Line {
                    insn: InsnIdx(insn), file_name_off: file, text_off: text, line, column,
                })
                .collect();
            let rejection = Rejection {
                code: Code::MaybeNull,
                insn: InsnIdx(insn),
                title: "r1 may be null".into(),
                label: "r10 and 1 bytes".into(),
                path,
                facts: vec!["r2".into()],
                help: Some("if (!p) return 0;".into()),
                kernel_says: Some(String::new()),
            };
            let _ = message(&spec, ProgramIdx(0), &rejection);
            let report = report(Verdict::Fail(Box::new(rejection)));
            let read = |_: &str| Some("a\nb\n".to_owned());
            let layout = Layout { styled, read: Some(&read), ..Layout::default() };
            prop_assert!(render(&spec, ProgramIdx(0), &report, &layout).is_some());
        }
    }
}
