//! Functions of an ELF file -> one linked program for each entry: the entry itself, then each function it reaches.
//!
//! A function under `SEC("...")` that other files could name (global or weak) is an entry; one that is `static`, or that
//! stands in `.text`, is a subprogram. BPF has no linker at run time, so each entry gets its own copy of what it
//! calls, and calls are relative to the calling instruction:
//!
//! ```text
//! SEC("xdp") int a() { return f(); }        a: call +1 -> f
//! SEC("xdp") int b() { return f() + g(); }     exit
//! static __noinline int f() { ... }         f: ...            b: call f; call g; exit; f: ...; g: ...
//! ```
//!
//! Limits: [`MAX_INSNS`] for a linked program (the verifier's own), [`MAX_TOTAL_INSNS`] for all of a file together,
//! [`MAX_TOTAL_CORE`] CO-RE records in them, [`MAX_PROGRAMS`] entries. Of several source lines for one instruction the last
//! is kept; several CO-RE records for one are an error. A reference into the middle of a function is an error.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use object::elf;
use skep_btf::{Btf, BtfExt, Kind, TypeId, ext};
use skep_isa::{Endian, InsnIdx, Raw, opcode};

use crate::elf::{Elf, Place, Symbol};
use crate::externs::Externs;
use crate::warnings::Warnings;
use crate::{
    CoreReloc, Error, ExternKind, FuncSpan, Line, MapIdx, ProgramIdx, ProgramSpec, Reloc, RelocKind, near, sections,
};

/// Entry programs of a file.
pub const MAX_PROGRAMS: usize = 4096;
/// Instruction slots of a linked program: what the verifier takes from the privileged.
pub const MAX_INSNS: usize = 1_000_000;
/// Instruction slots of all linked programs of a file together.
pub const MAX_TOTAL_INSNS: usize = 4_000_000;
/// CO-RE records of all linked programs of a file together. A large program has some thousands.
pub const MAX_TOTAL_CORE: usize = 500_000;

/// Bytes of an instruction slot.
const SLOT: u64 = Raw::SIZE as u64;

/// A function of the file.
#[derive(Debug)]
struct Func<'a> {
    name: &'a str,
    section: usize,
    /// First slot within the section.
    start: u64,
    /// Slots.
    len: u64,
    symbol: Option<usize>,
    entry: bool,
}

/// Where symbols lead other than to functions.
pub(crate) struct Places<'a> {
    /// Declared maps by section and offset.
    pub(crate) maps: HashMap<(usize, u64), MapIdx>,
    /// Maps of data sections, by section.
    pub(crate) data: HashMap<usize, MapIdx>,
    pub(crate) externs: &'a Externs,
    /// The map of `.kconfig`.
    pub(crate) kconfig: Option<MapIdx>,
}

/// The functions of a file and what is known about them.
pub(crate) struct Linker<'a> {
    elf: &'a Elf<'a>,
    btf: Option<&'a Btf>,
    funcs: Vec<Func<'a>>,
    /// By section and first slot.
    by_start: HashMap<(usize, u64), usize>,
    /// By symbol, for entries.
    entries: HashMap<usize, ProgramIdx>,
    /// `.BTF.ext` by section name, each sorted by offset.
    func_infos: HashMap<&'a str, Vec<ext::FuncInfo>>,
    lines: HashMap<&'a str, Vec<ext::LineInfo>>,
    core: HashMap<&'a str, Vec<ext::CoreRelo>>,
}

