//! A type as columns: its leaves with their names, places and how to read them.
//!
//! `struct { struct { u32 pid; char comm[16]; } who; u64 total_ns; }` becomes the columns `pid`, `comm` and `total_ns`:
//! nested structs are opened, and a member's outer name is put before it only where two leaves would be called the same.
//! What a cell looks like follows from type and name, as a person would read it:
//!
//! - character arrays are text up to the first NUL, enumerations are their names;
//! - a name that ends in `_ns`, `_us` or `_ms` is a time; `__be16` is turned round;
//! - `struct in_addr` and `struct in6_addr` are addresses; so are a `__be32`, an unsigned 32-bit number and an array of
//!   4 or 16 bytes whose name has the word `addr`, `saddr`, `daddr` or `ip` (with or without a 4 or 6);
//! - pointers, and unsigned numbers named `flags` or `..._flags`, are hexadecimal.
//!
//! Limits: structs are opened while there are less than [`MAX_LEAVES`] columns, [`MAX_DEPTH`] levels and [`MAX_VISITED`]
//! members, beyond that they are one cell of text. A cell has [`MAX_CELL_TEXT`] of text and [`MAX_CELL_JSON`] of JSON.

use skep_btf::{Btf, Type, TypeId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Most columns that a type is opened into.
const MAX_LEAVES: usize = 64;
/// Stands in the place of a typedef's name for a member that has no name. No C name is so.
const UNNAMED: &str = "(unnamed)";
/// Deepest nesting that is opened.
const MAX_DEPTH: usize = 8;

/// Members that are looked at to open a type. Structs without bytes have members but no columns.
const MAX_VISITED: usize = 4 * MAX_LEAVES;
/// Bytes of a value's text in one cell; `...` stands for the rest.
pub(crate) const MAX_CELL_TEXT: usize = 16 << 10;
/// Bytes of a value's JSON; of one that is longer there is the text, as of [`MAX_CELL_TEXT`].
const MAX_CELL_JSON: usize = 4 << 20;

/// A type opened into leaves.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// In order of the members.
    pub(crate) leaves: Vec<Leaf>,
    /// Bytes of a value.
    pub(crate) size: usize,
    btf: Option<Btf>,
}

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Column name; empty for a type that is itself a leaf and has no name.
    pub(crate) name: String,
    bit_offset: usize,
    bits: usize,
    /// How it is read.
    pub(crate) kind: Kind,
}

/// How a leaf is read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Kind {
    /// Unsigned number.
    Unsigned,
    /// Signed number.
    Signed,
    /// `_Bool`
    Bool,
    /// Number in network byte order.
    BigEndian,
    /// Bytes up to the first NUL.
    Text,
    /// Values by name.
    Enum {
        /// Number to name; columns of one type share them.
        names: Arc<[(i128, String)]>,
        /// Whether numbers are signed.
        signed: bool,
        /// Bytes that all the names start with, such as those of `proto_`: left out for people, kept in JSON.
        prefix: usize,
    },
    /// Shown in hexadecimal.
    Hex,
    /// A time.
    Time {
        /// Nanoseconds that one unit stands for.
        unit_ns: u64,
        /// Whether numbers are signed.
        signed: bool,
    },
    /// IPv4 address in network byte order.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Power-of-two slots of this many bytes each.
    Slots(usize),
    /// Addresses of 8 bytes up to the first that is zero.
    Stack,
    /// Anything else: printed as one value of this type.
    Other(TypeId),
    /// Bytes without a type.
    Bytes,
}

/// A cell, read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Cell {
    /// A number with its sign.
    Number(i128),
    /// Text.
    Text(String),
    /// A value that is no leaf; it becomes text or JSON where one of them is wanted.
    Tree(Tree),
    /// The frames of a stack, each as text.
    Stack(Vec<String>),
    /// Counts of a histogram.
    Slots(Vec<u64>),
}

/// The bytes of a value with their type.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    btf: Btf,
    ty: TypeId,
    bytes: Vec<u8>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        (self.ty, &self.bytes) == (other.ty, &other.bytes)
    }
}

impl Tree {
    /// Text of at most [`MAX_CELL_TEXT`]; bytes that are no such value in hexadecimal.
    pub(crate) fn text(&self) -> String {
        let mut out = Limited { text: String::new(), room: MAX_CELL_TEXT };
        let written = match skep_btf::value::decode(&self.btf, self.ty, &self.bytes) {
            Ok(value) => write!(out, "{value}"),
            Err(_) => self.bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
        };
        out.text + if written.is_err() { "..." } else { "" }
    }

