//! What a record asks of a path: the number for the object's own types, and the one for the target's.

use skep_abi::insn::CoreReloKind;
use skep_btf::{Btf, Type, TypeId};
use skep_isa::Endian;

use super::access::{Access, composite};

/// A number, and what is needed to adjust a load or store to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Value {
    pub(super) number: u64,
    /// Size in bytes of the field at an offset, 0 where it does not matter.
    pub(super) size: u64,
    /// Type of the field at an offset.
    pub(super) ty: TypeId,
    /// Whether the instruction must hold the local number. Not so for what compilers may decide otherwise (bit fields).
    pub(super) exact: bool,
}

fn text(e: skep_btf::Error) -> String {
    e.to_string()
}

/// The number for a path in `btf`, `None` for a path that is not there where that is a failure.
pub(super) fn of(
    btf: &Btf,
    path: Option<&Access<'_>>,
    kind: CoreReloKind,
    endian: Endian,
) -> Result<Option<Value>, String> {
    let number = |number: u64| Ok(Some(Value { number, exact: true, ..Value::default() }));
    match (kind, path) {
        (
            CoreReloKind::FieldExists
            | CoreReloKind::EnumvalExists
            | CoreReloKind::TypeExists
            | CoreReloKind::TypeMatches,
            path,
        ) => number(u64::from(path.is_some())),
        // As libbpf has it: a type that is not there has id and size 0.
        (CoreReloKind::TypeIdTarget | CoreReloKind::TypeIdLocal | CoreReloKind::TypeSize, None) => number(0),
        (CoreReloKind::TypeIdTarget | CoreReloKind::TypeIdLocal, Some(path)) => {
            Ok(Some(Value { number: u64::from(path.root.0), exact: false, ..Value::default() }))
        }
        (CoreReloKind::TypeSize, Some(path)) => number(btf.size_of(path.root).map_err(text)?),
        (CoreReloKind::EnumvalValue, Some(path)) => {
            let step = path.steps.first().ok_or("no enumerator")?;
            let Type::Enum(found) = btf.get(step.ty).map_err(text)? else {
                return Err("it is no enumeration".to_owned());
            };
            let variant = found.variants.get(step.index as usize).ok_or("no such enumerator")?;
            // A value of 64 bits, signed or not: the bits are what is loaded.
            number(variant.value as u64)
        }
        (_, None) => Ok(None),
        (_, Some(path)) => field(btf, path, kind, endian).map(Some),
    }
}

fn field(btf: &Btf, path: &Access<'_>, kind: CoreReloKind, endian: Endian) -> Result<Value, String> {
    let last = path.steps.last().ok_or("the path is empty")?;
    if last.name.is_none() {
        let size = btf.size_of(last.ty).map_err(text)?;
        return match kind {
            CoreReloKind::FieldByteOffset => Ok(Value { number: path.bit_offset / 8, size, ty: last.ty, exact: true }),
            CoreReloKind::FieldByteSize => Ok(Value { number: size, exact: true, ..Value::default() }),
            _ => Err("it asks about bits of an array element".to_owned()),
        };
    }
    let member = composite(btf, last.ty)?
        .and_then(|c| c.members.get(last.index as usize).copied())
        .ok_or("the member is gone")?;
    let ty = btf.resolve(member.ty).map_err(text)?;
    let bit_offset = path.bit_offset;
    let mut bit_size = u64::from(member.bit_size);
    let is_bit_field = bit_size > 0;
    let mut byte_size = btf.size_of(ty).map_err(text)?;
    let mut byte_offset = bit_offset / 8;
    if is_bit_field {
        if byte_size == 0 || byte_size > 8 {
            return Err(format!("a bit field is in a type of {byte_size} bytes"));
        }
        // The smallest aligned load that holds all its bits.
        loop {
            byte_offset = bit_offset / 8 / byte_size * byte_size;
            if bit_offset + bit_size - byte_offset * 8 <= byte_size * 8 {
                break;
            }
            if byte_size >= 8 {
                return Err("a bit field cannot be read by a load of 8 bytes".to_owned());
            }
            byte_size *= 2;
        }
    } else {
        bit_size = byte_size.checked_mul(8).ok_or("a size has more than 64 bits")?;
    }
    let from_start = bit_offset - byte_offset * 8;
    let exact = |number: u64, exact: bool| Ok(Value { number, exact, ..Value::default() });
    match kind {
        CoreReloKind::FieldByteOffset if is_bit_field => exact(byte_offset, false),
        CoreReloKind::FieldByteOffset => Ok(Value { number: byte_offset, size: byte_size, ty, exact: true }),
        CoreReloKind::FieldByteSize => exact(byte_size, !is_bit_field),
        CoreReloKind::FieldSigned => {
            let signed = match btf.get(ty).map_err(text)? {
                Type::Int(int) => int.signed,
                Type::Enum(found) => found.signed,
                _ => false,
            };
            exact(u64::from(signed), true)
        }
        CoreReloKind::FieldLshiftU64 => {
            let too_big = "a field of more than 8 bytes cannot be shifted into a register";
            let shift = match endian {
                Endian::Little => 64u64.checked_sub(from_start + bit_size),
                Endian::Big => 8u64.checked_sub(byte_size).map(|bytes| bytes * 8 + from_start),
            };
            exact(shift.ok_or(too_big)?, !is_bit_field)
        }
        CoreReloKind::FieldRshiftU64 => {
            exact(64u64.checked_sub(bit_size).ok_or("a field of more than 8 bytes cannot be shifted")?, true)
        }
        _ => Err("it is no question about a field".to_owned()),
    }
}

/// Whether a load or store of the one field may be made one of the other, of another size: pointers, and integers whose
/// upper bits are zero.
pub(super) fn may_resize(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> bool {
    match (local.get(local_id), target.get(target_id)) {
        (Ok(Type::Ptr { .. }), Ok(Type::Ptr { .. })) => true,
        (Ok(Type::Int(a)), Ok(Type::Int(b))) => !a.signed && !b.signed,
        _ => false,
    }
}
