//! C files, objects from the field and section names -> the specs they make, as text beside them.

mod common;

use std::fmt::Write as _;

use common::{check, compile, files, fixture, sources, stem};
use skep_object::{ObjectSpec, core, sections};

#[test]
fn good_files_make_the_expected_specs() {
    for source in sources(".") {
        let spec = ObjectSpec::parse(&stem(&source), &compile(&source, &[])).expect("parse");
        check(&source.with_extension("expected"), &spec.dump().to_string());
    }
}

#[test]
fn prebuilt_objects_make_the_expected_specs() {
    for object in files("prebuilt", "o") {
        let bytes = std::fs::read(&object).expect("object");
        let spec = ObjectSpec::parse(&stem(&object), &bytes).expect("parse");
        check(&object.with_extension("expected"), &spec.dump().to_string());
    }
}

#[test]
fn bad_files_make_the_expected_errors() {
    let mut found = String::new();
    for source in sources("bad") {
        let name = stem(&source);
        let error = ObjectSpec::parse(&name, &compile(&source, &[])).map(|_| ()).expect_err(&name);
        writeln!(found, "{error}").expect("write");
    }
    check(&fixture("bad/expected.txt"), &found);
}

#[test]
fn core_records_are_answered_by_the_target() {
    for source in sources("core") {
        let name = stem(&source);
        let mut spec = ObjectSpec::parse(&name, &compile(&source, &[])).expect("parse");
        let target = btf_of(&compile(&source, &["-DTARGET"]));
        let found = match core::relocate(&mut spec, &target) {
            Ok(()) => spec.dump().to_string(),
            Err(error) => format!("{error}\n"),
        };
        check(&source.with_extension("expected"), &found);
    }
}

/// The `.BTF` section of an object.
fn btf_of(object: &[u8]) -> skep_btf::Btf {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(object).expect("ELF");
    let section = file.section_by_name(".BTF").expect(".BTF");
    skep_btf::Btf::parse(section.data().expect("data").to_vec()).expect("BTF")
}

/// Each line of `sections.txt` is a section name, two spaces or more, and what it is read as.
#[test]
fn section_names_are_read_as_listed() {
    let path = fixture("sections.txt");
    let text = std::fs::read_to_string(&path).expect("sections.txt");
    let mut found = String::new();
    let mut listed = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(found, "{line}").expect("write");
            continue;
        }
        let name = line.split("  ").next().unwrap_or(line).trim();
        listed.push(name);
        let read = sections::hook(name);
        write!(found, "{name:<32}  {}", read.hook).expect("write");
        if read.warning.is_some() {
            found.push_str(" warning");
        }
        found.push('\n');
    }
    for name in sections::names() {
        assert!(listed.contains(&name.trim_end_matches('+')), "{name} is in the table but not in sections.txt");
    }
    check(&path, &found);
}

#[test]
fn files_that_are_no_bpf_objects_are_refused() {
    let check = |bytes: &[u8], expected: &str| {
        let error = ObjectSpec::parse("file", bytes).map(|_| ()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    let good = std::fs::read(fixture("prebuilt/legacy.o")).expect("object");
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    check(b"", "it is empty");
    check(b"#!/bin/sh\n", "not an ELF file");
    check(b"\x7fELF", "truncated");
    check(b"BC\xc0\xde0000", "LLVM bitcode");
    check(&changed(4, 1), "32-bit");
    check(&changed(4, 9), "class 9");
    check(&changed(5, 2), "not one for BPF");
    check(&changed(5, 7), "byte order 7");
    check(&changed(16, 2), "an executable");
    check(&changed(16, 3), "shared library");
    check(&changed(18, 62), "x86-64");
    check(&changed(18, 183), "arm64");
    check(&good[..good.len() / 2], "truncated");
}

#[test]
fn the_same_bytes_make_the_same_spec() {
    let bytes = std::fs::read(fixture("prebuilt/maps.o")).expect("object");
    let one = ObjectSpec::parse("maps", &bytes).expect("parse");
    let two = ObjectSpec::parse("maps", &bytes).expect("parse");
    assert_eq!(one.dump().to_string(), two.dump().to_string());
}
