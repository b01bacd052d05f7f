//! C text from BTF: the `vmlinux.h` that a program is compiled against.
//!
//! Every named struct, union, enum and typedef is written once, behind all that it holds by value; what is only pointed
//! to is declared first (`struct file;`). Members lie exactly where BTF says (see the `layout` module): the tests compile
//! an assertion on the size and on the offset of every member of the whole kernel.
//!
//! ```
//! use skep_btf::{Btf, Builder, TypeId, c_header};
//!
//! let mut b = Builder::new();
//! let int = b.int("int", 4, true)?;
//! let next = b.ptr(TypeId(3))?;
//! b.structure("node", 16, &[("next", next, 0), ("value", int, 64)])?;
//! let text = c_header::text(&Btf::parse(b.build()?)?, &c_header::Options::default())?;
//! assert!(text.contains("struct node {\n\tstruct node *next;\n\tint value;\n};"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Names that C cannot have (keywords, punctuation) are changed, and names used twice get the suffix `___2`. What C
//! cannot say is left out with a comment: members that overlap others. Text is limited to [`TEXT_LIMIT`], structs within
//! structs to 200 levels (64 within one declaration); past either it is an error.

mod layout;
mod names;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use self::layout::{NESTING_LIMIT, Scalar, Shapes, align_up, scalar};
use self::names::{Names, identifier};
use crate::blob::Raw;
use crate::cdecl::{Style, declare};
use crate::{Btf, Enum, Error, Kind, Linkage, Type, TypeId};

/// Bytes of a header. That of a kernel has about 4 MB; anonymous types within anonymous types can multiply.
pub const TEXT_LIMIT: usize = 64 << 20;

/// Padding up to this many bits is written as unnamed bit fields, more as an array of bytes.
const BIT_PADDING_LIMIT: u64 = 512;

/// What is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Name of the include guard; `None` leaves out the guard.
    pub guard: Option<String>,
    /// Whether reads of the types' members become CO-RE relocations, unless the includer defines
    /// `BPF_NO_PRESERVE_ACCESS_INDEX`.
    pub preserve_access_index: bool,
    /// Whether the kernel functions that programs may call are declared, unless the includer defines
    /// `BPF_NO_KFUNC_PROTOTYPES`.
    pub kfuncs: bool,
    /// Only these types and what they need; `None` for all.
    pub roots: Option<Vec<TypeId>>,
}

impl Default for Options {
    fn default() -> Options {
        Options { guard: Some("__VMLINUX_H__".to_owned()), preserve_access_index: true, kfuncs: true, roots: None }
    }
}

impl Options {
    /// Types alone: no guard, no pragma, no functions.
    pub fn plain() -> Options {
        Options { guard: None, preserve_access_index: false, kfuncs: false, roots: None }
    }
}

/// Writes the whole header as [`Options::default`] says.
pub fn write(btf: &Btf, out: &mut dyn fmt::Write) -> Result<(), Error> {
    out.write_str(&text(btf, &Options::default())?).map_err(|_| Error::Output)
}

/// The header as one text. The same BTF gives the same text.
pub fn text(btf: &Btf, options: &Options) -> Result<String, Error> {
    let mut header = Header::new(btf)?;
    let out = &mut header.out;
    if let Some(guard) = &options.guard {
        let _ = writeln!(out, "#ifndef {guard}\n#define {guard}\n");
    }
    if options.preserve_access_index {
        out.push_str(
            "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\
             #pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\
             #endif\n\n",
        );
    }
    match &options.roots {
        Some(roots) => {
            for id in roots {
                header.complete(*id)?;
            }
        }
        None => {
            for id in 1..btf.type_count() {
                header.complete(TypeId(id))?;
            }
        }
    }
    if options.kfuncs {
        header.kfuncs()?;
    }
    let out = &mut header.out;
    if options.preserve_access_index {
        out.push_str("#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang attribute pop\n#endif\n");
    }
    if let Some(guard) = &options.guard {
        let _ = writeln!(out, "\n#endif /* {guard} */");
    }
    Ok(header.out)
}

/// How far a type has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    New,
    /// A pointer to it can be written.
    Declared,
    /// Being written, by value within itself if met again.
    Open,
    /// As `Open`, and declared meanwhile.
    OpenDeclared,
    /// A value of it can be written.
    Complete,
}

