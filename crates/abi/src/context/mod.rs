//! What a program gets in r1: the struct, its fields, and which of them it may read and write.
//!
//! ```
//! use skep_abi::{ProgramType, context::{self, ContextKind}};
//! let ContextKind::Struct(context) = context::kind(ProgramType::Xdp) else { panic!("XDP has a struct") };
//! assert_eq!((context.name, context.size), ("xdp_md", 24));
//! let access = context::access(ProgramType::Xdp, None).expect("XDP programs read their context");
//! assert!(access.of("data").is_some_and(|data| data.reads == 4 && data.writes == 0));
//! ```
//!
//! These structs are what programs are compiled against, not what the kernel has in memory: the verifier rewrites every
//! access to them. So an access must be as large as the field (or, where several sizes are given, of one of these), at
//! a constant offset, and a pointer field is loaded with the size it has here (`data` of `xdp_md`: 4 bytes).
//!
//! Limits: fields and access are those of a 64-bit little-endian kernel, 6.18. An older kernel has fewer
//! ([`Field::since`]); smaller reads than the field's size came step by step up to 4.14.

mod registers;
mod tables;

pub use registers::{Register, Registers, registers};
pub use tables::{
    BPF_CGROUP_DEV_CTX, BPF_NF_CTX, BPF_PERF_EVENT_DATA, BPF_SK_LOOKUP, BPF_SOCK, BPF_SOCK_ADDR, BPF_SOCK_OPS,
    BPF_SOCKOPT, BPF_SYSCTL, SK_BUFF, SK_MSG_MD, SK_REUSEPORT_MD, XDP_MD,
};

use crate::{AttachType, KernelVersion, ProgramType};

/// What loading a field gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FieldKind {
    /// A number.
    Scalar,
    /// The start of the packet (or of the option value): to be compared with the end before it is used.
    Packet,
    /// The end of the packet: only to compare with.
    PacketEnd,
    /// The start of the metadata in front of the packet: to be compared with the packet's start.
    PacketMeta,
    /// A `struct bpf_flow_keys`, to be filled.
    FlowKeys,
    /// A `struct bpf_sock`, of which only the fields that every socket has are there, or null.
    SockCommonOrNull,
    /// A `struct bpf_sock`.
    Sock,
    /// A `struct bpf_sock`, or null.
    SockOrNull,
    /// The kernel's own struct of this name, by its BTF.
    Kernel(&'static str),
}

/// A field of a context struct.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name; a member of an unnamed union stands here by its own name.
    pub name: &'static str,
    /// Where it is, in bytes.
    pub offset: u16,
    /// Its size in bytes.
    pub size: u16,
    /// The size of one element of an array, in bytes; the field's own size otherwise.
    pub element: u8,
    /// What loading it gives, where it may be loaded.
    pub kind: FieldKind,
    /// The first kernel that has it.
    pub since: KernelVersion,
}

/// A context struct.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// The struct's name in `linux/bpf.h`.
    pub name: &'static str,
    /// Its size in bytes, 6.18.
    pub size: u16,
    /// Its fields, in order; members of a union share an offset.
    pub fields: &'static [Field],
}

impl Context {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The first field that this byte is in.
    pub fn field_at(&self, offset: u16) -> Option<&'static Field> {
        self.fields.iter().find(|field| (field.offset..field.offset + field.size).contains(&offset))
    }
}

/// What may be done with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldAccess {
    /// The field's name.
    pub field: &'static str,
    /// The sizes in bytes of the reads that are allowed at its start, added up: 7 is 1, 2 and 4; 0 is none.
    pub reads: u8,
    /// The same for writes.
    pub writes: u8,
}

/// What programs of a type may do with their context in some places of attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// The program type.
    pub program: ProgramType,
    /// The attach types this is true for; none where it makes no difference.
    pub attach: &'static [AttachType],
    /// The struct.
    pub context: &'static Context,
    /// The fields that can be used at all.
    pub fields: &'static [FieldAccess],
}

impl Access {
    /// What may be done with the field of this name, `None` for nothing.
    pub fn of(&self, field: &str) -> Option<&'static FieldAccess> {
        self.fields.iter().find(|access| access.field == field)
    }
}