    /// JSON; what has none, or too much, as its text.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut out = Limited { text: String::new(), room: MAX_CELL_JSON };
        let value = skep_btf::value::decode(&self.btf, self.ty, &self.bytes).ok();
        let written = value.and_then(|value| value.write_json(&mut out).ok());
        let json = written.and_then(|()| serde_json::from_str(&out.text).ok());
        json.unwrap_or_else(|| serde_json::Value::String(self.text()))
    }
}

/// Text that takes no more than there is room for.
struct Limited {
    text: String,
    room: usize,
}

impl std::fmt::Write for Limited {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let fits = (0..=part.len().min(self.room)).rev().find(|&end| part.is_char_boundary(end)).unwrap_or(0);
        self.text.push_str(&part[..fits]);
        self.room -= fits;
        if fits == part.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

impl Layout {
    /// Opens a type. `name` is for a type that is a single leaf: the column's name.
    pub(crate) fn of(btf: &Btf, ty: TypeId, name: &str) -> Result<Layout, skep_btf::Error> {
        Layout::sharing(btf, ty, name, &mut HashMap::new())
    }

    /// As [`Layout::of`] for one of many types of a BTF, which share the names of their enumerations.
    pub(crate) fn sharing(
        btf: &Btf,
        ty: TypeId,
        name: &str,
        names: &mut HashMap<TypeId, EnumNames>,
    ) -> Result<Layout, skep_btf::Error> {
        let size = usize::try_from(btf.size_of(ty)?).unwrap_or(usize::MAX);
        // The members of a struct or union have names of their own.
        let composite = btf
            .resolve(ty)
            .and_then(|ty| btf.kind(ty))
            .is_ok_and(|kind| matches!(kind, skep_btf::Kind::Struct | skep_btf::Kind::Union));
        let mut opener = Opener { btf, leaves: Vec::new(), visited: 0, names };
        opener.open(ty, if composite { "" } else { name }, "", 0, 0, MAX_DEPTH)?;
        let mut leaves = opener.leaves;
        if let [leaf] = leaves.as_mut_slice()
            && leaf.name.is_empty()
        {
            name.clone_into(&mut leaf.name);
        }
        let mut layout = Layout { leaves, size, btf: Some(btf.clone()) };
        layout.name_apart();
        Ok(layout)
    }

    /// Bytes without a type: numbers of the usual sizes, hexadecimal else.
    pub(crate) fn untyped(size: usize, name: &str) -> Layout {
        let kind = if matches!(size, 1 | 2 | 4 | 8) { Kind::Unsigned } else { Kind::Bytes };
        let leaf = Leaf { name: name.to_owned(), bit_offset: 0, bits: size.saturating_mul(8), kind };
        Layout { leaves: vec![leaf], size, btf: None }
    }

    /// What a stack trace map holds.
    pub(crate) fn stack(size: usize, name: &str) -> Layout {
        let mut layout = Layout::untyped(size, name);
        layout.leaves.iter_mut().for_each(|leaf| leaf.kind = Kind::Stack);
        layout
    }

    /// Leaves that share a last name get their outer names; the others lose them.
    fn name_apart(&mut self) {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let short: Vec<String> = self.leaves.iter().map(|leaf| last(&leaf.name)).collect();
        for (index, leaf) in self.leaves.iter_mut().enumerate() {
            if short.iter().filter(|name| **name == short[index]).count() == 1 {
                leaf.name.clone_from(&short[index]);
            }
        }
    }

