//! What is written reads back the same, by skep and by bpftool.

mod support;

use skep_btf::ext::{FuncInfo, LineInfo, Section};
use skep_btf::load::{DataSection, Features, Variable, complete, sanitize};
use skep_btf::{Btf, BtfExt, Builder, Endian, Kind, Linkage, Type, TypeId, VarInfo};
use support::{VMLINUX, bpftool, clang, kernel, section};

/// Adds every type of `btf` one by one.
fn rebuilt(btf: &Btf, mut builder: Builder) -> Builder {
    for id in (btf.first_id().0..btf.type_count()).map(TypeId) {
        let ty = btf.get(id).unwrap();
        let tag = matches!(ty, Type::DeclTag { .. } | Type::TypeTag { .. });
        let added = if tag && btf.kind_flag(id).unwrap() { builder.add_attribute(&ty) } else { builder.add(&ty) };
        assert_eq!(added, Ok(id));
    }
    builder
}

fn assert_same_types(a: &Btf, b: &Btf) {
    assert_eq!(a.type_count(), b.type_count());
    for (id, ty) in a.types() {
        assert_eq!(ty, b.get(id), "[{}]", id.0);
        assert_eq!(a.kind_flag(id), b.kind_flag(id), "[{}]", id.0);
    }
}

#[test]
fn the_kernels_btf_survives_being_rebuilt() {
    let Some(btf) = kernel() else { return };
    assert!(Builder::from_btf(&btf).unwrap().build().unwrap() == btf.bytes(), "a copy has the same bytes");

    let bytes = rebuilt(&btf, Builder::new()).build().unwrap();
    assert!(bytes.len() <= btf.bytes().len(), "each string is there once");
    assert_same_types(&btf, &Btf::parse(bytes.clone()).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rebuilt.btf");
    std::fs::write(&path, bytes).unwrap();
    let Some(before) = bpftool(&["btf", "dump", "file", VMLINUX, "format", "raw"]) else { return };
    let after = bpftool(&["btf", "dump", "file", path.to_str().unwrap(), "format", "raw"]).unwrap();
    assert!(before == after, "bpftool sees a difference");
}

#[test]
fn either_byte_order() {
    let Some(btf) = kernel() else { return };
    let mut builder = Builder::from_btf(&btf).unwrap();
    builder.set_endian(Endian::Big);
    let big = Btf::parse(builder.build().unwrap()).unwrap();
    assert_eq!(big.endian(), Endian::Big);
    assert_ne!(big.bytes()[..4], btf.bytes()[..4]);
    assert_same_types(&btf, &big);
    let mut builder = Builder::from_btf(&big).unwrap();
    builder.set_endian(Endian::Little);
    assert!(builder.build().unwrap() == btf.bytes());
}

#[test]
fn split_btf_goes_on_where_its_base_ends() {
    let mut base = Builder::new();
    let int = base.int("int", 4, true).unwrap();
    base.structure("common", 4, &[("value", int, 0)]).unwrap();
    let base = Btf::parse(base.build().unwrap()).unwrap();

    let mut split = Builder::split(&base);
    let known = (1..base.string_end()).find(|at| base.string(*at) == Ok("value")).unwrap();
    assert_eq!(split.string("value"), Ok(known));
    let common = base.find("common", Kind::Struct).unwrap();
    let own = split.structure("module_state", 8, &[("value", common, 0), ("extra", int, 32)]).unwrap();
    assert_eq!(own.0, base.type_count());
    let bytes = split.build().unwrap();
    let btf = Btf::parse_split(bytes.clone(), &base).unwrap();
    assert_eq!(btf.find("module_state", Kind::Struct), Some(own));
    assert_eq!(btf.find("common", Kind::Struct), Some(common));
    assert_eq!(base.find("module_state", Kind::Struct), None);
    assert_eq!(btf.find_all("int"), [int]);
    assert_eq!(btf.member_path(own, "value.value").unwrap().member.ty, int);
    assert_eq!(btf.string(base.string_end()), Ok("extra"));
    assert!(base.string(base.string_end()).is_err());
    assert!(Btf::parse(bytes.clone()).is_err(), "without its base it has no first string");
    assert_same_types(&btf, &Btf::parse_split(rebuilt(&btf, Builder::split(&base)).build().unwrap(), &base).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let paths = ["base", "split"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&paths[0], base.bytes()).unwrap();
    std::fs::write(&paths[1], bytes).unwrap();
    let Some(dump) = bpftool(&["-B", &paths[0], "btf", "dump", "file", &paths[1]]) else { return };
    assert_eq!(
        dump,
        "[3] STRUCT 'module_state' size=8 vlen=2\n\t'value' type_id=2 bits_offset=0\n\t'extra' type_id=1 bits_offset=32\n"
    );
}

/// A module's BTF on the real kernel's.
#[test]
fn split_btf_on_the_kernels() {
    let Some(base) = kernel() else { return };
    let task = base.find("task_struct", Kind::Struct).unwrap();
    let mut split = Builder::split(&base);
    let pointer = split.ptr(task).unwrap();
    let strings = base.string_end();
    let own = split.structure("skep_module", 8, &[("comm", pointer, 0)]).unwrap();
    let btf = Btf::parse_split(split.build().unwrap(), &base).unwrap();
    // `comm` is one of the kernel's strings already.
    assert_eq!(btf.string_end(), strings + "skep_module\0".len() as u32);
    assert_eq!(btf.find("skep_module", Kind::Struct), Some(own));
    assert_eq!(btf.type_name(pointer), "struct task_struct *");
    assert_eq!(btf.find("task_struct", Kind::Struct), Some(task));
}

#[test]
fn what_btf_cannot_hold_is_refused_and_adds_nothing() {
    let mut b = Builder::new();
    let int = b.int("int", 4, true).unwrap();
    assert!(b.int("wide", 17, true).is_err());
    assert!(b.typedef("a\0b", int).is_err());
    let members = vec![("x", int, 0); 65_536];
    assert_eq!(
        b.structure("many", 4, &members).unwrap_err().to_string(),
        "write type [2]: it has more than 65535 elements"
    );
    assert_eq!(b.next_id(), TypeId(2));
    b.ptr(TypeId(9)).unwrap();
    assert_eq!(b.build().unwrap_err().to_string(), "write type [2]: it refers to an id that was never added");
}

const PROGRAM: &str = r#"
    enum wide { LOW = 1, HIGH = 0x100000000ULL };
    enum { MINUS = -1 } plain;
    int first = 1;
    enum wide second = HIGH;
    double third = 1.5;
    static volatile int hidden_inside = 7;
    __attribute__((visibility("hidden"))) int concealed = 3;
    int zero;
    extern int kernel_symbol __attribute__((section(".ksyms")));
    extern int kernel_function(int, long named) __attribute__((section(".ksyms")));
    extern int CONFIG_HZ __attribute__((section(".kconfig")));
    int __attribute__((btf_decl_tag("note"))) tagged;
    int __attribute__((btf_type_tag("user"))) *user_pointer;
    __attribute__((section("socket"))) int program(void *ctx)
    {
        return first + second + hidden_inside + concealed + zero + kernel_symbol + kernel_function(1, 2) + CONFIG_HZ +
               plain + tagged + *user_pointer + sizeof(third);
    }
"#;

#[test]
fn a_compilers_btf_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(object) = clang(dir.path(), PROGRAM, &[]) else { return };
    let btf = Btf::parse(section(&object, ".BTF").unwrap().to_vec()).unwrap();
    let variable = |name: &str, offset, hidden| Variable { name: name.to_owned(), offset, hidden };
    let data = section(&object, ".data").unwrap();
    let at = |bytes: &[u8]| data.windows(bytes.len()).position(|w| w == bytes).unwrap() as u32;
    let sections = [
        DataSection {
            name: ".data".to_owned(),
            size: data.len() as u32,
            variables: vec![
                variable("first", at(&1u32.to_le_bytes()), false),
                variable("second", at(&0x1_0000_0000u64.to_le_bytes()), false),
                variable("third", at(&1.5f64.to_le_bytes()), false),
                variable("concealed", at(&3u32.to_le_bytes()), true),
            ],
        },
        DataSection { name: ".kconfig".to_owned(), size: 8, variables: vec![variable("CONFIG_HZ", 4, false)] },
    ];
    let done = Btf::parse(complete(&btf, &sections).unwrap()).unwrap();
    let find = |name: &str| done.get(done.find(name, Kind::Datasec).unwrap()).unwrap();
    let Type::Datasec(found) = find(".data") else { panic!() };
    assert_eq!(found.size as usize, data.len());
    assert!(found.vars.is_sorted_by_key(|var| var.offset));
    for var in &found.vars {
        let Type::Var { name, linkage, .. } = done.get(var.ty).unwrap() else { panic!() };
        let is_static = name == "hidden_inside" || name == "concealed";
        assert_eq!(linkage, if is_static { Linkage::Static } else { Linkage::Global }, "{name}");
        match name {
            "third" => assert_eq!((var.offset, var.size), (at(&1.5f64.to_le_bytes()), 8)),
            "hidden_inside" => assert_eq!(var.offset, at(&7u32.to_le_bytes())),
            _ => {}
        }
    }
    let Type::Datasec(found) = find(".ksyms") else { panic!() };
    assert_eq!((found.size, found.vars.len()), (8, 2));
    for (var, offset) in found.vars.iter().zip([0, 4]) {
        assert_eq!((var.offset, var.size, done.size_of(var.ty)), (offset, 4, Ok(4)));
        assert!(matches!(done.get(var.ty), Ok(Type::Var { linkage: Linkage::Global, .. })));
    }
    let Type::Datasec(found) = find(".kconfig") else { panic!() };
    assert_eq!((found.size, found.vars[0].offset, found.vars[0].size), (8, 4, 4));
    let function = done.find("kernel_function", Kind::Func).unwrap();
    assert!(matches!(done.get(function), Ok(Type::Func { linkage: Linkage::Global, .. })));
    assert!(done.prototype(function).unwrap().params.iter().all(|param| !param.name.is_empty()));
    // Ids stay.
    for (id, ty) in btf.types() {
        assert_eq!(ty.unwrap().kind(), done.kind(id).unwrap());
    }
    let mut small = sections[0].clone();
    small.size = 4;
    let error = complete(&btf, &[small]).unwrap_err().to_string();
    assert!(
        error.ends_with("(data section): a variable of this data section reaches past the section's end"),
        "{error}"
    );
}

#[test]
fn kinds_that_a_kernel_lacks_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let Some(object) = clang(dir.path(), PROGRAM, &[]) else { return };
    let btf = Btf::parse(section(&object, ".BTF").unwrap().to_vec()).unwrap();
    assert_eq!(sanitize(&btf, Features::ALL).unwrap(), btf.bytes());

    let old = Btf::parse(sanitize(&btf, Features::NONE).unwrap()).unwrap();
    for (id, ty) in old.types() {
        let kind = ty.unwrap().kind();
        assert!((kind as u8) < Kind::Func as u8, "[{}] {kind}", id.0);
        let Ok(before) = btf.kind(id) else { continue };
        let expected = match before {
            Kind::Var | Kind::DeclTag => Kind::Int,
            Kind::Datasec | Kind::Float => Kind::Struct,
            Kind::FuncProto => Kind::Enum,
            Kind::Func => Kind::Typedef,
            Kind::TypeTag => Kind::Const,
            Kind::Enum64 => Kind::Union,
            other => other,
        };
        assert_eq!(kind, expected, "[{}] {before}", id.0);
        if !matches!(before, Kind::Var | Kind::DeclTag | Kind::Func | Kind::FuncProto) {
            assert_eq!(btf.size_of(id).ok(), old.size_of(id).ok(), "[{}] {before}", id.0);
        }
    }
    assert_eq!(old.type_count(), btf.type_count() + 1, "one placeholder for the enumerators");
    assert!(old.find("_data", Kind::Struct).is_some());
    let text = bpftool_raw(&old, dir.path());
    assert!(text.is_none_or(|text| text.contains("STRUCT '_data'")));

    let static_only = Features { global_func: false, ..Features::ALL };
    let fixed = Btf::parse(sanitize(&btf, static_only).unwrap()).unwrap();
    let program = fixed.find("program", Kind::Func).unwrap();
    assert!(matches!(fixed.get(program), Ok(Type::Func { linkage: Linkage::Static, .. })));
}

