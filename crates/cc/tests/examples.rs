//! Every program under `examples/` compiles without a warning, for the usual and for the newest instruction set.

use skep_cc::{Compiler, Cpu};
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|cause| panic!("read {dir:?}: {cause}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(".bpf.c")))
        .collect();
    sources.sort();
    assert!(sources.len() >= 5, "the examples are not in {dir:?}: {sources:?}");
    sources
}

#[test]
fn examples_compile_without_a_warning() {
    let cache = tempfile::tempdir().unwrap();
    for cpu in [Cpu::V3, Cpu::V4] {
        compile_all(cpu, cache.path());
    }
}

fn compile_all(cpu: Cpu, cache: &Path) {
    let mut compiler = Compiler::from_env();
    compiler.cache_dir = Some(cache.into());
    compiler.cpu = cpu;
    compiler.flags = ["-Wextra", "-Wno-unused-parameter", "-Werror"].map(Into::into).into();
    let clang = compiler.find_clang().unwrap();
    if cpu == Cpu::V4 && clang.version.major < 18 {
        println!("clang {} has no instruction set v4: needs 18", clang.version);
        return;
    }
    for source in examples() {
        let compiled = compiler.compile(&source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(String::from_utf8_lossy(&compiled.diagnostics), "", "{source:?}");
        assert_eq!(&compiled.object[..4], b"\x7fELF", "{source:?}");
        let machine = u16::from_ne_bytes([compiled.object[18], compiled.object[19]]);
        assert_eq!(machine, 247, "{source:?}: the ELF machine is not BPF");
        for section in [&b".BTF\0"[..], b".BTF.ext\0", b"license\0"] {
            let found = compiled.object.windows(section.len()).any(|window| window == section);
            assert!(found, "{source:?}: no section {}", String::from_utf8_lossy(section));
        }
    }
}

/// What the documentation promises: SPDX line and licence of C for the kernel.
#[test]
fn examples_carry_their_licence() {
    for source in examples() {
        let text = std::fs::read_to_string(&source).unwrap();
        assert!(text.starts_with("// SPDX-License-Identifier: GPL-2.0 OR MIT\n"), "{source:?}: first line");
        assert!(text.contains("char LICENSE[] SEC(\"license\") = \"Dual MIT/GPL\";"), "{source:?}: license section");
    }
}
