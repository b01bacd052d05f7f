//! Bytes that no compiler writes.

#[path = "support/exercise.rs"]
mod exercise;
mod support;

use proptest::prelude::*;
use skep_btf::{
    Btf, BtfExt, Builder, Composite, Endian, Enum, Error, FuncProto, Kind, Linkage, Member, Param, Type, TypeId,
    VarInfo, Variant, c_header, value,
};

/// A BTF with every kind, in which every kind refers to others.
fn every_kind(endian: Endian) -> Vec<u8> {
    let mut b = Builder::new();
    b.set_endian(endian);
    let int = b.int("int", 4, true).unwrap();
    let char = b.int("char", 1, true).unwrap();
    let text = b.array(char, int, 16).unwrap();
    let list = b.ptr(TypeId(b.next_id().0 + 1)).unwrap();
    let inner = [
        Member { name: "a", ty: int, bit_offset: 0, bit_size: 3 },
        Member { name: "b", ty: int, bit_offset: 3, bit_size: 7 },
        Member { name: "next", ty: list, bit_offset: 64, bit_size: 0 },
        Member { name: "c", ty: text, bit_offset: 128, bit_size: 0 },
    ];
    let node = b.add(&Type::Struct(Composite { name: "node", size: 32, members: inner.to_vec() })).unwrap();
    let anonymous = b.union("", 32, &[("x", node), ("y", list)]).unwrap();
    let outer = b.structure("outer", 40, &[("head", list, 0), ("", anonymous, 64)]).unwrap();
    let state = b.enumeration("state", &[("IDLE", 0), ("BAD", -1)]).unwrap();
    let big = Enum {
        name: "big",
        size: 8,
        signed: false,
        is_64: true,
        variants: vec![Variant { name: "TOP", value: i128::from(u64::MAX) }],
    };
    b.add(&Type::Enum(big)).unwrap();
    b.add(&Type::Fwd { name: "far", is_union: true }).unwrap();
    let typedef = b.typedef("outer_t", outer).unwrap();
    let constant = b.add(&Type::Const { target: typedef }).unwrap();
    let volatile = b.add(&Type::Volatile { target: constant }).unwrap();
    let tag = b.add(&Type::TypeTag { name: "user", target: volatile }).unwrap();
    let pointer = b.ptr(tag).unwrap();
    let restrict = b.add(&Type::Restrict { target: pointer }).unwrap();
    let params = vec![Param { name: "s", ty: restrict }, Param { name: "", ty: TypeId::VOID }];
    let proto = b.add(&Type::FuncProto(FuncProto { ret: state, params })).unwrap();
    let func = b.func("run", proto, Linkage::Global).unwrap();
    let kfunc = b.func("bpf_x", proto, Linkage::Extern).unwrap();
    let var = b.var("x", outer, Linkage::Global).unwrap();
    let external = b.var("a", int, Linkage::Extern).unwrap();
    b.datasec(".data", 0, &[VarInfo { ty: var, offset: 0, size: 40 }]).unwrap();
    let ksyms = [VarInfo { ty: external, offset: 0, size: 4 }, VarInfo { ty: kfunc, offset: 0, size: 0 }];
    b.datasec(".ksyms", 0, &ksyms).unwrap();
    b.add(&Type::Float { name: "double", size: 8 }).unwrap();
    b.add(&Type::DeclTag { name: "bpf_kfunc", target: func, component: None }).unwrap();
    b.add(&Type::DeclTag { name: "arg", target: func, component: Some(0) }).unwrap();
    b.build().unwrap()
}

/// The BTF of a real object, if clang is installed, and one with every kind in either byte order.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![every_kind(Endian::Little), every_kind(Endian::Big)];
    let dir = tempfile::tempdir().unwrap();
    if let Some(object) = support::clang(dir.path(), OBJECT, &[]) {
        samples.push(support::section(&object, ".BTF").unwrap().to_vec());
    }
    samples
}

const OBJECT: &str = r#"
    struct list { struct list *next; int (*call)(struct list *, const char *name, ...); };
    enum mode { SLOW, FAST = 7 };
    struct item { struct list link; union { enum mode mode; unsigned long word; }; char name[8]; int a : 3, b : 5; };
    struct { int (*max_entries)[16]; struct item *value; } items __attribute__((section(".maps")));
    static volatile struct item local;
    int limit = 3;
    extern int outside(struct item *) __attribute__((section(".ksyms")));
    __attribute__((section("socket"))) int program(struct item *item) { return outside(item) + local.a + limit; }
