//! Map definitions -> [`MapSpec`]: the `.maps` section described by BTF, and the old `maps` section of plain structs.
//!
//! In `.maps` each variable is a struct without contents; what it says stands in the types of its members, by the
//! macros of `bpf_helpers.h`:
//!
//! | macro | member's type | read as |
//! |---|---|---|
//! | `__uint(name, 7)` | `int (*name)[7]` | 7 |
//! | `__ulong(name, 7)` | `enum { a = 7 } name` | 7 |
//! | `__type(name, T)` | `T *name` | T |
//! | `__array(name, T)` | `T *name[]` | T, and slots set by relocations |
//!
//! In `maps` (and `maps/NAME`) each variable is a `struct bpf_map_def`: five numbers, of which the last may be missing,
//! and whatever a loader of its time put behind them, which is passed over with a warning.
//!
//! Limits: [`MAX_MAPS`]; a template of inner maps cannot have templates of its own (the kernel takes one level).

use std::collections::HashMap;

use skep_abi::MapType;
use skep_btf::{Array, Btf, Composite, Enum, Kind, Linkage, Type, TypeId};
use skep_isa::Endian;

use crate::elf::{Elf, Place, Symbol};
use crate::warnings::Warnings;
use crate::{Error, InitialSlot, InitialValue, MapIdx, MapOrigin, MapSpec, ProgramIdx, near};

/// Declared maps of a file.
pub const MAX_MAPS: usize = 4096;

/// Members of a map definition that are understood. Source: `__uint` and `__type` uses in libbpf.
const MEMBERS: &[&str] = &[
    "type",
    "key",
    "value",
    "key_size",
    "value_size",
    "max_entries",
    "map_flags",
    "numa_node",
    "map_extra",
    "pinning",
    "values",
];

/// A map and where its variable stands.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) spec: MapSpec,
    /// Section index.
    pub(crate) section: usize,
    /// Bytes from the section's start.
    pub(crate) offset: u64,
    /// Bytes of the variable.
    size: u64,
    /// Where the slots of `values` start, in bytes from the variable's start, and what goes into them.
    values: Option<(u64, Values)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Values {
    Maps,
    Programs,
}

/// A map with nothing set.
pub(crate) fn empty(name: &str, origin: MapOrigin) -> MapSpec {
    MapSpec {
        name: name.to_owned(),
        origin,
        map_type: MapType::Unspec,
        key_size: 0,
        value_size: 0,
        max_entries: 0,
        flags: 0,
        numa_node: 0,
        map_extra: 0,
        key_type: None,
        value_type: None,
        record_type: None,
        pin_by_name: false,
        inner: None,
        initial: Vec::new(),
        data: None,
        vars: Vec::new(),
    }
}

/// Reads every declared map, in the order of their sections and offsets.
pub(crate) fn read(elf: &Elf<'_>, btf: Option<&Btf>, warnings: &mut Warnings) -> Result<Vec<Declared>, Error> {
    let mut maps = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        if section.name == "maps" || section.name.starts_with("maps/") {
            read_legacy(elf, index, btf, warnings, &mut maps)?;
        }
    }
    if let Some((index, section)) = elf.section(".maps")
        && section.size > 0
    {
        let btf = btf.ok_or_else(|| Error::Btf {
            file: elf.file.clone(),
            what: "read the maps of section .maps".to_owned(),
            cause: "the file has no .BTF section; compile with -g".to_owned(),
        })?;
        read_btf_maps(elf, index, btf, &mut maps)?;
    }
    if maps.len() > MAX_MAPS {
        return Err(too_many(elf, maps.len()));
    }
    Ok(maps)
}

fn too_many(elf: &Elf<'_>, found: usize) -> Error {
    let (file, what) = (elf.file.clone(), "the number of maps".to_owned());
    Error::Limit { file, what, found: found as u64, limit: MAX_MAPS as u64 }
}

