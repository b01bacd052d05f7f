//! Bytes as values of a type, and text as bytes of a type.
//!
//! [`decode`] turns what a program sent or a map holds into a [`Value`], a tree that prints itself compactly or as JSON:
//!
//! ```
//! use skep_btf::{Btf, Builder, Kind, TypeId, value};
//!
//! let mut b = Builder::new();
//! let int = b.int("int", 4, true)?;
//! let char = b.int("char", 1, true)?;
//! let comm = b.array(char, int, 8)?;
//! let event = b.structure("event", 12, &[("pid", int, 0), ("comm", comm, 32)])?;
//! let btf = Btf::parse(b.build()?)?;
//! let bytes = [12u8.to_le_bytes().as_slice(), &[0, 0, 0], b"bash\0\0\0\0"].concat();
//! # if cfg!(target_endian = "little") {
//! let value = value::decode(&btf, event, &bytes)?;
//! assert_eq!(value.to_string(), r#"{pid: 12, comm: "bash"}"#);
//! assert_eq!(value.to_json(), r#"{"pid":12,"comm":"bash"}"#);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Members of anonymous structs and unions appear as members of the struct around them, as in C; of a union, all members
//! appear. An array of `char` is a string up to its first NUL. A data section is a struct of its variables.
//!
//! [`encode`] goes the other way for what a person types: `--param NAME=VALUE`.
//!
//! Limits: an array shows [`ELEMENT_LIMIT`] elements and says how many it left out. A value has as many parts as its bytes
//! allow ([`BASE_PARTS`] and [`PARTS_PER_BYTE`] for each, at most [`PART_LIMIT`]; 16 bytes of a string count as one, 64
//! enumerators to be searched as another), so that the work is in proportion to the bytes whatever the type says: unions
//! within unions would multiply. The first member behind that is [`Data::Omitted`], and what follows it is left out. Of
//! what has no bytes only the outside shows: `{}`, `[... 3 more]`.

mod print;
mod text;

pub use text::encode;

use crate::{Array, Btf, DEPTH_LIMIT, Endian, Error, Int, Kind, Member, Type, TypeId};

/// Elements of one array that are decoded.
pub const ELEMENT_LIMIT: u64 = 4096;

/// Parts (members, elements, structs) of one value that are decoded.
pub const PART_LIMIT: u32 = 65_536;

/// Parts that a value of any size may have.
pub const BASE_PARTS: u32 = 64;

/// Parts that each byte adds to what a value may have. A byte of bit fields has 8, a union reads its bytes more than once.
pub const PARTS_PER_BYTE: u32 = 16;

/// A decoded value, with what the BTF calls it.
#[derive(Clone, PartialEq, Debug)]
pub struct Value<'a> {
    /// The type as declared, modifiers included.
    pub ty: TypeId,
    /// The outermost typedef, such as `__be32`: who prints may know what it stands for.
    pub typedef: Option<&'a str>,
    /// The value.
    pub data: Data<'a>,
}

/// What a value is.
#[derive(Clone, PartialEq, Debug)]
pub enum Data<'a> {
    /// `_Bool`.
    Bool(bool),
    /// A signed integer.
    Signed(i128),
    /// An unsigned integer.
    Unsigned(u128),
    /// `float` or `double`.
    Float(f64),
    /// An enumeration: the name of the value if it has one (of several, the first), and the value.
    Enum(Option<&'a str>, i128),
    /// An address.
    Pointer(u64),
    /// An array of `char`, up to its first NUL.
    String(Vec<u8>),
    /// Any other array: its elements, and how many more there are.
    Array(Vec<Value<'a>>, u64),
    /// A struct, or a data section.
    Struct(Vec<Field<'a>>),
    /// A union: each member is one way to read the same bytes.
    Union(Vec<Field<'a>>),
    /// A floating-point number of a size that Rust has no type for.
    Bytes(Vec<u8>),
    /// Left out, because the value has more than [`PART_LIMIT`] parts.
    Omitted,
}

/// A member of a struct or union.
#[derive(Clone, PartialEq, Debug)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Value<'a> {
    /// A member by name.
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        match &self.data {
            Data::Struct(fields) | Data::Union(fields) => {
                fields.iter().find(|field| field.name == name).map(|field| &field.value)
            }
            _ => None,
        }
    }

    /// The value as a number, if it is one that fits: an integer, a boolean, an enumeration, an address.
    pub fn as_i128(&self) -> Option<i128> {
        match self.data {
            Data::Bool(value) => Some(i128::from(value)),
            Data::Signed(value) | Data::Enum(_, value) => Some(value),
            Data::Unsigned(value) => i128::try_from(value).ok(),
            Data::Pointer(value) => Some(i128::from(value)),
            _ => None,
        }
    }
}

/// Decodes the bytes of a value of the type `id`, in the byte order of the BTF.
///
/// More bytes than the type has are ignored, but for a struct that ends in an array without a length: the array takes them.
/// Fewer are an error.
pub fn decode<'a>(btf: &'a Btf, id: TypeId, data: &[u8]) -> Result<Value<'a>, Error> {
    let need = btf.size_of(id)?;
    if (data.len() as u64) < need {
        return Err(Error::ShortValue { id, need, have: data.len() as u64 });
    }
    let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let parts = bytes.saturating_mul(PARTS_PER_BYTE).saturating_add(BASE_PARTS).min(PART_LIMIT);
    Decoder { btf, parts }.value(id, data, DEPTH_LIMIT)
}

