//! Tracepoints of the embedded engine: which there are, how their records look, and how an event becomes a record.
//!
//! ```
//! use skep_vm::source::tracepoints;
//! let openat = tracepoints::lookup("syscalls", "sys_enter_openat").ok_or("no such tracepoint")?;
//! assert_eq!(openat.field("filename").map(|field| (field.offset, field.size)), Some((24, 8)));
//! let message = tracepoints::find("sched", "sched_proces_exec").unwrap_err().to_string();
//! assert!(message.contains("did you mean sched/sched_process_exec or"), "{message}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layouts are those of Linux 6.12, as the files `events/*/*/format` of tracefs say, with two additions of later kernels
//! behind them: `sched_process_exit` has `group_dead` (6.16), and `sched_process_fork` has both its names twice, as the arrays
//! of 16 bytes that it had up to 6.15 and as the `__data_loc` words that it has since. So a program that was built for either
//! works: by CO-RE, as [`vm_btf`] names both, and without for the layout up to 6.15.
//!
//! `common_type` is a number of our own, unlike on any kernel (they differ too); the kernel gives programs no access to
//! those first eight bytes anyway. `syscalls/...` are for 64-bit calls only, as in the kernel.

mod layout;
mod syscall_args;
mod types;

pub use layout::{Field, Layout, TaskFacts};
pub use types::vm_btf;

use super::syscalls::{Arch, Event, EventKind};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Why there is no such tracepoint here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// The kernel has it, but the embedded engine cannot fire it.
    #[error("the embedded engine has no tracepoint {category}/{name}: {reason}")]
    #[expect(missing_docs, reason = "plain")]
    Unsuited { category: String, name: String, reason: &'static str },
    /// Nobody knows it.
    #[error("there is no tracepoint {category}/{name}{}", hint(.near))]
    #[expect(missing_docs, reason = "plain")]
    Unknown { category: String, name: String, near: Vec<String> },
}

fn hint(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

struct Table {
    layouts: Vec<Layout>,
    by_name: HashMap<(&'static str, &'static str), usize>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let layouts = layout::all();
        let by_name = layouts.iter().enumerate().map(|(i, layout)| ((layout.category, layout.name), i)).collect();
        Table { layouts, by_name }
    })
}

/// All of them.
pub fn all() -> &'static [Layout] {
    &table().layouts
}

/// The tracepoint `category/name`.
pub fn lookup(category: &str, name: &str) -> Option<&'static Layout> {
    let table = table();
    table.by_name.get(&(category, name)).and_then(|&index| table.layouts.get(index))
}

/// As [`lookup`], with the reason when there is none.
///
/// # Errors
/// [`Missing`], which is a message to print.
pub fn find(category: &str, name: &str) -> Result<&'static Layout, Missing> {
    if let Some(layout) = lookup(category, name) {
        return Ok(layout);
    }
    let (category, name) = (category.to_owned(), name.to_owned());
    if let Some(reason) = unsuited(&category, &name) {
        return Err(Missing::Unsuited { category, name, reason });
    }
    let whole = format!("{category}/{name}");
    let mut near: Vec<(f64, String)> = all()
        .iter()
        .map(|layout| format!("{}/{}", layout.category, layout.name))
        .map(|known| (strsim::jaro_winkler(&whole, &known), known))
        .filter(|(like, _)| *like > 0.93)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.truncate(2);
    let near = near.into_iter().map(|(_, known)| known).collect();
    Err(Missing::Unknown { category, name, near })
}

/// Why an event of the kernel has no counterpart here.
fn unsuited(category: &str, name: &str) -> Option<&'static str> {
    const SOURCE: &str =
        "its events are system calls, forks, execs, exits and delivered signals of the command after `--`";
    match (category, name) {
        ("signal", "signal_generate") => Some(
            "ptrace shows a signal when it is delivered, not when it is sent; use signal/signal_deliver or the kernel engine",
        ),
        ("sched", "sched_switch" | "sched_wakeup" | "sched_wakeup_new" | "sched_waking" | "sched_migrate_task") => {
            Some("only the kernel sees its scheduler at work; use the kernel engine")
        }
        ("sched", name) if name.starts_with("sched_stat_") => {
            Some("only the kernel sees its scheduler at work; use the kernel engine")
        }
        ("raw_syscalls" | "sched" | "signal" | "syscalls", _) => None,
        _ => Some(SOURCE),
    }
}

/// The tracepoints that an event fires, in the kernel's order: the general one, then that of the one call.
pub fn of_event(event: &Event) -> impl Iterator<Item = &'static Layout> {
    let (category, name, call) = match &event.kind {
        EventKind::SysEnter(enter) => ("raw_syscalls", "sys_enter", Some((enter.arch, enter.number))),
        EventKind::SysExit(exit) => ("raw_syscalls", "sys_exit", Some((exit.arch, exit.number))),
        EventKind::Fork(_) => ("sched", "sched_process_fork", None),
        EventKind::Exec(_) => ("sched", "sched_process_exec", None),
        EventKind::Exit(_) => ("sched", "sched_process_exit", None),
        EventKind::Signal(_) => ("signal", "signal_deliver", None),
    };
    let entering = matches!(event.kind, EventKind::SysEnter(_));
    let of_call = call
        .filter(|(arch, _)| *arch == Arch::X86_64)
        .and_then(|(_, number)| u32::try_from(number).ok())
        .and_then(|number| if entering { layout::enter_of(number) } else { layout::exit_of(number) });
    lookup(category, name).into_iter().chain(of_call)
}

/// An argument of a raw tracepoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawArg {
    /// A pointer to the registers, a `struct pt_regs` of 168 bytes.
    Registers,
    /// The number of the system call.
    Number,
    /// Its result.
    Result,
}

/// The arguments of the raw tracepoint with this name (`raw_tp/sys_enter`, `tp_btf/sys_enter`).
///
/// # Errors
/// [`Missing`] for all but `sys_enter` and `sys_exit`: the others get pointers to the kernel's own structs, such as `struct
/// task_struct`, which do not exist here.
pub fn raw(name: &str) -> Result<&'static [RawArg], Missing> {
    const STRUCTS: &str = "as a raw tracepoint it is given pointers to structs of the kernel (struct task_struct and others), \
                           which do not exist outside of it; use the tracepoint of the same name";
    let category = "raw tracepoint ".to_owned();
    match name {
        "sys_enter" => Ok(&[RawArg::Registers, RawArg::Number]),
        "sys_exit" => Ok(&[RawArg::Registers, RawArg::Result]),
        "sched_process_fork" | "sched_process_exec" | "sched_process_exit" | "signal_deliver" => {
            let category = if name == "signal_deliver" { "signal" } else { "sched" }.to_owned();
            Err(Missing::Unsuited { category, name: name.to_owned(), reason: STRUCTS })
        }
        _ => match all().iter().find(|layout| layout.name == name) {
            Some(layout) => Err(Missing::Unsuited {
                category: layout.category.to_owned(),
                name: name.to_owned(),
                reason: "system calls one by one are no raw tracepoints; use the raw tracepoint sys_enter or sys_exit",
            }),
            None => Err(Missing::Unsuited {
                category: category.trim_end().to_owned(),
                name: name.to_owned(),
                reason: "of the raw tracepoints it has sys_enter and sys_exit",
            }),
        },
    }
}

/// The registers of a task as the `struct pt_regs` that raw tracepoints and kprobes are given.
pub fn pt_regs(registers: &[u64; 27]) -> [u8; 168] {
    let mut bytes = [0; 168];
    for (to, word) in bytes.chunks_exact_mut(8).zip(registers) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests;
