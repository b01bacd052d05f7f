//! Writes BTF: types in, bytes out.
//!
//! A [`Builder`] appends types, each under the next id, and keeps every string once. It can go on where another BTF ends:
//! [`Builder::from_btf`] copies one, ids and string offsets unchanged (so `.BTF.ext` records stay right), and
//! [`Builder::split`] starts a split BTF on a base.
//!
//! Types may refer to ids that are added later; [`Builder::build`] checks that each is there. What BTF cannot hold (an
//! element count past 65 535, an enumerator that does not fit) is an error when it is added, and nothing is added then.

use std::collections::HashMap;

use crate::{
    Array, Btf, Composite, Datasec, Endian, Enum, Error, FuncProto, Int, Kind, Linkage, Member, Param, Type, TypeId,
    VarInfo, Variant,
};

/// Elements of one type. Linux 7.1 reads 24 bits; older kernels refuse more than 16.
const MAX_ELEMENTS: usize = 0xffff;

/// Collects types and strings, see the module.
#[derive(Clone, Debug)]
pub struct Builder {
    endian: Endian,
    base: Option<Btf>,
    /// All records, one after the other. BTF consists of 32-bit words alone, so the byte order only matters at the end.
    words: Vec<u32>,
    /// Where each record starts in `words`.
    starts: Vec<u32>,
    strings: Vec<u8>,
    /// Offset of each string, the base's too. Made when the first string is added.
    offsets: Option<HashMap<Box<[u8]>, u32>>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// An empty BTF in the byte order of this machine.
    pub fn new() -> Builder {
        Builder::empty(Endian::NATIVE, None, vec![0])
    }

    /// An empty split BTF: its ids and string offsets go on where `base` ends.
    pub fn split(base: &Btf) -> Builder {
        Builder::empty(base.endian(), Some(base.clone()), Vec::new())
    }

    fn empty(endian: Endian, base: Option<Btf>, strings: Vec<u8>) -> Builder {
        Builder { endian, base, words: Vec::new(), starts: Vec::new(), strings, offsets: None }
    }

    /// A copy of `btf` to add to or to change: the same ids, string offsets, byte order and base.
    pub fn from_btf(btf: &Btf) -> Result<Builder, Error> {
        for own in 0..btf.offsets().len() as u32 {
            // A kind that is only known by its length cannot be copied: it may hold ids.
            btf.raw(TypeId(btf.first_id().0 + own))?;
        }
        let endian = btf.endian();
        let words = btf.type_section().chunks_exact(4).map(|word| endian.u32_at(word, 0).unwrap_or_default()).collect();
        Ok(Builder {
            endian,
            base: btf.base().cloned(),
            words,
            starts: btf.offsets().iter().map(|offset| offset / 4).collect(),
            strings: btf.string_section().to_vec(),
            offsets: None,
        })
    }

    /// Chooses the byte order of the bytes to be built.
    pub fn set_endian(&mut self, endian: Endian) {
        self.endian = endian;
    }

    /// The id that the next added type will have.
    pub fn next_id(&self) -> TypeId {
        TypeId(self.first_id().saturating_add(self.starts.len() as u32))
    }

    fn first_id(&self) -> u32 {
        self.base.as_ref().map_or(1, Btf::type_count)
    }

    fn first_string(&self) -> u32 {
        self.base.as_ref().map_or(0, Btf::string_end)
    }

    /// The offset of a string, which is added if it is not there. It must not contain a NUL.
    pub fn string(&mut self, text: &str) -> Result<u32, Error> {
        self.string_bytes(text.as_bytes())
    }

    /// As [`Builder::string`], for source lines, which need not be UTF-8.
    pub fn string_bytes(&mut self, text: &[u8]) -> Result<u32, Error> {
        if text.is_empty() {
            return Ok(0);
        }
        if text.contains(&0) {
            return Err(Error::Unwritable { id: self.next_id(), cause: "a string contains a NUL byte" });
        }
        let first = self.first_string();
        let offsets = self.offsets.get_or_insert_with(|| {
            let mut offsets = HashMap::new();
            let mut base = self.base.as_ref();
            while let Some(btf) = base {
                index_strings(btf.string_section(), btf.first_string(), &mut offsets);
                base = btf.base();
            }
            index_strings(&self.strings, first, &mut offsets);
            offsets
        });
        if let Some(offset) = offsets.get(text) {
            return Ok(*offset);
        }
        let end = self.strings.len() + text.len() + 1;
        if u32::try_from(end).ok().and_then(|end| first.checked_add(end)).is_none() {
            return Err(Error::TooLarge("the strings' length"));
        }
        let offset = first + self.strings.len() as u32;
        self.strings.extend(text);
        self.strings.push(0);
        offsets.insert(text.into(), offset);
        Ok(offset)
    }

