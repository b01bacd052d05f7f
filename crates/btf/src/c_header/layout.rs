//! Where C would put the members of a struct, so that the header can make C put them where BTF says they are.
//!
//! The rules are those of clang for `-target bpf`, which for all types here equal those of 64-bit Linux machines: a member
//! lies at the next multiple of its alignment; a bit field goes on where the last one ended unless it would cross a
//! boundary of its declared type; a struct is as aligned as its most aligned member. `packed` makes every alignment 1
//! and lets bit fields cross. What is still elsewhere is moved by padding: unnamed bit fields, which align nothing.

use std::collections::HashMap;

use crate::{Btf, Error, Kind, Member, Type, TypeId};

/// Structs within structs that are followed. The kernel nests to about 20.
pub(super) const NESTING_LIMIT: u32 = 200;

/// How one struct or union is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) packed: bool,
    /// In bytes.
    pub(super) align: u64,
}

/// Remembers the shape of each struct and union.
#[derive(Default)]
pub(super) struct Shapes(HashMap<TypeId, Shape>);

/// A member with what C needs to know of it.
pub(super) struct Placed<'a> {
    pub(super) member: Member<'a>,
    /// Where BTF says it starts, in bits.
    pub(super) start: u64,
    /// Width in bits if it is a bit field.
    pub(super) width: Option<u64>,
    /// Bits that its type takes, and its type's alignment in bits.
    size: u64,
    align: u64,
}

impl Placed<'_> {
    /// Where C puts the member if the one before it ended at `end`.
    pub(super) fn natural_start(&self, end: u64, packed: bool) -> u64 {
        match self.width {
            Some(_) if packed => end,
            Some(width) if crosses(end, width, self.size) => align_up(end, self.align),
            Some(_) => end,
            None => align_up(end, if packed { 8 } else { self.align }),
        }
    }

    /// The first bit behind it.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.width.unwrap_or(self.size))
    }
}

/// Whether a bit field of this width would cross a boundary of its declared type of `unit` bits.
fn crosses(start: u64, width: u64, unit: u64) -> bool {
    unit != 0 && width != 0 && start / unit != (start + width - 1) / unit
}

pub(super) fn align_up(at: u64, align: u64) -> u64 {
    at.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX)
}

/// How an integer or floating-point type is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scalar {
    /// By its own name, which C knows.
    Own,
    /// By the name of another type of the same size.
    As(&'static str),
    /// C for BPF has no such type: bytes of the same size, aligned to 1.
    Bytes,
}

pub(super) fn scalar(ty: &Type<'_>) -> Scalar {
    match ty {
        Type::Int(int) => {
            if c_integer_size(int.name) == Some(int.size) {
                return Scalar::Own;
            }
            match (int.size, int.signed, int.bool) {
                (1, _, true) => Scalar::As("_Bool"),
                (1, true, _) => Scalar::As("signed char"),
                (1, false, _) => Scalar::As("unsigned char"),
                (2, true, _) => Scalar::As("short"),
                (2, false, _) => Scalar::As("unsigned short"),
                (4, true, _) => Scalar::As("int"),
                (4, false, _) => Scalar::As("unsigned int"),
                (8, true, _) => Scalar::As("long long"),
                (8, false, _) => Scalar::As("unsigned long long"),
                (16, true, _) => Scalar::As("__int128"),
                (16, false, _) => Scalar::As("unsigned __int128"),
                _ => Scalar::Bytes,
            }
        }
        Type::Float { name: "float", size: 4 } | Type::Float { name: "double", size: 8 } => Scalar::Own,
        // BPF's long double has 8 bytes where that of x86 has 16; half floats it lacks.
        _ => Scalar::Bytes,
    }
}

