//! The text cases under `tests/isa/`: each line is `input | expected`. With `SKEP_BLESS=1` the right sides are written
//! anew; read the diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use skep_isa::classic::{self, SockFilter};
use skep_isa::{Annotate, Endian, Insn, InsnIdx, Listing, Raw, Symbols, assemble_with, decode, encode};

fn case_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/isa").join(name)
}

/// Runs every case of a file; `answer` makes the right side from the left one. In the left side `\n` is a line break.
fn check(name: &str, answer: impl Fn(&str) -> String) {
    let path = case_file(name);
    let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let (mut blessed, mut wrong, mut cases) = (String::new(), String::new(), 0);
    for (index, line) in file.lines().enumerate() {
        let Some((input, expected)) = line.rsplit_once(" | ").filter(|_| !line.starts_with("//")) else {
            assert!(line.is_empty() || line.starts_with("//"), "{name}:{}: no ` | ` in {line:?}", index + 1);
            writeln!(blessed, "{line}").unwrap();
            continue;
        };
        cases += 1;
        let found = answer(&input.trim_end().replace("\\n", "\n"));
        writeln!(blessed, "{input} | {found}").unwrap();
        if found != expected {
            writeln!(wrong, "{name}:{}: {input}\n  expected {expected}\n  found    {found}", index + 1).unwrap();
        }
    }
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&path, blessed).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "{wrong}(SKEP_BLESS=1 writes down what was found)");
    assert!(cases > 5, "{name}: only {cases} cases");
}

fn to_hex(bytes: impl IntoIterator<Item = u8>) -> String {
    let bytes: Vec<String> = bytes.into_iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.chunks(8).map(|slot| slot.join(" ")).collect::<Vec<_>>().join("  ")
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")).collect()
}

fn slots(bytes: &[u8]) -> Vec<Raw> {
    let (slots, rest) = bytes.as_chunks();
    assert!(rest.is_empty(), "{bytes:02x?} is not a whole number of slots");
    slots.iter().map(|&slot| Raw::from_bytes(slot, Endian::Little)).collect()
}

/// Three helpers, for names in calls.
struct Helpers;

impl Symbols for Helpers {
    fn helper(&self, name: &str) -> Option<u32> {
        match name {
            "bpf_map_lookup_elem" => Some(1),
            "bpf_ktime_get_ns" => Some(5),
            "bpf_get_current_pid_tgid" => Some(14),
            _ => None,
        }
    }

    fn helper_names(&self) -> Vec<&str> {
        vec!["bpf_map_lookup_elem", "bpf_ktime_get_ns", "bpf_get_current_pid_tgid"]
    }
}

fn assembled(text: &str) -> String {
    match assemble_with(text, &Helpers) {
        Ok(insns) => to_hex(encode(&insns).iter().flat_map(|slot| slot.to_bytes(Endian::Little))),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" // "),
    }
}

