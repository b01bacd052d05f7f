//! Bytes -> the parts of an ELF file that a BPF object has: sections, symbols, relocations, all bounds checked.
//!
//! The `object` crate reads the tables; this module says what a BPF object must look like, and
//! turns what is wrong into an [`Error`] that names the part.
//!
//! Limits: [`MAX_SECTIONS`], [`MAX_NAME`], [`MAX_SECTION_SIZE`] for a section that takes no bytes in the file (`.bss`); everything else
//! is bounded by the bytes there are. Section and symbol names must be UTF-8.

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, Rel as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, SectionIndex};
use skep_isa::Endian;

use crate::Error;

/// Sections of a file. Real objects have some dozens; one section for each program makes some hundreds.
pub const MAX_SECTIONS: usize = 4096;

/// Bytes of all data sections together, `.bss` included.
pub const MAX_SECTION_SIZE: u64 = 256 << 20;

/// Bytes of a section's name, and of a function's, variable's or type's. The longest that make sense are those of sections for
/// uprobes, which hold a path. Entries of 12 bytes may share one name and each is copied, so it must not have megabytes.
pub const MAX_NAME: usize = 4096;

/// A section.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    /// `SHT_*`
    pub(crate) kind: elf::SectionType,
    pub(crate) executable: bool,
    /// Empty for a section that takes no bytes in the file.
    pub(crate) data: &'a [u8],
    pub(crate) size: u64,
    /// Relocations that apply to it, by offset.
    pub(crate) relocs: Vec<Reloc>,
}

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Undefined,
    /// Index of the section.
    Section(usize),
    /// Absolute, common, or a processor's own.
    Other,
}

/// A symbol.
#[derive(Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    /// `STT_*`
    pub(crate) kind: elf::SymbolType,
    /// `STB_*`
    pub(crate) bind: elf::SymbolBind,
    /// Hidden or internal.
    pub(crate) hidden: bool,
    pub(crate) place: Place,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

impl Symbol<'_> {
    pub(crate) fn is_global(&self) -> bool {
        matches!(self.bind, elf::STB_GLOBAL | elf::STB_WEAK)
    }

    pub(crate) fn is_weak(&self) -> bool {
        self.bind == elf::STB_WEAK
    }

    pub(crate) fn is_function(&self) -> bool {
        self.kind == elf::STT_FUNC
    }
}

/// A relocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reloc {
    /// Bytes from the start of the section it applies to.
    pub(crate) offset: u64,
    /// Index of the symbol.
    pub(crate) symbol: usize,
    /// 0 in a table without addends (then it stands in the instruction).
    pub(crate) addend: i64,
}