/// The size in bytes of a C integer type by any order of its words, such as `long unsigned int`.
fn c_integer_size(name: &str) -> Option<u32> {
    if name == "_Bool" {
        return Some(1);
    }
    let (mut long, mut short, mut char, mut int, mut int128, mut sign) = (0, 0, 0, 0, 0, 0);
    for word in name.split(' ') {
        *match word {
            "long" => &mut long,
            "short" => &mut short,
            "char" => &mut char,
            "int" => &mut int,
            "__int128" => &mut int128,
            "signed" | "unsigned" => &mut sign,
            _ => return None,
        } += 1;
    }
    match (long, short, char, int, int128, sign) {
        (0, 0, 1, 0, 0, 0 | 1) => Some(1),
        (0, 1, 0, 0 | 1, 0, 0 | 1) => Some(2),
        (0, 0, 0, 1, 0, 0 | 1) | (0, 0, 0, 0, 0, 1) => Some(4),
        (1 | 2, 0, 0, 0 | 1, 0, 0 | 1) => Some(8),
        (0, 0, 0, 0, 1, 0 | 1) => Some(16),
        _ => None,
    }
}

impl Shapes {
    /// Alignment in bytes of a type as the header writes it.
    fn align(&mut self, btf: &Btf, id: TypeId, depth: u32) -> Result<u64, Error> {
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep { action: "lay out", id, limit: NESTING_LIMIT })?;
        let at = btf.resolve(id)?;
        match btf.kind(at)? {
            Kind::Struct | Kind::Union => Ok(self.shape_within(btf, at, depth)?.align),
            Kind::Array => match btf.get(at)? {
                Type::Array(array) => self.align(btf, array.element, depth),
                _ => Ok(1),
            },
            Kind::Int | Kind::Float => {
                let ty = btf.get(at)?;
                Ok(if scalar(&ty) == Scalar::Bytes { 1 } else { btf.size_of(at)? })
            }
            Kind::Ptr | Kind::Enum | Kind::Enum64 => Ok(btf.size_of(at)?.clamp(1, 8)),
            kind => Err(Error::NoSize { id, at, kind }),
        }
    }

    /// The members with what C needs to know to place them.
    pub(super) fn placed<'a>(&mut self, btf: &'a Btf, id: TypeId) -> Result<Vec<Placed<'a>>, Error> {
        self.placed_within(btf, id, NESTING_LIMIT)
    }

    fn placed_within<'a>(&mut self, btf: &'a Btf, id: TypeId, depth: u32) -> Result<Vec<Placed<'a>>, Error> {
        let place = |member: Member<'a>| {
            let field = btf.bit_field(&member)?;
            let size = btf.size_of(member.ty)?.checked_mul(8).ok_or(Error::SizeOverflow { id: member.ty })?;
            let align = self.align(btf, member.ty, depth)? * 8;
            let (start, width) = match field {
                Some((start, width)) => (u64::from(start), Some(u64::from(width))),
                None => (u64::from(member.bit_offset), None),
            };
            Ok(Placed { member, start, width, size, align })
        };
        btf.members(id)?.into_iter().map(place).collect()
    }

    /// How a struct or union is to be written.
    pub(super) fn shape(&mut self, btf: &Btf, id: TypeId) -> Result<Shape, Error> {
        self.shape_within(btf, id, NESTING_LIMIT)
    }

    fn shape_within(&mut self, btf: &Btf, id: TypeId, depth: u32) -> Result<Shape, Error> {
        if let Some(shape) = self.0.get(&id) {
            return Ok(*shape);
        }
        let placed = self.placed_within(btf, id, depth)?;
        let size = btf.size_of(id)?.saturating_mul(8);
        // An unnamed bit field aligns nothing.
        let aligning = placed.iter().filter(|p| p.width.is_none() || !p.member.name.is_empty());
        let align = aligning.map(|p| p.align).max().unwrap_or(8);
        let misplaced = |p: &Placed<'_>| match p.width {
            Some(width) => crosses(p.start, width, p.size),
            None => !p.start.is_multiple_of(p.align),
        };
        let packed = !size.is_multiple_of(align) || placed.iter().any(misplaced);
        let shape = Shape { packed, align: if packed { 1 } else { align / 8 } };
        self.0.insert(id, shape);
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_names() {
        for (name, size) in [
            ("char", Some(1)),
            ("unsigned char", Some(1)),
            ("short unsigned int", Some(2)),
            ("int", Some(4)),
            ("unsigned", Some(4)),
            ("long unsigned int", Some(8)),
            ("long long int", Some(8)),
            ("unsigned __int128", Some(16)),
            ("_Bool", Some(1)),
            ("long long long", None),
            ("short char", None),
            ("u8", None),
            ("", None),
        ] {
            assert_eq!(c_integer_size(name), size, "{name}");
        }
    }
}