/// Text and bytes mean each other exactly.
#[test]
fn instructions() {
    check("instructions.txt", |text| {
        let hex = assembled(text);
        let bytes = from_hex(&hex);
        let decoded = decode(&slots(&bytes)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let printed: Vec<String> = decoded.iter().map(|(_, insn)| insn.to_string()).collect();
        assert_eq!(printed.join("\n"), text, "{hex}");
        hex
    });
}

/// What else the assembler understands.
#[test]
fn spellings() {
    check("spellings.txt", assembled);
}

#[test]
fn mistakes_in_text() {
    check("mistakes.txt", |text| {
        assert!(assemble_with(text, &Helpers).is_err(), "{text:?} is no mistake");
        assembled(text)
    });
}

#[test]
fn invalid_bytes() {
    check("invalid.txt", |hex| match decode(&slots(&from_hex(hex))) {
        Ok(insns) => panic!("{hex} decodes to {insns:?}"),
        Err(error) => error.to_string(),
    });
}

fn classic_text(text: &str) -> Result<String, String> {
    let join = |errors: Vec<String>| errors.join(" // ");
    let program = classic::assemble(text).map_err(|errors| join(errors.iter().map(ToString::to_string).collect()))?;
    let filter = classic::encode(&program);
    classic::check(&filter).map_err(|errors| join(errors.iter().map(ToString::to_string).collect()))?;
    Ok(to_hex(filter.iter().flat_map(|raw| raw.to_bytes(Endian::Little))))
}

#[test]
fn classic_instructions() {
    check("classic.txt", |text| classic_text(text).unwrap_or_else(|error| panic!("{text}: {error}")));
}

#[test]
fn classic_mistakes() {
    check("classic_mistakes.txt", |text| classic_text(text).expect_err("a mistake"));
}

/// Bytes that are no classic instruction, or that Linux does not take.
#[test]
fn classic_invalid_bytes() {
    check("classic_invalid.txt", |hex| {
        let filter = SockFilter::parse(&from_hex(hex), Endian::Little).unwrap();
        let decoded = classic::decode(&filter).map_or_else(|error| error.to_string(), |_| "decodes".to_owned());
        let checked = match classic::check(&filter) {
            Ok(()) => "Linux takes it".to_owned(),
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" // "),
        };
        format!("{decoded}; {checked}")
    });
}

/// A listing shows names, and what is no instruction, and cannot be broken by what the names contain.
#[test]
fn listing() {
    struct Names;
    impl Annotate for Names {
        fn before(&self, at: InsnIdx) -> Vec<String> {
            match at.0 {
                10 => vec!["count:".into(), "int i = 0;\n".into()],
                _ => Vec::new(),
            }
        }
        fn note(&self, _: InsnIdx, insn: &Insn) -> Option<String> {
            matches!(insn, Insn::LoadWide { .. }).then(|| "map \"a;b#c\"\nexit".into())
        }
        fn label(&self, target: InsnIdx) -> Option<String> {
            (target.0 == 13).then(|| "out> ; x".into())
        }
    }
    let mut program = encode(&assemble_with("r1 = map_by_fd(3)\nif r1 == 0 goto +0\ngoto -100\nexit", &()).unwrap());
    let text = Listing::with(&program, &Names).numbered_from(InsnIdx(10)).to_string();
    assert_eq!(
        text,
        "; count:\n; int i = 0; \n   10: r1 = map_by_fd(3)  ; map \"a;b#c\" exit\n   12: if r1 == 0 goto +0 <out____x>\n   \
         13: goto -100 <before the program>\n   14: exit\n"
    );
    assert_eq!(assemble_with(&text, &()).map(|insns| encode(&insns)), Ok(program.clone()));

    program[2].off = 7;
    program[2].opcode = 0xff;
    let text = Listing::new(&program).to_string();
    assert!(text.contains("    2: invalid ff 01 07 00 00 00 00 00  ; no instruction has opcode 0xff\n"), "{text}");
    let errors = assemble_with(&text, &()).unwrap_err();
    assert_eq!((errors[0].line, errors[0].column), (2, 8));
}

/// There may be very many mistakes.
#[test]
fn errors_are_limited() {
    let text = "bad\n".repeat(100_000);
    assert_eq!(assemble_with(&text, &()).unwrap_err().len(), skep_isa::MAX_ERRORS);
    assert_eq!(classic::assemble(&text).unwrap_err().len(), skep_isa::MAX_ERRORS);
    let text = "r0 = nolabel\ngoto nolabel\n".repeat(1000);
    assert_eq!(assemble_with(&text, &()).unwrap_err().len(), skep_isa::MAX_ERRORS);
}

/// Distances that do not fit are an error at the jump, with what to write.
#[test]
fn far_labels() {
    let program = |jump: &str| format!("{jump}\n{}end: exit", "r0 = 0\n".repeat(40_000));
    assert!(assemble_with(&program("gotol end"), &()).is_ok());
    let errors = assemble_with(&program("goto end"), &()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "line 1, column 6: the label is 40000 slots away, too far for this instruction; use gotol"
    );
    assert!(assemble_with(&program("if r0 == 0 goto end"), &()).is_err());
}