"#;

#[test]
fn no_prefix_of_a_real_one_panics() {
    for sample in samples() {
        for len in 0..sample.len() {
            exercise::btf(&sample[..len]);
            assert!(Btf::parse(sample[..len].to_vec()).is_err(), "a prefix of {len} bytes");
        }
    }
}

#[test]
fn no_bit_flip_of_a_real_one_panics() {
    for sample in samples() {
        // Not the strings, whose flips are dull, and every third bit, which reaches each of a byte's eight: the fuzz
        // target does the rest.
        let strings = u32::from_le_bytes(*sample[16..].first_chunk().unwrap()) as usize;
        let end = if sample[0] == 0x9f { (24 + strings).min(sample.len()) } else { sample.len() };
        for bit in (0..end * 8).step_by(3) {
            let mut bytes = sample.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            exercise::btf(&bytes);
        }
    }
}

#[test]
fn no_prefix_or_bit_flip_of_btf_ext_panics() {
    let dir = tempfile::tempdir().unwrap();
    let Some(object) = support::clang(dir.path(), OBJECT, &[]) else { return };
    let btf = Btf::parse(support::section(&object, ".BTF").unwrap().to_vec()).unwrap();
    let ext = support::section(&object, ".BTF.ext").unwrap();
    let parsed = BtfExt::parse(ext, &btf).unwrap();
    assert_eq!(parsed.funcs[0].name, "socket");
    assert!(matches!(btf.get(parsed.funcs[0].records[0].ty).unwrap(), Type::Func { name: "program", .. }));
    let line = parsed.lines[0].records[0];
    assert!(btf.string(line.file_name_off).unwrap().ends_with("t.c"));
    assert!(btf.string(line.line_off).unwrap().contains("int program"));
    assert_eq!(line.line, 9);
    for len in 0..ext.len() {
        exercise::ext(&ext[..len], &btf);
    }
    for bit in 0..ext.len() * 8 {
        let mut bytes = ext.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        exercise::ext(&bytes, &btf);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise::btf(&bytes);
    }

    /// Arbitrary records behind a valid header, with small numbers so that they refer to one another.
    #[test]
    fn arbitrary_records(
        words in prop::collection::vec(prop_oneof![4 => 0u32..12, 1 => any::<u32>()], 0..80),
        kinds in prop::collection::vec((1u32..20, 0u32..4, any::<bool>()), 0..40),
    ) {
        let mut records = Vec::new();
        let mut words = words.into_iter();
        for (kind, vlen, flag) in kinds {
            let once = match kind { 1 | 14 | 17 => 1, 3 => 3, _ => 0 };
            let each = match kind { 4 | 5 | 15 | 19 => 3, 6 | 13 => 2, _ => 0 };
            records.push(words.next().unwrap_or(1));
            records.push(u32::from(flag) << 31 | kind << 24 | vlen);
            records.extend((0..1 + once + each * vlen).map(|_| words.next().unwrap_or(2)));
        }
        let strings = b"\0a\0int\0x.y\0>\0c\0";
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let len = records.len() as u32 * 4;
        for word in [24, 0, len, len, strings.len() as u32].into_iter().chain(records) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(strings);
        exercise::btf(&bytes);
    }
}

#[test]
fn cycles_are_errors() {
    let mut b = Builder::new();
    let first = b.typedef("loop_a", TypeId(2)).unwrap();
    b.typedef("loop_b", first).unwrap();
    let array = b.array(TypeId(3), TypeId(3), 1).unwrap();
    let own = b.structure("own", 8, &[("own", TypeId(4), 0)]).unwrap();
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    for id in [first, array] {
        assert!(matches!(btf.size_of(id), Err(Error::TooDeep { .. })));
        assert_eq!(btf.type_name(id), if id == first { "loop_a" } else { "<bad type 3>" });
    }
    assert!(matches!(btf.resolve(first), Err(Error::TooDeep { .. })));
    assert_eq!(btf.size_of(own), Ok(8));
    assert!(matches!(btf.align_of(own), Err(Error::TooDeep { .. })));
    assert!(matches!(value::decode(&btf, own, &[0; 8]), Err(Error::TooDeep { .. })));
    let roots = c_header::Options { roots: Some(vec![own]), ..c_header::Options::plain() };
    let error = c_header::text(&btf, &roots).unwrap_err();
    assert_eq!(error.to_string(), "read type [4] (struct): it contains itself");
}

