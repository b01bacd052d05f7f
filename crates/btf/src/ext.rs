//! `.BTF.ext`: which function, source line and CO-RE record belongs to which instruction.

use crate::{Btf, Error, TypeId};

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

impl BtfExt {
    /// Parses the bytes of `.BTF.ext`; `btf` is the `.BTF` of the same file (its strings name the sections).
    pub fn parse(_data: &[u8], _btf: &Btf) -> Result<BtfExt, Error> {
        Err(Error::Skeleton)
    }
}