    /// Adds a decoded type and returns its id. `void` is always there: adding it returns id 0 and adds nothing.
    pub fn add(&mut self, ty: &Type<'_>) -> Result<TypeId, Error> {
        self.add_flagged(ty, false)
    }

    /// Adds a declaration or type tag that stands for any attribute, see [`Btf::kind_flag`].
    pub fn add_attribute(&mut self, tag: &Type<'_>) -> Result<TypeId, Error> {
        match tag {
            Type::DeclTag { .. } | Type::TypeTag { .. } => self.add_flagged(tag, true),
            _ => Err(Error::Unwritable { id: self.next_id(), cause: "only a tag can be an attribute" }),
        }
    }

    fn add_flagged(&mut self, ty: &Type<'_>, attribute: bool) -> Result<TypeId, Error> {
        let id = self.next_id();
        let bad = |cause| Error::Unwritable { id, cause };
        if matches!(ty, Type::Void) {
            return Ok(TypeId::VOID);
        }
        if u32::try_from(self.words.len() * 4).is_err() {
            return Err(Error::TooLarge("the type section"));
        }
        let mut flag = attribute;
        // The elements behind the first three words.
        let mut body: Vec<u32> = Vec::new();
        let mut vlen = 0usize;
        let third = match ty {
            Type::Void => 0,
            Type::Int(int) => {
                if int.size == 0 || int.size > 16 || u32::from(int.bits) + u32::from(int.offset) > int.size * 8 {
                    return Err(bad("an integer has 1 to 16 bytes and no more bits than they hold"));
                }
                let encoding = u32::from(int.signed) | u32::from(int.char) << 1 | u32::from(int.bool) << 2;
                body.push(encoding << 24 | u32::from(int.offset) << 16 | u32::from(int.bits));
                int.size
            }
            Type::Array(array) => {
                body.extend([array.element.0, array.index.0, array.count]);
                0
            }
            Type::Struct(composite) | Type::Union(composite) => {
                flag = composite.members.iter().any(|member| member.bit_size != 0);
                vlen = composite.members.len();
                for member in &composite.members {
                    if flag && member.bit_offset > 0xff_ffff {
                        return Err(bad("a struct with bit fields reaches past the 2 MB that its offsets can express"));
                    }
                    let name = self.string(member.name)?;
                    body.extend([name, member.ty.0, u32::from(member.bit_size) << 24 | member.bit_offset]);
                }
                composite.size
            }
            Type::Enum(e) => {
                flag = e.signed;
                vlen = e.variants.len();
                let range = match (e.is_64, e.signed) {
                    (false, false) => 0..=i128::from(u32::MAX),
                    (false, true) => i128::from(i32::MIN)..=i128::from(i32::MAX),
                    (true, false) => 0..=i128::from(u64::MAX),
                    (true, true) => i128::from(i64::MIN)..=i128::from(i64::MAX),
                };
                if !matches!(e.size, 1 | 2 | 4 | 8) && (e.size, vlen) != (0, 0) {
                    return Err(bad("an enum has 1, 2, 4 or 8 bytes"));
                }
                for variant in &e.variants {
                    if !range.contains(&variant.value) {
                        return Err(bad("an enumerator does not fit the enum"));
                    }
                    let value = variant.value as u64;
                    body.extend([self.string(variant.name)?, value as u32]);
                    if e.is_64 {
                        body.push((value >> 32) as u32);
                    }
                }
                e.size
            }
            Type::Fwd { is_union, .. } => {
                flag = *is_union;
                0
            }
            Type::Ptr { target }
            | Type::Typedef { target, .. }
            | Type::Volatile { target }
            | Type::Const { target }
            | Type::Restrict { target }
            | Type::TypeTag { target, .. } => target.0,
            Type::Func { proto, linkage, .. } => {
                vlen = linkage.number() as usize;
                proto.0
            }
            Type::FuncProto(proto) => {
                vlen = proto.params.len();
                for param in &proto.params {
                    body.extend([self.string(param.name)?, param.ty.0]);
                }
                proto.ret.0
            }
            Type::Var { target, linkage, .. } => {
                body.push(linkage.number());
                target.0
            }
            Type::Datasec(section) => {
                vlen = section.vars.len();
                body.extend(section.vars.iter().flat_map(|var| [var.ty.0, var.offset, var.size]));
                section.size
            }
            Type::Float { size, .. } => *size,
            Type::DeclTag { target, component, .. } => {
                body.push(component.unwrap_or(u32::MAX));
                target.0
            }
        };
        if vlen > MAX_ELEMENTS {
            return Err(bad("it has more than 65535 elements"));
        }
        let name = self.string(ty.name())?;
        let info = u32::from(flag) << 31 | (ty.kind() as u32) << 24 | vlen as u32;
        self.starts.push(self.words.len() as u32);
        self.words.extend([name, info, third]);
        self.words.extend(body);
        Ok(id)
    }

