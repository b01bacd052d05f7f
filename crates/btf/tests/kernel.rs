//! The running kernel's BTF, with bpftool as the other implementation.

mod support;

use skep_btf::{Kind, Type};
use support::{VMLINUX, bpftool, kernel};

#[test]
fn ids_kinds_and_names_equal_bpftools() {
    let Some(btf) = kernel() else { return };
    let Some(dump) = bpftool(&["btf", "dump", "file", VMLINUX]) else { return };
    let mut seen = 0;
    for line in dump.lines().filter(|line| line.starts_with('[')) {
        let (id, rest) = line[1..].split_once("] ").expect("[id] KIND");
        let (kind, rest) = rest.split_once(' ').expect("KIND 'name'");
        let (_, rest) = rest.split_once('\'').expect("'name'");
        let (name, _) = rest.rsplit_once('\'').expect("'name'");
        let name = if name == "(anon)" { "" } else { name };
        seen += 1;
        assert_eq!(id, seen.to_string());
        let id = skep_btf::TypeId(seen);
        let ty = btf.get(id).expect(line);
        assert_eq!((ty.kind().kernel_name(), ty.name()), (kind, name), "{line}");
        assert_eq!((btf.kind(id).unwrap(), btf.name(id).unwrap()), (ty.kind(), ty.name()));
    }
    assert_eq!(seen + 1, btf.type_count());
}

#[test]
fn every_type_is_found_by_its_name() {
    let Some(btf) = kernel() else { return };
    for (id, ty) in btf.types() {
        let ty = ty.unwrap();
        if !ty.name().is_empty() {
            let first = btf.find(ty.name(), ty.kind()).expect("found");
            assert!(first <= id);
            let all = btf.find_all(ty.name());
            assert!(all.contains(&id) && all.is_sorted());
        }
    }
    assert_eq!(btf.find("no_such_type_in_any_kernel", Kind::Struct), None);
}

#[test]
fn sizes_members_and_names() {
    let Some(btf) = kernel() else { return };
    let task = btf.find("task_struct", Kind::Struct).expect("task_struct");
    let comm = btf.member_path(task, "comm").unwrap();
    assert_eq!(btf.size_of(comm.member.ty).unwrap(), 16);
    assert_eq!(btf.declaration(comm.member.ty, "comm"), "char comm[16]");
    assert_eq!(btf.type_name(btf.member_path(task, "mm").unwrap().member.ty), "struct mm_struct *");
    // skc_daddr stands in a struct in a union, both without names.
    let sock = btf.find("sock", Kind::Struct).expect("sock");
    let path = btf.member_path(sock, "__sk_common.skc_daddr").unwrap();
    assert_eq!(path.bit_offset, 0);
    assert_eq!(path.indices.len(), 4);
    let func = btf.find("vfs_read", Kind::Func).expect("vfs_read");
    let proto = btf.prototype(func).unwrap();
    assert_eq!(proto.params.len(), 4);
    assert_eq!(btf.declaration(proto.params[0].ty, "file"), "struct file *file");
    for (id, ty) in btf.types() {
        if let Type::Struct(_) | Type::Union(_) = ty.unwrap() {
            btf.size_of(id).unwrap();
            btf.align_of(id).unwrap();
        }
        assert!(!btf.type_name(id).starts_with("<bad"), "[{}]", id.0);
    }
}
