//! Names that only the running kernel can resolve: found in the file here, resolved by whoever knows the kernel.
//!
//! | declared as | kind | becomes |
//! |---|---|---|
//! | `extern int CONFIG_HZ __kconfig` | [`ExternKind::Kconfig`] | a variable of the map `.kconfig`, see [`set_kconfig`] |
//! | `extern const void jiffies __ksym` | [`ExternKind::UntypedKsym`] | an address, see [`resolve`] |
//! | `extern const struct rq runqueues __ksym` | [`ExternKind::TypedKsym`] | a BTF id, see [`resolve`] |
//! | `extern void bpf_rcu_read_lock(void) __ksym` | [`ExternKind::Kfunc`] | a BTF id to call, see [`resolve`] |
//!
//! Limits: [`MAX_EXTERNS`]; a `.kconfig` variable is a `bool`, `char`, integer, `enum libbpf_tristate` or array of `char`.

use std::collections::HashMap;

use skep_abi::MapType;
use skep_abi::flags::map_create;
use skep_btf::load::{DataSection, Variable};
use skep_btf::{Btf, Enum, Int, Kind, Type, TypeId};
use skep_isa::{Endian, Raw, opcode};

use crate::elf::{Elf, Place};
use crate::{
    Error, ExternIdx, ExternKind, ExternSpec, MapOrigin, MapSpec, ObjectSpec, ProgramSpec, RelocKind, core, maps,
};

/// Externs of a file.
pub const MAX_EXTERNS: usize = 16_384;

/// The number a call gets whose weak kernel function is missing, plus the extern's index: no helper has it, so that the
/// verifier refuses the call where it can be reached. The number is the one that libbpf uses.
pub const POISON_KFUNC_BASE: i32 = 2_002_000_000;

/// The externs of a file.
#[derive(Debug, Default)]
pub(crate) struct Externs {
    pub(crate) specs: Vec<ExternSpec>,
    /// By index of the symbol.
    pub(crate) by_symbol: HashMap<usize, ExternIdx>,
    /// Layout of `.kconfig`, if there is one.
    pub(crate) kconfig: Option<DataSection>,
}

/// Finds the externs. `btf` is the one in the file, before [`skep_btf::load::complete`] changes how it declares them.
pub(crate) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Externs, Error> {
    let mut externs = Externs::default();
    let Some(btf) = btf else { return Ok(externs) };
    let mut undefined: HashMap<&str, (usize, bool)> = HashMap::new();
    for (index, symbol) in elf.symbols.iter().enumerate() {
        if symbol.place == Place::Undefined && symbol.is_global() && !symbol.name.is_empty() {
            undefined.insert(symbol.name, (index, symbol.is_weak()));
        }
    }
    let fail = |name: &str, cause: String| Error::Extern { file: elf.file.clone(), name: name.to_owned(), cause };
    let mut found: Vec<(usize, ExternSpec)> = Vec::new();
    for var in section_vars(btf, ".ksyms").map_err(|e| fail(".ksyms", e.to_string()))? {
        let (name, kind) = match btf.get(var).map_err(|e| fail(".ksyms", e.to_string()))? {
            Type::Func { name, .. } => (name, ExternKind::Kfunc { ty: var }),
            Type::Var { name, target, .. } => {
                let beneath = btf.resolve(target).and_then(|id| btf.kind(id)).map_err(|e| fail(name, e.to_string()))?;
                let kind =
                    if beneath == Kind::Void { ExternKind::UntypedKsym } else { ExternKind::TypedKsym { ty: target } };
                (name, kind)
            }
            other => {
                return Err(fail(
                    ".ksyms",
                    format!("type [{}] is a {}, neither variable nor function", var.0, other.kind()),
                ));
            }
        };
        if let Some((symbol, weak)) = undefined.get(name) {
            found.push((*symbol, ExternSpec { name: name.to_owned(), weak: *weak, kind }));
        }
    }
    // Largest alignment first, so that there are no gaps.
    let mut kconfig: Vec<(u64, u32, &str, TypeId)> = Vec::new();
    for var in section_vars(btf, ".kconfig").map_err(|e| fail(".kconfig", e.to_string()))? {
        let Type::Var { name, target, .. } = btf.get(var).map_err(|e| fail(".kconfig", e.to_string()))? else {
            return Err(fail(".kconfig", format!("type [{}] is no variable", var.0)));
        };
        KconfigKind::of(btf, target).map_err(|cause| fail(name, cause))?;
        let size = btf.size_of(target).ok().and_then(|s| u32::try_from(s).ok());
        let size = size.ok_or_else(|| fail(name, "its size does not fit in 32 bits".to_owned()))?;
        let align = btf.align_of(target).map_err(|e| fail(name, e.to_string()))?.max(1);
        kconfig.push((align, size, name, target));
    }
    kconfig.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(b.2)));
    if !kconfig.is_empty() {
        let mut section = DataSection { name: ".kconfig".to_owned(), ..DataSection::default() };
        for (align, size, name, ty) in kconfig {
            let place = u64::from(section.size).next_multiple_of(align);
            let end = place + u64::from(size);
            let (Ok(offset), Ok(end)) = (u32::try_from(place), u32::try_from(end)) else {
                return Err(fail(name, "section .kconfig does not fit in 32 bits".to_owned()));
            };
            section.size = end;
            if u64::from(end) > crate::MAX_SECTION_SIZE {
                return Err(fail(name, format!("section .kconfig has more than {} bytes", crate::MAX_SECTION_SIZE)));
            }
            section.variables.push(Variable { name: name.to_owned(), offset, hidden: false });
            if let Some((symbol, weak)) = undefined.get(name) {
                let kind = ExternKind::Kconfig { offset, size, ty };
                found.push((*symbol, ExternSpec { name: name.to_owned(), weak: *weak, kind }));
            }
        }
        externs.kconfig = Some(section);
    }
    if found.len() > MAX_EXTERNS {
        return Err(Error::Limit {
            file: elf.file.clone(),
            what: "the number of externs".to_owned(),
            found: found.len() as u64,
            limit: MAX_EXTERNS as u64,
        });
    }
    found.sort_by_key(|(symbol, _)| *symbol);
    found.dedup_by_key(|(symbol, _)| *symbol);
    for (symbol, spec) in found {
        externs.by_symbol.insert(symbol, ExternIdx(externs.specs.len()));
        externs.specs.push(spec);
    }
    Ok(externs)
}