    /// Reads one leaf of a value. Bytes that are missing read as zero.
    pub(crate) fn cell(&self, leaf: &Leaf, value: &[u8]) -> Cell {
        let start = leaf.bit_offset / 8;
        let bytes = value.get(start..(start + leaf.bits.div_ceil(8)).min(value.len())).unwrap_or_default();
        let number = || read_bits(value, leaf.bit_offset, leaf.bits);
        match &leaf.kind {
            Kind::Unsigned | Kind::Hex | Kind::Time { signed: false, .. } => Cell::Number(number() as i128),
            Kind::Signed | Kind::Time { signed: true, .. } => Cell::Number(sign_extend(number(), leaf.bits)),
            Kind::Bool => Cell::Text(if number() == 0 { "false" } else { "true" }.to_owned()),
            Kind::BigEndian => Cell::Number(bytes.iter().fold(0i128, |sum, &byte| sum << 8 | i128::from(byte))),
            Kind::Text => {
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                Cell::Text(String::from_utf8_lossy(&bytes[..end]).into_owned())
            }
            Kind::Enum { names, signed, .. } => {
                let number = if *signed { sign_extend(number(), leaf.bits) } else { number() as i128 };
                match names.iter().find(|(value, _)| *value == number) {
                    Some((_, name)) => Cell::Text(name.clone()),
                    None => Cell::Text(number.to_string()),
                }
            }
            Kind::Ipv4 => match <[u8; 4]>::try_from(bytes) {
                Ok(octets) => Cell::Text(Ipv4Addr::from(octets).to_string()),
                Err(_) => Cell::Text(hex(bytes)),
            },
            Kind::Ipv6 => match <[u8; 16]>::try_from(bytes) {
                Ok(octets) => Cell::Text(Ipv6Addr::from(octets).to_canonical().to_string()),
                Err(_) => Cell::Text(hex(bytes)),
            },
            Kind::Slots(width) => Cell::Slots(
                bytes.chunks_exact((*width).max(1)).map(|slot| read_bits(slot, 0, slot.len() * 8) as u64).collect(),
            ),
            Kind::Other(ty) => match &self.btf {
                Some(btf) => Cell::Tree(Tree { btf: btf.clone(), ty: *ty, bytes: bytes.to_vec() }),
                None => Cell::Text(hex(bytes)),
            },
            Kind::Stack => {
                let frames = bytes.chunks_exact(8).map(|frame| format!("{:#x}", read_bits(frame, 0, 64)));
                Cell::Stack(frames.take_while(|frame| frame != "0x0").collect())
            }
            Kind::Bytes => Cell::Text(hex(bytes)),
        }
    }
}

impl Leaf {
    /// Heading of its column: a time is shown with its unit, so the name goes without.
    pub(crate) fn heading(&self) -> &str {
        match self.kind {
            Kind::Time { .. } => self.name.rsplit_once('_').map_or(self.name.as_str(), |(name, _)| name),
            _ => &self.name,
        }
    }

    /// Whether its cells are numbers to be set to the right.
    pub(crate) fn is_numeric(&self) -> bool {
        matches!(self.kind, Kind::Unsigned | Kind::Signed | Kind::BigEndian | Kind::Time { .. })
    }

    /// A number of this leaf, as a person reads it.
    pub(crate) fn show_number(&self, number: i128) -> String {
        match self.kind {
            Kind::Hex => format!("{number:#x}"),
            Kind::Time { unit_ns, .. } => show_time(number.saturating_mul(i128::from(unit_ns))),
            _ => number.to_string(),
        }
    }

    /// The cell as text; histograms as their number of samples.
    pub(crate) fn show(&self, cell: &Cell) -> String {
        match cell {
            Cell::Number(number) => self.show_number(*number),
            Cell::Text(text) => match &self.kind {
                Kind::Enum { names, prefix, .. } if names.iter().any(|(_, name)| name == text) => {
                    text.get(*prefix..).unwrap_or(text).to_owned()
                }
                _ => text.clone(),
            },
            Cell::Tree(tree) => tree.text(),
            Cell::Stack(frames) => frames.join(" "),
            Cell::Slots(slots) => {
                format!("{} samples", slots.iter().fold(0u64, |sum, &count| sum.saturating_add(count)))
            }
        }
    }

    /// Joins what several CPUs counted: a maximum or minimum stays one, numbers add up, text is the first that is set.
    pub(crate) fn join(&self, cells: impl IntoIterator<Item = Cell>) -> Option<Cell> {
        cells.into_iter().reduce(|joined, cell| match (joined, cell) {
            (Cell::Number(a), Cell::Number(b)) if self.has_word("max") => Cell::Number(a.max(b)),
            // A minimum of zero is that of a CPU which has seen nothing.
            (Cell::Number(0), Cell::Number(b)) if self.has_word("min") => Cell::Number(b),
            (Cell::Number(a), Cell::Number(0)) if self.has_word("min") => Cell::Number(a),
            (Cell::Number(a), Cell::Number(b)) if self.has_word("min") => Cell::Number(a.min(b)),
            (Cell::Number(a), Cell::Number(b)) => Cell::Number(a.saturating_add(b)),
            (Cell::Slots(a), Cell::Slots(b)) => {
                Cell::Slots(a.iter().zip(&b).map(|(a, b)| a.saturating_add(*b)).collect())
            }
            (Cell::Text(a), b @ Cell::Text(_)) if a.is_empty() => b,
            (joined, _) => joined,
        })
    }

