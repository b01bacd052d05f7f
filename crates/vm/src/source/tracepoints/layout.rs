//! The layouts, and how an event is written in one.

use super::super::syscalls::{Calls, Event, EventKind, Task, Wants};
use super::syscall_args::ARGUMENTS;
use skep_abi::syscalls::{Arch, by_number};
use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

/// A field of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, `__syscall_nr`.
    pub name: &'static str,
    /// Its type as the `format` file has it: `const char *`, `char[16]`, `__data_loc char[]`.
    pub c_type: &'static str,
    /// Where it is, in bytes.
    pub offset: u16,
    /// How many bytes it has.
    pub size: u16,
    /// Whether it is signed. As in `format` files a system call's arguments never are: each is stored as an `unsigned long`.
    pub signed: bool,
}

/// What is written where in the record of a tracepoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// `common_type`, a number of our own.
    pub id: u16,
    /// Such as `syscalls`.
    pub category: &'static str,
    /// Such as `sys_enter_openat`.
    pub name: &'static str,
    /// All fields with the four common ones, by offset.
    pub fields: Vec<Field>,
    /// Where the last field ends. A program may not access the context from there on, as the kernel checks when it attaches
    /// one; text that a `__data_loc` word points to follows.
    pub size: u16,
    kind: Kind,
}

/// Which event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    AnyEnter,
    AnyExit,
    /// The call and how many arguments it has.
    Enter(u32, u8),
    Exit(u32),
    Fork,
    Exec,
    TaskExit,
    Signal,
}

/// What a record tells of the task besides the event; a [`Task`] knows it.
pub trait TaskFacts {
    /// Its name.
    fn comm(&self) -> [u8; 16];
    /// The kernel's `task->prio`.
    fn prio(&self) -> i32;
}

impl TaskFacts for Task<'_> {
    fn comm(&self) -> [u8; 16] {
        Task::comm(self)
    }

    fn prio(&self) -> i32 {
        /// That of an ordinary task with nice 0, for one that is gone.
        const DEFAULT_PRIO: i32 = 120;
        self.prio_cpu().map_or(DEFAULT_PRIO, |(prio, _)| prio)
    }
}

impl Layout {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Adds what this tracepoint needs to what a tracer is to report.
    pub fn add_to(&self, wants: &mut Wants) {
        let only = |number| Calls::Only(BTreeSet::from([number]));
        match self.kind {
            Kind::AnyEnter => wants.enter = Calls::All,
            Kind::AnyExit => wants.exit = Calls::All,
            Kind::Enter(number, _) => wants.enter.add(&only(number)),
            Kind::Exit(number) => wants.exit.add(&only(number)),
            Kind::Fork => wants.fork = true,
            Kind::Exec => wants.exec = true,
            Kind::TaskExit => wants.task_exit = true,
            Kind::Signal => wants.signal = true,
        }
    }

    /// Writes the event as this tracepoint's record, its length a multiple of 8. False, and nothing written, if the event is
    /// another's.
    pub fn encode(&self, event: &Event, task: &dyn TaskFacts, out: &mut Vec<u8>) -> bool {
        out.clear();
        let tid = event.tid as i32;
        out.extend(self.id.to_ne_bytes());
        // common_flags, common_preempt_count.
        out.extend([0, 0]);
        out.extend(tid.to_ne_bytes());
        match (self.kind, &event.kind) {
            (Kind::AnyEnter, EventKind::SysEnter(enter)) => {
                out.extend(enter.number.to_ne_bytes());
                out.extend(enter.args.iter().flat_map(|arg| arg.to_ne_bytes()));
            }
            (Kind::AnyExit, EventKind::SysExit(exit)) => {
                out.extend(exit.number.to_ne_bytes());
                out.extend(exit.result.to_ne_bytes());
            }
            (Kind::Enter(number, count), EventKind::SysEnter(enter)) if enter.number == i64::from(number) => {
                out.extend(i64::from(number).to_ne_bytes());
                out.extend(enter.args.iter().take(count.into()).flat_map(|arg| arg.to_ne_bytes()));
            }
            (Kind::Exit(number), EventKind::SysExit(exit)) if exit.number == i64::from(number) => {
                out.extend(i64::from(number).to_ne_bytes());
                out.extend(exit.result.to_ne_bytes());
            }
            (Kind::Fork, EventKind::Fork(fork)) => {
                // A new task has its parent's name.
                let comm = task.comm();
                out.extend(comm);
                out.extend(tid.to_ne_bytes());
                out.extend(comm);
                out.extend((fork.child_tid as i32).to_ne_bytes());
                let text = until_nul(&comm);
                let length = text.len() + 1;
                out.extend(data_loc(self.size.into(), length).to_ne_bytes());
                out.extend(data_loc(usize::from(self.size) + length, length).to_ne_bytes());
                for _ in 0..2 {
                    out.extend(text);
                    out.push(0);
                }
            }
            (Kind::Exec, EventKind::Exec(exec)) => {
                let text = until_nul(&exec.filename);
                // The word has 16 bits for the length; execve(2) takes no path longer than 4096 anyway.
                let text = text.get(..text.len().min(0x7fff)).unwrap_or_default();
                out.extend(data_loc(self.size.into(), text.len() + 1).to_ne_bytes());
                out.extend(tid.to_ne_bytes());
                out.extend((exec.old_tid as i32).to_ne_bytes());
                out.extend(text);
                out.push(0);
            }
            (Kind::TaskExit, EventKind::Exit(exit)) => {
                out.extend(task.comm());
                out.extend(tid.to_ne_bytes());
                out.extend(task.prio().to_ne_bytes());
                out.push(exit.group_dead.into());
            }
            (Kind::Signal, EventKind::Signal(signal)) => {
                for number in [signal.signal, signal.errno, signal.code, 0] {
                    out.extend(number.to_ne_bytes());
                }
                out.extend(signal.handler.to_ne_bytes());
                out.extend(signal.handler_flags.to_ne_bytes());
            }
            _ => {
                out.clear();
                return false;
            }
        }
        out.resize(out.len().next_multiple_of(8), 0);
        true
    }
}