fn read_btf_maps(elf: &Elf<'_>, section: usize, btf: &Btf, maps: &mut Vec<Declared>) -> Result<(), Error> {
    let btf_error =
        |cause: String| Error::Btf { file: elf.file.clone(), what: "read the maps of section .maps".to_owned(), cause };
    let id = btf
        .find(".maps", Kind::Datasec)
        .ok_or_else(|| btf_error("the .BTF section does not describe it; compile with -g".to_owned()))?;
    let Type::Datasec(datasec) = btf.get(id).map_err(|e| btf_error(e.to_string()))? else { return Ok(()) };
    if datasec.vars.len() > MAX_MAPS {
        return Err(too_many(elf, datasec.vars.len()));
    }
    let symbols: HashMap<&str, &Symbol<'_>> = elf.symbols_in(section).map(|(_, s)| (s.name, s)).collect();
    let mut found = Vec::new();
    for var in &datasec.vars {
        let Type::Var { name, target, linkage } = btf.get(var.ty).map_err(|e| btf_error(e.to_string()))? else {
            return Err(btf_error(format!("type [{}] in it is no variable", var.ty.0)));
        };
        let error = |cause: String| Error::Map { file: elf.file.clone(), map: name.to_owned(), cause };
        let symbol = symbols.get(name);
        let offset = match (symbol, linkage) {
            (Some(symbol), _) => symbol.value,
            (None, Linkage::Static) => u64::from(var.offset),
            (None, _) => return Err(error("it has type information but no symbol".to_owned())),
        };
        let (spec, values) = Definition { btf, error: &error }.read(name, target, false)?;
        // The slots of `values` stand behind the struct proper, as the open end of an array does.
        let whole = symbol.map_or(0, |s| s.size).max(u64::from(var.size));
        let size = btf.size_of(target).map_err(|e| error(e.to_string()))?.max(whole);
        let end = elf.sections.get(section).map_or(0, |s| s.size);
        if offset.checked_add(size).is_none_or(|to| to > end) {
            return Err(error(format!("its {size} bytes at offset {offset} reach past the section's end at {end}")));
        }
        found.push(Declared { spec, section, offset, size, values });
    }
    found.sort_by_key(|map| map.offset);
    maps.extend(found);
    Ok(())
}

/// Reads definitions of one file.
struct Definition<'a> {
    btf: &'a Btf,
    error: &'a dyn Fn(String) -> Error,
}

