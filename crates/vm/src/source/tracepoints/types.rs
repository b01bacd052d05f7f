//! The types of the embedded engine as BTF, for programs with CO-RE relocations.

use super::layout::Layout;
use super::lookup;
use skep_abi::context::registers;
use skep_btf::{Btf, Builder, Error, Int, Member, Type, TypeId};
use std::sync::OnceLock;

/// The types that programs find here instead of the kernel's: the structs of the tracepoint records (`struct
/// trace_event_raw_sys_enter` and so on), `struct trace_entry`, `struct syscall_trace_enter` and `_exit`, and `struct pt_regs`.
///
/// # Errors
/// None that can happen: the tests build it.
pub fn vm_btf() -> Result<Btf, Error> {
    static BTF: OnceLock<Result<Btf, Error>> = OnceLock::new();
    BTF.get_or_init(build).clone()
}

/// The types that the structs are made of.
struct Basics {
    int: TypeId,
    long: TypeId,
    unsigned_long: TypeId,
    unsigned_short: TypeId,
    unsigned_char: TypeId,
    bool: TypeId,
    u16: TypeId,
    u32: TypeId,
    u64: TypeId,
    pid_t: TypeId,
    args: TypeId,
    no_args: TypeId,
    comm: TypeId,
    no_text: TypeId,
}

fn basics(b: &mut Builder) -> Result<Basics, Error> {
    let int = b.int("int", 4, true)?;
    let unsigned_int = b.int("unsigned int", 4, false)?;
    let long = b.int("long int", 8, true)?;
    let unsigned_long = b.int("long unsigned int", 8, false)?;
    let long_long = b.int("long long unsigned int", 8, false)?;
    let unsigned_short = b.int("short unsigned int", 2, false)?;
    let unsigned_char = b.int("unsigned char", 1, false)?;
    let char = b.int("char", 1, true)?;
    let bool = Type::Int(Int { name: "_Bool", size: 1, bits: 8, offset: 0, signed: false, char: false, bool: true });
    let bool = b.add(&bool)?;
    let bool = b.typedef("bool", bool)?;
    let under_u16 = b.typedef("__u16", unsigned_short)?;
    let under_u32 = b.typedef("__u32", unsigned_int)?;
    let under_u64 = b.typedef("__u64", long_long)?;
    let kernel_pid = b.typedef("__kernel_pid_t", int)?;
    Ok(Basics {
        u16: b.typedef("u16", under_u16)?,
        u32: b.typedef("u32", under_u32)?,
        u64: b.typedef("u64", under_u64)?,
        pid_t: b.typedef("pid_t", kernel_pid)?,
        args: b.array(unsigned_long, int, 6)?,
        no_args: b.array(unsigned_long, int, 0)?,
        comm: b.array(char, int, 16)?,
        no_text: b.array(char, int, 0)?,
        int,
        long,
        unsigned_long,
        unsigned_short,
        unsigned_char,
        bool,
    })
}

fn build() -> Result<Btf, Error> {
    let mut b = Builder::new();
    let t = basics(&mut b)?;
    let entry = b.structure(
        "trace_entry",
        8,
        &[
            ("type", t.unsigned_short, 0),
            ("flags", t.unsigned_char, 16),
            ("preempt_count", t.unsigned_char, 24),
            ("pid", t.int, 32),
        ],
    )?;
    for (category, name) in [
        ("raw_syscalls", "sys_enter"),
        ("raw_syscalls", "sys_exit"),
        ("sched", "sched_process_fork"),
        ("sched", "sched_process_exec"),
        ("sched", "sched_process_exit"),
        ("signal", "signal_deliver"),
    ] {
        if let Some(layout) = lookup(category, name) {
            record(&mut b, &t, entry, layout)?;
        }
    }
    b.structure("syscall_trace_enter", 16, &[("ent", entry, 0), ("nr", t.int, 64), ("args", t.no_args, 128)])?;
    b.structure("syscall_trace_exit", 24, &[("ent", entry, 0), ("nr", t.int, 64), ("ret", t.long, 128)])?;
    pt_regs(&mut b, &t)?;
    Btf::parse(b.build()?)
}

/// `struct trace_event_raw_NAME` of a layout.
fn record(b: &mut Builder, t: &Basics, entry: TypeId, layout: &Layout) -> Result<(), Error> {
    let mut members = vec![("ent".to_owned(), entry, 0)];
    for field in layout.fields.iter().filter(|field| !field.name.starts_with("common_")) {
        let ty = match field.c_type {
            "long" => t.long,
            "unsigned long" => t.unsigned_long,
            "unsigned long[6]" => t.args,
            "char[16]" => t.comm,
            "pid_t" => t.pid_t,
            "bool" => t.bool,
            "__data_loc char[]" => t.u32,
            _ => t.int,
        };
        // A word that says where text is has that in its name.
        let name = match field.c_type.starts_with("__data_loc") && !field.name.starts_with("__data_loc") {
            true => format!("__data_loc_{}", field.name),
            false => field.name.to_owned(),
        };
        members.push((name, ty, u32::from(field.offset) * 8));
    }
    members.push(("__data".to_owned(), t.no_text, u32::from(layout.size) * 8));
    let members: Vec<_> = members.iter().map(|(name, ty, offset)| (name.as_str(), *ty, *offset)).collect();
    let align = if layout.fields.iter().any(|field| field.size > 4 && field.c_type != "char[16]") { 8 } else { 4 };
    let size = u32::from(layout.size).next_multiple_of(align);
    b.structure(&format!("trace_event_raw_{}", layout.name), size, &members)?;
    Ok(())
}

/// `struct pt_regs` of 64-bit x86; the selectors are as wide as Linux has had them since 6.9.
fn pt_regs(b: &mut Builder, t: &Basics) -> Result<(), Error> {
    let cs = b.union("", 8, &[("cs", t.u16), ("csx", t.u64)])?;
    let ss = b.union("", 8, &[("ss", t.u16), ("ssx", t.u64)])?;
    let registers = registers(skep_abi::syscalls::Arch::X86_64);
    let members = registers.all.iter().map(|register| {
        let (name, ty) = match register.name {
            "cs" => ("", cs),
            "ss" => ("", ss),
            name => (name, t.unsigned_long),
        };
        Member { name, ty, bit_offset: u32::from(register.offset) * 8, bit_size: 0 }
    });
    let members: Vec<_> = members.map(|member| (member.name, member.ty, member.bit_offset)).collect();
    b.structure("pt_regs", registers.size.into(), &members)?;
    Ok(())
}
