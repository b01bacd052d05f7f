//! Makes a compiler's BTF ready for bpf(2) `BPF_BTF_LOAD`.
//!
//! Clang leaves two things open. It does not know how large data sections become or where global variables lie in them,
//! and it writes externs in a form that no kernel takes: [`complete`] fills both in from facts of the ELF file. And it
//! writes kinds that older kernels refuse as unknown: [`sanitize`] replaces them by kinds that have the same size and that
//! every kernel knows. Neither changes an id or a string offset, so `.BTF.ext` and map definitions stay right.

use std::collections::HashMap;

use crate::writer::record_kind;
use crate::{Btf, Builder, Error, Kind, Linkage, Type, TypeId, VarInfo};

/// What a kernel's BTF loader knows, found by attempt and not by version. The comments name the first kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// `FUNC` and `FUNC_PROTO` (5.0).
    pub func: bool,
    /// `FUNC` with global linkage (5.6).
    pub global_func: bool,
    /// `VAR` and `DATASEC` (5.2).
    pub datasec: bool,
    /// Names of data sections that start with `?` (6.8).
    pub question_mark_datasec: bool,
    /// `FLOAT` (5.13).
    pub float: bool,
    /// `DECL_TAG` (5.16).
    pub decl_tag: bool,
    /// `TYPE_TAG` (5.17).
    pub type_tag: bool,
    /// `ENUM64`, and signed enums (6.0).
    pub enum64: bool,
}

impl Features {
    /// A kernel that knows everything.
    pub const ALL: Features = Features {
        func: true,
        global_func: true,
        datasec: true,
        question_mark_datasec: true,
        float: true,
        decl_tag: true,
        type_tag: true,
        enum64: true,
    };
    /// The first kernel with BTF (4.18).
    pub const NONE: Features = Features {
        func: false,
        global_func: false,
        datasec: false,
        question_mark_datasec: false,
        float: false,
        decl_tag: false,
        type_tag: false,
        enum64: false,
    };
}

/// What the ELF file says about one data section.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DataSection {
    /// Its name, such as `.bss`.
    pub name: String,
    /// Its size in bytes.
    pub size: u32,
    /// Its global variables.
    pub variables: Vec<Variable>,
}

/// What the symbol table says about a global variable. Static ones need none: clang writes their offsets itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its offset in the section, in bytes.
    pub offset: u32,
    /// Whether its symbol is hidden or internal: then it is static as far as the kernel goes.
    pub hidden: bool,
}