#[test]
fn sizes_that_overflow_are_errors() {
    let mut b = Builder::new();
    let int = b.int("int", 4, true).unwrap();
    let mut array = int;
    for _ in 0..3 {
        array = b.array(array, int, u32::MAX).unwrap();
    }
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    assert_eq!(btf.size_of(array), Err(Error::SizeOverflow { id: array }));
}

/// Each struct holds the one before it twice: as text or as a value it would be longer than memory.
#[test]
fn what_multiplies_is_bounded() {
    let mut b = Builder::new();
    let mut inner = b.int("int", 4, true).unwrap();
    for _ in 0..40 {
        inner = b.union("", 4, &[("", inner), ("", inner)]).unwrap();
    }
    let named = b.union("named", 4, &[("a", inner)]).unwrap();
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    assert_eq!(btf.align_of(named), Ok(4));
    assert!(value::decode(&btf, named, &[0; 4]).is_ok());
    assert!(btf.member_path(named, "b").is_err());
    assert!(btf.member_path(inner, "b").is_err());
    let error = c_header::text(&btf, &c_header::Options::default()).unwrap_err();
    assert!(matches!(error, Error::BadType { .. }), "{error}");
}

/// Each struct holds the one before it twice and none has a byte: nothing that counts bytes or leaves ends the walk.
#[test]
fn what_multiplies_without_bytes_is_bounded() {
    let start = std::time::Instant::now();
    for (anonymous, size) in [(false, 0), (true, 0), (false, 4), (true, 4)] {
        let mut b = Builder::new();
        let mut inner = b.structure(if anonymous { "" } else { "s0" }, size, &[]).unwrap();
        for level in 1..=30 {
            let name = if anonymous { String::new() } else { format!("s{level}") };
            let [x, y] = if anonymous { ["", ""] } else { ["x", "y"] };
            inner = b.structure(&name, size, &[(x, inner, 0), (y, inner, 0)]).unwrap();
        }
        let index = b.int("int", 4, false).unwrap();
        let list = b.array(inner, index, 4096).unwrap();
        let named = b.structure("named", size, &[("a", inner, 0)]).unwrap();
        let btf = Btf::parse(b.build().unwrap()).unwrap();
        assert!(btf.size_of(named).is_ok() && btf.align_of(named).is_ok());
        for id in [inner, named, list] {
            let bytes = vec![0; btf.size_of(id).unwrap() as usize];
            let value = value::decode(&btf, id, &bytes).unwrap();
            assert!(value.to_string().len() < 1 << 20, "{}", value.to_string().len());
            assert!(value.to_json().len() < 1 << 20);
        }
        let _ = btf.member_path(named, "b");
        // Without names the text itself multiplies, up to its limit.
        let header =
            c_header::text(&btf, &c_header::Options { roots: Some(vec![named]), ..c_header::Options::plain() });
        assert_eq!(header.is_err(), anonymous && size == 0, "{anonymous} {size}");
    }
    // Seconds on a slow machine; without bounds, hours.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn parts_are_in_proportion_to_bytes() {
    let mut b = Builder::new();
    let mut inner = b.int("int", 4, true).unwrap();
    for level in 0..20 {
        inner = b.union(&format!("u{level}"), 4, &[("x", inner), ("y", inner)]).unwrap();
    }
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    let text = value::decode(&btf, inner, &[0; 4]).unwrap().to_string();
    assert!(text.matches(": ").count() < 200 && text.contains("..."), "{text}");
    // Members in plenty, each with a type that has members in plenty, none with bytes.
    let mut b = Builder::new();
    let unit = b.structure("unit", 0, &[]).unwrap();
    let wide: Vec<_> = (0..60_000).map(|_| ("m", unit, 0)).collect();
    let wide = b.structure("wide", 0, &wide).unwrap();
    let wider: Vec<_> = (0..60_000).map(|_| ("", wide, 0)).collect();
    let wider = b.structure("wider", 1 << 16, &wider).unwrap();
    let btf = Btf::parse(b.build().unwrap()).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(value::decode(&btf, wider, &[0; 1 << 16]).unwrap().to_string(), "{}");
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

/// Nesting as deep as it is let through must not exhaust a small stack.
#[test]
fn depth_is_bounded_before_the_stack_is() {
    for wrap in [0, 1, 2] {
        let mut b = Builder::new();
        let mut inner = b.int("int", 4, true).unwrap();
        for _ in 0..1000 {
            inner = match wrap {
                0 => b.structure("", 4, &[("m", inner, 0)]).unwrap(),
                1 => b.func_proto(TypeId::VOID, &[("p", inner)]).unwrap(),
                _ => {
                    let proto = b.func_proto(inner, &[("p", inner)]).unwrap();
                    let pointer = b.ptr(proto).unwrap();
                    b.structure("", 8, &[("f", pointer, 0)]).unwrap()
                }
            };
        }
        b.typedef("top", inner).unwrap();
        let bytes = b.build().unwrap();
        exercise::btf(&bytes);
        let btf = Btf::parse(bytes).unwrap();
        assert!(c_header::text(&btf, &c_header::Options::default()).is_err());
    }
}

#[test]
fn causes_are_named() {
    let good = every_kind(Endian::Little);
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = good.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        Btf::parse(copy).unwrap_err().to_string()
    };
    assert_eq!(
        Btf::parse(b"\x7fELF".to_vec()).unwrap_err().to_string(),
        "read .BTF: the first bytes are 0x457f, not BTF's magic number 0xeb9f; this is not BTF"
    );
    assert_eq!(
        Btf::parse(good[..20].to_vec()).unwrap_err().to_string(),
        "read .BTF: 20 bytes are too few for its header of 24 bytes; the section is truncated"
    );
    assert_eq!(with(2, &[2]), "read .BTF: version 2 with flags 0x0 is not known (version 1 with no flags is)");
    assert_eq!(with(31, &[99]), "read type [1]: kind 99 is not known to this version of skep");
    assert!(
        with(12, &[0xff, 0xff, 0xff, 0]).contains("its type section (16777215 bytes at offset 0) reaches past the end")
    );
    assert!(with(good.len() - 1, b"x").contains("does not end with a NUL byte"));
    let btf = Btf::parse(good).unwrap();
    let count = btf.type_count();
    assert_eq!(
        btf.get(TypeId(1000)).unwrap_err().to_string(),
        format!("look up type [1000]: there is no such type (ids go from 0 to {})", count - 1)
    );
    let proto = btf.find("run", Kind::Func).unwrap();
    assert_eq!(
        btf.size_of(proto).unwrap_err().to_string(),
        format!("take the size of type [{0}]: type [{0}] is a function, which has none", proto.0)
    );
}

