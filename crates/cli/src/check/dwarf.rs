//! Source lines from DWARF, for objects that have debug information but no BTF line records (old compilers, stripped BTF).
//!
//! Only `.debug_line` is read: from a function's name its symbol gives section and offset, and there the line program's rows
//! say file, line and column. The text comes from the file, which must still be there.
//!
//! Limits: [`MAX_ROWS`] rows; what is broken ends the reading, and what was read until then counts.

use crate::diagnose::read_source;
use gimli::{AttributeValue, Dwarf, EndianSlice, RunTimeEndian, SectionId};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use skep_isa::InsnIdx;
use skep_object::ProgramSpec;
use skep_verifier::render::SourceLine;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

/// Rows of line programs that are kept.
const MAX_ROWS: usize = 1 << 20;

/// Each section of code gets addresses of its own: its index in these upper bits.
const SECTION_SHIFT: u32 = 32;

/// Bytes of an instruction slot.
const SLOT: u64 = 8;

/// Where a row of a line program leads.
#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: usize,
    line: u32,
    column: u32,
    /// The first address behind a function: nothing is known there.
    end: bool,
}

/// What an object's debug information says of lines.
#[derive(Debug, Default)]
pub(crate) struct DwarfLines {
    rows: Vec<Row>,
    files: Vec<String>,
    /// Where functions start, by name.
    functions: HashMap<String, u64>,
    /// Lines of files that were asked for.
    texts: RefCell<HashMap<usize, Option<Vec<String>>>>,
}

impl DwarfLines {
    /// Reads an object; `None` where it says nothing.
    pub(crate) fn read(elf: &[u8]) -> Option<DwarfLines> {
        let file = ElfFile64::<object::Endianness>::parse(elf).ok()?;
        let mut lines = DwarfLines::default();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            if let (Ok(name), Some(section)) = (symbol.name(), symbol.section_index()) {
                lines.functions.insert(name.to_owned(), address(section.0, symbol.address()));
            }
        }
        // What does not fit together is no reason to fail: the lines until then are right.
        let _ = lines.programs(&file);
        lines.rows.sort_by_key(|row| (row.address, !row.end));
        if lines.rows.is_empty() { None } else { Some(lines) }
    }

    fn programs<E: FileHeader<Endian = object::Endianness>>(
        &mut self,
        file: &object::read::elf::ElfFile<'_, E>,
    ) -> Result<(), gimli::Error> {
        let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let little = file.is_little_endian();
        let relocated = |name: &str| relocated(file, name, little);
        let sections: HashMap<&str, Vec<u8>> =
            [".debug_line", ".debug_line_str", ".debug_str"].into_iter().map(|name| (name, relocated(name))).collect();
        let load = |id: SectionId| {
            let data = sections.get(id.name()).map_or(&[][..], Vec::as_slice);
            Ok::<_, gimli::Error>(EndianSlice::new(data, endian))
        };
        let dwarf = Dwarf::load(load)?;
        let mut offset = 0;
        let total = sections.get(".debug_line").map_or(0, Vec::len);
        while offset < total {
            let program = dwarf.debug_line.program(gimli::DebugLineOffset(offset), 8, None, None)?;
            let header = program.header();
            offset += header.unit_length() + usize::from(header.format().initial_length_size());
            let mut numbers: HashMap<u64, usize> = HashMap::new();
            let mut rows = program.rows();
            while let Some((header, row)) = rows.next_row()? {
                if self.rows.len() >= MAX_ROWS {
                    return Ok(());
                }
                let file = match numbers.get(&row.file_index()) {
                    Some(file) => *file,
                    None => {
                        let name = row.file(header).map(|file| path(&dwarf, header, file)).unwrap_or_default();
                        self.files.push(name);
                        numbers.insert(row.file_index(), self.files.len() - 1);
                        self.files.len() - 1
                    }
                };
                let column = match row.column() {
                    gimli::ColumnType::LeftEdge => 0,
                    gimli::ColumnType::Column(column) => u32::try_from(column.get()).unwrap_or(0),
                };
                self.rows.push(Row {
                    address: row.address(),
                    file,
                    line: row.line().and_then(|line| u32::try_from(line.get()).ok()).unwrap_or(0),
                    column,
                    end: row.end_sequence(),
                });
            }
        }
        Ok(())
    }

    /// The line that an instruction of a linked program was made from.
    pub(crate) fn line(&self, program: &ProgramSpec, insn: InsnIdx) -> Option<SourceLine> {
        let function = program.funcs.iter().rfind(|span| span.start <= insn)?;
        let start = self.functions.get(function.name.as_ref())?;
        let address = start + u64::from(insn.0 - function.start.0) * SLOT;
        let at = self.rows.partition_point(|row| row.address <= address);
        let rows = self.rows.get(..at)?;
        // Line 0 means that there is none; the line before it says more.
        let row = rows.iter().rev().take_while(|row| !row.end && row.address >= *start).find(|row| row.line > 0)?;
        let file = self.files.get(row.file)?;
        let mut texts = self.texts.borrow_mut();
        let text = texts
            .entry(row.file)
            .or_insert_with(|| read_source(file).map(|text| text.lines().map(str::to_owned).collect()));
        let text = text.as_ref()?.get(row.line as usize - 1)?.clone();
        Some(SourceLine { file: file.clone(), line: row.line, column: row.column, text })
    }
}

fn address(section: usize, offset: u64) -> u64 {
    (section as u64) << SECTION_SHIFT | offset & u64::from(u32::MAX)
}

/// A section's data with its references to code made into addresses as [`address`] has them. (Those to other debug sections
/// hold the right offsets as they are.)
fn relocated<E: FileHeader<Endian = object::Endianness>>(
    file: &object::read::elf::ElfFile<'_, E>,
    name: &str,
    little: bool,
) -> Vec<u8> {
    let Some(section) = file.section_by_name(name) else { return Vec::new() };
    let mut data = section.data().map(<[u8]>::to_vec).unwrap_or_default();
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let Ok(symbol) = file.symbol_by_index(index) else { continue };
        let Some(target) = symbol.section_index() else { continue };
        let is_code = file.section_by_index(target).is_ok_and(|section| section.kind() == object::SectionKind::Text);
        let place = usize::try_from(offset).ok().and_then(|at| data.get_mut(at..at.checked_add(8)?));
        let Some(place) = place.filter(|_| is_code) else { continue };
        let Ok(bytes) = <[u8; 8]>::try_from(&*place) else { continue };
        let implicit = if little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) };
        let addend = if relocation.has_implicit_addend() { implicit } else { relocation.addend().cast_unsigned() };
        let value = address(target.0, symbol.address().wrapping_add(addend));
        place.copy_from_slice(&if little { value.to_le_bytes() } else { value.to_be_bytes() });
    }
    data
}

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// The path of a file of a line program.
fn path<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    header: &gimli::LineProgramHeader<Slice<'a>>,
    file: &gimli::FileEntry<Slice<'a>>,
) -> String {
    let text = |value: AttributeValue<Slice<'a>>| -> String {
        let bytes = match value {
            AttributeValue::String(bytes) => Some(bytes),
            AttributeValue::DebugStrRef(at) => dwarf.debug_str.get_str(at).ok(),
            AttributeValue::DebugLineStrRef(at) => dwarf.debug_line_str.get_str(at).ok(),
            _ => None,
        };
        bytes.map(|bytes| bytes.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let name = text(file.path_name());
    let directory = file.directory(header).map(text).unwrap_or_default();
    let compiled_in = header.directory(0).map(text).unwrap_or_default();
    Path::new(&compiled_in).join(directory).join(name).display().to_string()
}
