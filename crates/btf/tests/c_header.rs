//! The C header of the running kernel, judged by clang.

mod support;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use skep_btf::{Btf, Kind, Member, Type, TypeId, c_header};
use support::{clang, kernel, section};

/// Every named struct and union with the name that the header gives it: the n-th tag of a name is `NAME___n`.
fn tags(btf: &Btf) -> Vec<(TypeId, &'static str, String)> {
    let mut count: HashMap<&str, u32> = HashMap::new();
    let mut tags = Vec::new();
    for (id, ty) in btf.types() {
        let ty = ty.unwrap();
        let keyword = match ty.kind() {
            Kind::Struct => "struct",
            Kind::Union => "union",
            Kind::Enum | Kind::Enum64 => "enum",
            _ => continue,
        };
        if ty.name().is_empty() {
            continue;
        }
        let n = count.entry(ty.name()).or_default();
        *n += 1;
        let name = if *n == 1 { ty.name().to_owned() } else { format!("{}___{n}", ty.name()) };
        if keyword != "enum" {
            tags.push((id, keyword, name));
        }
    }
    tags
}

/// Members with names, those of anonymous members within, with their offset in bits from the outermost struct.
fn named_members<'a>(btf: &'a Btf, id: TypeId, base: u32, out: &mut Vec<(Member<'a>, u32)>) {
    for member in btf.members(id).unwrap() {
        let offset = base + member.bit_offset;
        if !member.name.is_empty() {
            out.push((member, offset));
        } else if matches!(btf.kind(btf.resolve(member.ty).unwrap()).unwrap(), Kind::Struct | Kind::Union) {
            named_members(btf, member.ty, offset, out);
        }
    }
}

#[test]
fn clang_accepts_the_kernels_header_and_lays_out_every_struct_alike() {
    let Some(btf) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let header = c_header::text(&btf, &c_header::Options::default()).unwrap();
    assert_eq!(header, c_header::text(&btf, &c_header::Options::default()).unwrap(), "the text is the same each time");
    std::fs::write(dir.path().join("vmlinux.h"), &header).unwrap();
    let mut source = String::from("#include \"vmlinux.h\"\n");
    let mut offsets = 0;
    let mut with_fields = HashSet::new();
    for (i, (id, keyword, name)) in tags(&btf).into_iter().enumerate() {
        let size = btf.size_of(id).unwrap();
        writeln!(source, "_Static_assert(sizeof({keyword} {name}) == {size}, \"\");").unwrap();
        let mut members = Vec::new();
        named_members(&btf, id, 0, &mut members);
        if members.iter().any(|(member, _)| btf.bit_field(member).unwrap().is_some()) {
            // A variable of the type makes clang write the type into its BTF.
            writeln!(source, "{keyword} {name} *v{i};").unwrap();
            with_fields.insert(id);
        }
        for (member, offset) in members {
            if btf.bit_field(&member).unwrap().is_none() {
                let (m, o) = (member.name, offset / 8);
                writeln!(source, "_Static_assert(__builtin_offsetof({keyword} {name}, {m}) == {o}, \"{m}\");").unwrap();
                offsets += 1;
            }
        }
    }
    assert!(offsets > 50_000, "{offsets}");
    let Some(object) = clang(dir.path(), &source, &["-Wall", "-Werror"]) else { return };

    // Bit fields have no offsetof; the BTF that clang writes for the header says where it put them.
    let again = Btf::parse(section(&object, ".BTF").expect(".BTF").to_vec()).unwrap();
    let mut fields = 0;
    for (id, keyword, name) in tags(&btf).into_iter().filter(|(id, ..)| with_fields.contains(id)) {
        let kind = if keyword == "struct" { Kind::Struct } else { Kind::Union };
        let copy = again.find(&name, kind).unwrap_or_else(|| panic!("{keyword} {name} is not in clang's BTF"));
        let list = |btf: &Btf, id| {
            let mut members = Vec::new();
            named_members(btf, id, 0, &mut members);
            members
                .into_iter()
                .filter(|(m, _)| !m.name.starts_with("___padding"))
                .map(|(m, offset)| (m.name.to_owned(), offset, m.bit_size))
                .collect::<Vec<_>>()
        };
        let before = list(&btf, id);
        assert_eq!(before, list(&again, copy), "{keyword} {name}");
        fields += before.iter().filter(|(_, _, bits)| *bits != 0).count();
    }
    println!("{offsets} offsets, {fields} bit fields of {} types", with_fields.len());
    assert!(fields > 1000, "{fields}");
}

#[test]
fn kernel_functions_are_declared_as_weak_externs() {
    let Some(btf) = kernel() else { return };
    let tagged = |ty: &Type<'_>| matches!(ty, Type::DeclTag { name: "bpf_kfunc", .. });
    if !btf.types().any(|(_, ty)| tagged(&ty.unwrap())) {
        println!("skipped: this kernel's BTF does not mark its kernel functions");
        return;
    }
    let header = c_header::text(&btf, &c_header::Options::default()).unwrap();
    assert!(header.contains("extern struct task_struct *bpf_task_acquire(struct task_struct *p) __weak __ksym;\n"));
    let without = c_header::Options { kfuncs: false, ..c_header::Options::default() };
    assert!(!c_header::text(&btf, &without).unwrap().contains("__weak __ksym"));
}