/// A file taken apart.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    pub(crate) file: String,
    pub(crate) endian: Endian,
    /// By ELF index; the first is the null section.
    pub(crate) sections: Vec<Section<'a>>,
    /// By ELF index; the first is the null symbol.
    pub(crate) symbols: Vec<Symbol<'a>>,
    /// Indices of the named symbols defined in each section, section symbols left out.
    defined: Vec<Vec<usize>>,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(file: &str, bytes: &'a [u8]) -> Result<Elf<'a>, Error> {
        let header = check_header(file, bytes)?;
        let bad = |part: &str, cause: &dyn std::fmt::Display| Error::Malformed {
            file: file.to_owned(),
            part: part.to_owned(),
            cause: cause.to_string(),
        };
        let endian = header.endian().map_err(|e| bad("ELF header", &e))?;
        let table = header.sections(endian, bytes).map_err(|e| bad("section table", &e))?;
        if table.len() > MAX_SECTIONS {
            return Err(Error::Limit {
                file: file.to_owned(),
                what: "the number of sections".to_owned(),
                found: table.len() as u64,
                limit: MAX_SECTIONS as u64,
            });
        }
        let mut sections = Vec::with_capacity(table.len());
        let mut symtab = None;
        for (index, section) in table.iter().enumerate() {
            let number = format!("section {index}");
            let name = table.section_name(endian, section).map_err(|e| bad(&number, &e))?;
            let name = std::str::from_utf8(name).map_err(|_| bad(&number, &"its name is not UTF-8"))?;
            check_name(file, &number, name)?;
            let kind = section.sh_type(endian);
            let data = match kind {
                elf::SHT_NULL | elf::SHT_NOBITS => &[],
                _ => section.data(endian, bytes).map_err(|e| bad(&format!("section {name}"), &e))?,
            };
            if kind == elf::SHT_SYMTAB {
                if symtab.is_some() {
                    return Err(bad("symbol table", &"there is more than one"));
                }
                symtab = Some(SectionIndex(index));
            }
            sections.push(Section {
                name,
                kind,
                executable: section.sh_flags(endian).0 & elf::SHF_EXECINSTR.0 != 0,
                data,
                size: section.sh_size(endian),
                relocs: Vec::new(),
            });
        }
        let symbols = match symtab {
            Some(index) => {
                let symbols = table.symbol_table_by_index(endian, bytes, index).map_err(|e| bad("symbol table", &e))?;
                let mut out = Vec::with_capacity(symbols.len());
                for (index, symbol) in symbols.enumerate() {
                    let number = format!("symbol {}", index.0);
                    let name = symbols.symbol_name(endian, symbol).map_err(|e| bad(&number, &e))?;
                    let name = std::str::from_utf8(name).map_err(|_| bad(&number, &"its name is not UTF-8"))?;
                    check_name(file, &number, name)?;
                    let place = if symbol.is_undefined(endian) {
                        Place::Undefined
                    } else {
                        match symbols.symbol_section(endian, symbol, index).map_err(|e| bad(&number, &e))? {
                            Some(at) if at.0 < sections.len() => Place::Section(at.0),
                            Some(at) => {
                                return Err(bad(&number, &format!("section {} does not exist", at.0)));
                            }
                            None => Place::Other,
                        }
                    };
                    out.push(Symbol {
                        name,
                        kind: symbol.st_type(),
                        bind: symbol.st_bind(),
                        hidden: matches!(symbol.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL),
                        place,
                        value: symbol.st_value(endian),
                        size: symbol.st_size(endian),
                    });
                }
                out
            }
            None => Vec::new(),
        };
        let mut defined = vec![Vec::new(); sections.len()];
        for (index, symbol) in symbols.iter().enumerate() {
            let named = !symbol.name.is_empty() && !matches!(symbol.kind, elf::STT_SECTION | elf::STT_FILE);
            if let Place::Section(at) = symbol.place
                && named
                && let Some(list) = defined.get_mut(at)
            {
                list.push(index);
            }
        }
        let mut elf = Elf {
            file: file.to_owned(),
            endian: if endian == Endianness::Little { Endian::Little } else { Endian::Big },
            sections,
            symbols,
            defined,
        };
        for (index, section) in table.iter().enumerate() {
            let part = format!("relocation table {index}");
            let mut found = Vec::new();
            if let Some((relocs, _)) = section.rel(endian, bytes).map_err(|e| bad(&part, &e))? {
                found.extend(relocs.iter().map(|r| Reloc {
                    offset: r.r_offset(endian),
                    symbol: r.r_sym(endian) as usize,
                    addend: 0,
                }));
            } else if let Some((relocs, _)) = section.rela(endian, bytes).map_err(|e| bad(&part, &e))? {
                found.extend(relocs.iter().map(|r| Reloc {
                    offset: r.r_offset(endian),
                    symbol: r.r_sym(endian, false) as usize,
                    addend: r.r_addend(endian),
                }));
            } else {
                continue;
            }
            let target = section.sh_info(endian) as usize;
            elf.add_relocs(&part, target, found)?;
        }
        for section in &mut elf.sections {
            section.relocs.sort_by_key(|r| r.offset);
        }
        Ok(elf)
    }

    fn add_relocs(&mut self, part: &str, target: usize, found: Vec<Reloc>) -> Result<(), Error> {
        let symbols = self.symbols.len();
        let Some(section) = self.sections.get_mut(target).filter(|_| target != 0) else {
            return Err(self.malformed(part, format!("it applies to section {target}, which does not exist")));
        };
        // Debug information may hold what this crate never looks at; it is not worth an error.
        if section.name.starts_with(".debug") || section.name == ".eh_frame" || section.name.starts_with(".BTF") {
            return Ok(());
        }
        let (name, size) = (section.name, section.size);
        if let Some(reloc) = found.iter().find(|r| r.offset >= size || r.symbol >= symbols || r.symbol == 0) {
            let cause = if reloc.offset >= size {
                format!("offset {} is behind the end of section {name}, which has {size} bytes", reloc.offset)
            } else {
                format!("symbol {} does not exist", reloc.symbol)
            };
            return Err(self.malformed(part, cause));
        }
        section.relocs.extend(found);
        Ok(())
    }

    pub(crate) fn malformed(&self, part: &str, cause: String) -> Error {
        Error::Malformed { file: self.file.clone(), part: part.to_owned(), cause }
    }

    /// The first section of this name with its index.
    pub(crate) fn section(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        self.sections.iter().enumerate().find(|(_, s)| s.name == name && s.kind != elf::SHT_NULL)
    }

    /// Named symbols defined in a section, section symbols left out.
    pub(crate) fn symbols_in(&self, section: usize) -> impl Iterator<Item = (usize, &Symbol<'a>)> {
        let indices = self.defined.get(section).map(Vec::as_slice).unwrap_or_default();
        indices.iter().filter_map(|index| Some((*index, self.symbols.get(*index)?)))
    }

    /// The relocation at exactly this offset of a section.
    pub(crate) fn reloc_at(&self, section: usize, offset: u64) -> Option<&Reloc> {
        let relocs = &self.sections.get(section)?.relocs;
        let at = relocs.partition_point(|r| r.offset < offset);
        relocs.get(at).filter(|r| r.offset == offset)
    }
}

