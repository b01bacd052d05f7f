//! LLVM is the oracle for text and bytes: llvm-mc assembles what we print, llvm-objdump prints what we encode, clang
//! compiles real code. Where they differ on purpose, `known_difference` and `as_objdump` say so.

use std::path::Path;
use std::process::Command;

use skep_isa::{
    AluOp, AtomicOp, Call, Endian, Insn, JmpOp, Listing, NarrowSize, Raw, Reg, SignExtend, Size, Source, SpaceCast,
    SwapBits, SwapOp, Wide, Width, assemble, decode, encode,
};

/// Runs a tool of LLVM 19; a machine without it fails the test.
fn llvm(tool: &str, args: &[&str]) -> Vec<u8> {
    let program = format!("{tool}-19");
    let output = Command::new(&program).args(args).output().unwrap_or_else(|error| {
        panic!("start {program}: {error}; install it with: apt-get install clang-19 llvm-19");
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{stderr}", output.status);
    output.stdout
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

/// The slots in a section of an object.
fn section(dir: &Path, object: &Path, name: &str, endian: Endian) -> Vec<Raw> {
    let bin = dir.join("section.bin");
    llvm("llvm-objcopy", &["-O", "binary", "-j", name, path_text(object), path_text(&bin)]);
    let bytes = std::fs::read(bin).unwrap();
    let (slots, rest) = bytes.as_chunks();
    assert!(rest.is_empty(), "{} bytes", bytes.len());
    slots.iter().map(|&slot| Raw::from_bytes(slot, endian)).collect()
}

/// The text of each instruction of a section, as llvm-objdump prints it.
fn objdump(object: &Path, section: &str, extra: &[&str]) -> Vec<String> {
    let section = format!("--section={section}");
    let mut args = vec!["-d", "--mcpu=v4", &section];
    args.extend(extra);
    args.push(path_text(object));
    let text = String::from_utf8(llvm("llvm-objdump", &args)).unwrap();
    // `       0:\tb7 00 00 00 00 00 00 00\tr0 = 0`
    text.lines().filter_map(|line| line.splitn(3, '\t').nth(2)).map(|text| text.replace('\t', " ")).collect()
}

/// Every form of instruction, with operands that tell fields apart.
fn every_form() -> Vec<Insn> {
    use Width::{W32, W64};
    let mut all = Vec::new();
    let (dst, base, src) = (Reg::R3, Reg::R4, Reg::R7);
    let sources = [Source::Reg(src), Source::Imm(5), Source::Imm(-7), Source::Imm(i32::MAX), Source::Imm(i32::MIN)];
    for width in [W32, W64] {
        for with in sources {
            all.extend(AluOp::ALL.map(|op| Insn::Alu { width, op, dst, src: with }));
            all.extend(JmpOp::ALL.map(|op| Insn::JumpIf { width, op, dst, src: with, off: 9 }));
            all.extend(JmpOp::ALL.map(|op| Insn::JumpIf { width, op, dst, src: with, off: -9 }));
        }
        all.push(Insn::Neg { width, dst });
        for off in [0, 8, -8, i16::MAX, i16::MIN] {
            all.extend(AtomicOp::ALL.map(|op| Insn::Atomic { width, op, base, off, src }));
        }
    }
    all.extend(SignExtend::ALL.map(|form| Insn::MovSx { form, dst, src }));
    for op in SwapOp::ALL {
        all.extend(SwapBits::ALL.map(|bits| Insn::ByteSwap { op, bits, dst }));
    }
    all.extend([SpaceCast::FromArena, SpaceCast::ToArena].map(|cast| Insn::AddrSpaceCast { cast, dst, src }));
    for off in [0, 8, -8, i16::MAX, i16::MIN] {
        for size in Size::ALL {
            all.push(Insn::Load { size, dst, base, off });
            all.extend(sources.map(|src| Insn::Store { size, base, off, src }));
            all.push(Insn::LoadAcquire { size, dst, base, off });
            all.push(Insn::StoreRelease { size, base, off, src });
        }
        all.extend(NarrowSize::ALL.map(|size| Insn::LoadSx { size, dst, base, off }));
        all.extend([Insn::Jump { off }, Insn::MayGoto { off }, Insn::JumpLong { off: off.into() }]);
    }
    for off in [0, 14, -4096, i32::MAX] {
        for size in NarrowSize::ALL {
            all.extend([Insn::LoadAbs { size, off }, Insn::LoadInd { size, src, off }]);
        }
    }
    let wides = [0, 1, u64::MAX, 0x1234_5678_9abc_def0, i64::MAX as u64, 1 << 63].map(Wide::Imm64);
    let pseudo = [
        Wide::MapFd(5),
        Wide::MapValue { fd: 5, off: 8 },
        Wide::BtfVar { btf_id: 7, btf_fd: 0 },
        Wide::Func(3),
        Wide::MapIdx(1),
        Wide::MapIdxValue { idx: 1, off: 8 },
    ];
    all.extend(wides.into_iter().chain(pseudo).map(|value| Insn::LoadWide { dst, value }));
    all.extend([
        Insn::JumpLong { off: 100_000 },
        Insn::JumpReg { dst },
        Insn::CallReg { dst },
        Insn::Call(Call::Helper(12)),
        Insn::Call(Call::Helper(u32::MAX)),
        Insn::Call(Call::Subprog(3)),
        Insn::Call(Call::Kfunc { btf_id: 9, btf_idx: 0 }),
        Insn::Exit,
    ]);
    for reg in Reg::ALL {
        all.push(Insn::Alu { width: W64, op: AluOp::Mov, dst: reg, src: Source::Reg(reg) });
        all.push(Insn::Load { size: Size::DW, dst: reg, base: reg, off: 0 });
    }
    all
}

/// Why the assembler of LLVM 19 does not take our text of an instruction.
fn known_difference(insn: &Insn) -> Option<&'static str> {
    Some(match insn {
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => "came with LLVM 20",
        Insn::JumpReg { .. } => "came with LLVM 22",
        Insn::LoadWide { value: Wide::Imm64(_), .. } => return None,
        Insn::LoadWide { .. } => "LLVM leaves maps, variables and functions to relocations and has no text for them",
        Insn::Call(Call::Subprog(_) | Call::Kfunc { .. }) => "LLVM leaves these calls to relocations",
        Insn::JumpLong { off } if i16::try_from(*off).is_err() => "LLVM 19 takes 16 bits as a number",
        Insn::LoadInd { .. } => "LLVM has no text for the offset",
        Insn::LoadAbs { off, .. } if *off < 0 => "LLVM takes no negative offset",
        _ => return None,
    })
}

#[test]
fn llvm_mc_makes_the_same_bytes_of_our_text() {
    let dir = tempfile::tempdir().unwrap();
    let (source, object) = (dir.path().join("all.s"), dir.path().join("all.o"));
    let insns: Vec<Insn> = every_form().into_iter().filter(|insn| known_difference(insn).is_none()).collect();
    assert!(insns.len() > 400, "{}", insns.len());
    let text: String = insns.iter().map(|insn| format!("{insn}\n")).collect();
    std::fs::write(&source, &text).unwrap();
    for (triple, endian) in [("bpfel", Endian::Little), ("bpfeb", Endian::Big)] {
        let args = ["-triple", triple, "-mcpu=v4", "-filetype=obj", path_text(&source), "-o", path_text(&object)];
        llvm("llvm-mc", &args);
        let theirs = section(dir.path(), &object, ".text", endian);
        let decoded = decode(&theirs).unwrap();
        for ((at, theirs), ours) in decoded.iter().zip(&insns) {
            assert_eq!(theirs, ours, "{triple} slot {at}: {ours}");
        }
        assert_eq!(theirs, encode(&insns), "{triple}");
        assert_eq!(assemble(&text), Ok(insns.clone()));
    }
}

/// Our text of an instruction, spelled as llvm-objdump with decimal numbers does.
fn as_objdump(insn: &Insn) -> String {
    let text = insn.to_string();
    match insn {
        // With -mcpu=v3 and later LLVM names lower halves for up to 4 bytes.
        Insn::Load { size: Size::B | Size::H | Size::W, .. } => format!("w{}", &text[1..]),
        Insn::Store { size: Size::B | Size::H | Size::W, src: Source::Reg(_), .. } => text.replace(") = r", ") = w"),
        // 64-bit immediates are signed for it.
        Insn::LoadWide { dst, value: Wide::Imm64(value) } => format!("{dst} = {} ll", value.cast_signed()),
        // Whatever else such a load is, it has no text for it, but shows its fields.
        Insn::LoadWide { dst, .. } => format!("ld_pseudo {dst}, {}, {}", insn.encode()[0].src, insn.encode()[0].imm),
        // Any call is one by number.
        Insn::Call(Call::Subprog(imm) | Call::Kfunc { btf_id: imm, .. }) => format!("call {imm}"),
        // It shows no offset, whatever it is.
        Insn::LoadInd { src, .. } => format!("{}{src}]", &text[..=text.find('[').unwrap()]),
        _ => text,
    }
}

/// Why llvm-objdump 19 cannot show an instruction.
fn unknown_to_objdump(insn: &Insn) -> Option<&'static str> {
    Some(match insn {
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => "came with LLVM 20",
        Insn::JumpReg { .. } => "came with LLVM 22",
        _ => return None,
    })
}

/// The text without the `<.text+0x70>` behind a jump.
fn without_target(text: &str) -> &str {
    match text.strip_suffix('>').and_then(|rest| rest.rfind(" <")) {
        Some(start) => &text[..start],
        None => text,
    }
}

/// llvm-objdump's text of `slots`, next to ours; and its text must assemble to the same bytes.
fn compare_with_objdump(object: &Path, section: &str, slots: &[Raw]) {
    let insns: Vec<Insn> = decode(slots).unwrap().into_iter().map(|(_, insn)| insn).collect();
    let decimal = objdump(object, section, &["--print-imm-hex=false"]);
    let hexadecimal = objdump(object, section, &["--print-imm-hex"]);
    assert_eq!((decimal.len(), hexadecimal.len()), (insns.len(), insns.len()));
    for (insn, (decimal, hexadecimal)) in insns.iter().zip(decimal.iter().zip(&hexadecimal)) {
        assert_eq!(without_target(decimal), as_objdump(insn), "{insn:?}");
        for theirs in [decimal, hexadecimal] {
            let ambiguous = match insn {
                Insn::LoadWide { value, .. } => !matches!(value, Wide::Imm64(_)),
                Insn::Call(call) => !matches!(call, Call::Helper(_)),
                Insn::LoadInd { off, .. } => *off != 0,
                _ => false,
            };
            if !ambiguous {
                assert_eq!(assemble(theirs), Ok(vec![*insn]), "{theirs}");
            }
        }
    }
}

#[test]
fn llvm_objdump_prints_our_bytes_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let (source, object) = (dir.path().join("all.s"), dir.path().join("all.o"));
    let insns: Vec<Insn> = every_form().into_iter().filter(|insn| unknown_to_objdump(insn).is_none()).collect();
    let slots = encode(&insns);
    let bytes = slots.iter().flat_map(|slot| slot.to_bytes(Endian::Little));
    let text: String = bytes.map(|byte| format!(".byte {byte}\n")).collect();
    std::fs::write(&source, text).unwrap();
    llvm("llvm-mc", &["-triple", "bpfel", "-filetype=obj", path_text(&source), "-o", path_text(&object)]);
    compare_with_objdump(&object, ".text", &slots);
}

