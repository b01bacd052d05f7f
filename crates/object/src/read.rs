//! An ELF file -> [`ObjectSpec`]: the parts are read in the order in which they need each other.

use std::collections::HashMap;

use skep_btf::{Btf, BtfExt, Type, TypeId, load};

use crate::elf::{Elf, check_name};
use crate::link::{Linker, Places};
use crate::warnings::Warnings;
use crate::{Error, MapIdx, MapOrigin, ObjectSpec, data, externs, link, maps};

pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<ObjectSpec, Error> {
    let elf = Elf::parse(name, bytes)?;
    let mut warnings = Warnings::default();
    let btf_error = |what: &str, e: skep_btf::Error| Error::Btf {
        file: name.to_owned(),
        what: what.to_owned(),
        cause: e.to_string(),
    };

    let raw_btf = match elf.section(".BTF") {
        Some((_, section)) if !section.data.is_empty() => {
            Some(Btf::parse(section.data.to_vec()).map_err(|e| btf_error("read its type information", e))?)
        }
        _ => None,
    };
    if let Some(btf) = &raw_btf {
        check_type_names(name, btf)?;
    }
    let ext = match (elf.section(".BTF.ext"), &raw_btf) {
        (Some((_, section)), Some(btf)) if !section.data.is_empty() => {
            Some(BtfExt::parse(section.data, btf).map_err(|e| btf_error("read its line and relocation records", e))?)
        }
        _ => None,
    };
    let externs = externs::read(&elf, raw_btf.as_ref())?;
    let btf = match &raw_btf {
        Some(btf) => {
            let mut facts = data::facts(&elf, btf);
            facts.extend(externs.kconfig.clone());
            let bytes = load::complete(btf, &facts).map_err(|e| btf_error("complete its type information", e))?;
            Some(Btf::parse(bytes).map_err(|e| btf_error("complete its type information", e))?)
        }
        None => None,
    };

    let mut declared = maps::read(&elf, btf.as_ref(), &mut warnings)?;
    let linker = Linker::new(&elf, btf.as_ref(), ext.as_ref(), &mut warnings)?;
    maps::set_initial(&elf, &mut declared, |symbol| linker.entry(symbol))?;

    let mut places = Places { maps: HashMap::new(), data: HashMap::new(), externs: &externs, kconfig: None };
    let mut all = Vec::with_capacity(declared.len());
    for map in declared {
        places.maps.insert((map.section, map.offset), MapIdx(all.len()));
        all.push(map.spec);
    }
    for (section, map) in data::read(&elf, btf.as_ref(), &mut warnings)? {
        places.data.insert(section, MapIdx(all.len()));
        all.push(map);
    }
    if let Some(layout) = &externs.kconfig {
        places.kconfig = Some(MapIdx(all.len()));
        all.push(externs::kconfig_map(btf.as_ref(), layout).map_err(|e| btf_error("read section .kconfig", e))?);
    }
    if let Some(btf) = &btf {
        maps::set_record_types(btf, &mut all, &mut warnings);
    }
    let programs = linker.link(&places, &mut warnings)?;
    if programs.is_empty() && !all.iter().any(|m| matches!(m.origin, MapOrigin::Declared | MapOrigin::Legacy)) {
        return Err(Error::Empty { file: name.to_owned() });
    }
    for section in elf.sections.iter().filter(|s| s.name.starts_with(".struct_ops") && s.size > 0) {
        warnings.push(format!(
            "section {}: struct_ops maps are not supported; its variables are passed over",
            section.name
        ));
    }
    let license = elf.section("license").map(|(_, s)| link::text_of(s.data)).unwrap_or_default();
    let kernel_version = elf.section("version").map_or(0, |(_, s)| link::version_of(s.data, elf.endian));
    Ok(ObjectSpec {
        name: name.to_owned(),
        endian: elf.endian,
        license,
        kernel_version,
        programs,
        maps: all,
        externs: externs.specs,
        btf,
        warnings: warnings.into_vec(),
    })
}

/// Refuses names that are too long, those of members and enumerators too.
fn check_type_names(file: &str, btf: &Btf) -> Result<(), Error> {
    for id in (1..btf.type_count()).map(TypeId) {
        // A type that cannot be read is reported where it is needed.
        let Ok(ty) = btf.get(id) else { continue };
        let check = |name: &str| check_name(file, &format_args!("type [{}]", id.0), name);
        check(btf.name(id).unwrap_or_default())?;
        match ty {
            Type::Struct(composite) | Type::Union(composite) => {
                composite.members.iter().try_for_each(|member| check(member.name))?;
            }
            Type::Enum(e) => e.variants.iter().try_for_each(|variant| check(variant.name))?,
            Type::FuncProto(proto) => proto.params.iter().try_for_each(|param| check(param.name))?,
            _ => {}
        }
    }
    Ok(())
}
