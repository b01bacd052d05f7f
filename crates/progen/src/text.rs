//! Programs as text that a person reads and edits, and back.
//!
//! ```text
//! # mutation: `r2 = 8` became `r2 = 9` (instruction 4)
//! name packet-42
//! family packet
//! type xdp
//! license GPL
//! map array0 array key 4 value 16 entries 8
//! func 0 prog global ctx
//! code
//!     0: r0 = *(u32 *)(r1 + 0)
//!     1: exit
//! ```
//!
//! The lines above `code` stand in any order; below it is what [`skep_isa::assemble`] reads, where a map is its index
//! (`map_by_idx(0)`) and a kernel function the index of its `kfunc` line.

use std::fmt::{self, Display, Formatter};

use skep_abi::{AttachType, MapType, ProgramType, helpers};
use skep_isa::{Annotate, Call, Insn, InsnIdx, Listing, assemble, encode};
use thiserror::Error;

use crate::program::{Func, Generated, MapDef, Param, Special};

/// What is wrong with a text.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

struct Names<'a>(&'a Generated);

impl Annotate for Names<'_> {
    fn before(&self, at: InsnIdx) -> Vec<String> {
        self.0.funcs.iter().filter(|func| func.start == at).map(|func| format!("{}:", func.name)).collect()
    }

    fn note(&self, _: InsnIdx, insn: &Insn) -> Option<String> {
        match insn {
            Insn::Call(Call::Helper(id)) => helpers::by_id(*id).map(|helper| helper.name.to_owned()),
            Insn::Call(Call::Kfunc { btf_id, .. }) => self.0.kfuncs.get(*btf_id as usize).cloned(),
            Insn::LoadWide { value: skep_isa::Wide::MapIdx(idx), .. } => {
                self.0.maps.get(*idx as usize).map(|map| map.name.clone())
            }
            _ => None,
        }
    }
}

impl Display for Generated {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "# {note}")?;
        }
        writeln!(f, "name {}\nfamily {}\ntype {}", self.name, self.family, self.prog_type)?;
        if let Some(attach) = self.attach_type {
            writeln!(f, "attach {attach}")?;
        }
        if let Some(target) = &self.target {
            writeln!(f, "target {target}")?;
        }
        if self.sleepable {
            writeln!(f, "sleepable")?;
        }
        if let Some(bytes) = self.memory {
            writeln!(f, "memory {bytes}")?;
        }
        writeln!(f, "license {}", self.license)?;
        for map in &self.maps {
            writeln!(f, "map {map}")?;
            if let Some(inner) = &map.inner {
                writeln!(f, "inner {inner}")?;
            }
        }
        for kfunc in &self.kfuncs {
            writeln!(f, "kfunc {kfunc}")?;
        }
        for func in &self.funcs {
            write!(f, "func {} {} {}", func.start, func.name, if func.global { "global" } else { "static" })?;
            if func.void {
                write!(f, " void")?;
            }
            for param in &func.params {
                match param {
                    Param::Int => write!(f, " int")?,
                    Param::Long => write!(f, " long")?,
                    Param::Ctx => write!(f, " ctx")?,
                    Param::Any => write!(f, " any")?,
                    Param::Mem(size) => write!(f, " mem:{size}")?,
                }
            }
            writeln!(f)?;
        }
        write!(f, "code\n{}", Listing::with(&encode(&self.insns), &Names(self)))
    }
}

