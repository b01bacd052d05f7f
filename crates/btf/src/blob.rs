//! The bytes of a BTF blob, and where each type starts in them.
//!
//! Opening checks the header and walks the type records once, reading two words of each, to learn where the next one
//! starts. What it keeps is the bytes and one `u32` a type. Everything else is read from the bytes when it is asked for.
//!
//! Both record layouts are read: the classic one and that of Linux 7.1 (`vlen` of 24 bits, kind of 7 bits, and an
//! optional layout section, by which kinds that are newer than this program can be stepped over).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::query::{NameIndex, SCANS};
use crate::{
    Array, Composite, Datasec, Enum, Error, FuncProto, Int, Kind, Linkage, Member, Param, Type, TypeId, VarInfo,
    Variant,
};

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// Header with `layout_off` and `layout_len` (Linux 7.1).
const HEADER_WITH_LAYOUT: usize = 32;

/// Byte order of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "plain")]
pub enum Endian {
    #[default]
    Little,
    Big,
}

impl Endian {
    /// The byte order of the machine this runs on, which is that of its kernel's BTF.
    pub const NATIVE: Endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };

    pub(crate) fn u32_at(self, data: &[u8], offset: usize) -> Option<u32> {
        let bytes = *data.get(offset..)?.first_chunk::<4>()?;
        Some(match self {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        })
    }

    pub(crate) fn bytes(self, word: u32) -> [u8; 4] {
        match self {
            Endian::Little => word.to_le_bytes(),
            Endian::Big => word.to_be_bytes(),
        }
    }

    /// Byte order by the first two bytes.
    pub(crate) fn of_magic(section: &'static str, data: &[u8]) -> Result<Endian, Error> {
        let Some(magic) = data.first_chunk::<2>() else {
            return Err(Error::TruncatedHeader { section, need: HEADER, have: data.len() });
        };
        if u16::from_le_bytes(*magic) == MAGIC {
            Ok(Endian::Little)
        } else if u16::from_be_bytes(*magic) == MAGIC {
            Ok(Endian::Big)
        } else {
            Err(Error::Magic { section, found: u16::from_le_bytes(*magic) })
        }
    }
}

/// A parsed BTF blob. Cheap to clone. Opening records only where each type starts; a type is decoded when asked for.
#[derive(Clone, Debug)]
pub struct Btf(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    data: Vec<u8>,
    base: Option<Btf>,
    endian: Endian,
    /// Where the type section lies in `data`.
    types: (usize, usize),
    /// Where the string section lies in `data`.
    strings: (usize, usize),
    /// Offset in the type section of each of this blob's own types.
    offsets: Vec<u32>,
    /// The id of the first own type: 1, or the base's `type_count`.
    first_id: u32,
    /// What the offset of the first own string is: 0, or the end of the base's strings.
    first_string: u32,
    index: OnceLock<NameIndex>,
    /// Names that were searched for so far without an index.
    scans: AtomicUsize,
}

/// The first 12 bytes of a record, and where its elements start in the blob's data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) name_off: u32,
    pub(crate) kind: Kind,
    pub(crate) kind_flag: bool,
    pub(crate) vlen: u32,
    pub(crate) size_or_type: u32,
    body: usize,
}

impl Raw {
    pub(crate) fn target(&self) -> TypeId {
        TypeId(self.size_or_type)
    }
}

/// How long the record of each kind is when the blob carries a layout section.
struct Layouts<'a>(&'a [u8]);

impl Layouts<'_> {
    fn of(&self, kind: u8) -> Option<(u8, u8)> {
        if let Some(known) = Kind::from_number(kind).filter(|k| *k != Kind::Void) {
            return Some(known.layout());
        }
        let at = usize::from(kind) * 4;
        let entry = self.0.get(at..at + 4)?;
        (kind != 0).then(|| (entry[0], entry[1]))
    }
}

impl Btf {
    /// Opens a BTF blob (either byte order), such as the contents of `/sys/kernel/btf/vmlinux` or of an ELF `.BTF` section.
    pub fn parse(data: Vec<u8>) -> Result<Btf, Error> {
        Btf::open(data, None)
    }

