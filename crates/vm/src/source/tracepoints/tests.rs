use super::super::syscalls::{Calls, Exec, Exit, Fork, Signal, SysEnter, SysExit, Wants};
use super::*;
use skep_btf::{Btf, Kind};
use skep_kernel::mounts::TraceFs;

struct Facts;

impl TaskFacts for Facts {
    fn comm(&self) -> [u8; 16] {
        *b"make\0\0\0\0\0\0\0\0\0\0\0\0"
    }

    fn prio(&self) -> i32 {
        125
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t") && line.contains("\t0\t")))
}

/// The fields in a `format` file: type and name, offset, size, signed.
fn parse_format(text: &str) -> Vec<(String, u16, u16, bool)> {
    let value = |part: &str| part.split_once(':').map(|(_, value)| value.to_owned());
    let field = |line: &str| {
        let mut parts = line.trim().split(';').filter_map(value);
        Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()? == "1"))
    };
    text.lines().filter(|line| line.trim_start().starts_with("field:")).filter_map(field).collect()
}

/// A field of ours as the `format` file declares it.
fn declaration(field: &Field) -> String {
    match field.c_type.split_once('[') {
        Some((element, count)) if !field.c_type.starts_with("__data_loc") => {
            format!("{element} {}[{count}", field.name)
        }
        _ => format!("{} {}", field.c_type, field.name),
    }
}

#[test]
fn layouts_are_those_of_the_running_kernel() {
    if !is_root() {
        eprintln!("needs root: tracefs");
        return;
    }
    let tracefs = TraceFs::open().expect("tracefs");
    let (mut same, mut absent) = (0, Vec::new());
    for layout in all() {
        let path = format!("events/{}/{}/format", layout.category, layout.name);
        let Ok(text) = tracefs.read_text(&path) else {
            absent.push(layout.name);
            continue;
        };
        let kernel = parse_format(&text);
        let ours: Vec<_> =
            layout.fields.iter().map(|field| (declaration(field), field.offset, field.size, field.signed)).collect();
        match (layout.name, kernel.iter().any(|(field, ..)| field.contains("__data_loc char[] parent_comm"))) {
            // From 6.16 on the kernel has what ours has behind the older fields; see the module.
            ("sched_process_fork", true) => {
                for (field, _, size, signed) in &kernel {
                    let name = field.rsplit(' ').next().unwrap_or_default();
                    let ours = layout.field(&format!("__data_loc_{name}")).or_else(|| layout.field(name));
                    assert_eq!(ours.map(|field| (field.size, field.signed)), Some((*size, *signed)), "{field}");
                }
            }
            // group_dead came with 6.16.
            ("sched_process_exit", _) if kernel.len() + 1 == ours.len() => assert_eq!(ours[..kernel.len()], kernel),
            // From 7.0 on text that arguments point to may follow them.
            _ => {
                let kernel: Vec<_> =
                    kernel.into_iter().filter(|(field, ..)| !field.contains("__data_loc char[] __")).collect();
                assert_eq!(ours, kernel, "{path}");
            }
        }
        same += 1;
    }
    // What a kernel is built without (modules, kexec, shadow stacks) has no tracepoint.
    println!("{same} layouts are the running kernel's; it has no {absent:?}");
    assert!(same > 600, "{same} of {}", all().len());
    let known = tracefs.directories("events/syscalls");
    assert!(known.iter().all(|name| lookup("syscalls", name).is_some()), "a tracepoint of the kernel is missing");
}

