//! Programs of an object: instructions completed with descriptors, addresses and ids, then loaded.

use super::externs::Resolved;
use super::hooks::{self, Place};
use super::types::KernelTypes;
use super::{LoadError, LoadOptions};
use crate::error::{Errno, Error};
use crate::log::{Refusal, SourceLine};
use crate::program::{LineRecord, LoadRefused, ProgramParams, flags};
use crate::{BtfObject, Map, Program, features, privilege};
use skep_abi::ProgramType;
use skep_isa::{InsnIdx, Raw};
use skep_object::core::POISON;
use skep_object::{ObjectSpec, ProgramSpec, RelocKind, Target};
use std::os::fd::{AsFd, AsRawFd};

/// What a wide load or a call loads. Source: `BPF_PSEUDO_*` in `include/uapi/linux/bpf.h`.
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
const PSEUDO_BTF_ID: u8 = 3;
const PSEUDO_KFUNC_CALL: u8 = 2;

/// What loading a program takes besides its spec.
pub(crate) struct Around<'a> {
    pub(crate) spec: &'a ObjectSpec,
    pub(crate) maps: &'a [Map],
    pub(crate) btf: Option<&'a BtfObject>,
    pub(crate) externs: &'a [Resolved],
    pub(crate) options: &'a LoadOptions,
}

/// Loads one program.
pub(crate) fn load(program: &ProgramSpec, around: &Around<'_>, types: &mut KernelTypes) -> Result<Program, LoadError> {
    if program.hook.prog_type == ProgramType::Unspec {
        return Err(LoadError::Invalid {
            object: format!("program `{}`", program.name),
            why: format!("no convention has a section `{}`; {}", program.section, meant(&program.section)),
        });
    }
    let hook_error = |cause| LoadError::Hook { name: program.name.clone(), cause };
    let extends = around.options.extends.get(&program.name);
    let place = hooks::resolve(program, extends, types).map_err(hook_error)?;
    let mut completed = complete(program, around, types)?;
    let funcs: Vec<(u32, u32)> = program.funcs.iter().map(|f| (f.start.0, f.ty.0)).collect();
    let typed = around.btf.is_some() && !funcs.is_empty() && funcs.iter().all(|(_, ty)| *ty != 0);
    let lines = if typed { line_records(program) } else { Vec::new() };
    let mut params = ProgramParams::new(&program.name, program.hook.prog_type, &completed.insns, &around.spec.license);
    params.kernel_version = around.spec.kernel_version;
    params.attach_type = program.hook.attach_type;
    params.flags = load_flags(program);
    if typed {
        params.btf = around.btf.map(BtfObject::fd);
        params.funcs = &funcs;
        params.lines = &lines;
    }
    match place {
        Place::Nothing => {}
        Place::Kernel(id) => params.attach_btf_id = id.0,
        Place::Module(id, module) => {
            params.attach_btf_id = id.0;
            params.attach_target = types.module(module).map(|m| m.object.fd());
        }
        Place::Program(id) => {
            params.attach_btf_id = id.0;
            params.attach_target = extends.map(AsFd::as_fd);
        }
    }
    params.fd_array = &completed.fd_array;
    let refused = match Program::load_with(&params, around.options.log_level, around.options.refusal_level) {
        Ok(loaded) => return Ok(loaded),
        Err(refused) => refused,
    };
    completed.poisoned.extend(program.poisoned.iter().cloned());
    Err(explain(program, around, refused, &completed.poisoned))
}

/// What to write in place of a section name that says nothing.
fn meant(section: &str) -> String {
    match skep_object::sections::near(section).as_slice() {
        [] => "name it after a hook, such as SEC(\"xdp\") or SEC(\"tracepoint/sched/sched_switch\")".into(),
        near => format!("did you mean {}?", near.join(", ")),
    }
}

fn load_flags(program: &ProgramSpec) -> u32 {
    let mut out = 0;
    if program.hook.sleepable || program.hook.prog_type == ProgramType::Syscall {
        out |= flags::SLEEPABLE;
    }
    if program.hook.xdp_frags {
        out |= flags::XDP_HAS_FRAGS;
    }
    out
}

