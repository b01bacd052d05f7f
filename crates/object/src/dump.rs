//! [`ObjectSpec`] -> text, for tests and for people who want to see what a file says.
//!
//! One line for each fact, programs as listings with what each instruction waits for behind it. Every number that is
//! the same on every machine is shown; type ids are shown as names.

use std::fmt::{self, Display, Formatter};

use skep_btf::{Btf, TypeId};
use skep_isa::{Annotate, Endian, Insn, InsnIdx, Listing};

use crate::{
    ExternKind, ExternSpec, Hook, InitialValue, MapOrigin, MapSpec, ObjectSpec, ProgramSpec, RelocKind, Target, core,
};

/// Data sections up to this many bytes are shown as hexadecimal.
const SHOWN_DATA: usize = 64;

/// A spec to be displayed, see [`ObjectSpec::dump`].
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a>(&'a ObjectSpec);

impl ObjectSpec {
    /// The whole spec as text.
    pub fn dump(&self) -> Dump<'_> {
        Dump(self)
    }
}

impl Display for Dump<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let spec = self.0;
        let endian = if spec.endian == Endian::Little { "little" } else { "big" };
        writeln!(
            f,
            "object {} ({endian} endian) license {:?} version {}",
            spec.name, spec.license, spec.kernel_version
        )?;
        for warning in &spec.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for map in &spec.maps {
            show_map(f, spec, map, "")?;
        }
        for found in &spec.externs {
            show_extern(f, spec, found)?;
        }
        for program in &spec.programs {
            show_program(f, spec, program)?;
        }
        Ok(())
    }
}

fn type_name(btf: Option<&Btf>, id: TypeId) -> String {
    match btf {
        _ if id == TypeId::VOID => "?".to_owned(),
        Some(btf) => btf.type_name(id),
        None => "?".to_owned(),
    }
}