#[test]
fn types_are_those_of_the_running_kernel() {
    let ours = vm_btf().expect("it builds");
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("needs a kernel with BTF");
        return;
    };
    let kernel = Btf::parse(bytes).expect("the kernel's BTF");
    let mut compared = 0;
    for name in [
        "trace_entry",
        "trace_event_raw_sys_enter",
        "trace_event_raw_sys_exit",
        "trace_event_raw_sched_process_fork",
        "trace_event_raw_sched_process_exec",
        "trace_event_raw_sched_process_exit",
        "trace_event_raw_signal_deliver",
        "syscall_trace_enter",
        "syscall_trace_exit",
        "pt_regs",
    ] {
        let mine = ours.find(name, Kind::Struct).unwrap_or_else(|| panic!("{name}"));
        let Some(theirs) = kernel.find(name, Kind::Struct) else { continue };
        let grown = name.ends_with("_fork") || name.ends_with("process_exit");
        if !grown {
            assert_eq!(ours.size_of(mine), kernel.size_of(theirs), "{name}");
        }
        for member in kernel.members(theirs).expect("members").iter().filter(|member| !member.name.is_empty()) {
            let there = kernel.member_path(theirs, member.name).expect("its own member");
            let here =
                ours.member_path(mine, member.name).unwrap_or_else(|error| panic!("{name}.{}: {error}", member.name));
            let sizes = (ours.size_of(here.member.ty), kernel.size_of(there.member.ty));
            assert_eq!(sizes.0, sizes.1, "{name}.{}", member.name);
            if !(grown && (member.name == "__data" || name.ends_with("_fork"))) {
                assert_eq!(here.bit_offset, there.bit_offset, "{name}.{}", member.name);
            }
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn types_and_layouts_agree() {
    let btf = vm_btf().expect("it builds");
    for layout in all().iter().take_while(|layout| layout.category != "syscalls") {
        let id = btf.find(&format!("trace_event_raw_{}", layout.name), Kind::Struct).expect(layout.name);
        for field in layout.fields.iter().filter(|field| !field.name.starts_with("common_")) {
            let name = if field.c_type.starts_with("__data_loc") && !field.name.starts_with("__data_loc") {
                format!("__data_loc_{}", field.name)
            } else {
                field.name.to_owned()
            };
            let path = btf.member_path(id, &name).expect(&name);
            assert_eq!(path.bit_offset, u64::from(field.offset) * 8, "{name}");
            assert_eq!(btf.size_of(path.member.ty), Ok(field.size.into()), "{name}");
        }
        assert_eq!(btf.member_path(id, "__data").map(|path| path.bit_offset), Ok(u64::from(layout.size) * 8));
    }
    let regs = btf.find("pt_regs", Kind::Struct).expect("pt_regs");
    assert_eq!(btf.member_path(regs, "orig_ax").map(|path| path.bit_offset), Ok(120 * 8));
    assert_eq!(btf.member_path(regs, "cs").map(|path| path.bit_offset), Ok(136 * 8));
}

fn event(kind: EventKind) -> Event {
    Event { at_ns: 1, tid: 71, tgid: 70, kind }
}

/// The record's fields as numbers, by name; those wider than 8 bytes left out.
fn decoded(layout: &Layout, record: &[u8]) -> Vec<(&'static str, u64)> {
    let small = layout.fields.iter().filter(|field| field.size <= 8 && !field.name.starts_with("common_t"));
    let value = |field: &Field| {
        let bytes = &record[usize::from(field.offset)..usize::from(field.offset + field.size)];
        bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte))
    };
    small.map(|field| (field.name, value(field))).filter(|(_, value)| *value != 0).collect()
}

fn encoded(category: &str, name: &str, event: &Event) -> Vec<u8> {
    let mut record = Vec::new();
    let layout = lookup(category, name).expect(name);
    assert!(layout.encode(event, &Facts, &mut record), "{name}");
    assert_eq!(record.len() % 8, 0);
    assert!(of_event(event).any(|fired| fired == layout), "{name} is not fired");
    record
}

fn text_at(record: &[u8], at: u16) -> &[u8] {
    let at = usize::from(at);
    let word = u32::from_ne_bytes(record[at..at + 4].try_into().expect("4 bytes")) as usize;
    &record[word & 0xffff..(word & 0xffff) + (word >> 16)]
}