    /// Adds an integer whose bits fill its bytes.
    pub fn int(&mut self, name: &str, size: u32, signed: bool) -> Result<TypeId, Error> {
        let bits = u8::try_from(size.saturating_mul(8)).unwrap_or(u8::MAX);
        self.add(&Type::Int(Int { name, size, bits, offset: 0, signed, char: false, bool: false }))
    }

    /// Adds a pointer.
    pub fn ptr(&mut self, target: TypeId) -> Result<TypeId, Error> {
        self.add(&Type::Ptr { target })
    }

    /// Adds an array; `index` is an integer type.
    pub fn array(&mut self, element: TypeId, index: TypeId, count: u32) -> Result<TypeId, Error> {
        self.add(&Type::Array(Array { element, index, count }))
    }

    /// Adds a struct of members (name, type, offset in bits), none of them a bit field.
    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> Result<TypeId, Error> {
        self.add(&Type::Struct(composite(name, size, members)))
    }

    /// Adds a union of members (name, type).
    pub fn union(&mut self, name: &str, size: u32, members: &[(&str, TypeId)]) -> Result<TypeId, Error> {
        let members: Vec<_> = members.iter().map(|(name, ty)| (*name, *ty, 0)).collect();
        self.add(&Type::Union(composite(name, size, &members)))
    }

    /// Adds an enum of 4 bytes, signed if a value is negative.
    pub fn enumeration(&mut self, name: &str, variants: &[(&str, i32)]) -> Result<TypeId, Error> {
        let signed = variants.iter().any(|(_, value)| *value < 0);
        let variants = variants.iter().map(|(name, value)| Variant { name, value: i128::from(*value) }).collect();
        self.add(&Type::Enum(Enum { name, size: 4, signed, is_64: false, variants }))
    }

    /// Adds a typedef.
    pub fn typedef(&mut self, name: &str, target: TypeId) -> Result<TypeId, Error> {
        self.add(&Type::Typedef { name, target })
    }

    /// Adds a function prototype.
    pub fn func_proto(&mut self, ret: TypeId, params: &[(&str, TypeId)]) -> Result<TypeId, Error> {
        let params = params.iter().map(|(name, ty)| Param { name, ty: *ty }).collect();
        self.add(&Type::FuncProto(FuncProto { ret, params }))
    }

    /// Adds a function.
    pub fn func(&mut self, name: &str, proto: TypeId, linkage: Linkage) -> Result<TypeId, Error> {
        self.add(&Type::Func { name, proto, linkage })
    }

    /// Adds a variable.
    pub fn var(&mut self, name: &str, target: TypeId, linkage: Linkage) -> Result<TypeId, Error> {
        self.add(&Type::Var { name, target, linkage })
    }

    /// Adds a data section.
    pub fn datasec(&mut self, name: &str, size: u32, vars: &[VarInfo]) -> Result<TypeId, Error> {
        self.add(&Type::Datasec(Datasec { name, size, vars: vars.to_vec() }))
    }

    /// Changes the linkage of a function or variable.
    pub fn set_linkage(&mut self, id: TypeId, linkage: Linkage) -> Result<(), Error> {
        let record = self.record_mut(id)?;
        match record_kind(record) {
            Kind::Func => record[1] = record[1] & !0xff_ffff | linkage.number(),
            Kind::Var => record[3] = linkage.number(),
            found => {
                let expected = "a function or variable";
                return Err(Error::WrongKind { action: "set the linkage of", id, expected, found });
            }
        }
        Ok(())
    }

