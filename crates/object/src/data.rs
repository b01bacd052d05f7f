//! `.rodata*`, `.data*`, `.bss*` -> array maps of one entry, with the variables in them.
//!
//! Limits: contents of all sections together [`crate::MAX_SECTION_SIZE`].

use std::collections::HashMap;

use object::elf;
use skep_abi::MapType;
use skep_abi::flags::map_create;
use skep_btf::load::{DataSection, Variable};
use skep_btf::{Btf, Kind, Linkage, Type};

use crate::elf::{Elf, MAX_SECTION_SIZE, Section};
use crate::warnings::Warnings;
use crate::{Error, MapOrigin, MapSpec, VarSpec, maps};

/// Which kind of data a section holds, by its name.
pub(crate) fn origin(section: &Section<'_>) -> Option<MapOrigin> {
    let is = |name: &str| section.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if section.executable || section.size == 0 {
        None
    } else if is(".rodata") {
        Some(MapOrigin::Rodata)
    } else if is(".data") {
        Some(MapOrigin::Data)
    } else if is(".bss") {
        Some(MapOrigin::Bss)
    } else {
        None
    }
}

/// What the ELF file says of every section that the BTF describes, for [`skep_btf::load::complete`].
pub(crate) fn facts(elf: &Elf<'_>, btf: &Btf) -> Vec<DataSection> {
    let mut by_section: HashMap<usize, Vec<Variable>> = HashMap::new();
    for symbol in &elf.symbols {
        if let crate::elf::Place::Section(at) = symbol.place
            && symbol.is_global()
            && !symbol.name.is_empty()
            && let Ok(offset) = u32::try_from(symbol.value)
        {
            let variable = Variable { name: symbol.name.to_owned(), offset, hidden: symbol.hidden };
            by_section.entry(at).or_default().push(variable);
        }
    }
    let mut out: Vec<DataSection> = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        let Ok(size) = u32::try_from(section.size) else { continue };
        if btf.find(section.name, Kind::Datasec).is_some() && !out.iter().any(|s| s.name == section.name) {
            out.push(DataSection {
                name: section.name.to_owned(),
                size,
                variables: by_section.remove(&index).unwrap_or_default(),
            });
        }
    }
    out
}

/// Reads every data section. Each map comes with the index of its section. `btf` is the completed one.
pub(crate) fn read(elf: &Elf<'_>, btf: Option<&Btf>, warnings: &mut Warnings) -> Result<Vec<(usize, MapSpec)>, Error> {
    let mut found = Vec::new();
    let mut total = 0u64;
    for (index, section) in elf.sections.iter().enumerate() {
        let Some(origin) = origin(section) else { continue };
        total = total.saturating_add(section.size);
        if total > MAX_SECTION_SIZE {
            return Err(Error::Limit {
                file: elf.file.clone(),
                what: format!("the size of the data sections up to {}", section.name),
                found: total,
                limit: MAX_SECTION_SIZE,
            });
        }
        // Within the limit, so both fit.
        let size = section.size as u32;
        let contents = if section.kind == elf::SHT_NOBITS { vec![0; size as usize] } else { section.data.to_vec() };
        let mut map = maps::empty(section.name, origin);
        map.map_type = MapType::Array;
        (map.key_size, map.value_size, map.max_entries) = (4, size, 1);
        map.data = Some(contents);
        // A second section of the same name is not the one that the BTF describes.
        let described = btf.filter(|_| elf.section(section.name).is_some_and(|(first, _)| first == index));
        let datasec = described.and_then(|btf| Some((btf, btf.find(section.name, Kind::Datasec)?)));
        match datasec {
            Some((btf, id)) => {
                map.value_type = Some(id);
                map.vars = described_vars(btf, section.name, size).map_err(|e| Error::Btf {
                    file: elf.file.clone(),
                    what: format!("read the variables of section {}", section.name),
                    cause: e.to_string(),
                })?;
            }
            None => map.vars = symbol_vars(elf, index, size),
        }
        if origin == MapOrigin::Rodata {
            map.flags |= map_create::BPF_F_RDONLY_PROG as u32;
        }
        // Only what others may name is worth mapping into memory; older kernels refuse the flag.
        if map.value_type.is_some() && map.vars.iter().any(|var| !var.is_static) {
            map.flags |= map_create::BPF_F_MMAPABLE as u32;
        }
        if !section.relocs.is_empty() {
            warnings.push(format!(
                "section {}: {} of its variables are initialised with an address, which BPF cannot do; they start as 0",
                section.name,
                section.relocs.len()
            ));
        }
        found.push((index, map));
    }
    Ok(found)
}

/// Variables by the BTF.
pub(crate) fn described_vars(btf: &Btf, section: &str, size: u32) -> Result<Vec<VarSpec>, skep_btf::Error> {
    let mut vars = Vec::new();
    for (name, var) in skep_btf::load::variables(btf, section)? {
        let Type::Var { target, linkage, .. } = btf.get(var.ty)? else { continue };
        if var.offset.checked_add(var.size).is_none_or(|end| end > size) {
            continue;
        }
        vars.push(VarSpec {
            name: name.to_owned(),
            offset: var.offset,
            size: var.size,
            ty: target,
            is_static: linkage == Linkage::Static,
        });
    }
    Ok(vars)
}

/// Variables by the symbol table, for objects without BTF.
fn symbol_vars(elf: &Elf<'_>, section: usize, size: u32) -> Vec<VarSpec> {
    let mut vars: Vec<VarSpec> = elf
        .symbols_in(section)
        .filter(|(_, s)| s.kind == elf::STT_OBJECT)
        .filter(|(_, s)| s.value.checked_add(s.size).is_some_and(|end| end <= u64::from(size)))
        .map(|(_, s)| VarSpec {
            name: s.name.to_owned(),
            // Both are at most `size`.
            offset: s.value as u32,
            size: s.size as u32,
            ty: skep_btf::TypeId::VOID,
            is_static: !s.is_global(),
        })
        .collect();
    vars.sort_by_key(|var| var.offset);
    vars
}
