//! What the kernel says of the functions it lets programs call (kfuncs): one bit a promise or demand.
//!
//! The kernel keeps them in sets beside its code (`BTF_ID_FLAGS`); BTF does not carry them, so a checker that wants
//! them needs a table by function, or the prefix and suffix rules of the names (`__sz`, `__ign`, `__nullable`).
//! Source: `include/linux/btf.h`. Bit 3 (`KF_KPTR_GET`) was withdrawn in 6.4 and is not given again.

use crate::KernelVersion;

/// Flags of a kfunc, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct KfuncFlags(pub u32);

macro_rules! kfunc_flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $kernel:literal, ($major:literal, $minor:literal);)*) => {
        impl KfuncFlags {
            $($(#[$doc])* pub const $name: KfuncFlags = KfuncFlags(1 << $bit);)*

            /// Every flag with the kernel's name and the first kernel that has it, lowest bit first.
            pub const ALL: &'static [(KfuncFlags, &'static str, KernelVersion)] =
                &[$((KfuncFlags::$name, $kernel, KernelVersion::new($major, $minor)),)*];
        }
    };
}

kfunc_flags! {
    /// Returns a reference that must be released.
    ACQUIRE = 0, "KF_ACQUIRE", (6, 0);
    /// Releases the reference it is given.
    RELEASE = 1, "KF_RELEASE", (6, 0);
    /// May return null.
    RET_NULL = 2, "KF_RET_NULL", (6, 0);
    /// Took a pointer to a kptr; withdrawn in 6.4.
    KPTR_GET = 3, "KF_KPTR_GET", (6, 0);
    /// Takes only pointers that the verifier knows to be good, unchanged. What every kfunc demands from 7.0 on.
    TRUSTED_ARGS = 4, "KF_TRUSTED_ARGS", (6, 0);
    /// May sleep: only from programs that may.
    SLEEPABLE = 5, "KF_SLEEPABLE", (6, 1);
    /// May harm the system: needs CAP_SYS_BOOT.
    DESTRUCTIVE = 6, "KF_DESTRUCTIVE", (6, 1);
    /// Takes trusted pointers, or such that RCU protects.
    RCU = 7, "KF_RCU", (6, 2);
    /// Makes an iterator.
    ITER_NEW = 8, "KF_ITER_NEW", (6, 4);
    /// Moves an iterator on; null ends it.
    ITER_NEXT = 9, "KF_ITER_NEXT", (6, 4);
    /// Ends an iterator.
    ITER_DESTROY = 10, "KF_ITER_DESTROY", (6, 4);
    /// Must stand in an RCU read section.
    RCU_PROTECTED = 11, "KF_RCU_PROTECTED", (6, 7);
    /// Keeps the registers a fast call promises to keep.
    FASTCALL = 12, "KF_FASTCALL", (6, 13);
    /// Returns an arena pointer.
    ARENA_RET = 13, "KF_ARENA_RET", (6, 15);
    /// Its first argument is an arena pointer.
    ARENA_ARG1 = 14, "KF_ARENA_ARG1", (6, 15);
    /// Its second argument is an arena pointer.
    ARENA_ARG2 = 15, "KF_ARENA_ARG2", (6, 15);
    /// The verifier passes the last argument by itself.
    IMPLICIT_ARGS = 16, "KF_IMPLICIT_ARGS", (7, 0);
}

impl KfuncFlags {
    /// Whether all of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kernel's names of what is set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(flag, ..)| self.contains(*flag)).map(|&(_, name, _)| name)
    }
}

impl std::ops::BitOr for KfuncFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stand_in_order_without_a_gap() {
        for (place, (flag, name, since)) in KfuncFlags::ALL.iter().enumerate() {
            assert_eq!(flag.0, 1 << place, "{name}");
            assert!(KfuncFlags::ALL[..place].iter().all(|(_, _, earlier)| earlier <= since), "{name}");
        }
        let iterator = KfuncFlags::ITER_NEXT | KfuncFlags::RET_NULL;
        assert_eq!(iterator.names().collect::<Vec<_>>(), ["KF_RET_NULL", "KF_ITER_NEXT"]);
    }
}