/// What a program type's context is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContextKind {
    /// A struct of fields that are loaded one by one.
    Struct(&'static Context),
    /// The registers at a probe (`struct pt_regs`), each readable; they differ by architecture, see [`registers`].
    Registers,
    /// The tracepoint's record as tracefs describes it (`format`): readable, but for its first 8 bytes.
    TracepointRecord,
    /// The arguments, 8 bytes each, as numbers.
    Words {
        /// How many words can be read.
        max: u16,
    },
    /// The arguments, 8 bytes each, with the types that the target's BTF gives them.
    TypedArguments,
    /// Whatever the caller passes to `BPF_PROG_TEST_RUN`: readable and writable, as large as it says (at most 65535 bytes).
    Caller,
    /// One 32-bit number, readable.
    Number,
    /// That of the program it replaces a part of.
    Target,
    /// None.
    None,
}

/// What programs of this type get in r1.
pub fn kind(program: ProgramType) -> ContextKind {
    match program {
        ProgramType::Kprobe => ContextKind::Registers,
        ProgramType::Tracepoint => ContextKind::TracepointRecord,
        ProgramType::RawTracepoint | ProgramType::RawTracepointWritable => ContextKind::Words { max: 12 },
        ProgramType::Tracing | ProgramType::Lsm | ProgramType::StructOps => ContextKind::TypedArguments,
        ProgramType::Syscall => ContextKind::Caller,
        ProgramType::LircMode2 => ContextKind::Number,
        ProgramType::Ext => ContextKind::Target,
        other => tables::ACCESS
            .iter()
            .find(|access| access.program == other)
            .map_or(ContextKind::None, |access| ContextKind::Struct(access.context)),
    }
}

/// What programs of this type may do with their context when loaded for this place; `None` for the place asks for the
/// type's usual one, and gives `None` for a type whose context is no struct.
pub fn access(program: ProgramType, attach: Option<AttachType>) -> Option<&'static Access> {
    let rows = || tables::ACCESS.iter().filter(|access| access.program == program);
    let exact = attach.and_then(|attach| rows().find(|access| access.attach.contains(&attach)));
    exact.or_else(|| rows().next())
}

/// Every row: program type by program type, place by place.
pub fn all_access() -> &'static [Access] {
    tables::ACCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_in_their_struct() {
        for access in all_access() {
            let context = access.context;
            for field in context.fields {
                assert!(field.offset + field.size <= context.size, "{}.{}", context.name, field.name);
                assert_eq!(field.size % u16::from(field.element), 0, "{}.{}", context.name, field.name);
                assert_eq!(context.field(field.name), Some(field));
            }
            assert!(context.fields.is_sorted_by_key(|field| field.offset), "{}", context.name);
        }
    }

    #[test]
    fn access_is_to_known_fields_by_sizes_there_are() {
        for access in all_access() {
            for field in access.fields {
                assert!(access.context.field(field.field).is_some(), "{}.{}", access.context.name, field.field);
                assert!(field.reads < 16 && field.writes < 16 && field.reads | field.writes != 0, "{}", field.field);
            }
        }
    }

    fn check(program: ProgramType, attach: Option<AttachType>, field: &str, expected: Option<(u8, u8)>) {
        let found = access(program, attach).and_then(|access| access.of(field)).map(|a| (a.reads, a.writes));
        assert_eq!(found, expected, "{program} {attach:?} {field}");
    }

    #[test]
    fn access_depends_on_program_and_place() {
        check(ProgramType::SchedCls, None, "mark", Some((7, 4)));
        check(ProgramType::SocketFilter, None, "mark", Some((7, 0)));
        check(ProgramType::SocketFilter, None, "data", None);
        check(ProgramType::CgroupSockAddr, Some(AttachType::CgroupInet4Connect), "user_ip4", Some((7, 4)));
        check(ProgramType::CgroupSockAddr, Some(AttachType::CgroupInet6Connect), "user_ip4", None);
        check(ProgramType::CgroupSockopt, Some(AttachType::CgroupSetsockopt), "retval", None);
        check(ProgramType::Kprobe, None, "anything", None);
    }

    #[test]
    fn every_type_has_a_context() {
        for &program in ProgramType::ALL {
            assert_eq!(kind(program) == ContextKind::None, program == ProgramType::Unspec, "{program}");
        }
        assert_eq!(SK_BUFF.field_at(79).map(|field| field.name), Some("data"));
        assert_eq!(SK_BUFF.field_at(182), None);
    }
}
