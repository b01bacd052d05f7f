//! Programs that the kernel refuses, and what a person is told: each case under tests/refusals/ is a C file that ends in
//! the expected summary as a comment. `SKEP_BLESS=1` writes the summaries anew; read the diff.

mod support;

use skep_kernel::load::{LoadError, LoadOptions, load};
use skep_object::ObjectSpec;
use std::fmt::Write;
use std::path::Path;

const MARK: &str = "\n/* expected\n";

fn summary(path: &Path) -> String {
    let elf = support::compile(path);
    let name = path.file_stem().and_then(|n| n.to_str()).expect("a name");
    let spec = ObjectSpec::parse(name, &elf).expect("an object");
    let error = load(&spec, &LoadOptions::default()).expect_err("the kernel refuses it");
    let mut out = String::new();
    match error {
        LoadError::Program(refusal) => {
            writeln!(out, "program: {}", refusal.program).expect("fmt");
            writeln!(out, "reason:  {}", refusal.message).expect("fmt");
            if let Some(source) = &refusal.source {
                assert!(
                    source.file.ends_with(path.file_name().and_then(|n| n.to_str()).expect("a name"))
                        || source.file.is_empty(),
                    "{source:?}"
                );
                writeln!(out, "line:    {}: {}", source.line, source.text).expect("fmt");
            }
            for step in refusal.path.iter().rev().take(4).rev() {
                writeln!(out, "after:   {}: {}", step.line, step.text).expect("fmt");
            }
            let advice = refusal.advice();
            writeln!(out, "title:   {}", advice.map_or("none", |a| a.title)).expect("fmt");
            writeln!(out, "fix:     {}", advice.map_or("none", |a| a.fix)).expect("fmt");
            assert!(!refusal.log.is_empty());
        }
        other => writeln!(out, "{other}").expect("fmt"),
    }
    out
}

#[test]
fn refusals() {
    if !support::root("refusals") {
        return;
    }
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(support::cases("refusals"))
        .expect("the cases")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "c"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 12);
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case");
        let (program, expected) = text.split_once(MARK).unwrap_or((&text, ""));
        let found = summary(&path);
        if expected.trim_end().trim_end_matches("*/") != found {
            if bless {
                std::fs::write(&path, format!("{program}{MARK}{found}*/\n")).expect("write");
            } else {
                wrong.push(format!("{}\nexpected:\n{expected}\nfound:\n{found}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n(SKEP_BLESS=1 accepts)", wrong.join("\n"));
}