/// A function with its references resolved to functions and places, not yet put anywhere.
struct Body {
    name: Arc<str>,
    insns: Vec<Raw>,
    /// (slot within the function, function called or whose address is taken).
    calls: Vec<(usize, usize)>,
    /// By slot within the function.
    relocs: Vec<(usize, RelocKind)>,
    core: Vec<(usize, CoreReloc)>,
    lines: Vec<(usize, Line)>,
    ty: TypeId,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(
        elf: &'a Elf<'a>,
        btf: Option<&'a Btf>,
        ext: Option<&'a BtfExt>,
        warnings: &mut Warnings,
    ) -> Result<Linker<'a>, Error> {
        let mut linker = Linker {
            elf,
            btf,
            funcs: Vec::new(),
            by_start: HashMap::new(),
            entries: HashMap::new(),
            func_infos: HashMap::new(),
            lines: HashMap::new(),
            core: HashMap::new(),
        };
        if let Some(ext) = ext {
            linker.func_infos = by_section(&ext.funcs, |r| r.insn_off);
            linker.lines = by_section(&ext.lines, |r| r.insn_off);
            linker.core = by_section(&ext.core_relos, |r| r.insn_off);
        }
        for (index, section) in elf.sections.iter().enumerate() {
            if section.executable && section.kind == elf::SHT_PROGBITS && !section.data.is_empty() {
                linker.find_functions(index)?;
            }
        }
        if !linker.funcs.iter().any(|f| f.entry) {
            // Objects made to be tested rather than attached leave everything in .text.
            for func in &mut linker.funcs {
                func.entry = func.symbol.and_then(|s| elf.symbols.get(s)).is_none_or(Symbol::is_global);
            }
            if linker.funcs.iter().any(|f| f.entry) {
                warnings.push(
                    "no function has a section of its own, so those in .text are taken as programs without a type"
                        .to_owned(),
                );
            }
        }
        let mut next = 0;
        for func in linker.funcs.iter().filter(|f| f.entry) {
            if let Some(symbol) = func.symbol {
                linker.entries.insert(symbol, ProgramIdx(next));
            }
            next += 1;
        }
        if next > MAX_PROGRAMS {
            return Err(Error::Limit {
                file: elf.file.clone(),
                what: "the number of programs".to_owned(),
                found: next as u64,
                limit: MAX_PROGRAMS as u64,
            });
        }
        Ok(linker)
    }

    /// Which entry program a symbol is.
    pub(crate) fn entry(&self, symbol: usize) -> Option<ProgramIdx> {
        self.entries.get(&symbol).copied()
    }

    fn find_functions(&mut self, index: usize) -> Result<(), Error> {
        let elf = self.elf;
        let Some(section) = elf.sections.get(index) else { return Ok(()) };
        let part = format!("section {}", section.name);
        let slots = section.data.len() as u64 / SLOT;
        if !section.data.len().is_multiple_of(Raw::SIZE) {
            return Err(
                elf.malformed(&part, format!("{} bytes are no whole number of instructions", section.data.len()))
            );
        }
        let mut symbols: Vec<(usize, &Symbol<'a>)> =
            elf.symbols_in(index).filter(|(_, s)| s.is_function() && s.size > 0).collect();
        if symbols.is_empty() {
            // Clang before 7 did not say what is a function, nor how long it is.
            symbols = elf
                .symbols_in(index)
                .filter(|(_, s)| matches!(s.kind, elf::STT_NOTYPE | elf::STT_FUNC) && s.is_global())
                .collect();
        }
        // Of several names for one function, the global one counts.
        symbols.sort_by_key(|(index, s)| (s.value, !s.is_global(), *index));
        symbols.dedup_by_key(|(_, s)| s.value);
        let starts: Vec<u64> = symbols.iter().map(|(_, s)| s.value).collect();
        for (i, (number, symbol)) in symbols.into_iter().enumerate() {
            let next = starts.get(i + 1).copied().unwrap_or(section.data.len() as u64);
            let size = if symbol.size > 0 { symbol.size } else { next.saturating_sub(symbol.value) };
            let end = symbol.value.checked_add(size);
            if symbol.value % SLOT != 0 || size % SLOT != 0 || size == 0 || end.is_none_or(|end| end > slots * SLOT) {
                let (name, at, size) = (symbol.name, symbol.value, symbol.size);
                return Err(elf.malformed(
                    &part,
                    format!("function {name} ({size} bytes at {at}) does not lie on whole instructions within it"),
                ));
            }
            let entry = section.name != ".text" && symbol.is_global();
            let start = symbol.value / SLOT;
            self.by_start.insert((index, start), self.funcs.len());
            self.funcs.push(Func {
                name: symbol.name,
                section: index,
                start,
                len: size / SLOT,
                symbol: Some(number),
                entry,
            });
        }
        if starts.is_empty() {
            let entry = section.name != ".text";
            self.by_start.insert((index, 0), self.funcs.len());
            self.funcs.push(Func { name: section.name, section: index, start: 0, len: slots, symbol: None, entry });
        }
        Ok(())
    }

    /// Links every entry program.
    pub(crate) fn link(&self, places: &Places<'_>, warnings: &mut Warnings) -> Result<Vec<ProgramSpec>, Error> {
        let mut bodies: HashMap<usize, Body> = HashMap::new();
        let mut programs = Vec::new();
        let (mut total, mut core) = (0usize, 0usize);
        for (entry, func) in self.funcs.iter().enumerate().filter(|(_, f)| f.entry) {
            let program = self.link_entry(entry, func, places, MAX_TOTAL_CORE - core, &mut bodies)?;
            total = total.saturating_add(program.insns.len());
            if total > MAX_TOTAL_INSNS {
                return Err(self.too_many(func.name, total, MAX_TOTAL_INSNS, "of the linked programs up to"));
            }
            core = core.saturating_add(program.core_relocs.len());
            programs.push(program);
        }
        for program in &mut programs {
            let found = sections::hook(&program.section);
            program.hook = found.hook;
            if let Some(warning) = found.warning.filter(|_| program.section != ".text") {
                warnings.push(warning);
            }
        }
        Ok(programs)
    }

    fn too_many(&self, name: &str, found: usize, limit: usize, what: &str) -> Error {
        Error::Limit {
            file: self.elf.file.clone(),
            what: format!("the number of instructions {what} {name}"),
            found: found as u64,
            limit: limit as u64,
        }
    }

    fn link_entry(
        &self,
        entry: usize,
        func: &Func<'a>,
        places: &Places<'_>,
        core_room: usize,
        bodies: &mut HashMap<usize, Body>,
    ) -> Result<ProgramSpec, Error> {
        let section = self.elf.sections.get(func.section).map_or("", |s| s.name);
        let mut program = ProgramSpec {
            name: func.name.to_owned(),
            section: section.to_owned(),
            hook: sections::hook("").hook,
            insns: Vec::new(),
            relocs: Vec::new(),
            core_relocs: Vec::new(),
            funcs: Vec::new(),
            lines: Vec::new(),
            poisoned: Vec::new(),
        };
        // Functions in the order they are found, and where each was put.
        let mut order = vec![entry];
        let mut seen = HashSet::from([entry]);
        let mut starts: HashMap<usize, usize> = HashMap::new();
        let mut calls: Vec<(usize, usize)> = Vec::new();
        let mut next = 0;
        while let Some(&index) = order.get(next) {
            next += 1;
            let body = match bodies.entry(index) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(self.body(index, places)?),
            };
            let base = program.insns.len();
            if base + body.insns.len() > MAX_INSNS {
                return Err(self.too_many(&program.name, base + body.insns.len(), MAX_INSNS, "of"));
            }
            let core = program.core_relocs.len() + body.core.len();
            if core > core_room {
                return Err(Error::Limit {
                    file: self.elf.file.clone(),
                    what: format!("the number of CO-RE records of the linked programs up to {}", program.name),
                    found: (MAX_TOTAL_CORE - core_room + core) as u64,
                    limit: MAX_TOTAL_CORE as u64,
                });
            }
            starts.insert(index, base);
            // Below MAX_INSNS, so it fits.
            let at = |slot: usize| InsnIdx((base + slot) as u32);
            program.insns.extend_from_slice(&body.insns);
            program.funcs.push(FuncSpan { start: at(0), name: Arc::clone(&body.name), ty: body.ty });
            program.relocs.extend(body.relocs.iter().map(|(slot, kind)| Reloc { insn: at(*slot), kind: *kind }));
            program.core_relocs.extend(body.core.iter().map(|(slot, r)| CoreReloc { insn: at(*slot), ..r.clone() }));
            program.lines.extend(body.lines.iter().map(|(slot, line)| Line { insn: at(*slot), ..*line }));
            for (slot, callee) in &body.calls {
                calls.push((base + slot, *callee));
                if seen.insert(*callee) {
                    order.push(*callee);
                }
            }
        }
        for (at, callee) in calls {
            if let Some((insn, start)) = program.insns.get_mut(at).zip(starts.get(&callee)) {
                // Both are below MAX_INSNS.
                insn.imm = *start as i32 - (at as i32 + 1);
            }
        }
        Ok(program)
    }

    /// Decodes a function and resolves what it refers to.
    fn body(&self, index: usize, places: &Places<'_>) -> Result<Body, Error> {
        let none = || Body {
            name: self.funcs.get(index).map_or("", |f| f.name).into(),
            insns: Vec::new(),
            calls: Vec::new(),
            relocs: Vec::new(),
            core: Vec::new(),
            lines: Vec::new(),
            ty: TypeId::VOID,
        };
        let Some((func, section)) = self.funcs.get(index).and_then(|f| Some((f, self.elf.sections.get(f.section)?)))
        else {
            return Ok(none());
        };
        let from = (func.start * SLOT) as usize;
        let bytes = section.data.get(from..from + (func.len * SLOT) as usize).unwrap_or_default();
        if func.len as usize > MAX_INSNS {
            return Err(self.too_many(func.name, func.len as usize, MAX_INSNS, "of"));
        }
        let mut body = none();
        body.insns = bytes.as_chunks::<8>().0.iter().map(|b| Raw::from_bytes(*b, self.elf.endian)).collect();
        let mut slot = 0;
        while let Some(&insn) = body.insns.get(slot) {
            let offset = (func.start + slot as u64) * SLOT;
            let reloc = self.elf.reloc_at(func.section, offset).copied();
            self.resolve(func, &mut body, slot, insn, reloc, places)?;
            slot += if insn.is_wide() { 2 } else { 1 };
        }
        let range = from as u64..from as u64 + func.len * SLOT;
        let local = |off: u32| ((u64::from(off) - range.start) / SLOT) as usize;
        body.ty = within(self.func_infos.get(section.name), &range, |r| r.insn_off)
            .find(|r| u64::from(r.insn_off) == range.start)
            .map(|r| r.ty)
            .or_else(|| self.btf?.find(func.name, Kind::Func))
            .unwrap_or(TypeId::VOID);
        body.lines = within(self.lines.get(section.name), &range, |r| r.insn_off)
            .filter(|r| u64::from(r.insn_off) % SLOT == 0)
            .map(|r| {
                let line = Line {
                    insn: InsnIdx(0),
                    file_name_off: r.file_name_off,
                    text_off: r.line_off,
                    line: r.line,
                    column: r.column,
                };
                (local(r.insn_off), line)
            })
            .collect();
        // The kernel takes one for each instruction. As in other tables of lines, what comes later holds.
        body.lines.reverse();
        body.lines.dedup_by_key(|(slot, _)| *slot);
        body.lines.reverse();
        let mut paths: HashMap<u32, Arc<str>> = HashMap::new();
        for relo in within(self.core.get(section.name), &range, |r| r.insn_off) {
            let fail = |cause: String| self.fail(func, local(relo.insn_off), cause);
            if u64::from(relo.insn_off) % SLOT != 0 {
                return Err(fail("a CO-RE record is not at the start of an instruction".to_owned()));
            }
            let access = self
                .btf
                .map(|btf| btf.string(relo.access_str_off))
                .transpose()
                .map_err(|e| fail(format!("a CO-RE record has no access string: {e}")))?
                .unwrap_or_default();
            // A path has at most 64 steps of at most 10 digits.
            if access.len() > 1024 {
                return Err(fail(format!("a CO-RE record has an access string of {} bytes", access.len())));
            }
            if body.core.last().is_some_and(|(slot, _)| *slot == local(relo.insn_off)) {
                return Err(fail("it has more than one CO-RE record, and only one number to be written".to_owned()));
            }
            let access = Arc::clone(paths.entry(relo.access_str_off).or_insert_with(|| access.into()));
            let core = CoreReloc { insn: InsnIdx(0), ty: relo.ty, access, kind: relo.kind };
            body.core.push((local(relo.insn_off), core));
        }
        Ok(body)
    }

    fn fail(&self, func: &Func<'_>, slot: usize, cause: String) -> Error {
        Error::Link { file: self.elf.file.clone(), function: func.name.to_owned(), insn: slot as u64, cause }
    }

    /// What one instruction refers to.
    fn resolve(
        &self,
        func: &Func<'_>,
        body: &mut Body,
        slot: usize,
        insn: Raw,
        reloc: Option<crate::elf::Reloc>,
        places: &Places<'_>,
    ) -> Result<(), Error> {
        const CALL: u8 = opcode::CLASS_JMP | opcode::JMP_CALL;
        let fail = |cause: String| self.fail(func, slot, cause);
        let is_call = insn.opcode == CALL && insn.src == opcode::CALL_SUBPROG;
        let Some(reloc) = reloc else {
            if is_call {
                // Within its section: clang resolved it already.
                let target = (func.start + slot as u64).checked_add_signed(i64::from(insn.imm) + 1);
                let callee = target.and_then(|t| self.by_start.get(&(func.section, t)));
                let callee = callee.ok_or_else(|| fail("it calls a place that is no function's start".to_owned()))?;
                body.calls.push((slot, *callee));
            }
            return Ok(());
        };
        let Some(symbol) = self.elf.symbols.get(reloc.symbol) else {
            return Err(fail("its relocation names no symbol".to_owned()));
        };
        if insn.is_wide() {
            return self.resolve_wide(func, body, slot, &reloc, symbol, places);
        }
        if insn.opcode != CALL {
            return Err(fail(format!(
                "a relocation to {} stands at opcode {:#04x}, neither a call nor a 64-bit load",
                shown(symbol, self.elf),
                insn.opcode
            )));
        }
        match symbol.place {
            Place::Undefined => {
                let index = self.extern_of(func, &reloc, symbol, places)?;
                match places.externs.specs.get(index.0).map(|e| e.kind) {
                    Some(ExternKind::Kfunc { .. }) => {}
                    _ => return Err(fail(format!("it calls {}, which is declared as a variable", symbol.name))),
                }
                if let Some(raw) = body.insns.get_mut(slot) {
                    *raw = Raw { src: opcode::CALL_KFUNC, off: 0, imm: 0, ..insn };
                }
                body.relocs.push((slot, RelocKind::ExternCall(index)));
            }
            Place::Section(section) if insn.src == opcode::CALL_SUBPROG => {
                // By REL: value of the symbol, and in the immediate what is to be added, one less, in slots.
                let start = symbol
                    .value
                    .checked_add_signed(reloc.addend)
                    .filter(|bytes| bytes % SLOT == 0)
                    .and_then(|bytes| (bytes / SLOT).checked_add_signed(i64::from(insn.imm) + 1));
                let callee = start.and_then(|start| self.by_start.get(&(section, start)));
                let callee = callee.ok_or_else(|| {
                    fail(format!("it calls into {}, at no function's start", shown(symbol, self.elf)))
                })?;
                body.calls.push((slot, *callee));
            }
            Place::Section(_) => {
                return Err(fail(format!(
                    "a call of helper {} has a relocation to {}",
                    insn.imm,
                    shown(symbol, self.elf)
                )));
            }
            Place::Other => {
                return Err(fail(format!("it calls {}, which is absolute or common", symbol.name)));
            }
        }
        Ok(())
    }

    fn resolve_wide(
        &self,
        func: &Func<'_>,
        body: &mut Body,
        slot: usize,
        reloc: &crate::elf::Reloc,
        symbol: &Symbol<'_>,
        places: &Places<'_>,
    ) -> Result<(), Error> {
        let fail = |cause: String| self.fail(func, slot, cause);
        let Some([first, second]) = body.insns.get_mut(slot..).and_then(|rest| rest.first_chunk_mut::<2>()) else {
            return Err(fail("a 64-bit load is cut off by the function's end".to_owned()));
        };
        // What the compiler adds to the symbol.
        let addend = i64::from(first.imm).checked_add(reloc.addend);
        let offset = addend.and_then(|a| symbol.value.checked_add_signed(a));
        let outside = || fail(format!("it refers to {} with an offset out of range", shown(symbol, self.elf)));
        let mut map_value = |map: MapIdx, offset: u64| -> Result<(), Error> {
            let offset = i32::try_from(offset).map_err(|_| outside())?;
            (first.src, first.imm, second.imm) = (opcode::WIDE_MAP_VALUE, 0, offset);
            body.relocs.push((slot, RelocKind::MapValue(map)));
            Ok(())
        };
        match symbol.place {
            Place::Undefined => {
                let index = self.extern_of(func, reloc, symbol, places)?;
                let kind = places.externs.specs.get(index.0).map(|e| e.kind);
                match (kind, places.kconfig) {
                    (Some(ExternKind::Kconfig { offset, .. }), Some(map)) => {
                        let at = addend.and_then(|a| u64::from(offset).checked_add_signed(a)).ok_or_else(outside)?;
                        map_value(map, at)?;
                    }
                    _ => {
                        (first.imm, second.imm) = (0, 0);
                        body.relocs.push((slot, RelocKind::Extern(index)));
                    }
                }
            }
            Place::Section(section) => {
                let offset = offset.ok_or_else(outside)?;
                if let Some(map) = places.data.get(&section) {
                    map_value(*map, offset)?;
                } else if let Some(map) = places.maps.get(&(section, offset)) {
                    (first.src, first.imm, second.imm) = (opcode::WIDE_MAP_FD, 0, 0);
                    body.relocs.push((slot, RelocKind::Map(*map)));
                } else if self.elf.sections.get(section).is_some_and(|s| s.executable) {
                    let callee =
                        Some(offset).filter(|o| o % SLOT == 0).and_then(|o| self.by_start.get(&(section, o / SLOT)));
                    let callee = callee.ok_or_else(|| {
                        fail(format!(
                            "it takes an address within {} that is no function's start",
                            shown(symbol, self.elf)
                        ))
                    })?;
                    (first.src, second.imm) = (opcode::WIDE_FUNC, 0);
                    body.calls.push((slot, *callee));
                } else {
                    let name = self.elf.sections.get(section).map_or("", |s| s.name);
                    let next = match name {
                        ".maps" | "maps" => "which is no map's start",
                        ".addr_space.1" => "which is an arena's memory: globals in an arena are not supported",
                        _ => "which is neither a map nor a data section",
                    };
                    return Err(fail(format!("it refers to offset {offset} of section {name}, {next}")));
                }
            }
            Place::Other => {
                return Err(fail(format!("it refers to {}, which is absolute or common", symbol.name)));
            }
        }
        Ok(())
    }

    fn extern_of(
        &self,
        func: &Func<'_>,
        reloc: &crate::elf::Reloc,
        symbol: &Symbol<'_>,
        places: &Places<'_>,
    ) -> Result<crate::ExternIdx, Error> {
        places.externs.by_symbol.get(&reloc.symbol).copied().ok_or_else(|| {
            let known = self.elf.symbols.iter().filter(|s| s.place != Place::Undefined).map(|s| s.name).take(4096);
            Error::Undefined {
                file: self.elf.file.clone(),
                function: func.name.to_owned(),
                symbol: symbol.name.to_owned(),
                near: near::hint(symbol.name, known),
            }
        })
    }
}

