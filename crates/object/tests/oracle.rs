//! The same objects through libbpf: what bpftool says it patched must be what [`core::relocate`] patched.
//!
//! `bpftool -d prog loadall` prints a line for each CO-RE record. Programs that this kernel refuses are relocated all the
//! same. Pins go into a bpffs that is mounted for the test in a directory of its own and is gone after it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{compile, root, sources, stem};
use skep_isa::{InsnIdx, Raw};
use skep_object::{ObjectSpec, core};

/// A bpffs of our own, unmounted when dropped.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn mount() -> Option<Bpffs> {
        let dir = tempfile::tempdir().ok()?;
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(dir.path()).status().ok()?;
        status.success().then(|| Bpffs(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// What a tool made of an instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Patched {
    Alu(u32),
    Offset(i16),
    Wide(u64),
    Poison,
}

/// By function and instruction within it.
type Patches = BTreeMap<(String, u64), Patched>;

/// `libbpf: prog 'fields': relo #3: patched insn #17 (LDX/ST/STX) off 8 -> 16`
fn parse_libbpf(log: &str) -> Patches {
    let mut out = Patches::new();
    for line in log.lines() {
        let Some((function, rest)) = line.strip_prefix("libbpf: prog '").and_then(|rest| rest.split_once('\'')) else {
            continue;
        };
        let number_after = |mark: &str| {
            let rest = rest.split_once(mark)?.1;
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse::<u64>().ok()
        };
        let found = if rest.contains("substituting insn #") {
            number_after("substituting insn #").map(|at| (at, Patched::Poison))
        } else {
            number_after("patched insn #").zip(number_after(" -> ")).and_then(|(at, new)| {
                if rest.contains(" off ") {
                    Some((at, Patched::Offset(new as i16)))
                } else if rest.contains(" imm64 ") {
                    Some((at, Patched::Wide(new)))
                } else if rest.contains(" imm ") {
                    Some((at, Patched::Alu(new as u32)))
                } else {
                    None
                }
            })
        };
        if let Some((at, patched)) = found {
            out.insert((function.to_owned(), at), patched);
        }
    }
    out
}

fn patched(insns: &[Raw], at: InsnIdx) -> Patched {
    let raw = insns[at.as_usize()];
    if raw == core::POISON {
        return Patched::Poison;
    }
    match raw.opcode & 7 {
        4 | 7 => Patched::Alu(raw.imm as u32),
        0 => Patched::Wide(u64::from(raw.imm as u32) | u64::from(insns[at.as_usize() + 1].imm as u32) << 32),
        _ => Patched::Offset(raw.off),
    }
}

fn ours(name: &str, object: &[u8], target: &skep_btf::Btf) -> Patches {
    let before = ObjectSpec::parse(name, object).expect("parse");
    let mut after = before.clone();
    core::relocate(&mut after, target).expect("relocate");
    let mut out = Patches::new();
    for (old, new) in before.programs.iter().zip(&after.programs) {
        for reloc in &old.core_relocs {
            let func = old.funcs.iter().rfind(|f| f.start <= reloc.insn).expect("function");
            let slots = if old.insns[reloc.insn.as_usize()].is_wide() { 2 } else { 1 };
            let found = patched(&new.insns, reloc.insn);
            // libbpf tells of both slots of a poisoned wide load.
            let slots = if found == Patched::Poison { slots } else { 1 };
            for slot in 0..slots {
                let at = u64::from(reloc.insn.0 - func.start.0) + slot;
                out.insert((func.name.to_string(), at), found.clone());
            }
        }
    }
    out
}

#[test]
fn core_relocation_agrees_with_libbpf() {
    let Some(bpffs) = Bpffs::mount() else {
        println!("needs root: this test mounts a bpffs and loads programs with bpftool");
        return;
    };
    let vmlinux = "/sys/kernel/btf/vmlinux";
    let Ok(types) = std::fs::read(vmlinux) else {
        println!("needs a kernel with BTF: {vmlinux} is not there");
        return;
    };
    let target = skep_btf::Btf::parse(types).expect("kernel BTF");
    let dir = tempfile::tempdir().expect("temporary directory");
    let header = Command::new("bpftool").args(["btf", "dump", "file", vmlinux, "format", "c"]).output();
    let header = header.expect("run bpftool; install bpftool");
    std::fs::write(dir.path().join("vmlinux.h"), header.stdout).expect("vmlinux.h");
    let include = format!("-I{}", dir.path().display());
    let arch = if cfg!(target_arch = "aarch64") { "-D__TARGET_ARCH_arm64" } else { "-D__TARGET_ARCH_x86" };

    let mut files: Vec<PathBuf> = sources("oracle");
    let examples = std::fs::read_dir(root().join("examples")).expect("examples");
    files.extend(examples.map(|e| e.expect("entry").path()).filter(|p| p.extension().is_some_and(|e| e == "c")));
    files.sort();
    let mut compared = 0;
    for file in files {
        let name = stem(&file);
        let object = compile(&file, &[&include, arch]);
        let path = dir.path().join(format!("{name}.o"));
        std::fs::write(&path, &object).expect("write");
        let pins = bpffs.path().join(name.replace('.', "_"));
        let out = Command::new("bpftool").args(["-d", "prog", "loadall"]).arg(&path).arg(&pins).output();
        let out = out.expect("run bpftool");
        let log = String::from_utf8_lossy(&out.stderr);
        // Known: a section that is newer than the installed libbpf (tcx came with 1.3) stops it before it relocates.
        const NEWER: [&str; 4] = ["tcx/", "netkit/", "tc/", "uprobe.multi"];
        let guess = "failed to guess program type from ELF section '";
        if let Some(section) = log.split_once(guess).and_then(|(_, rest)| rest.split_once('\'')).map(|(s, _)| s) {
            assert!(NEWER.iter().any(|newer| section.starts_with(newer)), "{name}: libbpf does not know {section}");
            println!("{name}: not compared, the installed libbpf does not know section {section}");
            continue;
        }
        let theirs = parse_libbpf(&log);
        let ours = ours(&name, &object, &target);
        // Functions that no program reaches are relocated by libbpf and not linked here.
        let linked = |key: &&(String, u64)| ours.keys().any(|(function, _)| *function == key.0);
        for key in theirs.keys().filter(linked).chain(ours.keys()) {
            assert_eq!(ours.get(key), theirs.get(key), "{name}: instruction {} of {} (left: skep)", key.1, key.0);
        }
        println!("{name}: {} records agree", ours.len());
        compared += ours.len();
    }
    assert!(compared > 60, "only {compared} records were compared; does bpftool still print them?");
}