    fn has_word(&self, word: &str) -> bool {
        self.name.split(['_', '.']).any(|part| part == word)
    }
}

/// The walk through a type.
struct Opener<'a> {
    btf: &'a Btf,
    leaves: Vec<Leaf>,
    visited: usize,
    names: &'a mut HashMap<TypeId, EnumNames>,
}

/// The names of an enumeration, and how many bytes they have in common.
pub(crate) type EnumNames = (Arc<[(i128, String)]>, usize);

impl Opener<'_> {
    fn open(
        &mut self,
        ty: TypeId,
        name: &str,
        typedef: &str,
        bit_offset: usize,
        bit_size: usize,
        depth: usize,
    ) -> Result<(), skep_btf::Error> {
        let btf = self.btf;
        self.visited += 1;
        // The name of a typedef says more than the type beneath it (`__be32`).
        let mut typedef = typedef.to_owned();
        let mut id = ty;
        for _ in 0..32 {
            match btf.get(id)? {
                Type::Typedef { name, target } => {
                    if matches!(name, "__be16" | "__be32" | "__be64") || typedef.is_empty() {
                        typedef = name.to_owned();
                    }
                    id = target;
                }
                Type::Const { target }
                | Type::Volatile { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. } => id = target,
                _ => break,
            }
        }
        let bytes = usize::try_from(btf.size_of(id)?).unwrap_or(usize::MAX);
        let bits = if bit_size > 0 { bit_size } else { bytes.saturating_mul(8) };
        let room = MAX_LEAVES.saturating_sub(self.leaves.len()).min(MAX_VISITED.saturating_sub(self.visited));
        let composite = matches!(btf.kind(id)?, skep_btf::Kind::Struct | skep_btf::Kind::Union);
        if composite && bytes == 0 {
            // Nothing to be shown, however many members it has.
            return Ok(());
        }
        let leaves = &mut self.leaves;
        let mut push = |kind: Kind| leaves.push(Leaf { name: name.to_owned(), bit_offset, bits, kind });
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_union = btf.kind(id)? == skep_btf::Kind::Union;
        match btf.get(id)? {
            Type::Struct(composite) if composite.name == "in_addr" && bytes == 4 => push(Kind::Ipv4),
            Type::Struct(composite) if composite.name == "in6_addr" && bytes == 16 => push(Kind::Ipv6),
            // The members of a union without a name are used like those of the struct around it.
            Type::Struct(composite) | Type::Union(composite)
                if depth > 0 && composite.members.len() <= room && (!is_union || typedef == UNNAMED) =>
            {
                for member in &composite.members {
                    let inner = match (name, member.name) {
                        (outer, "") => outer.to_owned(),
                        ("", inner) => inner.to_owned(),
                        (outer, inner) => format!("{outer}.{inner}"),
                    };
                    let offset = bit_offset.saturating_add(member.bit_offset as usize);
                    let bits = usize::from(member.bit_size);
                    let typedef = if member.name.is_empty() { UNNAMED } else { "" };
                    self.open(member.ty, &inner, typedef, offset, bits, depth - 1)?;
                }
            }
            Type::Int(int) if int.bool => push(Kind::Bool),
            Type::Int(int) => push(number_kind(last, &typedef, int.signed, int.size)),
            Type::Enum(e) => {
                let (names, prefix) = self.names.entry(id).or_insert_with(|| {
                    let names = e.variants.iter().map(|v| (v.value, v.name.to_owned())).collect();
                    (names, common_prefix(e.variants.iter().map(|v| v.name)))
                });
                push(Kind::Enum { names: Arc::clone(names), signed: e.signed, prefix: *prefix });
            }
            Type::Ptr { .. } => push(Kind::Hex),
            Type::Array(array) => {
                let element = btf.resolve(array.element)?;
                let width = usize::try_from(btf.size_of(element)?).unwrap_or(usize::MAX);
                push(match btf.get(element)? {
                    Type::Int(int) if is_address(last) && int.size == 1 && array.count == 16 => Kind::Ipv6,
                    Type::Int(int) if is_address(last) && int.size == 4 && array.count == 4 => Kind::Ipv6,
                    Type::Int(int) if is_address(last) && int.size == 1 && array.count == 4 => Kind::Ipv4,
                    Type::Int(int) if int.char || (int.size == 1 && int.signed && int.name == "char") => Kind::Text,
                    Type::Int(int) if is_slots(last, array.count) && !int.signed && int.size >= 4 => Kind::Slots(width),
                    _ => Kind::Other(id),
                });
            }
            _ => push(Kind::Other(id)),
        }
        Ok(())
    }
}

