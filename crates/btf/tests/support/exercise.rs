//! Asks everything of arbitrary bytes. What matters is that each call returns: no panic, no endless loop, no memory
//! without bound. Used by the property tests and by the fuzz targets.

use skep_btf::load::{DataSection, Features, Variable};
use skep_btf::{Btf, BtfExt, Builder, TypeId, c_header, load, value};

pub(crate) fn btf(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    opened(&btf);
    // Some of them also as a split BTF on themselves.
    if bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) % 4 != 0 {
        return;
    }
    if let Ok(split) = Btf::parse_split(bytes.to_vec(), &btf) {
        opened(&split);
    }
}

pub(crate) fn ext(bytes: &[u8], btf: &Btf) {
    if let Ok(ext) = BtfExt::parse(bytes, btf) {
        let mut builder = Builder::from_btf(btf).expect("this BTF can be copied");
        let again = ext.write(btf.endian(), |name| builder.string(name)).expect("what was read can be written");
        let btf = Btf::parse(builder.build().expect("a copy")).expect("a copy opens");
        let mut again = BtfExt::parse(&again, &btf).expect("what was written can be read");
        // Empty groups are not written.
        let mut ext = ext;
        ext.lines.retain(|s| !s.records.is_empty());
        again.lines.retain(|s| !s.records.is_empty());
        assert_eq!(again, ext);
    }
}

fn opened(btf: &Btf) {
    for (id, ty) in btf.types() {
        let _ = (btf.size_of(id), btf.align_of(id), btf.resolve(id), btf.members(id), btf.prototype(id));
        let _ = (btf.type_name(id), btf.declaration(id, "x"), btf.name(id), btf.kind_flag(id));
        let Ok(ty) = ty else { continue };
        assert_eq!(btf.kind(id), Ok(ty.kind()));
        if !ty.name().is_empty() {
            assert!(btf.find(ty.name(), ty.kind()).is_some());
            assert!(btf.find_all(ty.name()).contains(&id), "{id:?} {ty:?} {:?}", btf.find_all(ty.name()));
        }
        if let Ok(decoded) = value::decode(btf, id, &[0x5a; 256]) {
            let _ = (decoded.to_string(), decoded.to_json());
        }
        for text in ["1", "-1", "x", "1,2"] {
            if let Ok(bytes) = value::encode(btf, id, text) {
                let _ = value::decode(btf, id, &bytes);
            }
        }
        for path in ["a", "x.y", "c[1]", "a.b[0][1].c", "..", "a[", "]"] {
            let _ = btf.member_path(id, path);
        }
    }
    let _ = (btf.get(TypeId(u32::MAX)), btf.string(u32::MAX), btf.find("x", skep_btf::Kind::Struct));
    let _ = c_header::text(btf, &c_header::Options::default());
    let variable = |name: &str| Variable { name: name.to_owned(), offset: 4, hidden: true };
    let section =
        |name: &str| DataSection { name: name.to_owned(), size: 64, variables: vec![variable("a"), variable("x")] };
    let written = [
        load::sanitize(btf, Features::NONE),
        load::sanitize(btf, Features::ALL),
        load::complete(btf, &[section(".data"), section(".bss"), section(".kconfig")]),
        Builder::from_btf(btf).and_then(|b| b.build()),
    ];
    for bytes in written.into_iter().flatten() {
        let again = match btf.base() {
            None => Btf::parse(bytes),
            Some(base) => Btf::parse_split(bytes, base),
        };
        again.expect("what was written can be opened");
    }
}
