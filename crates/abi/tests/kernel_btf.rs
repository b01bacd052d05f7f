//! Holds the tables against the running kernel's own types: enumerators have our numbers, fields stand where we say.
//!
//! A value that the kernel has and we do not is a newer kernel's, and only reported; one that we have for this version
//! and the kernel does not is an error.

use std::collections::BTreeMap;

use skep_abi::{
    AttachType, Command, KernelVersion, LinkType, MapType, ProgramType, context, flags, helpers,
    insn::CoreReloKind,
    perf,
    syscalls::{self, Arch},
    verdict,
};
use skep_btf::{Btf, Kind, Type};

/// The kernel's types, or `None` where it has none to show.
fn kernel() -> Option<Btf> {
    match std::fs::read("/sys/kernel/btf/vmlinux") {
        Ok(bytes) => Some(Btf::parse(bytes).expect("the kernel's own BTF")),
        Err(error) => {
            eprintln!("skipped: needs /sys/kernel/btf/vmlinux ({error})");
            None
        }
    }
}

fn running() -> KernelVersion {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    release.parse().expect("uname's release is a kernel version")
}

/// The values of an enum by name.
fn variants(btf: &Btf, name: &str) -> BTreeMap<String, i128> {
    let id =
        btf.find_any(name, &[Kind::Enum, Kind::Enum64]).unwrap_or_else(|| panic!("enum {name} in the kernel's BTF"));
    let Ok(Type::Enum(found)) = btf.get(id) else { panic!("{name} is no enum") };
    found.variants.iter().map(|variant| (variant.name.to_owned(), variant.value)).collect()
}

/// Compares `ours` (name, number, first kernel) with an enum of the kernel.
fn check(btf: &Btf, name: &str, ours: &[(String, u32, KernelVersion)]) {
    let theirs = variants(btf, name);
    let running = running();
    for (ours_name, number, since) in ours {
        match theirs.get(ours_name) {
            Some(value) => assert_eq!(*value, i128::from(*number), "{ours_name}"),
            None => assert!(*since > running, "{ours_name} is said to be there since {since}, {running} has none"),
        }
    }
    for (kernel_name, value) in &theirs {
        let internal = kernel_name.starts_with("__MAX")
            || kernel_name.starts_with("MAX_BPF")
            || kernel_name == "BPF_COMMON_ATTRS"
            || kernel_name.starts_with("__BPF")
            || kernel_name.ends_with("_DEPRECATED");
        if !internal && !ours.iter().any(|(ours_name, ..)| ours_name == kernel_name) {
            let taken = ours.iter().find(|(_, number, since)| i128::from(*number) == *value && *since <= running);
            match taken {
                Some((ours_name, ..)) if theirs.get(ours_name) == Some(value) => {} // a second name for the same value
                Some(taken) => panic!("{kernel_name} has the number {value}, which {taken:?} has here"),
                None => eprintln!("newer than the tables: {kernel_name} = {value}"),
            }
        }
    }
}

macro_rules! check_enum {
    ($btf:expr, $name:literal, $ours:ident) => {
        let rows: Vec<_> =
            $ours::ALL.iter().map(|value| (value.kernel_name().to_owned(), value.as_u32(), value.since())).collect();
        check($btf, $name, &rows);
    };
}

#[test]
fn enumerators_have_the_kernels_numbers() {
    let Some(btf) = kernel() else { return };
    check_enum!(&btf, "bpf_prog_type", ProgramType);
    check_enum!(&btf, "bpf_attach_type", AttachType);
    check_enum!(&btf, "bpf_map_type", MapType);
    check_enum!(&btf, "bpf_link_type", LinkType);
    check_enum!(&btf, "bpf_cmd", Command);
}

