//! No prefix, bit flip or other damage of a real object makes the reader panic, hang, or use memory without bound.

mod common;

use common::files;
use proptest::prelude::*;
use skep_btf::{Btf, BtfExt, ext};
use skep_object::{Error, MAX_TOTAL_CORE, ObjectSpec, core};

fn objects() -> Vec<Vec<u8>> {
    files("prebuilt", "o").iter().map(|path| std::fs::read(path).expect("object")).collect()
}

/// Everything that is done to a spec without a kernel.
fn exercise(bytes: &[u8]) {
    if let Ok(mut spec) = ObjectSpec::parse("damaged", bytes) {
        let _ = spec.dump().to_string().len();
        let names: Vec<String> = spec.globals().map(|(_, var)| var.name.clone()).collect();
        for name in names {
            let _ = spec.set_global_text(&name, "1");
        }
        // Its own types are as good a target as any.
        if let Some(btf) = spec.btf.clone() {
            let _ = core::relocate(&mut spec, &btf);
        }
    }
}

#[test]
fn every_prefix_is_refused_or_read() {
    for object in objects() {
        for end in 0..object.len() {
            exercise(&object[..end]);
        }
        exercise(&object);
    }
}

#[test]
fn each_byte_changed_is_refused_or_read() {
    for (number, object) in objects().into_iter().enumerate() {
        let mut bytes = object.clone();
        for at in 0..bytes.len() {
            let good = bytes[at];
            // A large, a small, a nearby and a negative value in turn: all of them for each byte take minutes.
            bytes[at] = [0xff, 0, good.wrapping_add(1), good ^ 0x80][(at + number) % 4];
            exercise(&bytes);
            bytes[at] = good;
        }
    }
}

/// Ten programs that call one function.
const SHARED: &str = r#"
    struct seen { int field; } __attribute__((preserve_access_index));
    static __attribute__((noinline)) int shared(struct seen *s) { asm volatile(".rept 60000; r1 = r1; .endr"); return s->field; }
    #define ENTRY(n) __attribute__((section("socket"), used)) int entry##n(void *context) { return shared(context); }
    ENTRY(0) ENTRY(1) ENTRY(2) ENTRY(3) ENTRY(4) ENTRY(5) ENTRY(6) ENTRY(7) ENTRY(8) ENTRY(9)
"#;

/// [`SHARED`] with the line and CO-RE records of `.text` replaced.
fn with_records(
    lines: impl Fn(ext::LineInfo) -> Vec<ext::LineInfo>,
    core: impl Fn(ext::CoreRelo) -> Vec<ext::CoreRelo>,
) -> Vec<u8> {
    use object::{Object as _, ObjectSection as _};

    let dir = tempfile::tempdir().expect("temporary directory");
    let source = dir.path().join("shared.c");
    std::fs::write(&source, SHARED).expect("source");
    let mut bytes = common::compile(&source, &[]);
    let file = object::File::parse(&*bytes).expect("ELF");
    let section = |name| file.section_by_name(name).expect(name);
    let btf = Btf::parse(section(".BTF").data().expect("data").to_vec()).expect("BTF");
    let place = section(".BTF.ext");
    let mut records = BtfExt::parse(place.data().expect("data"), &btf).expect("BTF.ext");
    for part in records.lines.iter_mut().filter(|part| part.name == ".text") {
        part.records = lines(part.records[0]);
    }
    for part in records.core_relos.iter_mut().filter(|part| part.name == ".text") {
        part.records = core(part.records[0]);
    }
    let name = |wanted: &str| Ok((0..).find(|at| btf.string(*at) == Ok(wanted)).expect("section name"));
    let new = records.write(btf.endian(), name).expect("write");
    // The section header: at 40 of the ELF header where they start, at 24 and 32 of it offset and size.
    let headers = u64::from_le_bytes(*bytes[40..].first_chunk().expect("header")) as usize;
    let header = headers + 64 * place.index().0;
    let end = bytes.len() as u64;
    bytes[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&(new.len() as u64).to_le_bytes());
    bytes.extend(new);
    bytes
}

#[test]
fn lines_of_one_instruction_are_not_copied_into_every_program() {
    let line = |n: u32, line: ext::LineInfo| ext::LineInfo { line: n + 1, ..line };
    let bytes = with_records(|first| (0..200_000).map(|n| line(n, first)).collect(), |first| vec![first]);
    let spec = ObjectSpec::parse("lines", &bytes).expect("parse");
    assert_eq!(spec.programs.len(), 10);
    for program in &spec.programs {
        let slots: Vec<_> = program.lines.iter().map(|line| line.insn).collect();
        assert!(slots.is_sorted_by(|a, b| a < b), "one line for each instruction: {}", slots.len());
        // Of several, the last.
        assert_eq!(program.lines.last().expect("line").line, 200_000);
    }
}

#[test]
fn core_records_are_one_for_each_instruction_and_limited() {
    let twice = with_records(|line| vec![line], |core| vec![core; 2]);
    let error = ObjectSpec::parse("twice", &twice).map(|_| ()).expect_err("two records");
    assert!(error.to_string().contains("more than one CO-RE record"), "{error}");

    let at = |n: u32, core: ext::CoreRelo| ext::CoreRelo { insn_off: n * 8, ..core };
    let many = with_records(|line| vec![line], |core| (0..60_000).map(|n| at(n, core)).collect());
    let error = ObjectSpec::parse("many", &many).map(|_| ()).expect_err("600 000 records");
    assert!(matches!(error, Error::Limit { limit, .. } if limit == MAX_TOTAL_CORE as u64), "{error}");
}

#[test]
fn names_of_megabytes_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let source = dir.path().join("long.c");
    let name = "n".repeat(5000);
    let text = format!("int {name}; __attribute__((section(\"socket\"))) int f(void *c) {{ return {name}; }}");
    std::fs::write(&source, text).expect("source");
    let error = ObjectSpec::parse("long", &common::compile(&source, &[])).map(|_| ()).expect_err("a long name");
    assert!(matches!(error, Error::Limit { found: 5000, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_damage_is_refused_or_read(
        which: prop::sample::Index,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..4),
    ) {
        let objects = objects();
        let mut bytes = which.get(&objects).clone();
        for (at, value) in flips {
            *at.get_mut(&mut bytes) ^= value;
        }
        for (at, word) in words {
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        exercise(&bytes);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.extend(bytes);
        exercise(&elf);
    }
}