impl Definition<'_> {
    fn fail<T>(&self, cause: impl Into<String>) -> Result<T, Error> {
        Err((self.error)(cause.into()))
    }

    /// The type beneath typedefs and qualifiers.
    fn beneath(&self, id: TypeId) -> Result<(TypeId, Type<'_>), Error> {
        let id = self.btf.resolve(id).map_err(|e| (self.error)(e.to_string()))?;
        Ok((id, self.btf.get(id).map_err(|e| (self.error)(e.to_string()))?))
    }

    fn size_of(&self, id: TypeId, what: &str) -> Result<u32, Error> {
        let size = self.btf.size_of(id).map_err(|e| (self.error)(format!("the size of its {what}: {e}")))?;
        u32::try_from(size).map_err(|_| (self.error)(format!("its {what} has {size} bytes, more than 32 bits can say")))
    }

    /// A number given by `__uint` or `__ulong`.
    fn number(&self, member: &str, id: TypeId) -> Result<u64, Error> {
        let wrong = |what: &str| (self.error)(format!("member {member} is {what}; write __uint({member}, NUMBER)"));
        match self.beneath(id)?.1 {
            Type::Ptr { target } => match self.beneath(target)?.1 {
                Type::Array(Array { count, .. }) => Ok(u64::from(count)),
                _ => Err(wrong("a pointer to something other than an array")),
            },
            Type::Enum(Enum { variants, .. }) => match variants.as_slice() {
                [only] => u64::try_from(only.value)
                    .or_else(|_| i64::try_from(only.value).map(i64::cast_unsigned))
                    .map_err(|_| wrong("an enumeration whose value has more than 64 bits")),
                _ => Err(wrong("an enumeration of other than one value")),
            },
            _ => Err(wrong("no number")),
        }
    }

    fn number32(&self, member: &str, id: TypeId) -> Result<u32, Error> {
        let number = self.number(member, id)?;
        u32::try_from(number)
            .map_err(|_| (self.error)(format!("member {member} is {number}, which has more than 32 bits")))
    }

    /// A type given by `__type`.
    fn pointee(&self, member: &str, id: TypeId) -> Result<TypeId, Error> {
        match self.beneath(id)?.1 {
            Type::Ptr { target } => Ok(target),
            _ => self.fail(format!("member {member} is no pointer; write __type({member}, TYPE)")),
        }
    }

    fn read(&self, name: &str, ty: TypeId, inner: bool) -> Result<(MapSpec, Option<(u64, Values)>), Error> {
        let Type::Struct(Composite { members, .. }) = self.beneath(ty)?.1 else {
            return self.fail("its variable is no struct; declare it as struct { __uint(type, ...); ... }");
        };
        let mut map = empty(name, MapOrigin::Declared);
        let mut values = None;
        let (mut key_size, mut value_size) = (None, None);
        for member in &members {
            let number = || self.number32(member.name, member.ty);
            match member.name {
                "type" => {
                    let number = number()?;
                    map.map_type = MapType::from_u32(number).filter(|t| *t != MapType::Unspec).ok_or_else(|| {
                        (self.error)(format!("map type {number} is not known to this version of skep"))
                    })?;
                }
                "key" => map.key_type = Some(self.pointee("key", member.ty)?),
                "value" => map.value_type = Some(self.pointee("value", member.ty)?),
                "key_size" => key_size = Some(number()?),
                "value_size" => value_size = Some(number()?),
                "max_entries" => map.max_entries = number()?,
                "map_flags" => map.flags = number()?,
                "numa_node" => map.numa_node = number()?,
                "map_extra" => map.map_extra = self.number(member.name, member.ty)?,
                "pinning" if inner => return self.fail("a template of inner maps cannot be pinned"),
                "pinning" => match number()? {
                    0 => map.pin_by_name = false,
                    1 => map.pin_by_name = true,
                    other => {
                        return self
                            .fail(format!("pinning is {other}; write LIBBPF_PIN_NONE (0) or LIBBPF_PIN_BY_NAME (1)"));
                    }
                },
                "values" => values = Some(member),
                other => {
                    return self.fail(format!(
                        "its definition has an unknown member {other:?}{}",
                        near::hint(other, MEMBERS.iter().copied())
                    ));
                }
            }
        }
        if map.map_type == MapType::Unspec {
            return self.fail("its definition has no type; write __uint(type, BPF_MAP_TYPE_...)");
        }
        map.key_size = self.agreed("key", key_size, map.key_type)?;
        map.value_size = self.agreed("value", value_size, map.value_type)?;
        let values = match values {
            Some(member) => {
                let kind = self.read_values(&mut map, member.ty, inner)?;
                if member.bit_offset % 64 != 0 {
                    return self.fail("member values does not lie at a multiple of 8 bytes");
                }
                Some((u64::from(member.bit_offset / 8), kind))
            }
            None => None,
        };
        finish(&mut map).map_err(|cause| (self.error)(cause))?;
        Ok((map, values))
    }

    /// The size that `what_size` and `what` say, which must be one.
    fn agreed(&self, what: &str, size: Option<u32>, ty: Option<TypeId>) -> Result<u32, Error> {
        let by_type = ty.map(|ty| self.size_of(ty, what)).transpose()?;
        match (size, by_type) {
            (Some(size), Some(by_type)) if size != by_type => self
                .fail(format!("{what}_size is {size} but its {what} type has {by_type} bytes; leave one of them out")),
            (size, by_type) => Ok(size.or(by_type).unwrap_or(0)),
        }
    }

    fn read_values(&self, map: &mut MapSpec, ty: TypeId, inner: bool) -> Result<Values, Error> {
        if inner {
            return self.fail("a template of inner maps cannot have values of its own");
        }
        let form = "write __array(values, ...)";
        let Type::Array(Array { element, .. }) = self.beneath(ty)?.1 else {
            return self.fail(format!("member values is no array; {form}"));
        };
        let Type::Ptr { target } = self.beneath(element)?.1 else {
            return self.fail(format!("member values is no array of pointers; {form}"));
        };
        match map.map_type {
            MapType::ArrayOfMaps | MapType::HashOfMaps => {
                let (template, _) = self.read(&format!("{}.inner", map.name), target, true)?;
                map.inner = Some(Box::new(template));
                Ok(Values::Maps)
            }
            MapType::ProgArray => match self.beneath(target)?.1 {
                Type::FuncProto(_) => Ok(Values::Programs),
                _ => self.fail("member values of a program array is no array of pointers to functions"),
            },
            other => self
                .fail(format!("a map of type {other} has no values to set; only maps of maps and program arrays do")),
        }
    }
}