#[test]
fn compiled_code_survives_every_way_there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("corpus.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/isa/corpus.c");
    let mut seen = String::new();
    for cpu in ["v1", "v2", "v3", "v4"] {
        for level in ["-O1", "-O2", "-Os"] {
            for (target, endian) in [("bpfel", Endian::Little), ("bpfeb", Endian::Big)] {
                let fetch = if cpu == "v1" || cpu == "v2" { "-DUSE_FETCH=0" } else { "-DUSE_FETCH=1" };
                let v4 = if cpu == "v4" { "-DV4=1" } else { "-DV4=0" };
                let (cpu, target) = (format!("-mcpu={cpu}"), format!("--target={target}"));
                let args = [&target, &cpu, level, fetch, v4, "-g", "-c", path_text(&source), "-o", path_text(&object)];
                llvm("clang", &args);
                for name in ["text", ".text"] {
                    let slots = section(dir.path(), &object, name, endian);
                    let decoded = decode(&slots).unwrap_or_else(|error| panic!("{cpu} {level} {target}: {error}"));
                    assert!(decoded.len() > 15, "{name}");
                    let insns: Vec<Insn> = decoded.into_iter().map(|(_, insn)| insn).collect();
                    assert_eq!(encode(&insns), slots);
                    let listing = Listing::new(&slots).to_string();
                    assert_eq!(assemble(&listing), Ok(insns));
                    seen.push_str(&listing);
                    compare_with_objdump(&object, name, &slots);
                }
            }
        }
    }
    for kind in [
        " s/= ",
        " s%= ",
        " = -r",
        " = (s",
        " = *(s16 *)",
        "bswap32 ",
        "be16 ",
        "le64 ",
        "skb[12]",
        "skb[r",
        "lock *(u64",
        "lock *(u32",
        "atomic_fetch_add((u64",
        "atomic_fetch_or((u32",
        " = xchg_64(",
        " = cmpxchg_64(",
        " = cmpxchg32_32(",
        "if w",
        "if r",
        " goto -",
        "goto +",
        "call 5",
        "call pc-1",
        " ll",
        "*(u8 *)(r",
        ") = 3",
        "exit",
    ] {
        assert!(seen.contains(kind), "the corpus has no {kind:?}");
    }
}
