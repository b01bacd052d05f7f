//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the test may go on: what it does takes root. Says so when not.
pub(crate) fn root(test: &str) -> bool {
    let root = skep_kernel::privilege::Capabilities::current().has("CAP_SYS_ADMIN");
    if !root {
        eprintln!("{test}: needs root, not run");
    }
    root
}

/// The folder of the text cases.
pub(crate) fn cases(area: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(area)
}

/// The newest clang of this machine.
fn clang() -> PathBuf {
    if let Some(clang) = std::env::var_os("CLANG") {
        return clang.into();
    }
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/bin")
        .expect("/usr/bin")
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix("clang-")?.parse().ok()?, e.path())))
        .collect();
    found.sort();
    found.pop().expect("clang-N in /usr/bin").1
}

/// Compiles C to a BPF object.
pub(crate) fn compile(source: &Path) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let object = dir.path().join("out.o");
    let status = Command::new(clang())
        .args(["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wno-unknown-attributes", "-D__TARGET_ARCH_x86", "-c", "-o"])
        .arg(&object)
        .arg(source)
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .status()
        .expect("clang");
    assert!(status.success(), "{}: clang failed", source.display());
    std::fs::read(&object).expect("the object")
}

/// Compiles C given as text, with the usual headers in front.
pub(crate) fn compile_text(text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("case.bpf.c");
    let text = format!(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n{text}"
    );
    std::fs::write(&source, text).expect("write");
    compile(&source)
}

/// [`compile_text`], read.
pub(crate) fn spec(text: &str) -> skep_object::ObjectSpec {
    skep_object::ObjectSpec::parse("case", &compile_text(text)).expect("an object")
}