impl Display for MapDef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} key {} value {} entries {}",
            self.name, self.map_type, self.key_size, self.value_size, self.max_entries
        )?;
        if self.flags != 0 {
            write!(f, " flags {}", self.flags)?;
        }
        if self.extra != 0 {
            write!(f, " extra {}", self.extra)?;
        }
        match self.field {
            Some((Special::SpinLock, at)) => write!(f, " spin_lock {at}")?,
            Some((Special::Timer, at)) => write!(f, " timer {at}")?,
            None => {}
        }
        if self.holds_self {
            write!(f, " holds_self 1")?;
        }
        if let Some(data) = &self.rodata {
            write!(f, " rodata ")?;
            for byte in data {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Generated {
    /// Reads what [`Generated`] is shown as.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Generated, ParseError> {
        let mut out = Generated {
            name: "unnamed".into(),
            family: String::new(),
            prog_type: ProgramType::Unspec,
            attach_type: None,
            target: None,
            sleepable: false,
            license: "GPL".into(),
            memory: None,
            insns: Vec::new(),
            funcs: Vec::new(),
            maps: Vec::new(),
            kfuncs: Vec::new(),
            notes: Vec::new(),
        };
        let mut lines = text.lines().enumerate();
        for (index, line) in lines.by_ref() {
            if line.trim() == "code" {
                break;
            }
            head(&mut out, line.trim()).map_err(|message| ParseError { line: index + 1, message })?;
        }
        let code: Vec<(usize, &str)> = lines.collect();
        let first = code.first().map_or(0, |(index, _)| *index);
        let body: String = code.iter().map(|(_, line)| format!("{line}\n")).collect();
        out.insns = assemble(&body).map_err(|errors| {
            let error = errors.into_iter().next();
            let (line, message) = error.map_or((1, String::new()), |e| (e.line, e.message));
            ParseError { line: first + line, message }
        })?;
        if out.funcs.is_empty() {
            let params = vec![Param::Ctx];
            out.funcs.push(Func { start: InsnIdx(0), name: "prog".into(), global: true, params, void: false });
        }
        Ok(out)
    }
}

fn head(out: &mut Generated, line: &str) -> Result<(), String> {
    if let Some(note) = line.strip_prefix('#') {
        out.notes.push(note.trim().to_owned());
        return Ok(());
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "" => {}
        "name" => out.name = rest.to_owned(),
        "family" => out.family = rest.to_owned(),
        "license" => out.license = rest.to_owned(),
        "target" => out.target = Some(rest.to_owned()),
        "sleepable" => out.sleepable = true,
        "type" => out.prog_type = ProgramType::from_name(rest).ok_or_else(|| unknown("program type", rest))?,
        "attach" => out.attach_type = Some(AttachType::from_name(rest).ok_or_else(|| unknown("attach type", rest))?),
        "memory" => out.memory = Some(number(rest)?),
        "map" => out.maps.push(map(rest)?),
        "inner" => {
            let inner = map(rest)?;
            let outer = out.maps.last_mut().ok_or("an inner map stands behind its outer one")?;
            outer.inner = Some(Box::new(inner));
        }
        "kfunc" => out.kfuncs.push(rest.to_owned()),
        "func" => out.funcs.push(func(rest)?),
        _ => return Err(unknown("line", word)),
    }
    Ok(())
}

fn unknown(what: &str, word: &str) -> String {
    format!("there is no {what} {word:?}")
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is no number, or too large"))
}

fn func(text: &str) -> Result<Func, String> {
    let mut words = text.split_whitespace();
    let (Some(start), Some(name), Some(linkage)) = (words.next(), words.next(), words.next()) else {
        return Err("a function has a slot, a name, and `static` or `global`".into());
    };
    let global = match linkage {
        "global" => true,
        "static" => false,
        _ => return Err(unknown("linkage", linkage)),
    };
    let mut out =
        Func { start: InsnIdx(number(start)?), name: name.to_owned(), global, params: Vec::new(), void: false };
    for word in words {
        out.params.push(match word {
            "void" => {
                out.void = true;
                continue;
            }
            "int" => Param::Int,
            "long" => Param::Long,
            "ctx" => Param::Ctx,
            "any" => Param::Any,
            _ => match word.strip_prefix("mem:") {
                Some(size) => Param::Mem(number(size)?),
                None => return Err(unknown("parameter", word)),
            },
        });
    }
    Ok(out)
}

fn map(text: &str) -> Result<MapDef, String> {
    let mut words = text.split_whitespace();
    let (Some(name), Some(kind)) = (words.next(), words.next()) else {
        return Err("a map has a name and a type".into());
    };
    let kind = MapType::from_name(kind).ok_or_else(|| unknown("map type", kind))?;
    let mut out = MapDef::new(name, kind, 0, 0, 0);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("a value is missing behind {word:?}"))?;
        match word {
            "key" => out.key_size = number(value)?,
            "value" => out.value_size = number(value)?,
            "entries" => out.max_entries = number(value)?,
            "flags" => out.flags = number(value)?,
            "extra" => out.extra = number(value)?,
            "spin_lock" => out.field = Some((Special::SpinLock, number(value)?)),
            "timer" => out.field = Some((Special::Timer, number(value)?)),
            "holds_self" => out.holds_self = true,
            "rodata" => out.rodata = Some(hex(value)?),
            _ => return Err(unknown("property of maps", word)),
        }
    }
    Ok(out)
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| d.len() % 2 == 0).ok_or_else(|| format!("{text:?} is not hexadecimal"))?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