fn bpftool_raw(btf: &Btf, dir: &std::path::Path) -> Option<String> {
    let path = dir.join("dump.btf");
    std::fs::write(&path, btf.bytes()).unwrap();
    bpftool(&["btf", "dump", "file", path.to_str().unwrap(), "format", "raw"])
}

#[test]
fn btf_ext_survives_being_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let Some(object) = clang(dir.path(), PROGRAM, &[]) else { return };
    let btf = Btf::parse(section(&object, ".BTF").unwrap().to_vec()).unwrap();
    let bytes = section(&object, ".BTF.ext").unwrap();
    let ext = BtfExt::parse(bytes, &btf).unwrap();
    let mut builder = Builder::from_btf(&btf).unwrap();
    let again = ext.write(btf.endian(), |name| builder.string(name)).unwrap();
    assert_eq!(again[24..], bytes[24..], "but for the header, whose length may differ");
    assert_eq!(builder.build().unwrap(), btf.bytes(), "no string was added");
    let big = ext.write(Endian::Big, |name| builder.string(name)).unwrap();
    assert_eq!(BtfExt::parse(&big, &btf).unwrap(), ext);
}

#[test]
fn records_are_encoded_as_the_kernel_reads_them() {
    let func = FuncInfo { insn_off: 3, ty: TypeId(0x0102) };
    assert_eq!(func.encode(), [3u32.to_ne_bytes(), 0x0102u32.to_ne_bytes()].concat()[..]);
    let line = LineInfo { insn_off: 1, file_name_off: 2, line_off: 3, line: 4, column: 5 };
    let words = [1u32, 2, 3, 4 << 10 | 5].map(u32::to_ne_bytes);
    assert_eq!(line.encode(), words.concat()[..]);
    let far = LineInfo { line: 1 << 22, ..line };
    let ext = BtfExt { lines: vec![Section { name: "x".to_owned(), records: vec![far] }], ..BtfExt::default() };
    assert!(ext.write(Endian::Little, |_| Ok(0)).is_err());
}

#[test]
fn data_sections_can_be_laid_out_in_place() {
    let mut b = Builder::new();
    let int = b.int("int", 4, true).unwrap();
    let var = b.var("x", int, Linkage::Global).unwrap();
    let id = b.datasec(".bss", 0, &[VarInfo { ty: var, offset: 0, size: 4 }]).unwrap();
    b.set_datasec(id, 64, &[VarInfo { ty: var, offset: 60, size: 4 }]).unwrap();
    b.set_linkage(var, Linkage::Static).unwrap();
    assert!(b.set_datasec(id, 64, &[]).is_err());
    assert!(b.set_datasec(var, 64, &[]).is_err());
    assert!(b.set_linkage(int, Linkage::Static).is_err());
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    assert_eq!(skep_btf::load::variables(&btf, ".bss").unwrap(), [("x", VarInfo { ty: var, offset: 60, size: 4 })]);
    assert!(matches!(btf.get(var), Ok(Type::Var { linkage: Linkage::Static, .. })));
}
