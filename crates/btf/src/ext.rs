//! `.BTF.ext`: which function, source line and CO-RE record belongs to which instruction.
//!
//! The section has three tables; each is grouped by ELF section, and each record starts with an offset into that section.
//! [`BtfExt::parse`] reads them, [`BtfExt::write`] makes the bytes again, and the `encode` of each record is what
//! bpf(2) `BPF_PROG_LOAD` takes (there, offsets count instructions and not bytes).
//!
//! Records longer than the ones known here are read by their first fields, as the format asks for. The table of CO-RE
//! relocations may be missing: old compilers wrote none.

use crate::{Btf, Endian, Error, TypeId};

const SECTION: &str = ".BTF.ext";
/// Bytes of the name of an ELF section.
const SECTION_NAME_LIMIT: usize = 4096;
/// Header without CO-RE relocations.
const HEADER: usize = 24;
/// Header with them.
const HEADER_WITH_CORE: usize = 32;

/// The parsed section. Offsets are in bytes from the start of the named ELF section, as in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BtfExt {
    /// Functions, by ELF section.
    pub funcs: Vec<Section<FuncInfo>>,
    /// Lines, by ELF section.
    pub lines: Vec<Section<LineInfo>>,
    /// CO-RE relocations, by ELF section.
    pub core_relos: Vec<Section<CoreRelo>>,
}

/// The records of one ELF section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section<T> {
    /// Name of the ELF section, such as `tracepoint/sched/sched_switch`.
    pub name: String,
    /// Records in file order.
    pub records: Vec<T>,
}

/// `struct bpf_func_info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncInfo {
    /// Bytes from the start of the section.
    pub insn_off: u32,
    /// A `Func`.
    pub ty: TypeId,
}

/// `struct bpf_line_info`; names are offsets of the BTF's strings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// Bytes from the start of the section.
    pub insn_off: u32,
    /// String offset of the file name.
    pub file_name_off: u32,
    /// String offset of the text of the line.
    pub line_off: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}

/// `struct bpf_core_relo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreRelo {
    /// Bytes from the start of the section.
    pub insn_off: u32,
    /// The local root type.
    pub ty: TypeId,
    /// String offset of the access string, such as `0:1:2`.
    pub access_str_off: u32,
    /// `enum bpf_core_relo_kind`.
    pub kind: u32,
}

/// What the three tables have in common.
trait Record: Sized {
    const PART: &'static str;
    /// Words of a record.
    const WORDS: usize;
    fn read(words: &[u32]) -> Self;
    fn words(&self) -> [u32; 4];
}

impl Record for FuncInfo {
    const PART: &'static str = "func_info";
    const WORDS: usize = 2;
    fn read(words: &[u32]) -> Self {
        FuncInfo { insn_off: words[0], ty: TypeId(words[1]) }
    }
    fn words(&self) -> [u32; 4] {
        [self.insn_off, self.ty.0, 0, 0]
    }
}

impl Record for LineInfo {
    const PART: &'static str = "line_info";
    const WORDS: usize = 4;
    fn read(words: &[u32]) -> Self {
        LineInfo {
            insn_off: words[0],
            file_name_off: words[1],
            line_off: words[2],
            line: words[3] >> 10,
            column: words[3] & 0x3ff,
        }
    }
    fn words(&self) -> [u32; 4] {
        [self.insn_off, self.file_name_off, self.line_off, self.line << 10 | self.column.min(0x3ff)]
    }
}

impl Record for CoreRelo {
    const PART: &'static str = "core_relo";
    const WORDS: usize = 4;
    fn read(words: &[u32]) -> Self {
        CoreRelo { insn_off: words[0], ty: TypeId(words[1]), access_str_off: words[2], kind: words[3] }
    }
    fn words(&self) -> [u32; 4] {
        [self.insn_off, self.ty.0, self.access_str_off, self.kind]
    }
}

impl FuncInfo {
    /// Bytes of an encoded record: the `func_info_rec_size` of bpf(2).
    pub const SIZE: usize = 8;

    /// `struct bpf_func_info` in the machine's byte order, to be loaded with the program that `insn_off` (in instructions)
    /// belongs to.
    pub fn encode(&self) -> [u8; 8] {
        encode(self.words())
    }
}

impl LineInfo {
    /// Bytes of an encoded record: the `line_info_rec_size` of bpf(2).
    pub const SIZE: usize = 16;

    /// `struct bpf_line_info` in the machine's byte order, `insn_off` in instructions. A column past 1023 is written as
    /// 1023, which is all that the format holds.
    pub fn encode(&self) -> [u8; 16] {
        encode(self.words())
    }
}

impl CoreRelo {
    /// Bytes of an encoded record: the `core_relo_rec_size` of bpf(2).
    pub const SIZE: usize = 16;

    /// `struct bpf_core_relo` in the machine's byte order, `insn_off` in bytes as bpf(2) wants it.
    pub fn encode(&self) -> [u8; 16] {
        encode(self.words())
    }
}

fn encode<const N: usize>(words: [u32; 4]) -> [u8; N] {
    let mut out = [0; N];
    for (bytes, word) in out.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    out
}