    /// Opens a split BTF (a kernel module's) on top of its base.
    pub fn parse_split(data: Vec<u8>, base: &Btf) -> Result<Btf, Error> {
        Btf::open(data, Some(base.clone()))
    }

    fn open(mut data: Vec<u8>, base: Option<Btf>) -> Result<Btf, Error> {
        const SECTION: &str = ".BTF";
        let endian = Endian::of_magic(SECTION, &data)?;
        let have = data.len();
        if u32::try_from(have).is_err() {
            return Err(Error::TooLarge("the section's length"));
        }
        let word =
            |at: usize| endian.u32_at(&data, at).ok_or(Error::TruncatedHeader { section: SECTION, need: HEADER, have });
        let header_len = word(4)? as usize;
        if header_len < HEADER || header_len > have {
            return Err(Error::TruncatedHeader { section: SECTION, need: header_len.max(HEADER), have });
        }
        let (version, flags) = (data[2], data[3]);
        if version != 1 || flags != 0 {
            return Err(Error::Version { section: SECTION, version, flags });
        }
        let part = |part: &'static str, offset: u32, len: u32| -> Result<(usize, usize), Error> {
            let bad = |cause| Error::Part { section: SECTION, part, offset, len, total: have, cause };
            let start = header_len as u64 + u64::from(offset);
            let end = start + u64::from(len);
            if end > have as u64 {
                return Err(bad("reaches past the end"));
            }
            // Both are at most `have`, which is a usize.
            Ok((start as usize, end as usize))
        };
        let (type_off, type_len) = (word(8)?, word(12)?);
        let (string_off, string_len) = (word(16)?, word(20)?);
        let types = part("type section", type_off, type_len)?;
        let strings = part("string section", string_off, string_len)?;
        let bad_part = |part: &'static str, offset: u32, len: u32, cause: &'static str| {
            Err(Error::Part { section: SECTION, part, offset, len, total: have, cause })
        };
        if type_off % 4 != 0 {
            return bad_part("type section", type_off, type_len, "does not start at a multiple of 4");
        }
        let text = &data[strings.0..strings.1];
        match (text.first(), text.last()) {
            // A split BTF may add types without adding a string, and its strings need not start with the empty one.
            (None, _) if base.is_some() => {}
            (Some(0), Some(0)) => {}
            (Some(_), Some(0)) if base.is_some() => {}
            (_, Some(0)) => {
                return bad_part("string section", string_off, string_len, "does not start with an empty string");
            }
            _ => return bad_part("string section", string_off, string_len, "does not end with a NUL byte"),
        }
        let layout =
            if header_len >= HEADER_WITH_LAYOUT { part("layout section", word(24)?, word(28)?)? } else { (0, 0) };
        let (first_id, first_string) = match &base {
            None => (1, 0),
            Some(base) => (base.type_count(), base.string_end()),
        };
        if first_string.checked_add(string_len).is_none() {
            return Err(Error::TooLarge("the strings' length"));
        }
        let layouts = Layouts(&data[layout.0..layout.1]);
        let records = &data[types.0..types.1];
        let offsets = match endian {
            Endian::Little => walk(records, first_id, &layouts, u32::from_le_bytes)?,
            Endian::Big => walk(records, first_id, &layouts, u32::from_be_bytes)?,
        };
        if u32::try_from(offsets.len()).ok().and_then(|n| first_id.checked_add(n)).is_none() {
            return Err(Error::TooLarge("the number of types"));
        }
        data.shrink_to_fit();
        Ok(Btf(Arc::new(Inner {
            data,
            base,
            endian,
            types,
            strings,
            offsets,
            first_id,
            first_string,
            index: OnceLock::new(),
            scans: AtomicUsize::new(0),
        })))
    }

    /// The bytes this was parsed from (without the base's).
    pub fn bytes(&self) -> &[u8] {
        &self.0.data
    }

    /// The base of a split BTF.
    pub fn base(&self) -> Option<&Btf> {
        self.0.base.as_ref()
    }

    /// The byte order of the blob.
    pub fn endian(&self) -> Endian {
        self.0.endian
    }

    /// Number of types including `void` and the base's: valid ids are `0..type_count()`.
    pub fn type_count(&self) -> u32 {
        // Checked when opening.
        self.0.first_id + self.0.offsets.len() as u32
    }

    /// The first id that is this blob's own: 1, or for a split BTF the base's `type_count`.
    pub fn first_id(&self) -> TypeId {
        TypeId(self.0.first_id)
    }

    /// The first string offset behind this blob's strings.
    pub fn string_end(&self) -> u32 {
        // Checked when opening.
        self.0.first_string + (self.0.strings.1 - self.0.strings.0) as u32
    }

    /// The first string offset that is this blob's own: 0, or for a split BTF the base's `string_end`.
    pub(crate) fn first_string(&self) -> u32 {
        self.0.first_string
    }

    pub(crate) fn string_section(&self) -> &[u8] {
        &self.0.data[self.0.strings.0..self.0.strings.1]
    }

    pub(crate) fn type_section(&self) -> &[u8] {
        &self.0.data[self.0.types.0..self.0.types.1]
    }

    pub(crate) fn offsets(&self) -> &[u32] {
        &self.0.offsets
    }

    /// The index, if there is one or if it is time to make it.
    pub(crate) fn index_or_scan(&self) -> Option<&NameIndex> {
        let index = self.0.index.get();
        match index {
            None if self.0.scans.fetch_add(1, Ordering::Relaxed) >= SCANS => Some(self.index()),
            _ => index,
        }
    }

    /// The own strings, and the offset of the first.
    pub(crate) fn own_strings(&self) -> (u32, &[u8]) {
        (self.0.first_string, &self.0.data[self.0.strings.0..self.0.strings.1])
    }

    pub(crate) fn index(&self) -> &NameIndex {
        self.0.index.get_or_init(|| NameIndex::build(self))
    }

    /// The bytes of the string at an offset, without the NUL. Source lines need not be UTF-8.
    pub fn string_bytes(&self, offset: u32) -> Result<&[u8], Error> {
        let mut btf = self;
        while offset < btf.0.first_string {
            match &btf.0.base {
                Some(base) => btf = base,
                None => break,
            }
        }
        let missing = Error::NoSuchString { offset, end: self.string_end() };
        let text = btf.string_section();
        let Some(rest) = offset.checked_sub(btf.0.first_string).and_then(|at| text.get(at as usize..)) else {
            return Err(missing);
        };
        match rest.iter().position(|b| *b == 0) {
            Some(end) => Ok(&rest[..end]),
            // Only the empty string of a blob without strings of its own.
            None => Err(missing),
        }
    }

    /// The string at an offset of the string section (a split BTF's offsets go on where its base's end).
    pub fn string(&self, offset: u32) -> Result<&str, Error> {
        std::str::from_utf8(self.string_bytes(offset)?).map_err(|_| Error::NotUtf8 { offset })
    }

    /// The blob of the chain (this, its base, ...) that holds the type, and where its record starts in that blob's data.
    fn locate(&self, id: TypeId) -> Result<(&Btf, usize), Error> {
        let mut owner = self;
        while id.0 < owner.0.first_id {
            match &owner.0.base {
                Some(base) => owner = base,
                None => break,
            }
        }
        let inner = &owner.0;
        match id.0.checked_sub(inner.first_id).and_then(|i| inner.offsets.get(i as usize)) {
            Some(offset) => Ok((owner, inner.types.0 + *offset as usize)),
            None => Err(Error::NoSuchType { id, count: self.type_count() }),
        }
    }

    /// The fixed part of a record. `void` comes back as a record of its own kind.
    pub(crate) fn raw(&self, id: TypeId) -> Result<(Raw, Words<'_>), Error> {
        if id == TypeId::VOID {
            let raw = Raw { name_off: 0, kind: Kind::Void, kind_flag: false, vlen: 0, size_or_type: 0, body: 0 };
            return Ok((raw, Words { data: &[], endian: Endian::Little, owner: self }));
        }
        let (owner, at) = self.locate(id)?;
        let inner = &owner.0;
        let data = inner.data.get(at..inner.types.1).unwrap_or_default();
        let words = Words { data, endian: inner.endian, owner };
        let info = words.get(1);
        let number = (info >> 24 & 0x7f) as u8;
        let kind = Kind::from_number(number).ok_or(Error::UnknownKind { id, kind: number })?;
        let raw = Raw {
            name_off: words.get(0),
            kind,
            kind_flag: info >> 31 != 0,
            vlen: info & 0xff_ffff,
            size_or_type: words.get(2),
            body: 3,
        };
        Ok((raw, words))
    }

    /// The kind of a type, without decoding the rest of it.
    pub fn kind(&self, id: TypeId) -> Result<Kind, Error> {
        Ok(self.raw(id)?.0.kind)
    }

    /// The name of a type, without decoding the rest of it; `""` when it has none.
    pub fn name(&self, id: TypeId) -> Result<&str, Error> {
        let (raw, words) = self.raw(id)?;
        words.owner.string(raw.name_off)
    }

    /// The `kind_flag` bit of a type. For a declaration or type tag it says that the tag stands for any attribute,
    /// `__attribute__((NAME))`, and not only for `btf_decl_tag` or `btf_type_tag` (Linux 6.15).
    pub fn kind_flag(&self, id: TypeId) -> Result<bool, Error> {
        Ok(self.raw(id)?.0.kind_flag)
    }

    /// Decodes one type.
    pub fn get(&self, id: TypeId) -> Result<Type<'_>, Error> {
        let (raw, words) = self.raw(id)?;
        let bad = |cause| Error::BadType { id, kind: raw.kind, cause };
        // Strings are those of the blob that the type stands in: one of a base cannot name a string of the split BTF.
        let owner = words.owner;
        let name = owner.string(raw.name_off)?;
        let target = raw.target();
        let element = |i: u32, field: usize, width: usize| words.get(raw.body + i as usize * width + field);
        Ok(match raw.kind {
            Kind::Void => Type::Void,
            Kind::Int => {
                let info = words.get(raw.body);
                let encoding = info >> 24;
                let (bits, offset) = (info as u8, (info >> 16) as u8);
                if u32::from(bits) + u32::from(offset) > raw.size_or_type.saturating_mul(8) {
                    return Err(bad("it has more bits than its bytes hold"));
                }
                if raw.size_or_type > 16 {
                    return Err(bad("it has more than 16 bytes"));
                }
                Type::Int(Int {
                    name,
                    size: raw.size_or_type,
                    bits,
                    offset,
                    signed: encoding & 1 != 0,
                    char: encoding & 2 != 0,
                    bool: encoding & 4 != 0,
                })
            }
            Kind::Ptr => Type::Ptr { target },
            Kind::Array => Type::Array(Array {
                element: TypeId(words.get(raw.body)),
                index: TypeId(words.get(raw.body + 1)),
                count: words.get(raw.body + 2),
            }),
            Kind::Struct | Kind::Union => {
                let members = (0..raw.vlen).map(|i| words.member(&raw, i)).collect::<Result<_, Error>>()?;
                let composite = Composite { name, size: raw.size_or_type, members };
                if raw.kind == Kind::Struct { Type::Struct(composite) } else { Type::Union(composite) }
            }
            Kind::Enum | Kind::Enum64 => {
                let is_64 = raw.kind == Kind::Enum64;
                // Clang gives an enum that is only declared no size.
                if !matches!(raw.size_or_type, 1 | 2 | 4 | 8) && (raw.size_or_type, raw.vlen) != (0, 0) {
                    return Err(bad("its size is not 1, 2, 4 or 8 bytes"));
                }
                let variants = (0..raw.vlen)
                    .map(|i| {
                        let width = if is_64 { 3 } else { 2 };
                        let low = element(i, 1, width);
                        let value = match (is_64, raw.kind_flag) {
                            (false, true) => i128::from(low.cast_signed()),
                            (false, false) => i128::from(low),
                            (true, signed) => {
                                let value = u64::from(element(i, 2, 3)) << 32 | u64::from(low);
                                if signed { i128::from(value.cast_signed()) } else { i128::from(value) }
                            }
                        };
                        Ok(Variant { name: owner.string(element(i, 0, width))?, value })
                    })
                    .collect::<Result<_, Error>>()?;
                Type::Enum(Enum { name, size: raw.size_or_type, signed: raw.kind_flag, is_64, variants })
            }
            Kind::Fwd => Type::Fwd { name, is_union: raw.kind_flag },
            Kind::Typedef => Type::Typedef { name, target },
            Kind::Volatile => Type::Volatile { target },
            Kind::Const => Type::Const { target },
            Kind::Restrict => Type::Restrict { target },
            Kind::Func => {
                let linkage = Linkage::from_number(raw.vlen).ok_or(bad("its linkage is not one of 0, 1, 2"))?;
                Type::Func { name, proto: target, linkage }
            }
            Kind::FuncProto => {
                let params = (0..raw.vlen)
                    .map(|i| Ok(Param { name: owner.string(element(i, 0, 2))?, ty: TypeId(element(i, 1, 2)) }))
                    .collect::<Result<_, Error>>()?;
                Type::FuncProto(FuncProto { ret: target, params })
            }
            Kind::Var => {
                let linkage =
                    Linkage::from_number(words.get(raw.body)).ok_or(bad("its linkage is not one of 0, 1, 2"))?;
                Type::Var { name, target, linkage }
            }
            Kind::Datasec => {
                let vars = (0..raw.vlen)
                    .map(|i| VarInfo { ty: TypeId(element(i, 0, 3)), offset: element(i, 1, 3), size: element(i, 2, 3) })
                    .collect();
                Type::Datasec(Datasec { name, size: raw.size_or_type, vars })
            }
            Kind::Float => Type::Float { name, size: raw.size_or_type },
            Kind::DeclTag => {
                let component = words.get(raw.body);
                Type::DeclTag { name, target, component: (component != u32::MAX).then_some(component) }
            }
            Kind::TypeTag => Type::TypeTag { name, target },
        })
    }

    /// All ids with their types, in order, `void` left out; a type that cannot be decoded ends as an error item.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, Result<Type<'_>, Error>)> {
        (1..self.type_count()).map(|i| (TypeId(i), self.get(TypeId(i))))
    }
}