/// Replaces kinds that the kernel does not know by ones that it does. Ids stay as they are; for `ENUM64`, one integer
/// type is appended.
///
/// | not known | becomes |
/// |---|---|
/// | `VAR`, `DECL_TAG` | integer of 1 byte, which lies within any variable |
/// | `DATASEC` | struct of its variables, dots in its name made underscores |
/// | `FUNC_PROTO` | enum of its parameters |
/// | `FUNC` | typedef |
/// | global `FUNC` | static `FUNC` |
/// | `FLOAT` | anonymous struct of its size |
/// | `TYPE_TAG` | const |
/// | `ENUM64` | union of its enumerators |
/// | signed `ENUM` | unsigned `ENUM` |
pub fn sanitize(btf: &Btf, features: Features) -> Result<Vec<u8>, Error> {
    let mut out = Builder::from_btf(btf)?;
    let info = |kind: Kind, vlen: u32| (kind as u32) << 24 | vlen;
    let byte = [info(Kind::Int, 0), 1, 8];
    let mut placeholder = None;
    let own = btf.first_id().0..btf.type_count();
    for id in own.map(TypeId) {
        let (raw, _) = btf.raw(id)?;
        match raw.kind {
            Kind::Var if !features.datasec => out.record_mut(id)?[1..4].copy_from_slice(&byte),
            Kind::DeclTag if !features.decl_tag => {
                let record = out.record_mut(id)?;
                record[0] = 0;
                record[1..4].copy_from_slice(&byte);
            }
            Kind::Datasec if !features.datasec => {
                let name: String = btf
                    .string(raw.name_off)?
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                    .collect();
                let name = out.string(&name)?;
                let Type::Datasec(section) = btf.get(id)? else { continue };
                let mut members = Vec::with_capacity(section.vars.len() * 3);
                for var in &section.vars {
                    let bits = var.offset.checked_mul(8).ok_or(Error::SizeOverflow { id })?;
                    members.extend([btf.raw(var.ty)?.0.name_off, var.ty.0, bits]);
                }
                let record = out.record_mut(id)?;
                record[0] = name;
                record[1] = info(Kind::Struct, raw.vlen);
                record[3..].copy_from_slice(&members);
            }
            Kind::Datasec if !features.question_mark_datasec => {
                if let Some(rest) = btf.string(raw.name_off)?.strip_prefix('?') {
                    let name = out.string(&format!("_{rest}"))?;
                    out.record_mut(id)?[0] = name;
                }
            }
            Kind::FuncProto if !features.func => {
                // An enumerator needs a name, a parameter does not.
                let unnamed = out.string("_")?;
                let record = out.record_mut(id)?;
                record[1] = info(Kind::Enum, raw.vlen);
                record[2] = 4;
                for param in record[3..].chunks_exact_mut(2).filter(|param| param[0] == 0) {
                    param[0] = unnamed;
                }
            }
            Kind::Func if !features.func => out.record_mut(id)?[1] = info(Kind::Typedef, 0),
            Kind::Func if !features.global_func => {
                out.record_mut(id)?[1] = info(Kind::Func, Linkage::Static.number());
            }
            Kind::Float if !features.float => {
                let record = out.record_mut(id)?;
                record[0] = 0;
                record[1] = info(Kind::Struct, 0);
            }
            Kind::TypeTag if !features.type_tag => {
                let record = out.record_mut(id)?;
                record[0] = 0;
                record[1] = info(Kind::Const, 0);
            }
            Kind::Enum if !features.enum64 => out.record_mut(id)?[1] = info(Kind::Enum, raw.vlen),
            Kind::Enum64 if !features.enum64 => {
                // The members of the union must not be larger than it: an enum64 may be of 1 byte.
                let member = match placeholder {
                    Some(id) => id,
                    None => *placeholder.insert(out.int("skep_enum64_value", 1, false)?),
                };
                let record = out.record_mut(id)?;
                record[1] = info(Kind::Union, raw.vlen);
                for variant in record[3..].chunks_exact_mut(3) {
                    variant[1] = member.0;
                    variant[2] = 0;
                }
            }
            _ => {}
        }
    }
    out.build()
}