/// [`MAX_NAME`] for the name of a part such as `symbol 7`.
pub(crate) fn check_name(file: &str, part: &dyn std::fmt::Display, name: &str) -> Result<(), Error> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(Error::Limit {
        file: file.to_owned(),
        what: format!("the length of the name of {part}"),
        found: name.len() as u64,
        limit: MAX_NAME as u64,
    })
}

/// Checks what the first bytes say before anything is read by them, each with a message of its own.
fn check_header<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a FileHeader64<Endianness>, Error> {
    let wrong = |found: String, expected| Error::WrongElf { file: file.to_owned(), found, expected };
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Error::NotElf { file: file.to_owned(), start: describe_start(bytes) });
    }
    match bytes.get(4).copied().map(elf::FileClass) {
        Some(elf::ELFCLASS64) | None => {}
        Some(elf::ELFCLASS32) => return Err(wrong("a 32-bit ELF file".to_owned(), "a 64-bit one")),
        Some(class) => return Err(wrong(format!("an ELF file of class {}", class.0), "a 64-bit one (class 2)")),
    }
    match bytes.get(5).copied().map(elf::DataEncoding) {
        Some(elf::ELFDATA2LSB | elf::ELFDATA2MSB) | None => {}
        Some(order) => {
            return Err(wrong(format!("an ELF file of byte order {}", order.0), "a little or big endian one (1 or 2)"));
        }
    }
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(|e| Error::Malformed {
        file: file.to_owned(),
        part: "ELF header".to_owned(),
        cause: e.to_string(),
    })?;
    let endian = header.endian().map_err(|e| wrong(e.to_string(), "a little or big endian ELF file"))?;
    let machine = header.e_machine(endian);
    // Clang before 4.0 wrote no machine.
    if machine != elf::EM_BPF && machine != elf::EM_NONE {
        return Err(wrong(format!("an ELF file for {}", machine_name(machine)), "one for BPF"));
    }
    let expected = "a relocatable object";
    match header.e_type(endian) {
        elf::ET_REL => Ok(header),
        elf::ET_EXEC => Err(wrong("an executable".to_owned(), expected)),
        elf::ET_DYN => Err(wrong("a shared library or position-independent executable".to_owned(), expected)),
        elf::ET_CORE => Err(wrong("a core dump".to_owned(), expected)),
        other => Err(wrong(format!("an ELF file of type {}", other.0), expected)),
    }
}

fn machine_name(machine: elf::Machine) -> String {
    let name = match machine {
        elf::EM_386 => "i386",
        elf::EM_X86_64 => "x86-64",
        elf::EM_ARM => "arm",
        elf::EM_AARCH64 => "arm64",
        elf::EM_RISCV => "riscv",
        elf::EM_S390 => "s390",
        elf::EM_PPC64 => "ppc64",
        elf::EM_MIPS => "mips",
        elf::EM_LOONGARCH => "loongarch",
        other => return format!("machine {}", other.0),
    };
    name.to_owned()
}

/// The first bytes as a person can recognise them.
fn describe_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(16)];
    if start.is_empty() {
        "nothing: it is empty".to_owned()
    } else if start.starts_with(b"BC\xc0\xde") || start.starts_with(b"\xde\xc0\x17\x0b") {
        "the mark of LLVM bitcode".to_owned()
    } else if start.starts_with(b"!<arch>") {
        "the mark of an archive".to_owned()
    } else {
        format!("\"{}\"", start.escape_ascii())
    }
}