/// The kernel wants them in order, one an instruction.
fn line_records(program: &ProgramSpec) -> Vec<LineRecord> {
    let mut lines: Vec<LineRecord> = program
        .lines
        .iter()
        .map(|l| LineRecord {
            insn: l.insn.0,
            file_name_off: l.file_name_off,
            text_off: l.text_off,
            line: l.line,
            column: l.column,
        })
        .collect();
    lines.sort_by_key(|l| l.insn);
    lines.dedup_by_key(|l| l.insn);
    lines.retain(|l| (l.insn as usize) < program.insns.len());
    lines
}

/// Instructions with everything in place.
struct Completed {
    insns: Vec<Raw>,
    /// Descriptors of module types, from index 1.
    fd_array: Vec<i32>,
    poisoned: Vec<(InsnIdx, String)>,
}

fn complete(program: &ProgramSpec, around: &Around<'_>, types: &KernelTypes) -> Result<Completed, LoadError> {
    let mut out = Completed { insns: program.insns.clone(), fd_array: Vec::new(), poisoned: Vec::new() };
    for reloc in &program.relocs {
        let at = reloc.insn.as_usize();
        let invalid = |why: &str| LoadError::Invalid {
            object: format!("program `{}`, instruction {}", program.name, reloc.insn),
            why: why.to_owned(),
        };
        let map_fd = |index: usize| {
            around
                .maps
                .get(index)
                .map(|m| m.fd().as_raw_fd())
                .ok_or_else(|| invalid("it refers to a map that is not there"))
        };
        match reloc.kind {
            RelocKind::Map(map) => {
                let fd = map_fd(map.0)?;
                let (first, second) = wide(&mut out.insns, at).ok_or_else(|| invalid("no wide load"))?;
                (first.src, first.imm, second.imm) = (PSEUDO_MAP_FD, fd, 0);
            }
            RelocKind::MapValue(map) => {
                let fd = map_fd(map.0)?;
                let (first, _) = wide(&mut out.insns, at).ok_or_else(|| invalid("no wide load"))?;
                (first.src, first.imm) = (PSEUDO_MAP_VALUE, fd);
            }
            RelocKind::Extern(index) => {
                let resolved = around.externs.get(index.0).copied().unwrap_or(Resolved::Unused);
                let (first, second) = wide(&mut out.insns, at).ok_or_else(|| invalid("no wide load"))?;
                match resolved {
                    Resolved::Kconfig { map, offset } => {
                        (first.src, first.imm, second.imm) = (PSEUDO_MAP_VALUE, map_fd(map.0)?, offset as i32);
                    }
                    Resolved::Address(address) => {
                        (first.src, first.imm, second.imm) = (0, address as u32 as i32, (address >> 32) as i32);
                    }
                    Resolved::Btf(found) => {
                        let fd = found.module.and_then(|m| types.module(m)).map_or(0, |m| m.object.raw_fd());
                        (first.src, first.imm, second.imm) = (PSEUDO_BTF_ID, found.id.0 as i32, fd);
                    }
                    Resolved::Missing => (first.src, first.imm, second.imm) = (0, 0, 0),
                    Resolved::Unused => return Err(invalid("it refers to an extern that was not looked up")),
                }
            }
            RelocKind::ExternCall(index) => {
                let resolved = around.externs.get(index.0).copied().unwrap_or(Resolved::Unused);
                let name = around.spec.externs.get(index.0).map_or("", |e| &e.name);
                let insn = out.insns.get_mut(at).ok_or_else(|| invalid("no call"))?;
                match resolved {
                    Resolved::Btf(found) => {
                        insn.src = PSEUDO_KFUNC_CALL;
                        insn.imm = found.id.0 as i32;
                        insn.off = match found.module.and_then(|m| types.module(m)) {
                            None => 0,
                            Some(module) => slot(&mut out.fd_array, module.object.raw_fd())
                                .ok_or_else(|| invalid("functions of too many modules"))?,
                        };
                    }
                    Resolved::Missing => {
                        *insn = POISON;
                        out.poisoned.push((reloc.insn, format!("kernel function {name} does not exist here")));
                    }
                    _ => return Err(invalid("it calls something that is no kernel function")),
                }
            }
        }
    }
    Ok(out)
}