/// Fills in what the compiler left open: the size of each data section in `sections` and the offsets of its global
/// variables, and externs in the form that the kernel takes.
///
/// - A variable that is in the BTF's section but not in [`DataSection::variables`] keeps its offset and must fit.
/// - `.ksyms` (kernel symbols and functions) becomes a section of placeholder integers, since their true types are the
///   kernel's; extern functions become global ones, with names for the parameters that have none.
/// - `.kconfig` is laid out as given in `sections`; its externs become ordinary global variables.
pub fn complete(btf: &Btf, sections: &[DataSection]) -> Result<Vec<u8>, Error> {
    let mut out = Builder::from_btf(btf)?;
    let own = || (btf.first_id().0..btf.type_count()).map(TypeId);
    for id in own() {
        let Type::Datasec(section) = btf.get(id)? else { continue };
        let mut vars = section.vars.clone();
        if section.name == ".ksyms" {
            let (int, dummy) = placeholders(btf, &mut out)?;
            let mut end = 0u32;
            for var in &mut vars {
                match btf.get(var.ty)? {
                    Type::Func { .. } => var.ty = dummy,
                    Type::Var { .. } => out.record_mut(var.ty)?[2] = int.0,
                    other => return Err(not_a_variable(var.ty, other.kind())),
                }
                (var.offset, var.size) = (end, 4);
                end = end.checked_add(4).ok_or(Error::SizeOverflow { id })?;
            }
            out.set_datasec(id, end, &vars)?;
            continue;
        }
        let Some(facts) = sections.iter().find(|facts| facts.name == section.name) else { continue };
        let by_name: HashMap<&str, &Variable> = facts.variables.iter().map(|v| (v.name.as_str(), v)).collect();
        for var in &mut vars {
            let Type::Var { name, linkage, .. } = btf.get(var.ty)? else {
                return Err(not_a_variable(var.ty, btf.kind(var.ty)?));
            };
            if linkage != Linkage::Static
                && let Some(known) = by_name.get(name)
            {
                var.offset = known.offset;
                if known.hidden {
                    out.set_linkage(var.ty, Linkage::Static)?;
                }
            }
            if var.size == 0 {
                // Clang leaves out the size of an extern; a variable's is that of its type.
                var.size = u32::try_from(btf.size_of(var.ty)?).map_err(|_| Error::SizeOverflow { id: var.ty })?;
            }
            if var.offset.checked_add(var.size).is_none_or(|end| end > facts.size) {
                let cause = "a variable of this data section reaches past the section's end";
                return Err(Error::BadType { id, kind: Kind::Datasec, cause });
            }
        }
        // The kernel wants them in order.
        vars.sort_by_key(|var| var.offset);
        out.set_datasec(id, facts.size, &vars)?;
    }
    for id in own() {
        match btf.get(id)? {
            Type::Var { linkage: Linkage::Extern, .. } => out.set_linkage(id, Linkage::Global)?,
            Type::Func { linkage: Linkage::Extern, proto, .. } => {
                out.set_linkage(id, Linkage::Global)?;
                let unnamed = out.string("_")?;
                if proto.0 < btf.first_id().0 {
                    continue; // The base's prototype is not ours to change.
                }
                let record = out.record_mut(proto)?;
                if record_kind(record) == Kind::FuncProto {
                    // The last parameter of a variadic function has neither name nor type.
                    for param in record[3..].chunks_exact_mut(2).filter(|param| param[0] == 0 && param[1] != 0) {
                        param[0] = unnamed;
                    }
                }
            }
            _ => {}
        }
    }
    out.build()
}

fn not_a_variable(id: TypeId, found: Kind) -> Error {
    Error::WrongKind { action: "lay out", id, expected: "a variable of a data section", found }
}

/// An integer of 4 bytes, and a variable of it that stands for a kernel function. Both are looked for first.
fn placeholders(btf: &Btf, out: &mut Builder) -> Result<(TypeId, TypeId), Error> {
    let is_int = |id: &TypeId| matches!(btf.get(*id), Ok(Type::Int(int)) if int.size == 4 && int.bits == 32);
    let int = match btf.find_all("int").into_iter().find(is_int) {
        Some(id) => id,
        None => out.int("int", 4, true)?,
    };
    let dummy = out.var("skep_kernel_symbol", int, Linkage::Global)?;
    Ok((int, dummy))
}

/// The variables of a data section with names, in order of offset: (name, place).
pub fn variables<'a>(btf: &'a Btf, section: &str) -> Result<Vec<(&'a str, VarInfo)>, Error> {
    let Some(id) = btf.find(section, Kind::Datasec) else { return Ok(Vec::new()) };
    let Type::Datasec(found) = btf.get(id)? else { return Ok(Vec::new()) };
    let mut vars = Vec::with_capacity(found.vars.len());
    for var in found.vars {
        vars.push((btf.name(var.ty)?, var));
    }
    vars.sort_by_key(|(_, var)| var.offset);
    Ok(vars)
}