struct Decoder<'a> {
    btf: &'a Btf,
    /// How many more parts may be decoded.
    parts: u32,
}

impl<'a> Decoder<'a> {
    /// `data` has at least the type's size.
    fn value(&mut self, id: TypeId, data: &[u8], depth: u32) -> Result<Value<'a>, Error> {
        let depth =
            depth.checked_sub(1).ok_or(Error::TooDeep { action: "decode a value of", id, limit: DEPTH_LIMIT })?;
        let typedef = self.typedef(id)?;
        let Some(parts) = self.parts.checked_sub(1) else {
            return Ok(Value { ty: id, typedef, data: Data::Omitted });
        };
        self.parts = parts;
        let at = self.beneath(id)?;
        let size = self.btf.size_of(at)?;
        let short = Error::ShortValue { id, need: size, have: data.len() as u64 };
        let own = usize::try_from(size).ok().and_then(|size| data.get(..size)).ok_or(short)?;
        let endian = self.btf.endian();
        if data.is_empty() && matches!(self.btf.kind(at)?, Kind::Struct | Kind::Union) {
            // Without bytes the parts would be in proportion to nothing.
            return Ok(Value { ty: id, typedef, data: Data::Struct(Vec::new()) });
        }
        let decoded = match self.btf.get(at)? {
            Type::Int(int) => match unsigned(own, endian) {
                Some(bits) => integer(&int, bits, own.len() as u32 * 8),
                None => self.bytes(Data::Bytes, own),
            },
            Type::Enum(e) => {
                self.spend(e.variants.len() / 64);
                let bits = unsigned(own, endian).unwrap_or_default();
                let value = enum_value(e.signed, bits, own.len() as u32 * 8);
                Data::Enum(e.variants.iter().find(|v| v.value == value).map(|v| v.name), value)
            }
            Type::Ptr { .. } => Data::Pointer(unsigned(own, endian).unwrap_or_default() as u64),
            Type::Float { .. } => match unsigned(own, endian) {
                Some(bits) if own.len() == 4 => Data::Float(f64::from(f32::from_bits(bits as u32))),
                Some(bits) if own.len() == 8 => Data::Float(f64::from_bits(bits as u64)),
                _ => self.bytes(Data::Bytes, own),
            },
            Type::Array(array) => self.array(&array, own, depth)?,
            Type::Struct(composite) => {
                let mut fields = Vec::new();
                self.members(&composite.members, composite.size, data, true, depth, &mut fields)?;
                Data::Struct(fields)
            }
            Type::Union(composite) => {
                let mut fields = Vec::new();
                self.members(&composite.members, composite.size, own, false, depth, &mut fields)?;
                Data::Union(fields)
            }
            Type::Datasec(section) => {
                let mut fields = Vec::new();
                for var in &section.vars {
                    if self.is_full(&fields) {
                        break;
                    }
                    let name = self.btf.name(var.ty)?;
                    let bytes = own.get(var.offset as usize..).unwrap_or_default();
                    fields.push(Field { name, value: self.value(var.ty, bytes, depth)? });
                }
                Data::Struct(fields)
            }
            other => return Err(Error::NoSize { id, at, kind: other.kind() }),
        };
        Ok(Value { ty: id, typedef, data: decoded })
    }

    /// A copy of bytes, which counts as parts: the members of a union may all copy the same ones.
    fn bytes(&mut self, data: impl FnOnce(Vec<u8>) -> Data<'a>, bytes: &[u8]) -> Data<'a> {
        self.spend(bytes.len() / 16);
        data(bytes.to_vec())
    }

    fn spend(&mut self, parts: usize) {
        self.parts = self.parts.saturating_sub(u32::try_from(parts).unwrap_or(u32::MAX));
    }

    /// Whether the members so far are all that will be shown: one that was omitted stands for the rest.
    fn is_full(&self, fields: &[Field<'a>]) -> bool {
        self.parts == 0 && fields.last().is_some_and(|field| field.value.data == Data::Omitted)
    }

    /// The outermost typedef of a type.
    fn typedef(&self, id: TypeId) -> Result<Option<&'a str>, Error> {
        let at = self.btf.skip_qualifiers(self.variable(id)?)?;
        Ok(if self.btf.kind(at)? == Kind::Typedef { Some(self.btf.name(at)?) } else { None })
    }

    /// The type beneath modifiers, and beneath a variable.
    fn beneath(&self, id: TypeId) -> Result<TypeId, Error> {
        self.btf.resolve(self.variable(self.btf.resolve(id)?)?)
    }

    /// The type of a variable, any other type itself. `get` is asked last: of a struct it makes a list of all the members.
    fn variable(&self, id: TypeId) -> Result<TypeId, Error> {
        if self.btf.kind(id)? != Kind::Var {
            return Ok(id);
        }
        match self.btf.get(id)? {
            Type::Var { target, .. } => Ok(target),
            _ => Ok(id),
        }
    }

    fn array(&mut self, array: &Array, own: &[u8], depth: u32) -> Result<Data<'a>, Error> {
        let size = self.btf.size_of(array.element)?;
        let element = self.btf.resolve(array.element)?;
        if self.btf.kind(element)? == Kind::Int
            && let Type::Int(int) = self.btf.get(element)?
            && is_char(&int)
        {
            let end = own.iter().position(|b| *b == 0).unwrap_or(own.len());
            return Ok(self.bytes(Data::String, &own[..end]));
        }
        let count = match own.len() as u64 {
            // An array whose length comes from the bytes.
            len if array.count == 0 && size != 0 => len / size,
            _ => u64::from(array.count),
        };
        let mut items = Vec::new();
        // Elements without bytes are all the same nothing.
        let shown = if size == 0 { 0 } else { count.min(ELEMENT_LIMIT) };
        for i in 0..shown {
            if self.parts == 0 {
                break;
            }
            let start = usize::try_from(i * size).unwrap_or(usize::MAX);
            items.push(self.value(array.element, own.get(start..).unwrap_or_default(), depth)?);
        }
        let omitted = count - items.len() as u64;
        Ok(Data::Array(items, omitted))
    }

    /// Decodes members into `fields`, those of anonymous members among them.
    fn members(
        &mut self,
        members: &[Member<'a>],
        size: u32,
        data: &[u8],
        may_grow: bool,
        depth: u32,
        fields: &mut Vec<Field<'a>>,
    ) -> Result<(), Error> {
        for member in members {
            if self.is_full(fields) {
                break;
            }
            if let Some((start, width)) = self.btf.bit_field(member)? {
                if member.name.is_empty() {
                    self.spend(1);
                } else {
                    let value = self.bit_field(member, start, width, data)?;
                    fields.push(Field { name: member.name, value });
                }
                continue;
            }
            let start = (member.bit_offset / 8) as usize;
            let at = self.beneath(member.ty)?;
            let length = usize::try_from(self.btf.size_of(at)?).unwrap_or(usize::MAX);
            let rest = data.get(start..).unwrap_or_default();
            let short = Error::ShortValue { id: member.ty, need: length as u64, have: rest.len() as u64 };
            let own = rest.get(..length).ok_or(short)?;
            if member.name.is_empty() && own.is_empty() && matches!(self.btf.kind(at)?, Kind::Struct | Kind::Union) {
                self.spend(1);
                continue;
            }
            let ty = self.btf.get(at)?;
            if member.name.is_empty()
                && let Type::Struct(inner) | Type::Union(inner) = &ty
            {
                let depth = depth.checked_sub(1).ok_or(Error::TooDeep {
                    action: "decode a value of",
                    id: member.ty,
                    limit: DEPTH_LIMIT,
                })?;
                let Some(parts) = self.parts.checked_sub(1) else {
                    let value = Value { ty: member.ty, typedef: None, data: Data::Omitted };
                    fields.push(Field { name: "...", value });
                    break;
                };
                self.parts = parts;
                self.members(&inner.members, inner.size, own, false, depth, fields)?;
                continue;
            }
            let value = match ty {
                // An array without a length at the very end takes what is left of the input.
                Type::Array(array) if array.count == 0 && may_grow && start as u64 >= u64::from(size) => {
                    let data = self.array(&array, rest, depth)?;
                    Value { ty: member.ty, typedef: self.typedef(member.ty)?, data }
                }
                _ => self.value(member.ty, own, depth)?,
            };
            fields.push(Field { name: member.name, value });
        }
        Ok(())
    }

    fn bit_field(&mut self, member: &Member<'a>, start: u32, width: u32, data: &[u8]) -> Result<Value<'a>, Error> {
        let Some(parts) = self.parts.checked_sub(1) else {
            return Ok(Value { ty: member.ty, typedef: None, data: Data::Omitted });
        };
        self.parts = parts;
        let (first, end) = ((start / 8) as usize, start.saturating_add(width).div_ceil(8) as usize);
        let short = Error::ShortValue { id: member.ty, need: end as u64, have: data.len() as u64 };
        let bytes = data.get(first..end).ok_or(short)?;
        let cause = "a bit field has more than 120 bits";
        let kind = self.btf.kind(member.ty)?;
        let all = unsigned(bytes, self.btf.endian()).ok_or(Error::BadType { id: member.ty, kind, cause })?;
        // Bits count from the low end of a little-endian value, and from the high end of a big-endian one.
        let shift = match self.btf.endian() {
            Endian::Little => start % 8,
            Endian::Big => (bytes.len() as u32 * 8).saturating_sub(start % 8 + width),
        };
        let mask = u128::MAX.checked_shr(128u32.saturating_sub(width)).unwrap_or(0);
        let bits = all.checked_shr(shift).unwrap_or(0) & mask;
        let data = match self.btf.get(self.beneath(member.ty)?)? {
            Type::Int(int) => integer(&int, bits, width),
            Type::Enum(e) => {
                self.spend(e.variants.len() / 64);
                let value = enum_value(e.signed, bits, width);
                Data::Enum(e.variants.iter().find(|v| v.value == value).map(|v| v.name), value)
            }
            _ => Data::Unsigned(bits),
        };
        Ok(Value { ty: member.ty, typedef: self.typedef(member.ty)?, data })
    }
}

/// Whether an array of these is text. Clang names the type and leaves the flag out.
pub(crate) fn is_char(int: &Int<'_>) -> bool {
    int.size == 1 && (int.char || int.name == "char")
}

/// Up to 16 bytes as a number.
fn unsigned(bytes: &[u8], endian: Endian) -> Option<u128> {
    if bytes.len() > 16 {
        return None;
    }
    let push = |value: u128, byte: &u8| value << 8 | u128::from(*byte);
    Some(match endian {
        Endian::Little => bytes.iter().rev().fold(0, push),
        Endian::Big => bytes.iter().fold(0, push),
    })
}

fn sign_extend(bits: u128, width: u32) -> i128 {
    let spare = 128u32.saturating_sub(width);
    bits.checked_shl(spare).map_or(0, |high| high.cast_signed() >> spare)
}

fn integer<'a>(int: &Int<'_>, bits: u128, width: u32) -> Data<'a> {
    if int.bool {
        Data::Bool(bits != 0)
    } else if int.signed {
        Data::Signed(sign_extend(bits, width))
    } else {
        Data::Unsigned(bits)
    }
}

fn enum_value(signed: bool, bits: u128, width: u32) -> i128 {
    if signed { sign_extend(bits, width) } else { bits.cast_signed() }
}
