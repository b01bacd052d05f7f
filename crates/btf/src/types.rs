//! Decoded types. Names borrow from the BTF's strings; an anonymous type has the name `""`.

use crate::{Kind, TypeId};

/// One decoded type.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Type<'a> {
    Void,
    Int(Int<'a>),
    Ptr {
        target: TypeId,
    },
    Array(Array),
    Struct(Composite<'a>),
    Union(Composite<'a>),
    /// Both `BTF_KIND_ENUM` and `BTF_KIND_ENUM64`, see [`Enum::is_64`].
    Enum(Enum<'a>),
    Fwd {
        name: &'a str,
        is_union: bool,
    },
    Typedef {
        name: &'a str,
        target: TypeId,
    },
    Volatile {
        target: TypeId,
    },
    Const {
        target: TypeId,
    },
    Restrict {
        target: TypeId,
    },
    Func {
        name: &'a str,
        proto: TypeId,
        linkage: Linkage,
    },
    FuncProto(FuncProto<'a>),
    Var {
        name: &'a str,
        target: TypeId,
        linkage: Linkage,
    },
    Datasec(Datasec<'a>),
    Float {
        name: &'a str,
        size: u32,
    },
    /// `component`: member or parameter index, `None` for the whole of `target`.
    DeclTag {
        name: &'a str,
        target: TypeId,
        component: Option<u32>,
    },
    TypeTag {
        name: &'a str,
        target: TypeId,
    },
}

/// An integer type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Int<'a> {
    /// Name.
    pub name: &'a str,
    /// Size in bytes.
    pub size: u32,
    /// Value bits (fewer than `size * 8` only in old BTF for bit fields).
    pub bits: u8,
    /// Bit offset of the value within its bytes.
    pub offset: u8,
    /// `BTF_INT_SIGNED`.
    pub signed: bool,
    /// `BTF_INT_CHAR`.
    pub char: bool,
    /// `BTF_INT_BOOL`.
    pub bool: bool,
}

/// An array type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct Array {
    pub element: TypeId,
    pub index: TypeId,
    pub count: u32,
}

/// A struct or a union.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Composite<'a> {
    /// Tag name.
    pub name: &'a str,
    /// Size in bytes.
    pub size: u32,
    /// Members in order.
    pub members: Vec<Member<'a>>,
}

/// A member of a struct or a union.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Name, `""` for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
    /// Offset in bits from the start of the composite.
    pub bit_offset: u32,
    /// Width in bits of a bit field, 0 for an ordinary member.
    pub bit_size: u8,
}

/// An enumeration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enum<'a> {
    /// Tag name.
    pub name: &'a str,
    /// Size in bytes.
    pub size: u32,
    /// Whether values are signed.
    pub signed: bool,
    /// Whether it is a `BTF_KIND_ENUM64`.
    pub is_64: bool,
    /// Its values in order.
    pub variants: Vec<Variant<'a>>,
}

/// A value of an enumeration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant<'a> {
    /// Name.
    pub name: &'a str,
    /// Value; that of an unsigned enumeration is non-negative.
    pub value: i128,
}

/// A function prototype.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FuncProto<'a> {
    /// Return type.
    pub ret: TypeId,
    /// Parameters; a variadic function ends with one of type 0 and name `""`.
    pub params: Vec<Param<'a>>,
}

/// A parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "plain")]
pub struct Param<'a> {
    pub name: &'a str,
    pub ty: TypeId,
}

/// A data section: the variables of an ELF section.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "plain")]
pub struct Datasec<'a> {
    pub name: &'a str,
    /// Bytes; clang writes 0, a loader fills it in.
    pub size: u32,
    pub vars: Vec<VarInfo>,
}

/// Where a variable lies in its section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "plain")]
pub struct VarInfo {
    /// A `Var` (or a `Func` for externs).
    pub ty: TypeId,
    pub offset: u32,
    pub size: u32,
}

/// Linkage of a function or variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "plain")]
pub enum Linkage {
    Static,
    Global,
    Extern,
}

impl Linkage {
    pub(crate) fn from_number(number: u32) -> Option<Linkage> {
        match number {
            0 => Some(Linkage::Static),
            1 => Some(Linkage::Global),
            2 => Some(Linkage::Extern),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Linkage::Static => 0,
            Linkage::Global => 1,
            Linkage::Extern => 2,
        }
    }
}

impl<'a> Type<'a> {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Type::Void => Kind::Void,
            Type::Int(_) => Kind::Int,
            Type::Ptr { .. } => Kind::Ptr,
            Type::Array(_) => Kind::Array,
            Type::Struct(_) => Kind::Struct,
            Type::Union(_) => Kind::Union,
            Type::Enum(e) if e.is_64 => Kind::Enum64,
            Type::Enum(_) => Kind::Enum,
            Type::Fwd { .. } => Kind::Fwd,
            Type::Typedef { .. } => Kind::Typedef,
            Type::Volatile { .. } => Kind::Volatile,
            Type::Const { .. } => Kind::Const,
            Type::Restrict { .. } => Kind::Restrict,
            Type::Func { .. } => Kind::Func,
            Type::FuncProto(_) => Kind::FuncProto,
            Type::Var { .. } => Kind::Var,
            Type::Datasec(_) => Kind::Datasec,
            Type::Float { .. } => Kind::Float,
            Type::DeclTag { .. } => Kind::DeclTag,
            Type::TypeTag { .. } => Kind::TypeTag,
        }
    }

    /// The name, `""` for a type that has none.
    pub fn name(&self) -> &'a str {
        match self {
            Type::Int(t) => t.name,
            Type::Struct(t) | Type::Union(t) => t.name,
            Type::Enum(t) => t.name,
            Type::Datasec(t) => t.name,
            Type::Fwd { name, .. }
            | Type::Typedef { name, .. }
            | Type::Func { name, .. }
            | Type::Var { name, .. }
            | Type::Float { name, .. }
            | Type::DeclTag { name, .. }
            | Type::TypeTag { name, .. } => name,
            _ => "",
        }
    }
}