/// Where text stands in a record: the offset below, its length with the NUL above.
fn data_loc(offset: usize, length: usize) -> u32 {
    (offset & 0xffff) as u32 | (length as u32) << 16
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Name, C type, size, signed.
type Part = (&'static str, &'static str, u16, bool);

/// Lays the fields out behind the common ones as a C compiler does, each aligned to its size (arrays and text are bytes).
fn layout(kind: Kind, category: &'static str, name: &'static str, parts: &[Part]) -> Layout {
    let common: [Part; 4] = [
        ("common_type", "unsigned short", 2, false),
        ("common_flags", "unsigned char", 1, false),
        ("common_preempt_count", "unsigned char", 1, false),
        ("common_pid", "int", 4, true),
    ];
    let mut fields = Vec::with_capacity(4 + parts.len());
    let mut end = 0u16;
    for &(name, c_type, size, signed) in common.iter().chain(parts) {
        let align = if c_type.starts_with("char[") {
            1
        } else if name == "args" {
            8
        } else {
            size
        };
        let offset = end.next_multiple_of(align);
        fields.push(Field { name, c_type, offset, size, signed });
        end = offset + size;
    }
    Layout { id: 0, category, name, fields, size: end, kind }
}

/// `sys_enter_` and `sys_exit_` with a call's name: made once and kept, as the table is.
fn kept(prefix: &str, name: &str) -> &'static str {
    Box::leak(format!("{prefix}{name}").into_boxed_str())
}

/// Makes all layouts; called once.
pub(super) fn all() -> Vec<Layout> {
    let id: Part = ("id", "long", 8, true);
    let nr: Part = ("__syscall_nr", "int", 4, true);
    let ret: Part = ("ret", "long", 8, true);
    let pid: Part = ("pid", "pid_t", 4, true);
    let mut layouts = vec![
        layout(Kind::AnyEnter, "raw_syscalls", "sys_enter", &[id, ("args", "unsigned long[6]", 48, false)]),
        layout(Kind::AnyExit, "raw_syscalls", "sys_exit", &[id, ret]),
        layout(
            Kind::Fork,
            "sched",
            "sched_process_fork",
            &[
                ("parent_comm", "char[16]", 16, false),
                ("parent_pid", "pid_t", 4, true),
                ("child_comm", "char[16]", 16, false),
                ("child_pid", "pid_t", 4, true),
                ("__data_loc_parent_comm", "__data_loc char[]", 4, false),
                ("__data_loc_child_comm", "__data_loc char[]", 4, false),
            ],
        ),
        layout(
            Kind::Exec,
            "sched",
            "sched_process_exec",
            &[("filename", "__data_loc char[]", 4, false), pid, ("old_pid", "pid_t", 4, true)],
        ),
        layout(
            Kind::TaskExit,
            "sched",
            "sched_process_exit",
            &[("comm", "char[16]", 16, false), pid, ("prio", "int", 4, true), ("group_dead", "bool", 1, false)],
        ),
        layout(
            Kind::Signal,
            "signal",
            "signal_deliver",
            &[
                ("sig", "int", 4, true),
                ("errno", "int", 4, true),
                ("code", "int", 4, true),
                ("sa_handler", "unsigned long", 8, false),
                ("sa_flags", "unsigned long", 8, false),
            ],
        ),
    ];
    for call in skep_abi::syscalls::all(Arch::X86_64) {
        let Some(entry) = call.entry else { continue };
        let Ok(arguments) = ARGUMENTS.binary_search_by_key(&entry, |(name, _)| name) else { continue };
        let Some(&(_, arguments)) = ARGUMENTS.get(arguments) else { continue };
        let mut parts = vec![nr];
        parts.extend(arguments.split(", ").filter(|text| !text.is_empty()).map(|argument| {
            let (c_type, name) = argument.rsplit_once(' ').unwrap_or(("", argument));
            (name, c_type, 8, false)
        }));
        let count = (parts.len() - 1) as u8;
        layouts.push(layout(Kind::Enter(call.number, count), "syscalls", kept("sys_enter_", entry), &parts));
        layouts.push(layout(Kind::Exit(call.number), "syscalls", kept("sys_exit_", entry), &[nr, ret]));
    }
    for (index, layout) in layouts.iter_mut().enumerate() {
        layout.id = index as u16 + 1;
    }
    layouts
}

/// The tracepoint of a call's start, by its number.
pub(super) fn enter_of(number: u32) -> Option<&'static Layout> {
    by_call(number).map(|(enter, _)| enter)
}

/// The tracepoint of a call's end, by its number.
pub(super) fn exit_of(number: u32) -> Option<&'static Layout> {
    by_call(number).map(|(_, exit)| exit)
}

type Pair = (&'static Layout, &'static Layout);

fn by_call(number: u32) -> Option<Pair> {
    static CALLS: OnceLock<HashMap<u32, Pair>> = OnceLock::new();
    let calls = CALLS.get_or_init(|| {
        let pairs = super::all().windows(2).filter_map(|pair| match pair {
            [enter, exit] => match (enter.kind, exit.kind) {
                (Kind::Enter(number, _), Kind::Exit(same)) if number == same => Some((number, (enter, exit))),
                _ => None,
            },
            _ => None,
        });
        pairs.collect()
    });
    calls.get(&by_number(Arch::X86_64, number)?.number).copied()
}
