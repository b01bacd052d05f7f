//! Fixtures: C files under `tests/object/`, compiled when a test asks, and objects that are checked in beside them.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("repository root")
}

/// `tests/object/` and a path below it.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/object").join(name)
}

fn clang() -> Command {
    let name = std::env::var("CLANG").unwrap_or_else(|_| {
        let newest = (15..30)
            .rev()
            .map(|n| format!("clang-{n}"))
            .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()));
        newest.unwrap_or_else(|| "clang".to_owned())
    });
    Command::new(name)
}

/// Compiles a C file for BPF. A first line of `/* args: ... */` adds arguments.
pub(crate) fn compile(source: &Path, extra: &[&str]) -> Vec<u8> {
    let text = std::fs::read_to_string(source).expect("fixture");
    let dir = tempfile::tempdir().expect("temporary directory");
    let object = dir.path().join("out.o");
    let mut clang = clang();
    clang.args(["-g", "-O2", "-Wall", "-mcpu=v3", "-target", "bpf"]).arg("-I").arg(root().join("bpf/include"));
    for arch in ["x86_64", "aarch64", "riscv64", "s390x", "powerpc64le"] {
        clang.arg("-idirafter").arg(format!("/usr/include/{arch}-linux-gnu"));
    }
    // Paths stand in the line records; the dump must not depend on where the repository is.
    clang.arg(format!("-ffile-prefix-map={}=.", root().display()));
    if let Some(args) = text.lines().next().and_then(|l| l.strip_prefix("/* args: ")?.strip_suffix(" */")) {
        clang.args(args.split_whitespace());
    }
    clang.args(extra).arg("-c").arg(source).arg("-o").arg(&object);
    let out = clang.output().expect("run clang; install clang and libbpf-dev");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "compile {}: {errors}", source.display());
    std::fs::read(object).expect("the object clang wrote")
}

/// The C files of a directory below `tests/object/`, sorted.
pub(crate) fn sources(directory: &str) -> Vec<PathBuf> {
    files(directory, "c")
}

/// The files of a directory below `tests/object/` that end so, sorted.
pub(crate) fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixture(directory))
        .expect("fixture directory")
        .map(|entry| entry.expect("directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no .{ending} files under {directory}");
    found
}

/// The file's name without directory and ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().expect("file name").to_string_lossy().into_owned()
}

/// Compares text with the file that should hold it; with `SKEP_BLESS=1`, writes the file.
pub(crate) fn check(expected: &Path, found: &str) {
    if std::env::var_os("SKEP_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(expected, found).expect("write expected text");
        return;
    }
    let text = std::fs::read_to_string(expected).unwrap_or_default();
    if text != found {
        let first = text.lines().zip(found.lines()).position(|(a, b)| a != b);
        let line = first.unwrap_or_else(|| text.lines().count().min(found.lines().count()));
        panic!(
            "{}: differs from line {}:\n  expected: {}\n  found:    {}\nSKEP_BLESS=1 takes the new text over; read the diff",
            expected.display(),
            line + 1,
            text.lines().nth(line).unwrap_or("<end>"),
            found.lines().nth(line).unwrap_or("<end>"),
        );
    }
}