impl BtfExt {
    /// Parses the bytes of `.BTF.ext`; `btf` is the `.BTF` of the same file (its strings name the sections).
    pub fn parse(data: &[u8], btf: &Btf) -> Result<BtfExt, Error> {
        let endian = Endian::of_magic(SECTION, data)?;
        let have = data.len();
        let word =
            |at: usize| endian.u32_at(data, at).ok_or(Error::TruncatedHeader { section: SECTION, need: HEADER, have });
        let header_len = word(4)? as usize;
        if header_len < HEADER || header_len > have {
            return Err(Error::TruncatedHeader { section: SECTION, need: header_len.max(HEADER), have });
        }
        let (version, flags) = (data[2], data[3]);
        if version != 1 || flags != 0 {
            return Err(Error::Version { section: SECTION, version, flags });
        }
        let body = &data[header_len..];
        let table = |part: &'static str, at: usize| -> Result<&[u8], Error> {
            let (offset, len) = (word(at)?, word(at + 4)?);
            let bad = |cause| Error::Part { section: SECTION, part, offset, len, total: have, cause };
            if len == 0 {
                return Ok(&[]);
            }
            if offset % 4 != 0 {
                return Err(bad("does not start at a multiple of 4"));
            }
            (offset as usize)
                .checked_add(len as usize)
                .and_then(|end| body.get(offset as usize..end))
                .ok_or_else(|| bad("reaches past the end"))
        };
        let core = if header_len >= HEADER_WITH_CORE { table(CoreRelo::PART, 24)? } else { &[] };
        Ok(BtfExt {
            funcs: read_table(table(FuncInfo::PART, 8)?, endian, btf)?,
            lines: read_table(table(LineInfo::PART, 16)?, endian, btf)?,
            core_relos: read_table(core, endian, btf)?,
        })
    }

    /// The bytes of a `.BTF.ext` section. `string` gives the offset of a section's name in the strings of the BTF that the
    /// section goes with; usually `|name| builder.string(name)`.
    ///
    /// A line past 4 194 303 does not fit its field of 22 bits and is an error; so is a table past 4 GB.
    pub fn write(&self, endian: Endian, mut string: impl FnMut(&str) -> Result<u32, Error>) -> Result<Vec<u8>, Error> {
        if let Some(offset) = self.lines.iter().flat_map(|s| &s.records).position(|line| line.line >= 1 << 22) {
            let cause = "the line number does not fit in 22 bits";
            return Err(Error::Ext { part: LineInfo::PART, offset, cause });
        }
        let mut words: Vec<u32> = Vec::new();
        let mut parts = [(0u32, 0u32); 3];
        for (i, part) in parts.iter_mut().enumerate() {
            let start = words.len();
            match i {
                0 => write_table(&self.funcs, &mut words, &mut string)?,
                1 => write_table(&self.lines, &mut words, &mut string)?,
                _ => write_table(&self.core_relos, &mut words, &mut string)?,
            }
            let size = |words: usize| u32::try_from(words * 4).map_err(|_| Error::TooLarge("the .BTF.ext section"));
            *part = (size(start)?, size(words.len() - start)?);
        }
        let mut out = Vec::with_capacity(HEADER_WITH_CORE + words.len() * 4);
        out.extend(match endian {
            Endian::Little => [0x9f, 0xeb, 1, 0],
            Endian::Big => [0xeb, 0x9f, 1, 0],
        });
        out.extend(endian.bytes(HEADER_WITH_CORE as u32));
        for (offset, len) in parts {
            out.extend(endian.bytes(offset));
            out.extend(endian.bytes(len));
        }
        for word in words {
            out.extend(endian.bytes(word));
        }
        Ok(out)
    }
}

/// Reads a table: the size of a record, then groups of (section name, count, records).
fn read_table<T: Record>(data: &[u8], endian: Endian, btf: &Btf) -> Result<Vec<Section<T>>, Error> {
    let bad = |offset: usize, cause| Error::Ext { part: T::PART, offset, cause };
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let word = |at: usize| endian.u32_at(data, at);
    let size = word(0).ok_or_else(|| bad(0, "the table is too short for the size of its records"))? as usize;
    if size < T::WORDS * 4 || !size.is_multiple_of(4) {
        return Err(bad(0, "the size of a record is less than it needs, or not a multiple of 4"));
    }
    let mut sections = Vec::new();
    let mut at = 4;
    while at < data.len() {
        let (Some(name_off), Some(count)) = (word(at), word(at + 4)) else {
            return Err(bad(at, "the table is cut off within the head of a group"));
        };
        if count == 0 {
            return Err(bad(at, "a group has no records"));
        }
        let records = (count as usize)
            .checked_mul(size)
            .and_then(|len| (at + 8).checked_add(len))
            .and_then(|end| data.get(at + 8..end))
            .ok_or_else(|| bad(at, "the group's records reach past the end of the table"))?;
        let name = btf.string(name_off)?;
        // Each group copies its name: many groups with one name of megabytes would grow without bound.
        if name.len() > SECTION_NAME_LIMIT {
            return Err(bad(at, "the name of a group's ELF section is longer than 4096 bytes"));
        }
        let name = name.to_owned();
        let records = records
            .chunks_exact(size)
            .map(|record| {
                let mut words = [0; 4];
                for (i, word) in words.iter_mut().enumerate().take(T::WORDS) {
                    *word = endian.u32_at(record, i * 4).unwrap_or_default();
                }
                T::read(&words)
            })
            .collect();
        sections.push(Section { name, records });
        at += 8 + count as usize * size;
    }
    Ok(sections)
}

fn write_table<T: Record>(
    sections: &[Section<T>],
    out: &mut Vec<u32>,
    string: &mut impl FnMut(&str) -> Result<u32, Error>,
) -> Result<(), Error> {
    // A table without records has no size of a record either, and no group may be empty.
    if sections.iter().all(|section| section.records.is_empty()) {
        return Ok(());
    }
    out.push(T::WORDS as u32 * 4);
    for section in sections.iter().filter(|section| !section.records.is_empty()) {
        out.push(string(&section.name)?);
        out.push(u32::try_from(section.records.len()).map_err(|_| Error::TooLarge("the number of records"))?);
        for record in &section.records {
            out.extend(&record.words()[..T::WORDS]);
        }
    }
    Ok(())
}