fn number_kind(name: &str, typedef: &str, signed: bool, size: u32) -> Kind {
    let unit = name.rsplit('_').next().filter(|unit| *unit != name);
    match (typedef, unit) {
        ("__be32", _) if is_address(name) => Kind::Ipv4,
        _ if is_address(name) && size == 4 && !signed => Kind::Ipv4,
        ("__be16" | "__be32" | "__be64", _) => Kind::BigEndian,
        (_, Some("ns")) => Kind::Time { unit_ns: 1, signed },
        (_, Some("us")) => Kind::Time { unit_ns: 1_000, signed },
        (_, Some("ms")) => Kind::Time { unit_ns: 1_000_000, signed },
        (_, Some("flags")) if !signed => Kind::Hex,
        _ if name == "flags" && !signed => Kind::Hex,
        _ if signed => Kind::Signed,
        _ => Kind::Unsigned,
    }
}

fn is_address(name: &str) -> bool {
    name.split('_').any(|part| matches!(part, "addr" | "saddr" | "daddr" | "ip" | "ip4" | "ip6" | "addr4" | "addr6"))
}

/// The convention of `skep.h`: an array named `slots`, or with a name that ends so.
pub(crate) fn is_slots(name: &str, count: u32) -> bool {
    (name == "slots" || name.ends_with("_slots"))
        && (super::histogram::MIN_SLOTS..=super::histogram::MAX_SLOTS).contains(&(count as usize))
}

/// Up to 64 bits of a little or big endian value (the machine's order: values come from its own kernel).
fn read_bits(bytes: &[u8], bit_offset: usize, bits: usize) -> u128 {
    let start = bit_offset / 8;
    let shift = bit_offset % 8;
    let length = (shift + bits).div_ceil(8).min(16);
    let part = bytes.get(start..).unwrap_or_default();
    let mut buffer = [0u8; 16];
    let taken = part.len().min(length);
    let mask = if bits >= 128 { u128::MAX } else { (1u128 << bits) - 1 };
    if cfg!(target_endian = "little") {
        buffer[..taken].copy_from_slice(&part[..taken]);
        (u128::from_le_bytes(buffer) >> shift) & mask
    } else {
        buffer[16 - taken..].copy_from_slice(&part[..taken]);
        (u128::from_be_bytes(buffer) >> (length * 8).saturating_sub(shift + bits)) & mask
    }
}

fn sign_extend(number: u128, bits: usize) -> i128 {
    match bits {
        1..128 => ((number << (128 - bits)) as i128) >> (128 - bits),
        _ => number as i128,
    }
}

