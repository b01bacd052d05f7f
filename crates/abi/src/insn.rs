//! What the loader writes into instructions: pseudo sources, and the kinds of CO-RE relocation.
//!
//! Sources: `BPF_PSEUDO_*` and `enum bpf_core_relo_kind` in `include/uapi/linux/bpf.h`.

/// What the source register field of a 64-bit immediate load (`ld_imm64`) means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PseudoLoad {
    /// A plain number.
    Value = 0,
    /// `BPF_PSEUDO_MAP_FD`: the immediate is a map's descriptor, the register becomes the map.
    MapFd = 1,
    /// `BPF_PSEUDO_MAP_VALUE`: the address in a map's value; descriptor in the first immediate, offset in the second.
    MapValue = 2,
    /// `BPF_PSEUDO_BTF_ID`: the address of a kernel variable; its BTF id first, the module's BTF descriptor second.
    BtfId = 3,
    /// `BPF_PSEUDO_FUNC`: the address of a function of this program, relative to the next instruction.
    Func = 4,
    /// `BPF_PSEUDO_MAP_IDX`: as `MapFd`, by place in `fd_array`.
    MapIdx = 5,
    /// `BPF_PSEUDO_MAP_IDX_VALUE`: as `MapValue`, by place in `fd_array`.
    MapIdxValue = 6,
}

impl PseudoLoad {
    /// The meaning of this source field, `None` for one that the kernel refuses.
    pub fn from_u8(source: u8) -> Option<Self> {
        Some(match source {
            0 => Self::Value,
            1 => Self::MapFd,
            2 => Self::MapValue,
            3 => Self::BtfId,
            4 => Self::Func,
            5 => Self::MapIdx,
            6 => Self::MapIdxValue,
            _ => return None,
        })
    }
}

/// What the source register field of a call means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PseudoCall {
    /// A helper, by its number.
    Helper = 0,
    /// `BPF_PSEUDO_CALL`: a function of this program, relative to the next instruction.
    Subprogram = 1,
    /// `BPF_PSEUDO_KFUNC_CALL`: a kernel function, by its BTF id; the offset field is the place of the module's BTF in `fd_array`.
    Kfunc = 2,
}

impl PseudoCall {
    /// The meaning of this source field, `None` for one that the kernel refuses.
    pub fn from_u8(source: u8) -> Option<Self> {
        Some(match source {
            0 => Self::Helper,
            1 => Self::Subprogram,
            2 => Self::Kfunc,
            _ => return None,
        })
    }
}

macro_rules! core_relo_kind {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $kernel:literal, $short:literal;)*) => {
        /// What a CO-RE relocation asks of the target's types. Source: `enum bpf_core_relo_kind`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum CoreReloKind { $($(#[$doc])* $variant = $number,)* }

        impl CoreReloKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [CoreReloKind] = &[$(CoreReloKind::$variant,)*];

            /// The kind with this number in a `bpf_core_relo` record.
            pub fn from_u32(number: u32) -> Option<Self> {
                match number { $($number => Some(CoreReloKind::$variant),)* _ => None }
            }

            /// The number.
            pub fn as_u32(self) -> u32 { self as u32 }

            /// The name in the kernel's header.
            pub fn kernel_name(self) -> &'static str { match self { $(CoreReloKind::$variant => $kernel,)* } }

            /// The word that loaders print for it, such as `byte_off`.
            pub fn short_name(self) -> &'static str { match self { $(CoreReloKind::$variant => $short,)* } }
        }

        impl std::fmt::Display for CoreReloKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.short_name()) }
        }
    };
}

core_relo_kind! {
    /// Where the field is, in bytes.
    FieldByteOffset = 0, "BPF_CORE_FIELD_BYTE_OFFSET", "byte_off";
    /// How large the field is, in bytes.
    FieldByteSize = 1, "BPF_CORE_FIELD_BYTE_SIZE", "byte_sz";
    /// 1 where the field is there, else 0.
    FieldExists = 2, "BPF_CORE_FIELD_EXISTS", "field_exists";
    /// 1 where the field is signed, else 0.
    FieldSigned = 3, "BPF_CORE_FIELD_SIGNED", "signed";
    /// How far a bit field's 8 loaded bytes are to be shifted left.
    FieldLshiftU64 = 4, "BPF_CORE_FIELD_LSHIFT_U64", "lshift_u64";
    /// How far they are to be shifted right after that.
    FieldRshiftU64 = 5, "BPF_CORE_FIELD_RSHIFT_U64", "rshift_u64";
    /// The type's id in the program's own BTF.
    TypeIdLocal = 6, "BPF_CORE_TYPE_ID_LOCAL", "local_type_id";
    /// The type's id in the target's BTF.
    TypeIdTarget = 7, "BPF_CORE_TYPE_ID_TARGET", "target_type_id";
    /// 1 where the target has a type of that name and kind, else 0.
    TypeExists = 8, "BPF_CORE_TYPE_EXISTS", "type_exists";
    /// The type's size in bytes.
    TypeSize = 9, "BPF_CORE_TYPE_SIZE", "type_size";
    /// 1 where the enumerator is there, else 0.
    EnumvalExists = 10, "BPF_CORE_ENUMVAL_EXISTS", "enumval_exists";
    /// The enumerator's value.
    EnumvalValue = 11, "BPF_CORE_ENUMVAL_VALUE", "enumval_value";
    /// 1 where the target has a type that matches field by field, else 0.
    TypeMatches = 12, "BPF_CORE_TYPE_MATCHES", "type_matches";
}

impl CoreReloKind {
    /// Whether it is about a field of a struct or union (its access string has indices).
    pub fn is_field(self) -> bool {
        self.as_u32() <= 5
    }

    /// Whether it is about a type as a whole.
    pub fn is_type(self) -> bool {
        matches!(self.as_u32(), 6..=9 | 12)
    }

    /// Whether it is about an enumerator.
    pub fn is_enumval(self) -> bool {
        matches!(self, Self::EnumvalExists | Self::EnumvalValue)
    }

    /// Whether "not there" is an answer (0) and no failure.
    pub fn may_be_absent(self) -> bool {
        matches!(self, Self::FieldExists | Self::TypeExists | Self::TypeMatches | Self::EnumvalExists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_about_one_thing() {
        for &kind in CoreReloKind::ALL {
            assert_eq!(CoreReloKind::from_u32(kind.as_u32()), Some(kind));
            let about = [kind.is_field(), kind.is_type(), kind.is_enumval()];
            assert_eq!(about.iter().filter(|&&yes| yes).count(), 1, "{kind}");
        }
        assert_eq!(CoreReloKind::from_u32(13), None);
    }

    #[test]
    fn pseudo_sources_round_trip() {
        assert!((0..=6).all(|n| PseudoLoad::from_u8(n).is_some_and(|p| p as u8 == n)));
        assert!((0..=2).all(|n| PseudoCall::from_u8(n).is_some_and(|p| p as u8 == n)));
        assert_eq!((PseudoLoad::from_u8(7), PseudoCall::from_u8(3)), (None, None));
    }
}