/// A kind from the future can be stepped over if the blob says how long its records are (Linux 7.1).
#[test]
fn layout_section_lets_unknown_kinds_pass() {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let types = words(&[
        /* int */ 1,
        1 << 24,
        4,
        32,
        /* kind 20 with two elements */ 0,
        20 << 24 | 2,
        0,
        7,
        8,
        9,
        10,
        /* ptr */ 0,
        2 << 24,
        1,
    ]);
    let mut layout = vec![0; 20 * 4];
    layout.extend([4, 4, 0, 0]); // 3 words once and each would be 12; here 4 once and 4 each make 3 of the 4 words
    layout[20 * 4] = 8;
    let strings = b"\0int\0";
    let (t, l) = (types.len() as u32, layout.len() as u32);
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    bytes.extend(words(&[32, 0, t, t + l, strings.len() as u32, t, l]));
    bytes.extend(types);
    bytes.extend(layout);
    bytes.extend(strings);
    let btf = Btf::parse(bytes.clone()).unwrap();
    assert_eq!(btf.type_count(), 4);
    assert_eq!(btf.get(TypeId(2)), Err(Error::UnknownKind { id: TypeId(2), kind: 20 }));
    assert_eq!(btf.get(TypeId(3)), Ok(Type::Ptr { target: TypeId(1) }));
    exercise::btf(&bytes);
}
