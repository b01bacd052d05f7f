//! Setting globals, filling `.kconfig`, resolving externs.

mod common;

use common::{compile, fixture};
use skep_btf::TypeId;
use skep_object::externs::{self, ExternValue, POISON_KFUNC_BASE};
use skep_object::{MapOrigin, ObjectSpec};

fn load(name: &str) -> ObjectSpec {
    ObjectSpec::parse(name, &compile(&fixture(&format!("{name}.c")), &[])).expect("parse")
}

fn bytes(spec: &ObjectSpec, name: &str) -> Vec<u8> {
    let (map, var) = spec.global(name).expect(name);
    let data = spec.maps[map.0].data.as_ref().expect("data");
    data[var.offset as usize..(var.offset + var.size) as usize].to_vec()
}

#[test]
fn globals_are_set_by_bytes_and_by_text() {
    let mut spec = load("data");
    assert_eq!(bytes(&spec, "limit"), [5, 0, 0, 0]);
    spec.set_global("limit", &[1, 2, 3, 4]).expect("set");
    assert_eq!(bytes(&spec, "limit"), [1, 2, 3, 4]);
    spec.set_global_text("limit", "-2").expect("set");
    assert_eq!(bytes(&spec, "limit"), [0xfe, 0xff, 0xff, 0xff]);
    spec.set_global_text("level", "HIGH").expect("set");
    assert_eq!(bytes(&spec, "level"), [7, 0, 0, 0]);
    spec.set_global_text("special", "0x10").expect("set");
    assert_eq!(bytes(&spec, "special"), [16, 0, 0, 0]);
}

#[test]
fn a_global_that_cannot_be_set_says_why() {
    let mut spec = load("data");
    let mut check = |name: &str, text: &str, expected: &str| {
        let error = spec.set_global_text(name, text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    check("limt", "1", "did you mean limit?");
    check("nothing_like_it", "1", "it has limit, mode");
    check("limit", "soon", "soon");
    check("limit", "99999999999", "99999999999");
    let error = spec.set_global("limit", &[1]).expect_err("size").to_string();
    assert!(error.contains("it has 4 bytes, not 1"), "{error}");
}

#[test]
fn kconfig_is_filled_by_text() {
    let mut spec = load("externs");
    let config = |name: &str| {
        let value = match name {
            "LINUX_KERNEL_VERSION" => "393216",
            "CONFIG_BPF_SYSCALL" => "y",
            "CONFIG_KVM" => "m",
            "CONFIG_DEFAULT_HOSTNAME" => "\"(none), and more than fits\"",
            "CONFIG_HZ" => "250",
            _ => return None,
        };
        Some(value.to_owned())
    };
    externs::set_kconfig(&mut spec, config).expect("kconfig");
    let map = spec.maps.iter().find(|m| m.origin == MapOrigin::Kconfig).expect(".kconfig");
    let get = |name: &str| {
        let var = map.vars.iter().find(|v| v.name == name).expect(name);
        &map.data.as_ref().expect("data")[var.offset as usize..(var.offset + var.size) as usize]
    };
    assert_eq!(get("LINUX_KERNEL_VERSION"), [0, 0, 6, 0]);
    assert_eq!(get("CONFIG_BPF_SYSCALL"), [1]);
    assert_eq!(get("CONFIG_KVM"), [2, 0, 0, 0]);
    assert_eq!(get("CONFIG_HZ"), [250, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(get("CONFIG_DEFAULT_HOSTNAME"), b"(none), and mor\0");

    let missing = externs::set_kconfig(&mut spec, |name| config(name).filter(|_| name != "CONFIG_HZ"));
    assert!(missing.expect_err("missing").to_string().contains("CONFIG_HZ"));
    let wrong =
        externs::set_kconfig(&mut spec, |name| Some(if name == "CONFIG_BPF_SYSCALL" { "m" } else { "1" }.into()));
    assert!(wrong.expect_err("m").to_string().contains("only y and n"), "bool takes no m");
}

#[test]
fn externs_are_written_into_instructions() {
    let spec = load("externs");
    let mut program = spec.programs[0].clone();
    externs::resolve(&mut program, &spec.externs, |_, found| match found.lookup_name() {
        "jiffies" => ExternValue::Address(0xffff_ffff_8123_4567),
        "runqueues" => ExternValue::Variable { id: TypeId(77), btf_fd: 3 },
        "bpf_task_acquire" => ExternValue::Function { id: TypeId(101), fd_index: 0 },
        "bpf_task_release" => ExternValue::Function { id: TypeId(102), fd_index: 1 },
        "not_there" | "bpf_no_such_function" => ExternValue::Missing,
        other => panic!("{other}"),
    })
    .expect("resolve");
    assert!(
        program
            .relocs
            .iter()
            .all(|r| !matches!(r.kind, skep_object::RelocKind::Extern(_) | skep_object::RelocKind::ExternCall(_)))
    );
    let at = |index: usize| {
        let reloc = spec.programs[0].relocs.iter().filter(|r| {
            matches!(r.kind, skep_object::RelocKind::Extern(i) | skep_object::RelocKind::ExternCall(i) if i.0 == index)
        });
        reloc.map(|r| r.insn.as_usize()).collect::<Vec<_>>()
    };
    let index = |name: &str| spec.externs.iter().position(|e| e.name == name).expect(name);
    let insn = |name: &str, nth: usize| program.insns[at(index(name))[nth]];
    let next = |name: &str, nth: usize| program.insns[at(index(name))[nth] + 1];
    assert_eq!((insn("jiffies", 0).imm as u32, next("jiffies", 0).imm as u32), (0x8123_4567, 0xffff_ffff));
    assert_eq!((insn("runqueues", 0).src, insn("runqueues", 0).imm, next("runqueues", 0).imm), (3, 77, 3));
    assert_eq!((insn("not_there", 0).src, insn("not_there", 0).imm), (0, 0));
    let call = insn("bpf_task_release", 0);
    assert_eq!((call.src, call.imm, call.off), (2, 102, 1));
    let missing = index("bpf_no_such_function___flavour");
    let poisoned = insn("bpf_no_such_function___flavour", 1);
    assert_eq!((poisoned.src, poisoned.imm), (0, POISON_KFUNC_BASE + missing as i32));
    assert_eq!(program.poisoned.len(), 1);

    let mut program = spec.programs[0].clone();
    let error = externs::resolve(&mut program, &spec.externs, |_, _| ExternValue::Missing).expect_err("strong");
    assert!(error.to_string().contains("no such symbol") || error.to_string().contains("no such function"), "{error}");
}