#[test]
fn records_of_calls() {
    let enter = event(EventKind::SysEnter(SysEnter {
        arch: Arch::X86_64,
        number: 257,
        args: [u64::MAX - 99, 2, 3, 4, 5, 6],
        ip: 0,
        sp: 0,
    }));
    let record = encoded("syscalls", "sys_enter_openat", &enter);
    let layout = lookup("syscalls", "sys_enter_openat").expect("openat");
    let expected =
        [("common_pid", 71), ("__syscall_nr", 257), ("dfd", u64::MAX - 99), ("filename", 2), ("flags", 3), ("mode", 4)];
    assert_eq!(decoded(layout, &record), expected);
    assert_eq!(record.len(), usize::from(layout.size));
    let record = encoded("raw_syscalls", "sys_enter", &enter);
    assert_eq!(record.len(), 64);
    assert_eq!(record[56..], 6u64.to_ne_bytes());

    let exit = event(EventKind::SysExit(SysExit { arch: Arch::X86_64, number: 257, result: -512 }));
    let record = encoded("syscalls", "sys_exit_openat", &exit);
    assert_eq!(record[16..], (-512i64).to_ne_bytes());
    let mut none = Vec::new();
    assert!(!layout.encode(&exit, &Facts, &mut none) && none.is_empty());

    // Calls of 32-bit programs and numbers that are none fire the general tracepoint alone.
    let compat = event(EventKind::SysEnter(SysEnter { arch: Arch::I386, number: 5, args: [0; 6], ip: 0, sp: 0 }));
    assert_eq!(of_event(&compat).map(|layout| layout.name).collect::<Vec<_>>(), ["sys_enter"]);
    let gone = event(EventKind::SysExit(SysExit { arch: Arch::X86_64, number: -1, result: 0 }));
    assert_eq!(of_event(&gone).map(|layout| layout.name).collect::<Vec<_>>(), ["sys_exit"]);
}

#[test]
fn records_of_tasks() {
    let fork = event(EventKind::Fork(Fork { child_tid: 72, child_tgid: 72, clone_flags: 0 }));
    let record = encoded("sched", "sched_process_fork", &fork);
    assert_eq!(&record[8..13], b"make\0");
    assert_eq!(&record[28..33], b"make\0");
    assert_eq!((record[24], record[44]), (71, 72));
    assert_eq!((text_at(&record, 48), text_at(&record, 52)), (&b"make\0"[..], &b"make\0"[..]));

    let exec = event(EventKind::Exec(Exec { filename: b"/bin/ls".to_vec(), old_tid: 73 }));
    let record = encoded("sched", "sched_process_exec", &exec);
    assert_eq!(text_at(&record, 8), b"/bin/ls\0");
    assert_eq!((record[12], record[16]), (71, 73));

    let exit = event(EventKind::Exit(Exit { code: 1, signal: 0, group_dead: true }));
    let record = encoded("sched", "sched_process_exit", &exit);
    assert_eq!((&record[8..13], record[24], record[28], record[32]), (&b"make\0"[..], 71, 125, 1));

    let signal = event(EventKind::Signal(Signal {
        signal: 10,
        errno: 0,
        code: -6,
        handler: 0x4000,
        handler_flags: 0x0400_0000,
    }));
    let record = encoded("signal", "signal_deliver", &signal);
    let layout = lookup("signal", "signal_deliver").expect("signal_deliver");
    let expected = [
        ("common_pid", 71),
        ("sig", 10),
        ("code", u64::from(-6i32 as u32)),
        ("sa_handler", 0x4000),
        ("sa_flags", 0x0400_0000),
    ];
    assert_eq!(decoded(layout, &record), expected);
}

#[test]
fn every_call_has_its_tracepoints() {
    for call in skep_abi::syscalls::all(skep_abi::syscalls::Arch::X86_64) {
        let Some(entry) = call.tracepoint() else { continue };
        let layout = lookup("syscalls", &format!("sys_enter_{entry}")).unwrap_or_else(|| panic!("sys_enter_{entry}"));
        let mut wants = Wants::default();
        layout.add_to(&mut wants);
        assert!(wants.enter.contains(Arch::X86_64, call.number.into()) && wants.exit == Calls::None);
    }
}

#[test]
fn refusals() {
    let message = |category, name| find(category, name).expect_err(name).to_string();
    assert_eq!(
        message("signal", "signal_generate"),
        "the embedded engine has no tracepoint signal/signal_generate: ptrace shows a signal when it is delivered, not \
         when it is sent; use signal/signal_deliver or the kernel engine"
    );
    assert_eq!(
        message("skb", "kfree_skb"),
        "the embedded engine has no tracepoint skb/kfree_skb: its events are system calls, forks, execs, exits and delivered \
         signals of the command after `--`"
    );
    assert_eq!(
        message("syscalls", "sys_enter_opnat"),
        "there is no tracepoint syscalls/sys_enter_opnat; did you mean syscalls/sys_enter_openat or \
         syscalls/sys_enter_openat2?"
    );
    assert!(raw("sys_enter").is_ok_and(|args| args == [RawArg::Registers, RawArg::Number]));
    assert!(raw("sched_process_exec").is_err() && raw("sched_switch").is_err() && raw("sys_enter_openat").is_err());
}
