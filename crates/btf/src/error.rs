//! What can be wrong with BTF bytes, with a query, or with a value's text.

use crate::{Kind, TypeId};

/// Why BTF could not be read or written, or a query not be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer bytes than a header has.
    #[error("read {section}: {have} bytes are too few for its header of {need} bytes; the section is truncated")]
    TruncatedHeader {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// Bytes a header needs.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// The first two bytes are not the magic number in either byte order.
    #[error("read {section}: the first bytes are {found:#06x}, not BTF's magic number 0xeb9f; this is not BTF")]
    Magic {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// The first two bytes, read little endian.
        found: u16,
    },
    /// A version other than 1, or flags that would change how the bytes are to be read.
    #[error("read {section}: version {version} with flags {flags:#x} is not known (version 1 with no flags is)")]
    Version {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// The header's version.
        version: u8,
        /// The header's flags.
        flags: u8,
    },
    /// A part of the section reaches past its end or is misaligned.
    #[error("read {section}: its {part} ({len} bytes at offset {offset}) {cause} (section of {total} bytes)")]
    Part {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// Which part.
        part: &'static str,
        /// Where the header says it starts, from the end of the header.
        offset: u32,
        /// How long the header says it is.
        len: u32,
        /// Bytes of the whole section.
        total: usize,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// More bytes or types than ids and offsets of 32 bits can name.
    #[error("read .BTF: {0} is more than 32-bit offsets can name")]
    TooLarge(&'static str),
    /// A type's record reaches past the end of the type section.
    #[error("read type [{id}]: its record of {need} bytes at type offset {offset} is cut off after {have} bytes", id = id.0)]
    TruncatedType {
        /// The type.
        id: TypeId,
        /// Offset in the type section.
        offset: u32,
        /// Bytes the record needs.
        need: u64,
        /// Bytes that are left.
        have: u64,
    },
    /// A kind this version does not know.
    #[error("read type [{id}]: kind {kind} is not known to this version of skep", id = id.0)]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// The number in the record.
        kind: u8,
    },
    /// An id outside the table.
    #[error("look up type [{id}]: there is no such type (ids go from 0 to {last})", id = id.0, last = count.saturating_sub(1))]
    NoSuchType {
        /// The id asked for.
        id: TypeId,
        /// Number of types including void.
        count: u32,
    },
    /// A string offset outside the string section.
    #[error("look up string at offset {offset}: the strings end at {end}")]
    NoSuchString {
        /// The offset asked for.
        offset: u32,
        /// First offset behind the strings.
        end: u32,
    },
    /// A string that is not UTF-8 (ask for its bytes instead).
    #[error("look up string at offset {offset}: it is not UTF-8")]
    NotUtf8 {
        /// The offset asked for.
        offset: u32,
    },
    /// A record whose fields make no sense.
    #[error("read type [{id}] ({kind}): {cause}", id = id.0)]
    BadType {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
        /// What is wrong.
        cause: &'static str,
    },
    /// Following a type took more steps than [`crate::DEPTH_LIMIT`], as a cycle would.
    #[error("{action} type [{id}]: gave up after {limit} nested types, so it is a cycle or hostile", id = id.0)]
    TooDeep {
        /// What was being done.
        action: &'static str,
        /// The type that was asked about.
        id: TypeId,
        /// The limit that was hit.
        limit: u32,
    },
    /// A type that has no size: void, a forward declaration, a function.
    #[error("take the size of type [{id}]: type [{at}] is a {kind}, which has none", id = id.0, at = at.0)]
    NoSize {
        /// The type that was asked about.
        id: TypeId,
        /// The type beneath that has no size.
        at: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// Array counts multiply to more than 64 bits.
    #[error("take the size of type [{id}]: its array counts multiply past 64 bits", id = id.0)]
    SizeOverflow {
        /// The type.
        id: TypeId,
    },
    /// The query needs another kind of type.
    #[error("{action} type [{id}]: it is a {found}, not {expected}", id = id.0)]
    WrongKind {
        /// What was being done.
        action: &'static str,
        /// The type.
        id: TypeId,
        /// What it should be, with an article.
        expected: &'static str,
        /// What it is.
        found: Kind,
    },
    /// A member that a struct or union does not have.
    #[error("look up member {path:?} of type [{id}]: {part:?} is not there", id = id.0)]
    NoSuchMember {
        /// The outermost type.
        id: TypeId,
        /// The whole path asked for.
        path: String,
        /// The part of it that is missing.
        part: String,
    },
    /// A record of `.BTF.ext` that makes no sense.
    #[error("read .BTF.ext {part}: at offset {offset}: {cause}")]
    Ext {
        /// `func_info`, `line_info` or `core_relo`.
        part: &'static str,
        /// Offset in bytes within the part.
        offset: usize,
        /// What is wrong.
        cause: &'static str,
    },
    /// The writer was given something that BTF cannot express.
    #[error("write type [{id}]: {cause}", id = id.0)]
    Unwritable {
        /// The id that the type would have had.
        id: TypeId,
        /// What does not fit.
        cause: &'static str,
    },
    /// The writer that text went to failed.
    #[error("write the C header: the output could not be written")]
    Output,
    /// Fewer bytes than the type needs.
    #[error("decode a value of type [{id}]: it needs {need} bytes and {have} were given", id = id.0)]
    ShortValue {
        /// The type.
        id: TypeId,
        /// Bytes needed.
        need: u64,
        /// Bytes given.
        have: u64,
    },
    /// Text that is not a value of the type.
    #[error("read {text:?} as {ty}: {cause}")]
    BadValue {
        /// What was given.
        text: String,
        /// The type, as C names it.
        ty: String,
        /// What is wrong and what would be right.
        cause: String,
    },
}