/// Fills in what follows from the type, and checks what can be checked without a kernel.
fn finish(map: &mut MapSpec) -> Result<(), String> {
    use MapType as M;
    // What these hold is a descriptor of 4 bytes, whatever the definition says or leaves out.
    let holds_descriptors =
        matches!(map.map_type, M::ProgArray | M::PerfEventArray | M::ArrayOfMaps | M::HashOfMaps | M::CgroupArray);
    if holds_descriptors && map.value_size == 0 {
        map.value_size = 4;
    }
    if holds_descriptors && map.map_type != M::HashOfMaps && map.key_size == 0 {
        map.key_size = 4;
    }
    let keyless = matches!(
        map.map_type,
        M::Queue | M::Stack | M::BloomFilter | M::Ringbuf | M::UserRingbuf | M::Arena | M::StructOps
    );
    if !keyless && map.key_size == 0 {
        return Err(format!(
            "a map of type {} needs a key; write __type(key, ...) or __uint(key_size, ...)",
            map.map_type
        ));
    }
    let valueless = matches!(map.map_type, M::Ringbuf | M::UserRingbuf | M::Arena | M::StructOps);
    if !valueless && map.value_size == 0 {
        return Err(format!(
            "a map of type {} needs a value; write __type(value, ...) or __uint(value_size, ...)",
            map.map_type
        ));
    }
    Ok(())
}

/// The five numbers of `struct bpf_map_def`.
const LEGACY_SIZE: u64 = 20;
/// The first `struct bpf_map_def` had no flags.
const LEGACY_MIN: u64 = 16;

fn read_legacy(
    elf: &Elf<'_>,
    section: usize,
    btf: Option<&Btf>,
    warnings: &mut Warnings,
    maps: &mut Vec<Declared>,
) -> Result<(), Error> {
    let Some(contents) = elf.sections.get(section) else { return Ok(()) };
    let mut symbols: Vec<(u64, &str)> = elf.symbols_in(section).map(|(_, s)| (s.value, s.name)).collect();
    symbols.sort_unstable();
    symbols.dedup_by_key(|(offset, _)| *offset);
    if symbols.len() > MAX_MAPS {
        return Err(too_many(elf, symbols.len()));
    }
    if symbols.is_empty() && contents.size > 0 {
        return Err(elf.malformed(&format!("section {}", contents.name), "no symbol names the maps in it".to_owned()));
    }
    for (i, &(offset, name)) in symbols.iter().enumerate() {
        let error = |cause: String| Error::Map { file: elf.file.clone(), map: name.to_owned(), cause };
        let end = symbols.get(i + 1).map_or(contents.data.len() as u64, |(next, _)| *next);
        let bytes = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(from, to)| contents.data.get(from..to))
            .ok_or_else(|| error(format!("its definition at offset {offset} is outside the section")))?;
        if (bytes.len() as u64) < LEGACY_MIN {
            return Err(error(format!(
                "its definition has {} bytes, fewer than the {LEGACY_MIN} of the smallest struct bpf_map_def",
                bytes.len()
            )));
        }
        let number = |i: usize| read_u32(bytes, i * 4, elf.endian).unwrap_or(0);
        let mut map = empty(name, MapOrigin::Legacy);
        map.map_type = MapType::from_u32(number(0))
            .filter(|t| *t != MapType::Unspec)
            .ok_or_else(|| error(format!("map type {} is not known to this version of skep", number(0))))?;
        (map.key_size, map.value_size, map.max_entries) = (number(1), number(2), number(3));
        map.flags = number(4);
        let extra = bytes.get(LEGACY_SIZE as usize..).unwrap_or_default();
        if extra.iter().any(|b| *b != 0) {
            warnings.push(format!(
                "map {name}: its definition has {} bytes; those behind the first {LEGACY_SIZE} (iproute2's pinning and \
                 inner maps) are passed over; declare it in section .maps",
                bytes.len()
            ));
        }
        finish(&mut map).map_err(&error)?;
        if let Some(btf) = btf {
            annotate(&mut map, btf);
        }
        maps.push(Declared { spec: map, section, offset, size: end - offset, values: None });
    }
    Ok(())
}

/// Types given by `BPF_ANNOTATE_KV_PAIR`: a struct named `____btf_map_NAME` with members `key` and `value`.
fn annotate(map: &mut MapSpec, btf: &Btf) {
    let Some(id) = btf.find(&format!("____btf_map_{}", map.name), Kind::Struct) else { return };
    let Ok(members) = btf.members(id) else { return };
    let fits = |name: &str, size: u32| {
        members
            .iter()
            .find(|m| m.name == name)
            .map(|m| m.ty)
            .filter(|ty| btf.size_of(*ty).is_ok_and(|found| found == u64::from(size)))
    };
    // Both or none: the kernel takes no value type without a key type.
    if let (Some(key), Some(value)) = (fits("key", map.key_size), fits("value", map.value_size)) {
        (map.key_type, map.value_type) = (Some(key), Some(value));
    }
}