    /// Sets the size of a data section and replaces its variables, of which there must be as many as before.
    pub fn set_datasec(&mut self, id: TypeId, size: u32, vars: &[VarInfo]) -> Result<(), Error> {
        let record = self.record_mut(id)?;
        let found = record_kind(record);
        if found != Kind::Datasec {
            return Err(Error::WrongKind { action: "lay out", id, expected: "a data section", found });
        }
        if record.len() != 3 + vars.len() * 3 {
            return Err(Error::Unwritable { id, cause: "the number of variables of a data section cannot change" });
        }
        record[2] = size;
        for (words, var) in record[3..].chunks_exact_mut(3).zip(vars) {
            words.copy_from_slice(&[var.ty.0, var.offset, var.size]);
        }
        Ok(())
    }

    /// The words of an own type's record, to be changed in place.
    pub(crate) fn record_mut(&mut self, id: TypeId) -> Result<&mut [u32], Error> {
        let missing = Error::NoSuchType { id, count: self.next_id().0 };
        let Some(own) = id.0.checked_sub(self.first_id()).map(|own| own as usize) else { return Err(missing) };
        let Some(start) = self.starts.get(own).map(|start| *start as usize) else { return Err(missing) };
        let end = self.starts.get(own + 1).map_or(self.words.len(), |end| *end as usize);
        self.words.get_mut(start..end).ok_or(missing)
    }

    /// The bytes. Every id that a type refers to must be there.
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let count = self.next_id().0;
        for (own, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(own + 1).map_or(self.words.len(), |end| *end as usize);
            let record = &self.words[*start as usize..end];
            if references(record).any(|id| id >= count) {
                let id = TypeId(self.first_id() + own as u32);
                return Err(Error::Unwritable { id, cause: "it refers to an id that was never added" });
            }
        }
        let size = |len: usize| u32::try_from(len).map_err(|_| Error::TooLarge("the section's length"));
        let types = size(self.words.len() * 4)?;
        let strings = size(self.strings.len())?;
        size(24 + self.words.len() * 4 + self.strings.len())?;
        let mut out = Vec::with_capacity(24 + self.words.len() * 4 + self.strings.len());
        out.extend(match self.endian {
            Endian::Little => [0x9f, 0xeb, 1, 0],
            Endian::Big => [0xeb, 0x9f, 1, 0],
        });
        for word in [24, 0, types, types, strings].iter().chain(&self.words) {
            out.extend(self.endian.bytes(*word));
        }
        out.extend(&self.strings);
        Ok(out)
    }
}

fn composite<'a>(name: &'a str, size: u32, members: &[(&'a str, TypeId, u32)]) -> Composite<'a> {
    let member = |&(name, ty, bit_offset)| Member { name, ty, bit_offset, bit_size: 0 };
    Composite { name, size, members: members.iter().map(member).collect() }
}

/// The kind of a record; those in a builder are all known.
pub(crate) fn record_kind(record: &[u32]) -> Kind {
    Kind::from_number((record[1] >> 24 & 0x7f) as u8).unwrap_or(Kind::Void)
}

/// The ids that a record refers to.
fn references(record: &[u32]) -> impl Iterator<Item = u32> + '_ {
    let kind = record_kind(record);
    let third = kind.refers().then_some(record[2]);
    let (first, step) = match kind {
        Kind::Array => (3, 1),
        Kind::Struct | Kind::Union => (4, 3),
        Kind::FuncProto => (4, 2),
        Kind::Datasec => (3, 3),
        _ => (record.len(), 1),
    };
    let last = if kind == Kind::Array { 5 } else { record.len() };
    let elements = record.get(first..last).unwrap_or_default().iter().step_by(step).copied();
    third.into_iter().chain(elements)
}

/// Notes the offset of each string; of equal ones, the first.
fn index_strings(strings: &[u8], first: u32, offsets: &mut HashMap<Box<[u8]>, u32>) {
    let mut at = 0u32;
    for text in strings.split(|b| *b == 0) {
        if !text.is_empty() {
            offsets.entry(text.into()).or_insert(first + at);
        }
        at += text.len() as u32 + 1;
    }
}