/// The words of a record, and of all behind it. The walk at opening made sure that a record's own words are there.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    data: &'a [u8],
    endian: Endian,
    /// The blob that the record stands in.
    pub(crate) owner: &'a Btf,
}

impl<'a> Words<'a> {
    /// Member `index` of a struct or union record.
    pub(crate) fn member(&self, raw: &Raw, index: u32) -> Result<Member<'a>, Error> {
        let at = raw.body + index as usize * 3;
        let offset = self.get(at + 2);
        let (bit_offset, bit_size) =
            if raw.kind_flag { (offset & 0xff_ffff, (offset >> 24) as u8) } else { (offset, 0) };
        Ok(Member { name: self.owner.string(self.get(at))?, ty: TypeId(self.get(at + 1)), bit_offset, bit_size })
    }

    pub(crate) fn get(&self, index: usize) -> u32 {
        self.endian.u32_at(self.data, index * 4).unwrap_or_default()
    }
}

/// Walks the type records and returns where each starts.
fn walk(
    records: &[u8],
    first_id: u32,
    layouts: &Layouts<'_>,
    word: impl Fn([u8; 4]) -> u32,
) -> Result<Vec<u32>, Error> {
    // The average record of a kernel is 25 bytes; a wrong guess costs one growth.
    let mut offsets = Vec::with_capacity(records.len() / 24);
    let mut at = 0usize;
    while at < records.len() {
        let rest = &records[at..];
        let id = TypeId(first_id.saturating_add(offsets.len() as u32));
        let cut = |need: u64| Error::TruncatedType { id, offset: at as u32, need, have: rest.len() as u64 };
        let Some(head) = rest.first_chunk::<12>() else { return Err(cut(12)) };
        let info = word([head[4], head[5], head[6], head[7]]);
        let kind = (info >> 24 & 0x7f) as u8;
        let (once, each) = layouts.of(kind).ok_or(Error::UnknownKind { id, kind })?;
        let need = 12 + u64::from(once) + u64::from(each) * u64::from(info & 0xff_ffff);
        if need > rest.len() as u64 {
            return Err(cut(need));
        }
        offsets.push(at as u32);
        at += need as usize;
    }
    offsets.shrink_to_fit();
    Ok(offsets)
}
