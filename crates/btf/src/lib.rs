//! BPF Type Format: parse, query, write, print as C, decode values by type.
//!
//! Turns the bytes of a `.BTF` section (or `/sys/kernel/btf/vmlinux`) into a [`Btf`] that answers by id and by name, and
//! back into bytes by a [`Builder`]. Bytes in, values or typed errors out: nothing here reads a file, and no input panics.
//!
//!
//! ```
//! use skep_btf::{Btf, Builder, Kind, Type};
//!
//! let mut b = Builder::new();
//! let int = b.int("int", 4, true)?;
//! b.structure("point", 8, &[("x", int, 0), ("y", int, 32)])?;
//! let btf = Btf::parse(b.build()?)?;
//! let id = btf.find("point", Kind::Struct).ok_or("no struct point")?;
//! assert_eq!(btf.size_of(id)?, 8);
//! assert!(matches!(btf.get(id)?, Type::Struct(s) if s.members[1].name == "y"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: a chain of typedefs, arrays or nested structs is followed for [`DEPTH_LIMIT`] steps, then it is an error (the
//! kernel's own limit is 32). Nothing is allocated by a count in the input before the bytes it counts were seen.

mod blob;
pub mod c_header;
mod cdecl;
mod error;
pub mod ext;
mod kind;
pub mod load;
mod query;
mod types;
pub mod value;
mod writer;

pub use blob::{Btf, Endian};
pub use error::Error;
pub use ext::BtfExt;
pub use kind::Kind;
pub use query::MemberPath;
pub use types::{Array, Composite, Datasec, Enum, FuncProto, Int, Linkage, Member, Param, Type, VarInfo, Variant};
pub use writer::Builder;

/// How many nested or chained types (typedef of const of array of ...) are followed before a query fails.
/// The kernel refuses more than 32; the kernel's own types nest to about 15.
pub const DEPTH_LIMIT: u32 = 64;

/// Id of a type within a [`Btf`]; 0 is `void`. Ids of a split BTF go on where its base ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: TypeId = TypeId(0);
}