fn section_vars(btf: &Btf, section: &str) -> Result<Vec<TypeId>, skep_btf::Error> {
    let Some(id) = btf.find(section, Kind::Datasec) else { return Ok(Vec::new()) };
    Ok(match btf.get(id)? {
        Type::Datasec(section) => section.vars.iter().map(|var| var.ty).collect(),
        _ => Vec::new(),
    })
}

/// The map that holds `.kconfig`. `btf` is the completed one.
pub(crate) fn kconfig_map(btf: Option<&Btf>, layout: &DataSection) -> Result<MapSpec, skep_btf::Error> {
    let mut map = maps::empty(".kconfig", MapOrigin::Kconfig);
    map.map_type = MapType::Array;
    (map.key_size, map.value_size, map.max_entries) = (4, layout.size, 1);
    map.flags = map_create::BPF_F_RDONLY_PROG as u32;
    map.data = Some(vec![0; layout.size as usize]);
    if let Some(btf) = btf {
        map.value_type = btf.find(".kconfig", Kind::Datasec);
        map.vars = crate::data::described_vars(btf, ".kconfig", layout.size)?;
        if map.vars.iter().any(|var| !var.is_static) {
            map.flags |= map_create::BPF_F_MMAPABLE as u32;
        }
    }
    Ok(map)
}

/// What a `.kconfig` variable can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KconfigKind {
    Bool { size: u32 },
    Char { signed: bool },
    Int { size: u32, signed: bool },
    Tristate { size: u32 },
    Text { size: u32 },
}

impl KconfigKind {
    fn of(btf: &Btf, ty: TypeId) -> Result<KconfigKind, String> {
        let id = btf.resolve(ty).map_err(|e| e.to_string())?;
        let size = || btf.size_of(id).ok().and_then(|s| u32::try_from(s).ok()).ok_or("its size has more than 32 bits");
        Ok(match btf.get(id).map_err(|e| e.to_string())? {
            Type::Int(Int { bool: true, size, .. }) if size <= 8 => KconfigKind::Bool { size },
            Type::Int(Int { size: 1, signed, .. }) => KconfigKind::Char { signed },
            Type::Int(Int { size, signed, .. }) if matches!(size, 2 | 4 | 8) => KconfigKind::Int { size, signed },
            Type::Enum(Enum { name: "libbpf_tristate", size: size @ 1..=8, .. }) => KconfigKind::Tristate { size },
            Type::Array(array) => match btf.get(btf.resolve(array.element).map_err(|e| e.to_string())?) {
                Ok(Type::Int(Int { size: 1, .. })) if array.count > 0 => KconfigKind::Text { size: size()? },
                _ => return Err("an array in .kconfig must be one of char, with a length".to_owned()),
            },
            _ => {
                return Err(format!(
                    "its type {} cannot hold a configuration value; use bool, char, an integer, \
                     enum libbpf_tristate or an array of char",
                    btf.type_name(ty)
                ));
            }
        })
    }
}