struct Header<'a> {
    btf: &'a Btf,
    out: String,
    states: Vec<State>,
    shapes: Shapes,
    /// Names that differ from the BTF's own.
    renamed: HashMap<TypeId, Cow<'a, str>>,
    ordinary: Names<'a>,
    /// Anonymous enums that something refers to are written there, the others by themselves.
    referenced: Vec<bool>,
    /// Tabs in front of the members that are being written.
    indent: usize,
    /// Declarations that are open.
    nesting: u32,
}

impl<'a> Header<'a> {
    fn new(btf: &'a Btf) -> Result<Header<'a>, Error> {
        let count = btf.type_count() as usize;
        let mut header = Header {
            btf,
            out: String::new(),
            states: vec![State::New; count],
            shapes: Shapes::default(),
            renamed: HashMap::new(),
            ordinary: Names::default(),
            referenced: vec![false; count],
            indent: 0,
            nesting: 0,
        };
        header.name_all()?;
        Ok(header)
    }

    /// Chooses the names of all types, in order of their ids, and notes what is referred to.
    fn name_all(&mut self) -> Result<(), Error> {
        let btf = self.btf;
        let mut tags = Names::default();
        let mut tag_kinds: HashMap<&str, Kind> = HashMap::new();
        for round in 0..2 {
            for id in (1..btf.type_count()).map(TypeId) {
                let raw = btf.raw(id)?.0;
                let kind = raw.kind;
                if round == 0 {
                    self.note_references(id)?;
                }
                if raw.name_off == 0 {
                    continue;
                }
                let is_tag = matches!(kind, Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64);
                if !is_tag && kind != Kind::Typedef {
                    continue;
                }
                let name = btf.name(id)?;
                if name.is_empty() {
                    continue;
                }
                if matches!(kind, Kind::Enum | Kind::Enum64) && raw.vlen == 0 && self.defined_enum(id)?.is_some() {
                    continue;
                }
                match (round, is_tag) {
                    (0, true) => tags.note(name),
                    (0, false) => self.ordinary.note(name),
                    (_, true) => {
                        tag_kinds.entry(name).or_insert(kind);
                        let chosen = tags.take(name);
                        if chosen != name {
                            self.renamed.insert(id, chosen);
                        }
                    }
                    (_, false) => {
                        let chosen = self.ordinary.take(name);
                        if chosen != name {
                            self.renamed.insert(id, chosen);
                        }
                    }
                }
            }
        }
        // An enum that is only declared has the name of the one with values.
        for id in (1..btf.type_count()).map(TypeId) {
            if matches!(btf.kind(id)?, Kind::Enum | Kind::Enum64)
                && !btf.name(id)?.is_empty()
                && let Some(defined) = self.defined_enum(id)?
                && let Some(name) = self.renamed.get(&defined)
            {
                self.renamed.insert(id, name.clone());
            }
        }
        // A forward declaration goes with the definition of its name, unless that is of another kind.
        for id in (1..btf.type_count()).map(TypeId) {
            let raw = btf.raw(id)?.0;
            if raw.kind != Kind::Fwd {
                continue;
            }
            let name = btf.name(id)?;
            let kind = if raw.kind_flag { Kind::Union } else { Kind::Struct };
            let defined = *tag_kinds.entry(name).or_insert(kind);
            let chosen = if defined == kind { identifier(name) } else { tags.take(name) };
            if chosen != name {
                self.renamed.insert(id, chosen);
            }
        }
        Ok(())
    }

    fn note_references(&mut self, id: TypeId) -> Result<(), Error> {
        let (raw, words) = self.btf.raw(id)?;
        let mut note = |target: TypeId| {
            if let Some(seen) = self.referenced.get_mut(target.0 as usize) {
                *seen = true;
            }
        };
        match raw.kind {
            kind if kind.refers() && kind != Kind::FuncProto && kind != Kind::DeclTag => note(raw.target()),
            Kind::FuncProto => {
                note(raw.target());
                (0..raw.vlen as usize).for_each(|i| note(TypeId(words.get(3 + i * 2 + 1))));
            }
            Kind::Array => note(TypeId(words.get(3))),
            Kind::Struct | Kind::Union => {
                (0..raw.vlen as usize).for_each(|i| note(TypeId(words.get(3 + i * 3 + 1))));
            }
            _ => {}
        }
        Ok(())
    }

    fn name(&self, id: TypeId) -> Result<Cow<'a, str>, Error> {
        match self.renamed.get(&id) {
            Some(name) => Ok(name.clone()),
            None => Ok(Cow::Borrowed(self.btf.name(id)?)),
        }
    }