/// A symbol for messages: its name, or its section's.
fn shown<'s>(symbol: &Symbol<'s>, elf: &Elf<'s>) -> String {
    match symbol.place {
        Place::Section(at) if symbol.name.is_empty() => {
            format!("section {}", elf.sections.get(at).map_or("?", |s| s.name))
        }
        _ => symbol.name.to_owned(),
    }
}

fn by_section<T: Copy>(sections: &[ext::Section<T>], offset: impl Fn(&T) -> u32) -> HashMap<&str, Vec<T>> {
    let mut out: HashMap<&str, Vec<T>> = HashMap::new();
    for section in sections {
        out.entry(section.name.as_str()).or_default().extend_from_slice(&section.records);
    }
    for records in out.values_mut() {
        records.sort_by_key(|r| offset(r));
    }
    out
}

/// The records of a section whose offsets lie in a range.
fn within<'r, T>(
    records: Option<&'r Vec<T>>,
    range: &std::ops::Range<u64>,
    offset: impl Fn(&T) -> u32,
) -> impl Iterator<Item = &'r T> {
    let records = records.map(Vec::as_slice).unwrap_or_default();
    let from = records.partition_point(|r| u64::from(offset(r)) < range.start);
    let to = records.partition_point(|r| u64::from(offset(r)) < range.end);
    records.get(from..to).unwrap_or_default().iter()
}

/// The text up to the first NUL of a section such as `license`.
pub(crate) fn text_of(data: &[u8]) -> String {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(data.get(..end).unwrap_or_default()).into_owned()
}

/// The number in section `version`, 0 if there is none.
pub(crate) fn version_of(data: &[u8], endian: Endian) -> u32 {
    crate::maps::read_u32(data, 0, endian).unwrap_or(0)
}