/// The bytes of a `.kconfig` variable of type `ty` for a value as `/boot/config-*` writes it: `y`, `m`, `n`, `"text"`,
/// `250`, `0x1000`. The result has the size of the type.
///
/// # Errors
/// A value that the type cannot hold, as a text for [`Error::Extern`]: `m` for a `bool`, a number that does not fit. Text
/// that is too long for its array is cut, as libbpf does.
pub fn kconfig_value(btf: &Btf, ty: TypeId, endian: Endian, text: &str) -> Result<Vec<u8>, String> {
    let kind = KconfigKind::of(btf, ty)?;
    let text = text.trim();
    let wrong = |expected: &str| Err(format!("the kernel has {text} for it, but its type holds {expected}"));
    let integer = |value: u64, size: u32| {
        let size = size as usize;
        Ok(match endian {
            Endian::Little => value.to_le_bytes().iter().take(size).copied().collect(),
            Endian::Big => value.to_be_bytes().iter().skip(8 - size.min(8)).copied().collect(),
        })
    };
    match (text, kind) {
        ("y", KconfigKind::Bool { size } | KconfigKind::Tristate { size }) => integer(1, size),
        ("n", KconfigKind::Bool { size } | KconfigKind::Tristate { size }) => integer(0, size),
        ("m", KconfigKind::Tristate { size }) => integer(2, size),
        ("y" | "n" | "m", KconfigKind::Char { .. }) => Ok(text.as_bytes().to_vec()),
        ("m", KconfigKind::Bool { .. }) => wrong("only y and n; use enum libbpf_tristate"),
        ("y" | "n" | "m", _) => wrong("no y, n or m; use bool, char or enum libbpf_tristate"),
        (_, KconfigKind::Text { size }) => {
            let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
                return wrong("text in quotes");
            };
            let mut bytes = inner.as_bytes().to_vec();
            // The last byte stays NUL.
            bytes.truncate(size.saturating_sub(1) as usize);
            bytes.resize(size as usize, 0);
            Ok(bytes)
        }
        (_, KconfigKind::Int { .. } | KconfigKind::Char { .. }) => {
            let (size, signed) = match kind {
                KconfigKind::Int { size, signed } => (size, signed),
                KconfigKind::Char { signed } => (1, signed),
                _ => (8, false),
            };
            let Some(value) = parse_number(text) else { return wrong("a number") };
            let bits = size * 8;
            let (min, max) =
                if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
            if value < min || value > max {
                return wrong(&format!("{min} to {max}"));
            }
            // In range, so the low bytes are the value.
            integer(value as u64, size)
        }
        (_, KconfigKind::Bool { .. }) => wrong("y or n"),
        (_, KconfigKind::Tristate { .. }) => wrong("y, n or m"),
    }
}

/// Decimal, octal (leading 0) or hexadecimal, as C's `strtoul` with base 0.
fn parse_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -i128::from(value) } else { i128::from(value) })
}

/// Fills the map `.kconfig`. `value` gives the text that the kernel's configuration has for a name (`y`, `250`,
/// `"text"`), `None` for one that is not set; for `LINUX_KERNEL_VERSION` and the like a number as text.
///
/// # Errors
/// A name that is not weak and not set; a value that its type cannot hold. The map is then unchanged.
pub fn set_kconfig(spec: &mut ObjectSpec, mut value: impl FnMut(&str) -> Option<String>) -> Result<(), Error> {
    let Some(at) = spec.maps.iter().position(|m| m.origin == MapOrigin::Kconfig) else { return Ok(()) };
    let fail = |name: &str, cause: String| Error::Extern { file: spec.name.clone(), name: name.to_owned(), cause };
    let mut data = spec.maps.get(at).and_then(|m| m.data.clone()).unwrap_or_default();
    for found in &spec.externs {
        let ExternKind::Kconfig { offset, size, ty } = found.kind else { continue };
        let Some(btf) = &spec.btf else { continue };
        match value(&found.name) {
            Some(text) => {
                let bytes = kconfig_value(btf, ty, spec.endian, &text).map_err(|cause| fail(&found.name, cause))?;
                let place = data.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..size as usize));
                match place {
                    Some(place) if place.len() == bytes.len() => place.copy_from_slice(&bytes),
                    _ => return Err(fail(&found.name, "it lies outside section .kconfig".to_owned())),
                }
            }
            None if found.weak => {}
            None => {
                return Err(fail(
                    &found.name,
                    "this kernel's configuration does not set it; declare it __weak if the program can do without"
                        .to_owned(),
                ));
            }
        }
    }
    if let Some(map) = spec.maps.get_mut(at) {
        map.data = Some(data);
    }
    Ok(())
}