    fn state(&self, id: TypeId) -> State {
        self.states.get(id.0 as usize).copied().unwrap_or(State::Complete)
    }

    fn set_state(&mut self, id: TypeId, state: State) {
        if let Some(slot) = self.states.get_mut(id.0 as usize) {
            *slot = state;
        }
    }

    fn check_size(&self, id: TypeId) -> Result<(), Error> {
        if self.out.len() > TEXT_LIMIT {
            return Err(Error::BadType { id, kind: self.btf.kind(id)?, cause: "the C text grows past 64 MB" });
        }
        Ok(())
    }

    /// Writes a type, and before it what it needs.
    fn complete(&mut self, id: TypeId) -> Result<(), Error> {
        match self.btf.kind(id)? {
            Kind::Enum | Kind::Enum64 if self.btf.name(id)?.is_empty() => {
                if !self.referenced[id.0 as usize] {
                    self.write_enum(id)?;
                }
                Ok(())
            }
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Typedef | Kind::Fwd => {
                if self.btf.name(id)?.is_empty() { Ok(()) } else { self.need(id, true, TypeId::VOID, NESTING_LIMIT) }
            }
            _ => Ok(()),
        }
    }

    /// Writes what must stand before a value of the type (`by_value`), or before a pointer to it, that is written within
    /// the definition of `within` (void for none): within it, a struct is declared already.
    fn need(&mut self, id: TypeId, by_value: bool, within: TypeId, depth: u32) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep { action: "write", id, limit: NESTING_LIMIT })?;
        let btf = self.btf;
        let (raw, words) = btf.raw(id)?;
        match raw.kind {
            Kind::Void | Kind::Int | Kind::Float | Kind::Datasec | Kind::Func | Kind::Var | Kind::DeclTag => Ok(()),
            Kind::Ptr => self.need(raw.target(), false, within, depth),
            Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {
                self.need(raw.target(), by_value, within, depth)
            }
            // Even a pointer to an array needs to know the size of an element.
            Kind::Array => self.need(TypeId(words.get(3)), true, within, depth),
            Kind::FuncProto => {
                // A prototype may name types that are only declared, also by value.
                self.need(raw.target(), false, within, depth)?;
                (0..raw.vlen as usize)
                    .try_for_each(|i| self.need(TypeId(words.get(3 + i * 2 + 1)), false, within, depth))
            }
            Kind::Fwd => {
                if self.state(id) != State::New {
                    return Ok(());
                }
                self.set_state(id, State::Complete);
                let (keyword, kind) = if raw.kind_flag { ("union", Kind::Union) } else { ("struct", Kind::Struct) };
                let name = btf.name(id)?;
                // The struct, or another declaration of it, may stand already.
                let first = btf.find_all(name).into_iter().find(|other| {
                    let is_same = |(other, _): (Raw, _)| other.kind == Kind::Fwd && other.kind_flag == raw.kind_flag;
                    *other != id && (btf.kind(*other) == Ok(kind) || btf.raw(*other).is_ok_and(is_same))
                });
                let stands = first.is_some_and(|first| self.state(first) != State::New);
                if !stands || self.renamed.contains_key(&id) {
                    let _ = writeln!(self.out, "{keyword} {};\n", self.name(id)?);
                }
                Ok(())
            }
            Kind::Enum | Kind::Enum64 => {
                if self.state(id) == State::New && !btf.name(id)?.is_empty() {
                    self.set_state(id, State::Complete);
                    match self.defined_enum(id)? {
                        Some(defined) => self.need(defined, true, within, depth)?,
                        None => self.write_enum(id)?,
                    }
                }
                Ok(())
            }
            Kind::Typedef => self.need_typedef(id, raw.target(), by_value, depth),
            Kind::Struct | Kind::Union => self.need_composite(id, by_value, within, depth),
        }
    }

    /// For an enum that is only declared: the one of its name that has values.
    fn defined_enum(&self, id: TypeId) -> Result<Option<TypeId>, Error> {
        let raw = self.btf.raw(id)?.0;
        if raw.vlen != 0 {
            return Ok(None);
        }
        let has_values = |id: &TypeId| {
            self.btf.raw(*id).is_ok_and(|(raw, _)| matches!(raw.kind, Kind::Enum | Kind::Enum64) && raw.vlen != 0)
        };
        Ok(self.btf.find_all(self.btf.name(id)?).into_iter().find(has_values))
    }

    fn need_typedef(&mut self, id: TypeId, target: TypeId, by_value: bool, depth: u32) -> Result<(), Error> {
        match self.state(id) {
            State::Complete => return Ok(()),
            State::Open | State::OpenDeclared => {
                let cause = "it is defined by itself";
                return Err(Error::BadType { id, kind: Kind::Typedef, cause });
            }
            State::Declared => {}
            State::New => {
                self.set_state(id, State::Open);
                // The typedef itself only needs the struct declared, and that struct may hold pointers to the typedef.
                // The body of an anonymous struct is written into it.
                self.need(target, false, TypeId::VOID, depth)?;
                self.write_typedef(id, target)?;
                self.set_state(id, State::Declared);
                self.check_size(id)?;
            }
        }
        if by_value {
            self.set_state(id, State::Complete);
            self.need(target, true, TypeId::VOID, depth)?;
        }
        Ok(())
    }

    fn need_composite(&mut self, id: TypeId, by_value: bool, within: TypeId, depth: u32) -> Result<(), Error> {
        let (raw, words) = self.btf.raw(id)?;
        let name = self.btf.name(id)?;
        let state = self.state(id);
        // An anonymous one is written where it is used, so its members are needed in any case.
        if !by_value && !name.is_empty() {
            if id == within {
                return Ok(());
            }
            let next = match state {
                State::New => State::Declared,
                State::Open => State::OpenDeclared,
                _ => return Ok(()),
            };
            let keyword = if raw.kind == Kind::Struct { "struct" } else { "union" };
            let name = self.name(id)?;
            let _ = writeln!(self.out, "{keyword} {name};\n");
            self.set_state(id, next);
            return Ok(());
        }
        match state {
            State::Complete => return Ok(()),
            State::Open | State::OpenDeclared => {
                return Err(Error::BadType { id, kind: raw.kind, cause: "it contains itself" });
            }
            State::New => self.set_state(id, State::Open),
            State::Declared => self.set_state(id, State::OpenDeclared),
        }
        let within = if name.is_empty() { within } else { id };
        for i in 0..raw.vlen as usize {
            self.need(TypeId(words.get(3 + i * 3 + 1)), true, within, depth)?;
        }
        if !name.is_empty() {
            let mut text = std::mem::take(&mut self.out);
            self.indent = 0;
            let written = self.write_composite(id, &mut text);
            self.out = text;
            written?;
            self.out.push_str(";\n\n");
        }
        self.set_state(id, State::Complete);
        self.check_size(id)
    }

    fn write_typedef(&mut self, id: TypeId, target: TypeId) -> Result<(), Error> {
        let name = self.name(id)?;
        let mut text = std::mem::take(&mut self.out);
        // In C23 it is a keyword.
        let guarded = name == "bool";
        if guarded {
            text.push_str("#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n");
        }
        text.push_str("typedef ");
        self.indent = 0;
        let btf = self.btf;
        let written = declare(btf, target, &name, self, &mut text);
        text.push_str(if guarded { ";\n#endif\n\n" } else { ";\n\n" });
        self.out = text;
        written
    }

    /// Writes an enum that stands by itself.
    fn write_enum(&mut self, id: TypeId) -> Result<(), Error> {
        let Type::Enum(e) = self.btf.get(id)? else { return Ok(()) };
        let mut text = std::mem::take(&mut self.out);
        let guarded = e.name.is_empty() && e.variants.iter().any(|v| v.name == "true" || v.name == "false");
        if guarded {
            text.push_str("#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n");
        }
        self.indent = 0;
        let written = self.write_enum_body(id, &e, &mut text);
        text.push_str(if guarded { ";\n#endif\n\n" } else { ";\n\n" });
        self.out = text;
        written
    }

    fn write_enum_body(&mut self, id: TypeId, e: &Enum<'a>, out: &mut String) -> Result<(), Error> {
        out.push_str("enum ");
        if !e.name.is_empty() {
            let _ = write!(out, "{} ", self.name(id)?);
        }
        out.push_str("{\n");
        let tabs = self.indent + 1;
        for variant in &e.variants {
            let name = self.ordinary.take(variant.name);
            let _ = write!(out, "{:\t<tabs$}{name} = ", "");
            let _ = match variant.value {
                value if !e.is_64 => write!(out, "{value}"),
                value if value == i128::from(i64::MIN) => write!(out, "(-9223372036854775807LL - 1)"),
                value => write!(out, "{value}{}", if e.signed { "LL" } else { "ULL" }),
            };
            out.push_str(",\n");
        }
        if e.variants.is_empty() {
            // Only declared where it was seen; C wants an enumerator to make it complete.
            let _ = writeln!(out, "{:\t<tabs$}___empty_enum_{},", "", id.0);
        }
        let _ = write!(out, "{:\t<indent$}}}", "", indent = self.indent);
        let wide = |v: &crate::Variant<'_>| v.value > i128::from(u32::MAX) || v.value < i128::from(i32::MIN);
        match e.size {
            1 => out.push_str(" __attribute__((mode(byte)))"),
            2 => out.push_str(" __attribute__((mode(HI)))"),
            8 if !e.variants.iter().any(wide) => out.push_str(" __attribute__((mode(DI)))"),
            _ => {}
        }
        Ok(())
    }

    /// Writes `struct name { ... } __attribute__((packed))` without what follows.
    fn write_composite(&mut self, id: TypeId, out: &mut String) -> Result<(), Error> {
        let btf = self.btf;
        let is_union = btf.kind(id)? == Kind::Union;
        let shape = self.shapes.shape(btf, id)?;
        let placed = self.shapes.placed(btf, id)?;
        let size = btf.size_of(id)?.saturating_mul(8);
        out.push_str(if is_union { "union " } else { "struct " });
        if !btf.name(id)?.is_empty() {
            let _ = write!(out, "{} ", self.name(id)?);
        }
        out.push_str("{\n");
        self.indent += 1;
        let mut end = 0;
        let mut paddings = 0;
        let mut largest = 0;
        for item in &placed {
            let name = identifier(item.member.name);
            if is_union {
                end = 0;
            }
            let overlaps = item.start < end || (is_union && item.start != 0);
            if overlaps {
                let at = item.start;
                self.line(out, format_args!("/* {name} at bit {at} overlaps what is before it: left out */"));
                continue;
            }
            if item.natural_start(end, shape.packed) != item.start {
                self.pad(out, end, item.start, &mut paddings);
            }
            let _ = write!(out, "{:\t<indent$}", "", indent = self.indent);
            declare(btf, item.member.ty, &name, self, out)?;
            if let Some(width) = item.width {
                let _ = write!(out, ": {width}");
            }
            out.push_str(";\n");
            end = item.end();
            largest = largest.max(end);
            if out.len() > TEXT_LIMIT {
                return Err(Error::BadType { id, kind: btf.kind(id)?, cause: "the C text grows past 64 MB" });
            }
        }
        let natural = align_up(if is_union { largest } else { end }, shape.align * 8);
        if natural < size {
            if is_union || placed.is_empty() {
                self.line(out, format_args!("unsigned char ___padding[{}];", size / 8));
            } else {
                self.pad(out, end, size, &mut paddings);
            }
        }
        self.indent -= 1;
        let _ = write!(out, "{:\t<indent$}}}", "", indent = self.indent);
        if shape.packed {
            out.push_str(" __attribute__((packed))");
        }
        Ok(())
    }

    fn line(&self, out: &mut String, text: fmt::Arguments<'_>) {
        let _ = writeln!(out, "{:\t<indent$}{text}", "", indent = self.indent);
    }

    /// Moves on from bit `from` to bit `to`.
    fn pad(&self, out: &mut String, mut from: u64, to: u64, paddings: &mut u32) {
        if to - from > BIT_PADDING_LIMIT {
            let whole = align_up(from, 8);
            if whole > from {
                self.line(out, format_args!("char: {};", whole - from));
            }
            *paddings += 1;
            self.line(out, format_args!("unsigned char ___padding{paddings}[{}];", (to - whole) / 8));
            from = to - to % 8;
        }
        while from < to {
            // Never across a boundary of the type, or C would move it.
            let bits = (64 - from % 64).min(to - from);
            self.line(out, format_args!("long: {bits};"));
            from += bits;
        }
    }

    /// Declares the functions that the kernel offers to programs.
    fn kfuncs(&mut self) -> Result<(), Error> {
        let btf = self.btf;
        let mut tags: HashMap<TypeId, bool> = HashMap::new();
        let mut order = Vec::new();
        for id in (1..btf.type_count()).map(TypeId) {
            if btf.kind(id)? != Kind::DeclTag {
                continue;
            }
            let Type::DeclTag { name, target, component: None } = btf.get(id)? else { continue };
            match name {
                "bpf_kfunc" if btf.kind(target)? == Kind::Func => {
                    tags.entry(target).or_insert(false);
                    order.push(target);
                }
                "bpf_fastcall" if btf.kind(target)? == Kind::Func => {
                    tags.insert(target, true);
                }
                _ => {}
            }
        }
        // By name: the order of the tags is an accident of the kernel's build.
        order.sort_by_cached_key(|id| (btf.name(*id).unwrap_or_default().to_owned(), *id));
        order.dedup();
        if order.is_empty() {
            return Ok(());
        }
        for id in &order {
            if let Type::Func { proto, .. } = btf.get(*id)? {
                self.need(proto, false, TypeId::VOID, NESTING_LIMIT)?;
            }
        }
        self.out.push_str(
            "#ifndef BPF_NO_KFUNC_PROTOTYPES\n\
             #ifndef __ksym\n#define __ksym __attribute__((section(\".ksyms\")))\n#endif\n\
             #ifndef __weak\n#define __weak __attribute__((weak))\n#endif\n\
             #ifndef __bpf_fastcall\n\
             #if __has_attribute(bpf_fastcall)\n#define __bpf_fastcall __attribute__((bpf_fastcall))\n\
             #else\n#define __bpf_fastcall\n#endif\n#endif\n\n",
        );
        let mut last = "";
        for id in order {
            let Type::Func { name, proto, linkage } = btf.get(id)? else { continue };
            // Two functions of one name differ in what the kernel would call; a declaration cannot choose.
            if name == last || linkage == Linkage::Extern {
                continue;
            }
            last = name;
            if self.ordinary.is_taken(name) || identifier(name) != name {
                let _ = writeln!(self.out, "/* {} is left out: its name is taken */", identifier(name));
                continue;
            }
            let mut text = std::mem::take(&mut self.out);
            text.push_str("extern ");
            self.indent = 0;
            let written = declare(btf, proto, name, self, &mut text);
            text.push_str(" __weak __ksym");
            if tags.get(&id) == Some(&true) {
                text.push_str(" __bpf_fastcall");
            }
            text.push_str(";\n");
            self.out = text;
            written?;
        }
        self.out.push_str("#endif\n\n");
        Ok(())
    }
}

