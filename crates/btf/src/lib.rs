//! BPF Type Format: parse, query, write, print as C, decode values by type.
//!
//! Skeleton of the public interface; bodies follow.

mod error;
pub mod ext;
mod kind;
mod types;

pub use error::Error;
pub use kind::Kind;
pub use types::{Array, Composite, Datasec, Enum, FuncProto, Int, Linkage, Member, Param, Type, VarInfo, Variant};

use std::sync::Arc;

/// Id of a type within a [`Btf`]; 0 is `void`. Ids of a split BTF go on where its base ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: TypeId = TypeId(0);
}

/// A parsed BTF blob. Cheap to clone. Opening records only where each type starts; a type is decoded when asked for.
#[derive(Clone, Debug)]
pub struct Btf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data: Vec<u8>,
    base: Option<Btf>,
}

impl Btf {
    /// Opens a BTF blob (either byte order), such as the contents of `/sys/kernel/btf/vmlinux` or of an ELF `.BTF` section.
    pub fn parse(data: Vec<u8>) -> Result<Btf, Error> {
        Ok(Btf(Arc::new(Inner { data, base: None })))
    }
    /// Opens a split BTF (a kernel module's) on top of its base.
    pub fn parse_split(data: Vec<u8>, base: &Btf) -> Result<Btf, Error> {
        Ok(Btf(Arc::new(Inner { data, base: Some(base.clone()) })))
    }
    /// The bytes this was parsed from (without the base's).
    pub fn bytes(&self) -> &[u8] {
        &self.0.data
    }
    /// The base of a split BTF.
    pub fn base(&self) -> Option<&Btf> {
        self.0.base.as_ref()
    }
    /// Number of types including `void` and the base's: valid ids are `0..type_count()`.
    pub fn type_count(&self) -> u32 {
        0
    }
    /// The string at an offset of the string section (a split BTF's offsets go on where its base's end).
    pub fn string(&self, _offset: u32) -> Result<&str, Error> {
        Err(Error::Skeleton)
    }
    /// Decodes one type.
    pub fn get(&self, _id: TypeId) -> Result<Type<'_>, Error> {
        Err(Error::Skeleton)
    }
    /// All ids with their types, in order, `void` left out; a type that cannot be decoded ends as an error item.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, Result<Type<'_>, Error>)> {
        (1..self.type_count()).map(|i| (TypeId(i), self.get(TypeId(i))))
    }
    /// The first type of this kind and name. Uses an index that is built at the first call.
    pub fn find(&self, _name: &str, _kind: Kind) -> Option<TypeId> {
        None
    }
    /// All types of this name, any kind.
    pub fn find_all(&self, _name: &str) -> Vec<TypeId> {
        Vec::new()
    }
    /// Follows typedefs, const, volatile, restrict and type tags to the type beneath; a cycle is an error.
    pub fn resolve(&self, _id: TypeId) -> Result<TypeId, Error> {
        Err(Error::Skeleton)
    }
    /// Size in bytes of a value of this type (modifiers followed, arrays multiplied, a pointer is 8 bytes).
    pub fn size_of(&self, _id: TypeId) -> Result<u64, Error> {
        Err(Error::Skeleton)
    }
    /// The type written as C would name it, such as `struct task_struct *` or `char[16]`.
    pub fn type_name(&self, _id: TypeId) -> String {
        String::new()
    }
}