/// Bytes up to and with the last `_` that all the names have in common; 0 for fewer than two names.
fn common_prefix<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    let names: Vec<&str> = names.collect();
    let [first, rest @ ..] = names.as_slice() else { return 0 };
    let same = |name: &&str| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    match rest.iter().map(same).min() {
        Some(length) => first.as_bytes()[..length].iter().rposition(|&byte| byte == b'_').map_or(0, |at| at + 1),
        None => 0,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time with three figures and its unit: 823ns, 1.25us, 17.3ms, 2.50s.
pub(crate) fn show_time(ns: i128) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
    let value = ns as f64;
    for (factor, unit) in UNITS {
        // Rounding must not give 1000 of the unit below.
        if value.abs() >= factor * 0.9995 {
            let scaled = value / factor;
            let decimals = match scaled.abs() {
                x if x >= 99.95 => 0,
                x if x >= 9.995 => 1,
                _ => 2,
            };
            return format!("{scaled:.decimals$}{unit}");
        }
    }
    format!("{ns}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [(0, "0ns"), (999, "999ns"), (1_000, "1.00us"), (999_999, "1.00ms"), (12_345_678, "12.3ms")];
        for (ns, text) in cases {
            assert_eq!(show_time(ns), text);
        }
        assert_eq!(show_time(2_500_000_000), "2.50s");
        assert_eq!(show_time(-1_500), "-1.50us");
        assert_eq!(show_time(123_400_000_000), "123s");
    }

    #[test]
    fn names_lose_what_they_share() {
        assert_eq!(common_prefix(["proto_tcp", "proto_udp"].into_iter()), 6);
        assert_eq!(common_prefix(["sys_read", "sys_readv"].into_iter()), 4);
        assert_eq!(common_prefix(["TCP_SYN_SENT", "TCP_SYN_RECV"].into_iter()), 8);
        assert_eq!(common_prefix(["one"].into_iter()), 0);
        assert_eq!(common_prefix(["red", "blue"].into_iter()), 0);
    }

    #[test]
    fn bits() {
        assert_eq!(read_bits(&[0b1010_0000, 0b1], 5, 4), 0b1101);
        assert_eq!(sign_extend(0b111, 3), -1);
        assert_eq!(sign_extend(u64::MAX.into(), 64), -1);
        assert_eq!(read_bits(&[1, 2], 0, 64), 0x201);
    }

    #[test]
    fn cpus_are_joined_by_name() {
        let leaf = |name: &str| Leaf { name: name.to_owned(), bit_offset: 0, bits: 64, kind: Kind::Unsigned };
        let join = |name: &str, numbers: &[i128]| leaf(name).join(numbers.iter().map(|&n| Cell::Number(n)));
        assert_eq!(join("count", &[1, 2, 3]), Some(Cell::Number(6)));
        assert_eq!(join("max_ns", &[1, 5, 3]), Some(Cell::Number(5)));
        assert_eq!(join("min_ns", &[0, 5, 3]), Some(Cell::Number(3)));
        assert_eq!(join("count", &[]), None);
    }
    /// A type in which each struct holds the one before it twice.
    fn doubled(first: u32, size: u32, levels: usize) -> (Btf, TypeId) {
        let mut b = skep_btf::Builder::new();
        let int = b.int("int", 4, true).unwrap();
        let number = [("n", int, 0)];
        let mut inner = b.structure("s0", first, if first == 0 { &[] } else { &number }).unwrap();
        for level in 1..=levels {
            inner = b.structure(&format!("s{level}"), size, &[("x", inner, 0), ("y", inner, 0)]).unwrap();
        }
        let index = b.int("unsigned int", 4, false).unwrap();
        let list = b.array(inner, index, 3).unwrap();
        let top = b.structure("top", size * 3 + 4, &[("n", int, 0), ("list", list, 32), ("one", inner, 32)]).unwrap();
        (Btf::parse(b.build().unwrap()).unwrap(), top)
    }

    #[test]
    fn structs_that_multiply_are_opened_within_limits() {
        let start = std::time::Instant::now();
        for (first, size) in [(0, 0), (0, 4), (4, 4)] {
            let (btf, top) = doubled(first, size, 30);
            let layout = Layout::of(&btf, top, "value").unwrap();
            assert!(layout.leaves.len() <= MAX_LEAVES + MAX_DEPTH, "{}", layout.leaves.len());
            let value = vec![0; layout.size];
            for leaf in &layout.leaves {
                let cell = layout.cell(leaf, &value);
                assert!(leaf.show(&cell).len() <= MAX_CELL_TEXT + 3);
                assert!(super::super::cell_json(leaf, &cell).to_string().len() <= 1 << 20);
            }
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn a_cell_has_only_so_much_text() {
        let mut b = skep_btf::Builder::new();
        let int = b.int("int", 4, true).unwrap();
        let many = b.array(int, int, 4000).unwrap();
        let rows = b.array(many, int, 3).unwrap();
        let btf = Btf::parse(b.build().unwrap()).unwrap();
        let layout = Layout::of(&btf, rows, "value").unwrap();
        let cell = layout.cell(&layout.leaves[0], &vec![0xff; layout.size]);
        let text = layout.leaves[0].show(&cell);
        assert!(text.len() == MAX_CELL_TEXT + 3 && text.ends_with("..."), "{}", text.len());
        // Programs get all of it.
        let json = super::super::cell_json(&layout.leaves[0], &cell);
        assert_eq!(json[2][3999], serde_json::json!(-1));
    }
}