/// Sets the slots that relocations of `.maps` fill. `program` says which entry program a symbol is.
pub(crate) fn set_initial(
    elf: &Elf<'_>,
    maps: &mut [Declared],
    program: impl Fn(usize) -> Option<ProgramIdx>,
) -> Result<(), Error> {
    let Some((section, contents)) = elf.section(".maps") else { return Ok(()) };
    let places: Vec<(usize, u64)> = maps.iter().map(|m| (m.section, m.offset)).collect();
    for reloc in &contents.relocs {
        let holder = maps
            .iter_mut()
            .find(|m| m.section == section && m.offset <= reloc.offset && reloc.offset - m.offset < m.size);
        let Some(map) = holder else {
            return Err(elf.malformed("section .maps", format!("a relocation at {} is in no map", reloc.offset)));
        };
        let name = map.spec.name.clone();
        let error = |cause: String| Error::Map { file: elf.file.clone(), map: name.clone(), cause };
        let Some((start, kind)) = map.values else {
            return Err(error("it has slots with contents but no member values".to_owned()));
        };
        let within = reloc.offset - map.offset;
        let slot = within.checked_sub(start).filter(|at| at % 8 == 0).map(|at| at / 8);
        let slot = slot.and_then(|slot| u32::try_from(slot).ok()).ok_or_else(|| {
            error(format!("a relocation at byte {within} of it is not at a slot of its member values"))
        })?;
        if map.spec.max_entries != 0 && slot >= map.spec.max_entries {
            return Err(error(format!("slot {slot} is set, but max_entries is {}", map.spec.max_entries)));
        }
        let symbol = elf.symbols.get(reloc.symbol);
        let symbol_name = symbol.map_or("", |s| s.name);
        let value = match kind {
            Values::Programs => InitialValue::Program(program(reloc.symbol).ok_or_else(|| {
                error(format!("slot {slot} is set to {symbol_name}, which is no program with a section of its own"))
            })?),
            Values::Maps => {
                let place = symbol.and_then(|s| match s.place {
                    Place::Section(at) => Some((at, s.value.checked_add_signed(reloc.addend)?)),
                    _ => None,
                });
                let target = place.and_then(|place| places.iter().position(|p| *p == place));
                InitialValue::Map(MapIdx(
                    target.ok_or_else(|| error(format!("slot {slot} is set to {symbol_name}, which is no map")))?,
                ))
            }
        };
        map.spec.initial.push(InitialSlot { slot, value });
    }
    Ok(())
}

/// Prefix of the variables in section `skep.records`, see `bpf/include/skep.h`.
const RECORD_PREFIX: &str = "skep_record__";

/// Sets the record types that `SKEP_RECORD` declares.
pub(crate) fn set_record_types(btf: &Btf, maps: &mut [MapSpec], warnings: &mut Warnings) {
    let Ok(vars) = skep_btf::load::variables(btf, "skep.records") else { return };
    for (name, var) in vars {
        let Some(map) = name.strip_prefix(RECORD_PREFIX) else { continue };
        let pointer = btf.resolve(var.ty_of(btf)).and_then(|id| btf.get(id));
        let Ok(Type::Ptr { target }) = pointer else {
            warnings.push(format!("SKEP_RECORD({map}, ...): variable {name} is no pointer; use the macro of skep.h"));
            continue;
        };
        match maps.iter_mut().find(|m| m.name == map) {
            Some(map) => map.record_type = Some(target),
            None => {
                let hint = near::hint(map, maps.iter().map(|m| m.name.as_str()));
                warnings.push(format!("SKEP_RECORD({map}, ...): there is no map {map}{hint}"));
            }
        }
    }
}

/// The type of a variable of a data section.
trait VarType {
    fn ty_of(&self, btf: &Btf) -> TypeId;
}

impl VarType for skep_btf::VarInfo {
    fn ty_of(&self, btf: &Btf) -> TypeId {
        match btf.get(self.ty) {
            Ok(Type::Var { target, .. }) => target,
            _ => TypeId::VOID,
        }
    }
}

/// Four bytes as a number.
pub(crate) fn read_u32(bytes: &[u8], at: usize, endian: Endian) -> Option<u32> {
    let word = *bytes.get(at..)?.first_chunk::<4>()?;
    Some(match endian {
        Endian::Little => u32::from_le_bytes(word),
        Endian::Big => u32::from_be_bytes(word),
    })
}