fn wide(insns: &mut [Raw], at: usize) -> Option<(&mut Raw, &mut Raw)> {
    match insns.get_mut(at..at.checked_add(2)?)? {
        [first, second] if first.is_wide() => Some((first, second)),
        _ => None,
    }
}

/// The index of a descriptor in the array, which it is added to; index 0 means the kernel itself.
fn slot(fds: &mut Vec<i32>, fd: i32) -> Option<i16> {
    if fds.is_empty() {
        fds.push(0);
    }
    let index = fds.iter().skip(1).position(|f| *f == fd).map(|i| i + 1).unwrap_or_else(|| {
        fds.push(fd);
        fds.len() - 1
    });
    i16::try_from(index).ok()
}

/// A refusal in words.
fn explain(
    program: &ProgramSpec,
    around: &Around<'_>,
    refused: LoadRefused,
    poisoned: &[(InsnIdx, String)],
) -> LoadError {
    let what = format!("program `{}` ({})", program.name, program.section);
    let LoadRefused { errno, log, .. } = refused;
    let verified = log.lines().any(|l| l.starts_with("processed "));
    if !verified && matches!(errno.0, libc::EPERM | libc::EACCES) && log.trim().is_empty() {
        let needed = privilege::needed(Some(program.hook.prog_type));
        if privilege::cause(needed).is_none() && uses_trampoline(program) {
            return LoadError::Unsupported {
                what,
                why: "this kernel lets nobody load programs of this kind, not even root with every capability (a hardened \
                      kernel without BPF trampolines)"
                    .into(),
                remedy: "use a tracepoint, tp_btf or raw tracepoint program, or another kernel".into(),
            };
        }
        let (missing, remedy) = privilege::diagnose(needed);
        return LoadError::Permission { object: what, missing, remedy };
    }
    if !verified
        && (log.trim().is_empty() || errno == Errno::ENOTSUPP)
        && let Some((why, remedy)) = unsupported(program, errno)
    {
        return LoadError::Unsupported { what, why, remedy };
    }
    let mut refusal = Refusal::new(&program.name, errno, &log);
    if let Some(insn) = refusal.insn {
        if let Some((_, why)) = poisoned.iter().find(|(at, _)| *at == insn) {
            refusal.poisoned = Some(why.clone());
            refusal.message = format!("reached a relocation that could not be satisfied: {why}");
        }
        // The object's own records are better than what the log quotes: they have file and column.
        if let (Some(btf), Some(line)) = (&around.spec.btf, program.line_of(insn)) {
            let string = |off| btf.string(off).unwrap_or_default();
            let found = SourceLine {
                file: string(line.file_name_off).to_owned(),
                line: line.line,
                column: line.column,
                text: string(line.text_off).trim().to_owned(),
            };
            if found.line > 0 {
                refusal.source = Some(found);
            }
        }
    }
    LoadError::Program(Box::new(refusal))
}

/// Whether the kernel rewrites the start of a function to call the program.
fn uses_trampoline(program: &ProgramSpec) -> bool {
    match program.hook.prog_type {
        ProgramType::Lsm | ProgramType::Ext | ProgramType::StructOps => true,
        ProgramType::Tracing => matches!(program.hook.target, Target::BtfFunc(_)),
        _ => false,
    }
}

/// Whether it is this kernel that can't, by asking for the least program of the same type.
fn unsupported(program: &ProgramSpec, errno: Errno) -> Option<(String, String)> {
    let hook = &program.hook;
    let asks_too_much = errno.is_unsupported() || errno.0 == libc::EINVAL;
    if asks_too_much && !features::program_type(hook.prog_type).is_supported() {
        return Some((
            format!("this kernel does not take programs of type {}", hook.prog_type),
            format!(
                "it came with Linux {} and may have been left out of this kernel's configuration; `skep doctor` tells \
                 what runs here",
                hook.prog_type.since()
            ),
        ));
    }
    if errno == Errno::ENOTSUPP {
        return Some((
            "the kernel cannot attach programs there".into(),
            "use a tracepoint or a kprobe instead; `skep doctor` tells what runs here".into(),
        ));
    }
    None
}

impl From<Error> for LoadError {
    fn from(cause: Error) -> LoadError {
        LoadError::Btf { what: cause.to_string(), log: String::new() }
    }
}