#[test]
fn helpers_have_the_kernels_numbers() {
    let Some(btf) = kernel() else { return };
    let mut ours: Vec<_> =
        helpers::all().map(|helper| (helper.name.replacen("bpf_", "BPF_FUNC_", 1), helper.id, helper.since)).collect();
    ours.push(("BPF_FUNC_unspec".to_owned(), 0, KernelVersion::new(3, 18)));
    check(&btf, "bpf_func_id", &ours);
}

#[test]
fn relocation_kinds_and_perf_events_have_the_kernels_numbers() {
    let Some(btf) = kernel() else { return };
    let kinds: Vec<_> = CoreReloKind::ALL
        .iter()
        .map(|kind| (kind.kernel_name().to_owned(), kind.as_u32(), KernelVersion::new(5, 19)))
        .collect();
    check(&btf, "bpf_core_relo_kind", &kinds);
    let software = variants(&btf, "perf_sw_ids");
    let hardware = variants(&btf, "perf_hw_id");
    for event in perf::EVENTS {
        let table = if event.kind == perf::PerfType::Software { &software } else { &hardware };
        assert_eq!(table.get(event.kernel_name).copied(), Some(i128::from(event.config)), "{}", event.kernel_name);
    }
}

/// Flags and verdicts stand in enums without a name, so every enum is looked through.
#[test]
fn flags_and_verdicts_have_the_kernels_numbers() {
    let Some(btf) = kernel() else { return };
    let mut values: BTreeMap<String, Vec<i128>> = BTreeMap::new();
    for (_, ty) in btf.types() {
        if let Ok(Type::Enum(found)) = ty {
            for variant in &found.variants {
                values.entry(variant.name.to_owned()).or_default().push(variant.value);
            }
        }
    }
    let mut seen = 0;
    let tables = [
        flags::map_create::ALL,
        flags::map_update::ALL,
        flags::kprobe_multi::ALL,
        flags::uprobe_multi::ALL,
        flags::ringbuf::ALL,
        flags::stack::ALL,
        flags::redirect::ALL,
    ];
    for flag in tables.into_iter().flatten() {
        if let Some(values) = values.get(flag.name) {
            assert!(values.contains(&i128::from(flag.bit)), "{}: {:?} in the kernel", flag.name, values);
            seen += 1;
        }
    }
    for &program in ProgramType::ALL {
        for attach in AttachType::ALL.iter().copied().map(Some).chain([None]) {
            for verdict in verdict::all(program, attach) {
                if let Some(values) = values.get(verdict.name) {
                    assert!(values.contains(&i128::from(verdict.value)), "{}: {:?}", verdict.name, values);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} names were found in the kernel's BTF");
}

#[test]
fn context_fields_stand_where_the_kernel_has_them() {
    let Some(btf) = kernel() else { return };
    let contexts: BTreeMap<_, _> =
        context::all_access().iter().map(|access| (access.context.name, access.context)).collect();
    for (name, context) in contexts {
        let Some(id) = btf.find(name, Kind::Struct) else {
            let first = context.fields.iter().map(|field| field.since).min();
            assert!(first > Some(running()), "struct {name} is not in the kernel's BTF");
            continue;
        };
        if name == "bpf_perf_event_data" && !cfg!(target_arch = "x86_64") {
            continue; // starts with the architecture's registers
        }
        for field in context.fields {
            let path = match btf.member_path(id, field.name) {
                Ok(path) => path,
                Err(_) if field.since > running() => continue,
                Err(error) => panic!("{name}.{}: {error}", field.name),
            };
            assert_eq!(path.bit_offset, u64::from(field.offset) * 8, "{name}.{}", field.name);
            assert_eq!(btf.size_of(path.member.ty).expect(field.name), u64::from(field.size), "{name}.{}", field.name);
        }
        if running() >= KernelVersion::new(6, 18) {
            assert!(btf.size_of(id).expect(name) >= u64::from(context.size), "{name} has shrunk");
        }
        for member in btf.members(id).expect(name) {
            if !member.name.is_empty() && context.field(member.name).is_none() {
                eprintln!("newer than the tables: {name}.{}", member.name);
            }
        }
    }
}

#[test]
fn registers_stand_where_the_kernel_has_them() {
    let Some(btf) = kernel() else { return };
    if Arch::of_this_build() != Some(Arch::X86_64) {
        eprintln!("skipped: needs x86-64, the registers of arm64 are an array there");
        return;
    }
    let set = context::registers(Arch::X86_64);
    let id = btf.find(set.struct_name, Kind::Struct).expect("struct pt_regs");
    for register in set.all {
        let path = btf.member_path(id, register.name).expect(register.name);
        assert_eq!(path.bit_offset, u64::from(register.offset) * 8, "{}", register.name);
    }
}

/// Every system call function of the kernel is in the table, and every one in the table with a number of this kernel's
/// time that the kernel was built with is called what we say.
#[test]
fn system_calls_are_the_kernels() {
    let Some(arch) = Arch::of_this_build() else { return };
    let Ok(symbols) = std::fs::read_to_string("/proc/kallsyms") else {
        eprintln!("skipped: needs /proc/kallsyms");
        return;
    };
    let prefix = format!("{}sys_", arch.function_prefix());
    let functions: Vec<&str> =
        symbols.lines().filter_map(|line| line.split_whitespace().nth(2)?.strip_prefix(&prefix)).collect();
    let known = |name: &&&str| syscalls::all(arch).iter().any(|call| call.entry == Some(**name));
    // Functions of other tables (i386, and calls no 64-bit number leads to any more) have the same prefix.
    let found = functions.iter().filter(known).count();
    eprintln!("{found} of {} functions are in the table", functions.len());
    let missing: Vec<_> = functions.iter().filter(|name| !known(name)).collect();
    eprintln!("not in the table: {missing:?}");
    assert!(functions.is_empty() || found > 300, "only {found} calls of the table are in the kernel");
    for newest in ["cachestat", "mseal", "setxattrat", "open_tree_attr", "file_getattr"] {
        let call = syscalls::by_name(arch, newest).expect(newest);
        assert!(
            functions.is_empty()
                || functions.contains(&call.entry.expect(newest))
                || running() < KernelVersion::new(6, 17)
        );
    }
}

/// The C library's header, where there is one, has the numbers up to its own age.
#[test]
fn system_call_numbers_are_those_of_the_c_headers() {
    let path = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let Ok(header) = std::fs::read_to_string(path) else {
        eprintln!("skipped: needs {path}");
        return;
    };
    let mut count = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(number)) = (words.next(), words.next(), words.next()) else { continue };
        let (Some(name), Ok(number)) = (name.strip_prefix("__NR_"), number.parse::<u32>()) else { continue };
        let call = syscalls::by_number(Arch::X86_64, number);
        assert_eq!(call.map(|call| call.name), Some(name), "{number}");
        count += 1;
    }
    assert!(count > 300, "{path} has only {count} calls");
}

/// `/usr/include/asm-generic/unistd.h` is arm64's table too, up to its own age.
#[test]
fn generic_system_call_numbers_are_those_of_the_c_headers() {
    let path = "/usr/include/asm-generic/unistd.h";
    let Ok(header) = std::fs::read_to_string(path) else {
        eprintln!("skipped: needs {path}");
        return;
    };
    let mut count = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(number)) = (words.next(), words.next(), words.next()) else { continue };
        // __NR3264_x: one number for a call and its 64-bit form, which the table has under the 64-bit kernel's name.
        let (Some(name), Ok(number)) = (name.strip_prefix("__NR_"), number.parse::<u32>()) else { continue };
        let Some(call) = syscalls::by_number(Arch::Aarch64, number) else { continue };
        if name == "syscalls" {
            continue; // how many there are
        }
        let known_rename = [("sync_file_range2", "sync_file_range")].contains(&(name, call.name));
        assert!(call.name == name || known_rename, "{number}: {name} in {path}, {} here", call.name);
        count += 1;
    }
    assert!(count > 250, "{path} has only {count} calls");
}