fn show_map(f: &mut Formatter<'_>, spec: &ObjectSpec, map: &MapSpec, indent: &str) -> fmt::Result {
    let btf = spec.btf.as_ref();
    let origin = match map.origin {
        MapOrigin::Declared => "",
        MapOrigin::Legacy => " legacy",
        MapOrigin::Rodata => " rodata",
        MapOrigin::Data => " data",
        MapOrigin::Bss => " bss",
        MapOrigin::Kconfig => " kconfig",
    };
    write!(
        f,
        "{indent}map {}{origin} {} key {} value {} entries {} flags {:#x}",
        map.name, map.map_type, map.key_size, map.value_size, map.max_entries, map.flags
    )?;
    if map.numa_node != 0 {
        write!(f, " numa {}", map.numa_node)?;
    }
    if map.map_extra != 0 {
        write!(f, " extra {:#x}", map.map_extra)?;
    }
    if map.pin_by_name {
        f.write_str(" pinned")?;
    }
    writeln!(f)?;
    for (what, ty) in [("key", map.key_type), ("value", map.value_type), ("record", map.record_type)] {
        if let Some(ty) = ty {
            writeln!(f, "{indent}  {what} type {}", type_name(btf, ty))?;
        }
    }
    if let Some(inner) = &map.inner {
        show_map(f, spec, inner, &format!("{indent}  "))?;
    }
    for slot in &map.initial {
        let (kind, name) = match slot.value {
            InitialValue::Map(index) => ("map", spec.maps.get(index.0).map_or("?", |m| &m.name)),
            InitialValue::Program(index) => ("program", spec.programs.get(index.0).map_or("?", |p| &p.name)),
        };
        writeln!(f, "{indent}  slot {} = {kind} {name}", slot.slot)?;
    }
    for var in &map.vars {
        let scope = if var.is_static { "static " } else { "" };
        let (name, ty) = (&var.name, type_name(btf, var.ty));
        writeln!(f, "{indent}  at {} {scope}{name}: {ty} ({} bytes)", var.offset, var.size)?;
    }
    if let Some(data) = map.data.as_deref().filter(|d| d.len() <= SHOWN_DATA && d.iter().any(|b| *b != 0)) {
        write!(f, "{indent}  data")?;
        for word in data.chunks(4) {
            f.write_str(" ")?;
            for byte in word {
                write!(f, "{byte:02x}")?;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn show_extern(f: &mut Formatter<'_>, spec: &ObjectSpec, found: &ExternSpec) -> fmt::Result {
    let btf = spec.btf.as_ref();
    let weak = if found.weak { "weak " } else { "" };
    write!(f, "extern {weak}{} ", found.name)?;
    match found.kind {
        ExternKind::Kconfig { offset, size, ty } => {
            writeln!(f, "kconfig at {offset}: {} ({size} bytes)", type_name(btf, ty))
        }
        ExternKind::TypedKsym { ty } => writeln!(f, "ksym: {}", type_name(btf, ty)),
        ExternKind::UntypedKsym => writeln!(f, "ksym"),
        ExternKind::Kfunc { ty } => writeln!(f, "kfunc: {}", type_name(btf, ty)),
    }
}

/// A hook as one line: `kprobe` `attach=...` `target=...` and its flags.
impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type={}", self.prog_type)?;
        if let Some(attach) = self.attach_type {
            write!(f, " attach={attach}")?;
        }
        if self.target != Target::Unspecified {
            write!(f, " target={}", self.target)?;
        }
        for (flag, name) in
            [(self.sleepable, "sleepable"), (self.xdp_frags, "frags"), (!self.autoload, "not-autoloaded")]
        {
            if flag {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// A target in the form of its section name, `-` for the part that the name leaves open.
impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let return_of = |ret: bool| if ret { "ret:" } else { "" };
        let session_of = |session: bool| if session { "session:" } else { "" };
        let one = |f: &mut Formatter<'_>, kind: &str, name: &Option<String>| {
            write!(f, "{kind}:{}", name.as_deref().unwrap_or("-"))
        };
        match self {
            Target::Unspecified => f.write_str("-"),
            Target::Tracepoint(Some((category, name))) => write!(f, "tracepoint:{category}/{name}"),
            Target::Tracepoint(None) => f.write_str("tracepoint:-"),
            Target::RawTracepoint(name) => one(f, "raw_tracepoint", name),
            Target::BtfTracepoint(name) => one(f, "btf_tracepoint", name),
            Target::BtfFunc(name) => one(f, "function", name),
            Target::Lsm(name) => one(f, "lsm", name),
            Target::Iter(name) => one(f, "iter", name),
            Target::StructOps(name) => one(f, "struct_ops", name),
            Target::Kprobe { func, ret } => match func {
                Some((func, 0)) => write!(f, "kprobe:{}{func}", return_of(*ret)),
                Some((func, offset)) => write!(f, "kprobe:{}{func}+{offset:#x}", return_of(*ret)),
                None => write!(f, "kprobe:{}-", return_of(*ret)),
            },
            Target::KprobeMulti { pattern, ret, session } => {
                let pattern = pattern.as_deref().unwrap_or("-");
                write!(f, "kprobes:{}{}{pattern}", return_of(*ret), session_of(*session))
            }
            Target::Ksyscall { name, ret } => {
                write!(f, "syscall:{}{}", return_of(*ret), name.as_deref().unwrap_or("-"))
            }
            Target::Uprobe { at, ret } => match at {
                Some(at) => {
                    write!(f, "uprobe:{}{}:", return_of(*ret), at.binary)?;
                    match (&at.func, at.offset) {
                        (Some(func), 0) => f.write_str(func),
                        (Some(func), offset) => write!(f, "{func}+{offset:#x}"),
                        (None, offset) => write!(f, "{offset:#x}"),
                    }
                }
                None => write!(f, "uprobe:{}-", return_of(*ret)),
            },
            Target::UprobeMulti { at, ret, session } => {
                write!(f, "uprobes:{}{}", return_of(*ret), session_of(*session))?;
                match at {
                    Some((path, pattern)) => write!(f, "{path}:{pattern}"),
                    None => f.write_str("-"),
                }
            }
            Target::Usdt(Some((path, provider, name))) => write!(f, "usdt:{path}:{provider}:{name}"),
            Target::Usdt(None) => f.write_str("usdt:-"),
        }
    }
}

struct Names<'a> {
    spec: &'a ObjectSpec,
    program: &'a ProgramSpec,
}

/// The entries of a list sorted by instruction that are at one.
fn at_insn<T>(list: &[T], at: InsnIdx, insn: impl Fn(&T) -> InsnIdx) -> impl Iterator<Item = &T> {
    let first = list.partition_point(|entry| insn(entry) < at);
    list.iter().skip(first).take_while(move |entry| insn(entry) == at)
}

impl Annotate for Names<'_> {
    fn before(&self, at: InsnIdx) -> Vec<String> {
        let mut lines: Vec<String> =
            at_insn(&self.program.funcs, at, |f| f.start).map(|func| format!("{}:", func.name)).collect();
        let btf = self.spec.btf.as_ref();
        let first = self.program.lines.partition_point(|line| line.insn < at);
        for (i, line) in self.program.lines.iter().enumerate().skip(first).take_while(|(_, line)| line.insn == at) {
            // Several columns of one line, one behind the other, are one line.
            let before = i.checked_sub(1).and_then(|i| self.program.lines.get(i));
            if before.is_some_and(|b| (b.line, b.text_off) == (line.line, line.text_off)) && lines.is_empty() {
                continue;
            }
            let text = btf.and_then(|btf| btf.string(line.text_off).ok()).unwrap_or("").trim();
            lines.push(format!("{} {text}", line.line));
        }
        lines
    }

    fn note(&self, at: InsnIdx, _: &Insn) -> Option<String> {
        let mut notes = Vec::new();
        if let Some(reloc) = at_insn(&self.program.relocs, at, |r| r.insn).next() {
            let extern_name = |i: crate::ExternIdx| self.spec.externs.get(i.0).map_or("?", |e| &e.name);
            let map_name = |i: crate::MapIdx| self.spec.maps.get(i.0).map_or("?", |m| &m.name);
            notes.push(match reloc.kind {
                RelocKind::Map(map) => format!("map {}", map_name(map)),
                RelocKind::MapValue(map) => {
                    let offset = self.program.insns.get(at.as_usize() + 1).map_or(0, |raw| raw.imm);
                    format!("{}+{offset}", map_name(map))
                }
                RelocKind::Extern(index) => format!("extern {}", extern_name(index)),
                RelocKind::ExternCall(index) => format!("kfunc {}", extern_name(index)),
            });
        }
        for reloc in at_insn(&self.program.core_relocs, at, |r| r.insn) {
            notes.push(format!("CO-RE {}", core::describe(self.spec.btf.as_ref(), reloc)));
        }
        for (_, why) in at_insn(&self.program.poisoned, at, |(insn, _)| *insn) {
            notes.push(format!("poisoned: {why}"));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    fn label(&self, target: InsnIdx) -> Option<String> {
        at_insn(&self.program.funcs, target, |f| f.start).next().map(|func| func.name.to_string())
    }
}

fn show_program(f: &mut Formatter<'_>, spec: &ObjectSpec, program: &ProgramSpec) -> fmt::Result {
    writeln!(f, "program {} section {} {}", program.name, program.section, program.hook)?;
    let names = Names { spec, program };
    write!(f, "{}", Listing::with(&program.insns, &names))
}
