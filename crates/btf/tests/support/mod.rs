//! What several tests need: the kernel's BTF, clang, and sections of an ELF file.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::path::Path;
use std::process::Command;

use skep_btf::Btf;

pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's BTF; `None`, with a line that says so, where there is none.
pub(crate) fn kernel() -> Option<Btf> {
    match std::fs::read(VMLINUX) {
        Ok(data) => Some(Btf::parse(data).expect("the kernel's BTF opens")),
        Err(e) => {
            println!("skipped: this kernel has no {VMLINUX} ({e})");
            None
        }
    }
}

/// What bpftool prints; `None`, with a line that says so, where it is not installed.
pub(crate) fn bpftool(args: &[&str]) -> Option<String> {
    let out = match Command::new("bpftool").args(args).output() {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: bpftool cannot be started ({e}); install the package bpftool");
            return None;
        }
    };
    assert!(out.status.success(), "bpftool {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).expect("bpftool prints UTF-8"))
}

/// Compiles C for BPF and returns the object; `None`, with a line that says so, where clang is not installed.
pub(crate) fn clang(dir: &Path, source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let (c, o) = (dir.join("t.c"), dir.join("t.o"));
    std::fs::write(&c, source).expect("write the source");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let out = match Command::new(&clang)
        .args(["-target", "bpf", "-g", "-O1", "-c"])
        .args(flags)
        .arg(&c)
        .arg("-o")
        .arg(&o)
        .output()
    {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: {clang} cannot be started ({e}); install it or set $CLANG");
            return None;
        }
    };
    assert!(out.status.success(), "{clang}:\n{}", String::from_utf8_lossy(&out.stderr));
    Some(std::fs::read(&o).expect("read the object"))
}

/// A section of a little-endian ELF64 object.
pub(crate) fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let at = |offset: usize, len: usize| -> usize {
        elf[offset..offset + len].iter().rev().fold(0, |value, b| value << 8 | usize::from(*b))
    };
    let (headers, count, names) = (at(0x28, 8), at(0x3c, 2), at(0x3e, 2));
    let body = |i: usize| {
        let header = headers + i * 64;
        &elf[at(header + 0x18, 8)..][..at(header + 0x20, 8)]
    };
    (0..count).find_map(|i| {
        let text = &body(names)[at(headers + i * 64, 4)..];
        text.starts_with(&[name.as_bytes(), &[0]].concat()).then(|| body(i))
    })
}