impl Style for Header<'_> {
    fn base(&mut self, btf: &Btf, id: TypeId, out: &mut String) -> Result<(), Error> {
        let kind = btf.kind(id)?;
        let anonymous =
            matches!(kind, Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64) && btf.name(id)?.is_empty();
        let keyword = match kind {
            Kind::Void => {
                out.push_str("void");
                return Ok(());
            }
            Kind::Int | Kind::Float => {
                let ty = self.btf.get(id)?;
                match scalar(&ty) {
                    Scalar::Own => out.push_str(ty.name()),
                    Scalar::As(name) => out.push_str(name),
                    Scalar::Bytes => {
                        let _ = write!(out, "struct {{ unsigned char bytes[{}]; }}", self.btf.size_of(id)?);
                    }
                }
                return Ok(());
            }
            Kind::Struct | Kind::Union if anonymous => return self.write_composite(id, out),
            Kind::Enum | Kind::Enum64 if anonymous => {
                let Type::Enum(e) = self.btf.get(id)? else { return Ok(()) };
                return self.write_enum_body(id, &e, out);
            }
            Kind::Struct => "struct ",
            Kind::Union => "union ",
            Kind::Enum | Kind::Enum64 => "enum ",
            Kind::Fwd if btf.kind_flag(id)? => "union ",
            Kind::Fwd => "struct ",
            Kind::Typedef => "",
            found => {
                return Err(Error::WrongKind { action: "write in C", id, expected: "a type of values", found });
            }
        };
        out.push_str(keyword);
        out.push_str(&self.name(id)?);
        Ok(())
    }

    fn tags(&self) -> bool {
        true
    }

    fn nesting(&mut self) -> &mut u32 {
        &mut self.nesting
    }
}