/// What the running kernel has for a symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExternValue {
    /// An address, from `/proc/kallsyms`.
    Address(u64),
    /// A variable with a type: its id, and the descriptor of its module's BTF (0 for the kernel itself).
    Variable {
        /// BTF id of the `Var`.
        id: TypeId,
        /// Descriptor of the module's BTF, 0 for the kernel's own.
        btf_fd: i32,
    },
    /// A function: its id, and the place of its module's BTF in the load's `fd_array` (0 for the kernel itself).
    Function {
        /// BTF id of the `Func`.
        id: TypeId,
        /// Place in `fd_array`, 0 for the kernel's own.
        fd_index: i16,
    },
    /// The kernel has nothing of this name.
    Missing,
}

/// Writes what the kernel has for each extern into the instructions that want it, and takes those relocations off the
/// list. A missing weak extern becomes address 0, or a poisoned call.
///
/// # Errors
/// A missing extern that is not weak; a value of the wrong kind for its use (a variable that is called).
pub fn resolve(
    program: &mut ProgramSpec,
    externs: &[ExternSpec],
    mut value: impl FnMut(ExternIdx, &ExternSpec) -> ExternValue,
) -> Result<(), Error> {
    let relocs = std::mem::take(&mut program.relocs);
    for reloc in relocs {
        let (index, is_call) = match reloc.kind {
            RelocKind::Extern(index) => (index, false),
            RelocKind::ExternCall(index) => (index, true),
            _ => {
                program.relocs.push(reloc);
                continue;
            }
        };
        let fail = |name: &str, cause: &str| Error::Extern {
            file: program.name.clone(),
            name: name.to_owned(),
            cause: cause.to_owned(),
        };
        let Some(spec) = externs.get(index.0) else { return Err(fail("?", "there is no such extern")) };
        let found = value(index, spec);
        let at = reloc.insn.as_usize();
        if !is_call {
            let (src, low, high) = match found {
                ExternValue::Address(address) => (opcode::WIDE_IMM64, address as u32, (address >> 32) as u32),
                ExternValue::Variable { id, btf_fd } => (opcode::WIDE_BTF_VAR, id.0, btf_fd.cast_unsigned()),
                ExternValue::Function { id, fd_index: 0 } => (opcode::WIDE_BTF_VAR, id.0, 0),
                ExternValue::Missing if spec.weak => (opcode::WIDE_IMM64, 0, 0),
                ExternValue::Missing => {
                    return Err(fail(
                        &spec.name,
                        "this kernel has no such symbol; declare it __weak if the program can do without",
                    ));
                }
                ExternValue::Function { .. } => {
                    return Err(fail(&spec.name, "the address of a module's function cannot be taken"));
                }
            };
            let Some([first, second]) = program.insns.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) else {
                return Err(fail(&spec.name, "its instruction is outside the program"));
            };
            first.src = src;
            first.imm = low.cast_signed();
            second.imm = high.cast_signed();
            continue;
        }
        let Some(insn) = program.insns.get_mut(at) else {
            return Err(fail(&spec.name, "its instruction is outside the program"));
        };
        match found {
            ExternValue::Function { id, fd_index } => {
                (insn.src, insn.off, insn.imm) = (opcode::CALL_KFUNC, fd_index, id.0.cast_signed());
            }
            ExternValue::Missing if spec.weak => {
                let number = i32::try_from(index.0).unwrap_or_default();
                *insn = Raw { imm: POISON_KFUNC_BASE.wrapping_add(number), ..core::POISON };
                let why = format!("this kernel has no function {}", spec.lookup_name());
                program.poisoned.push((reloc.insn, why));
            }
            ExternValue::Missing => {
                return Err(fail(
                    &spec.name,
                    "this kernel has no such function for programs to call; declare it __weak if the program can do without",
                ));
            }
            ExternValue::Address(_) | ExternValue::Variable { .. } => {
                return Err(fail(&spec.name, "it is called, but the kernel has a variable of this name"));
            }
        }
    }
    Ok(())
}

impl ExternSpec {
    /// The name to look up in the kernel: that of a function without the flavour behind `___`. Variables have none, as with
    /// libbpf.
    pub fn lookup_name(&self) -> &str {
        match self.kind {
            ExternKind::Kfunc { .. } => core::essential_name(&self.name),
            ExternKind::Kconfig { .. } | ExternKind::TypedKsym { .. } | ExternKind::UntypedKsym => &self.name,
        }
    }
}
