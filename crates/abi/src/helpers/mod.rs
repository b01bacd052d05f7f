//! The helper functions that programs call by number: `1` <-> `bpf_map_lookup_elem`, what each takes, gives and needs.
//!
//! ```
//! use skep_abi::{ProgramType, helpers};
//! let helper = helpers::by_name("map_lookup_elem").expect("helper 1");
//! assert_eq!((helper.id, helper.signature.args.len()), (1, 2));
//! assert!(helper.programs_on(None).contains(ProgramType::Xdp));
//! ```
//!
//! The list ends with 211: since 6.2 the kernel adds kernel functions (kfuncs) instead, which are found by BTF.
//!
//! Limits. Which program types may call a helper is exact for 6.1, 6.12, 6.18 and 7.2; between these the earlier answer
//! stands, and for kernels before 6.1 the answer of 6.1 (they allow the same or less). Extension programs (`Ext`) may
//! call what the program they replace a part of may call and stand in no set; struct_ops programs have the base set,
//! to which a struct can add (`conditional`). Configuration can take more away: `bpf_override_return` needs
//! CONFIG_BPF_KPROBE_OVERRIDE, `bpf_probe_write_user` is refused under lockdown.

mod abbreviations;
mod table_1;
mod table_2;
mod table_3;

use crate::{KernelVersion, ProgramType};

/// A set of program types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProgramSet(u64);

impl ProgramSet {
    /// No program type.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub const fn of(programs: &[ProgramType]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < programs.len() {
            bits |= 1 << programs[index] as u32;
            index += 1;
        }
        Self(bits)
    }

    /// Those in either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in this and not in `other`.
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is one of them.
    pub const fn contains(self, program: ProgramType) -> bool {
        self.0 & (1 << program as u32) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of the kernel's numbers.
    pub fn iter(self) -> impl Iterator<Item = ProgramType> {
        ProgramType::ALL.iter().copied().filter(move |&program| self.contains(program))
    }
}

/// What an argument must be. Source: `enum bpf_arg_type` in `include/linux/bpf.h`, without its modifiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArgKind {
    /// `ARG_ANYTHING`: any initialized value.
    Anything,
    /// `ARG_CONST_MAP_PTR`: a map.
    ConstMapPtr,
    /// `ARG_PTR_TO_MAP_KEY`: readable memory as large as the key of the map in an earlier argument.
    MapKey,
    /// `ARG_PTR_TO_MAP_VALUE`: memory as large as the value of that map.
    MapValue,
    /// `ARG_PTR_TO_MEM`: memory, as large as the next argument says, or of a fixed size.
    Mem,
    /// `ARG_CONST_SIZE`: a size above 0, bounded, of the memory before.
    ConstSize,
    /// `ARG_CONST_SIZE_OR_ZERO`: as before, 0 allowed.
    ConstSizeOrZero,
    /// `ARG_PTR_TO_CTX`: the program's context, unchanged.
    Ctx,
    /// `ARG_PTR_TO_SPIN_LOCK`: a `struct bpf_spin_lock` in a map value or allocated object.
    SpinLock,
    /// `ARG_PTR_TO_SOCK_COMMON`: a `struct sock_common` the verifier knows.
    SockCommon,
    /// `ARG_PTR_TO_SOCKET`: a full socket the verifier knows.
    Socket,
    /// `ARG_PTR_TO_BTF_ID`: a kernel object of the type that [`Arg::btf`] names.
    BtfId,
    /// `ARG_PTR_TO_RINGBUF_MEM`: a reserved ring buffer record.
    RingbufMem,
    /// `ARG_CONST_ALLOC_SIZE_OR_ZERO`: the constant size of what is reserved and returned.
    ConstAllocSizeOrZero,
    /// `ARG_PTR_TO_BTF_ID_SOCK_COMMON`: a socket, from a context field or as a kernel object.
    BtfIdSockCommon,
    /// `ARG_PTR_TO_PERCPU_BTF_ID`: a per-CPU kernel variable or object.
    PercpuBtfId,
    /// `ARG_PTR_TO_FUNC`: a function of the program.
    Func,
    /// `ARG_PTR_TO_STACK`: the caller's stack.
    Stack,
    /// `ARG_PTR_TO_CONST_STR`: a zero-terminated string in a read-only, frozen map.
    ConstStr,
    /// `ARG_PTR_TO_TIMER`: a `struct bpf_timer` in a map value.
    Timer,
    /// `ARG_KPTR_XCHG_DEST`: a field for a kernel pointer in a map value or allocated object.
    KptrXchgDest,
    /// `ARG_PTR_TO_DYNPTR`: a `struct bpf_dynptr` on the stack.
    Dynptr,
}

/// What a helper returns. Source: `enum bpf_return_type` in `include/linux/bpf.h`, without its modifiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RetKind {
    /// `RET_INTEGER`: a number.
    Integer,
    /// `RET_VOID`: nothing; the register must not be read.
    Void,
    /// `RET_PTR_TO_MAP_VALUE`: a value of the map argument.
    MapValue,
    /// `RET_PTR_TO_SOCKET`: a full socket.
    Socket,
    /// `RET_PTR_TO_TCP_SOCK`: a `struct bpf_tcp_sock`.
    TcpSock,
    /// `RET_PTR_TO_SOCK_COMMON`: any socket.
    SockCommon,
    /// `RET_PTR_TO_MEM`: memory, as large as the constant size argument.
    Mem,
    /// `RET_PTR_TO_MEM_OR_BTF_ID`: the per-CPU argument's own type.
    MemOrBtfId,
    /// `RET_PTR_TO_BTF_ID`: a kernel object of the type that [`Ret::btf`] names.
    BtfId,
}

/// Modifiers of an argument or a result. Numbers are the kernel's. Source: `enum bpf_type_flag` in `include/linux/bpf.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TypeFlags(pub u32);

impl TypeFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// `PTR_MAYBE_NULL`: null is allowed, or possible.
    pub const MAYBE_NULL: Self = Self(1 << 8);
    /// `MEM_RDONLY`: is only read, or may only be read.
    pub const RDONLY: Self = Self(1 << 9);
    /// `MEM_RINGBUF`: is a ring buffer record.
    pub const RINGBUF: Self = Self(1 << 10);
    /// `OBJ_RELEASE`: the reference is given up.
    pub const RELEASE: Self = Self(1 << 13);
    /// `MEM_UNINIT`: need not be initialized.
    pub const UNINIT: Self = Self(1 << 15);
    /// `DYNPTR_TYPE_LOCAL`: a dynptr over the program's own memory.
    pub const DYNPTR_LOCAL: Self = Self(1 << 16);
    /// `DYNPTR_TYPE_RINGBUF`: a dynptr over a ring buffer record.
    pub const DYNPTR_RINGBUF: Self = Self(1 << 17);
    /// `MEM_FIXED_SIZE`: as large as [`Arg::size`] says.
    pub const FIXED_SIZE: Self = Self(1 << 18);
    /// `PTR_TRUSTED`: known to be good.
    pub const TRUSTED: Self = Self(1 << 20);
    /// `MEM_ALIGNED`: must be aligned to its size.
    pub const ALIGNED: Self = Self(1 << 25);
    /// `MEM_WRITE`: is written.
    pub const WRITE: Self = Self(1 << 26);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg {
    /// What it must be.
    pub kind: ArgKind,
    /// Its modifiers.
    pub flags: TypeFlags,
    /// The size in bytes of fixed-size memory, else 0.
    pub size: u16,
    /// The kernel struct a [`ArgKind::BtfId`] points to; `None` where it is any, or the other argument's.
    pub btf: Option<&'static str>,
}

impl Arg {
    const fn new(kind: ArgKind) -> Self {
        Self { kind, flags: TypeFlags::NONE, size: 0, btf: None }
    }

    const fn with(self, flag: TypeFlags) -> Self {
        Self { flags: TypeFlags(self.flags.0 | flag.0), ..self }
    }

    const fn sized(self, size: u16) -> Self {
        Self { size, ..self }
    }

    const fn of(self, btf: &'static str) -> Self {
        Self { btf: Some(btf), ..self }
    }
}

/// A helper's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ret {
    /// What it is.
    pub kind: RetKind,
    /// Its modifiers.
    pub flags: TypeFlags,
    /// The kernel struct a [`RetKind::BtfId`] points to; `None` where it is the argument's.
    pub btf: Option<&'static str>,
}

impl Ret {
    const fn new(kind: RetKind) -> Self {
        Self { kind, flags: TypeFlags::NONE, btf: None }
    }

    const fn with(self, flag: TypeFlags) -> Self {
        Self { flags: TypeFlags(self.flags.0 | flag.0), ..self }
    }

    const fn of(self, btf: &'static str) -> Self {
        Self { btf: Some(btf), ..self }
    }
}

/// Demands and effects of a helper beyond its arguments and result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HelperFlags(u16);

impl HelperFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Only for programs under a licence the kernel takes for GPL-compatible (`gpl_only`).
    pub const GPL: Self = Self(1 << 0);
    /// Takes pointers into the packet where it takes memory (`pkt_access`).
    pub const PACKET_ACCESS: Self = Self(1 << 1);
    /// Only from programs that may sleep (`might_sleep`).
    pub const SLEEPS: Self = Self(1 << 2);
    /// Keeps all registers but the result, so a compiler need not spill them (`allow_fastcall`).
    pub const FAST_CALL: Self = Self(1 << 3);
    /// Ends every pointer into the packet that was checked before (`bpf_helper_changes_pkt_data`).
    pub const CHANGES_PACKET: Self = Self(1 << 4);
    /// The result is a reference that must be released (`is_acquire_function`; also map lookups in socket maps).
    pub const ACQUIRES: Self = Self(1 << 5);
    /// The result is the argument under another type, with the same reference (`is_ptr_cast_function`).
    pub const CASTS: Self = Self(1 << 6);
    /// Calls the function it is given before it returns.
    pub const CALLBACK: Self = Self(1 << 7);
    /// Keeps the function it is given, to be called later.
    pub const LATER_CALLBACK: Self = Self(1 << 8);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a helper takes, gives and needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// What it returns.
    pub ret: Ret,
    /// What it takes, at most five.
    pub args: &'static [Arg],
    /// Demands and effects.
    pub flags: HelperFlags,
}

impl Signature {
    /// Whether it is kept for GPL-compatible programs.
    pub fn gpl_only(&self) -> bool {
        self.flags.contains(HelperFlags::GPL)
    }

    /// Whether only programs that may sleep can call it.
    pub fn might_sleep(&self) -> bool {
        self.flags.contains(HelperFlags::SLEEPS)
    }
}

/// A helper function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Helper {
    /// The number in the call instruction.
    pub id: u32,
    /// The name, such as `bpf_map_lookup_elem`.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: KernelVersion,
    /// What it takes and gives in most program types.
    pub signature: Signature,
    /// What it takes and gives in these program types instead.
    pub variants: &'static [(ProgramSet, Signature)],
    /// Who may call it, by the kernel (major, minor) from which that is known to hold, oldest first.
    pub programs: &'static [(u16, u16, ProgramSet)],
    /// Those of them that may only in some places: it depends on the attach type, or on the struct of a struct_ops program.
    pub conditional: ProgramSet,
}

impl Helper {
    /// The signature it has in programs of this type.
    ///
    /// Two variants hang on more than the type and are not told apart: in kprobe programs `bpf_get_func_ip` is free of
    /// the GPL demand when attached to several functions at once, and programs that may sleep get variants of
    /// `bpf_get_stack` and `bpf_get_task_stack` that do.
    pub fn signature_in(&self, program: ProgramType) -> &Signature {
        self.variants.iter().find(|(set, _)| set.contains(program)).map_or(&self.signature, |(_, signature)| signature)
    }

    /// The program types that may call it on this kernel; `None` asks for the newest kernel known here.
    ///
    /// Empty before the helper's first kernel. Types that the kernel itself does not have yet may be in it.
    pub fn programs_on(&self, kernel: Option<KernelVersion>) -> ProgramSet {
        if kernel.is_some_and(|kernel| kernel < self.since) {
            return ProgramSet::EMPTY;
        }
        let known = self
            .programs
            .iter()
            .rev()
            .find(|(major, minor, _)| kernel.is_none_or(|kernel| kernel >= KernelVersion::new(*major, *minor)));
        known.or(self.programs.first()).map_or(ProgramSet::EMPTY, |(.., set)| *set)
    }
}

/// Every helper, by number: 1 to 211.
pub fn all() -> impl Iterator<Item = &'static Helper> {
    table_1::ROWS.iter().chain(table_2::ROWS).chain(table_3::ROWS)
}

/// The helper with this number, `None` for 0 and for those of newer kernels.
pub fn by_id(id: u32) -> Option<&'static Helper> {
    [table_1::ROWS, table_2::ROWS, table_3::ROWS].into_iter().find_map(|rows| {
        let first = rows.first()?.id;
        rows.get(usize::try_from(id.checked_sub(first)?).ok()?)
    })
}

/// The helper with this name: `bpf_map_lookup_elem`, `map_lookup_elem` or `BPF_FUNC_map_lookup_elem`.
pub fn by_name(name: &str) -> Option<&'static Helper> {
    let name = name.strip_prefix("bpf_").or_else(|| name.strip_prefix("BPF_FUNC_")).unwrap_or(name);
    all().find(|helper| helper.name.strip_prefix("bpf_") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_run_without_a_gap_and_names_round_trip() {
        assert_eq!(all().count(), 211);
        for (helper, id) in all().zip(1..) {
            assert_eq!(helper.id, id);
            assert_eq!(by_id(id), Some(helper));
            assert_eq!(by_name(helper.name), Some(helper));
        }
        assert_eq!((by_id(0), by_id(212), by_id(u32::MAX), by_name("unspec")), (None, None, None, None));
    }

    /// Ids are given in the order of merging, so the first kernels never go back.
    #[test]
    fn first_kernels_rise_with_the_ids() {
        let mut last = KernelVersion::new(3, 19);
        for helper in all() {
            assert!(helper.since >= last, "{} is said to be older than the helper before it", helper.name);
            last = helper.since;
        }
    }

    #[test]
    fn signatures_hold_together() {
        for helper in all() {
            for signature in helper.variants.iter().map(|(_, signature)| signature).chain([&helper.signature]) {
                let args = signature.args;
                assert!(args.len() <= 5, "{}", helper.name);
                for (place, arg) in args.iter().enumerate() {
                    let sized = matches!(arg.kind, ArgKind::ConstSize | ArgKind::ConstSizeOrZero);
                    assert!(
                        !sized || place > 0 && args[place - 1].kind == ArgKind::Mem,
                        "{}: a size behind no memory",
                        helper.name
                    );
                    let fixed = arg.flags.contains(TypeFlags::FIXED_SIZE);
                    assert_eq!(fixed, arg.size > 0, "{}", helper.name);
                    if arg.kind == ArgKind::Mem && !fixed {
                        let next = args.get(place + 1).map(|next| next.kind);
                        assert!(matches!(next, Some(ArgKind::ConstSize | ArgKind::ConstSizeOrZero)), "{}", helper.name);
                    }
                    if matches!(arg.kind, ArgKind::MapKey | ArgKind::MapValue) && helper.name != "bpf_timer_init" {
                        assert!(
                            args[..place].iter().any(|a| a.kind == ArgKind::ConstMapPtr),
                            "{}: no map",
                            helper.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn program_sets_only_name_known_kernels_in_order() {
        for helper in all() {
            assert!(!helper.programs.is_empty(), "{}", helper.name);
            assert!(helper.programs.is_sorted_by_key(|(major, minor, _)| (*major, *minor)), "{}", helper.name);
            let callers = helper.programs_on(None);
            assert!(callers.but(ProgramSet::of(ProgramType::ALL)).is_empty());
            assert!(!callers.contains(ProgramType::Unspec) && !callers.contains(ProgramType::Ext));
            for (set, _) in helper.variants {
                assert!(set.but(callers).is_empty(), "{}: a variant for a type that may not call it", helper.name);
            }
            assert!(helper.programs_on(Some(KernelVersion::new(3, 18))).is_empty());
        }
    }

    fn check(program: ProgramType, kernel: (u16, u16), name: &str, expected: bool) {
        let helper = by_name(name).expect(name);
        let kernel = KernelVersion::new(kernel.0, kernel.1);
        assert_eq!(helper.programs_on(Some(kernel)).contains(program), expected, "{program} {kernel} {name}");
    }

    #[test]
    fn who_may_call_what() {
        check(ProgramType::Xdp, (6, 1), "xdp_adjust_head", true);
        check(ProgramType::SchedCls, (6, 1), "xdp_adjust_head", false);
        check(ProgramType::Xdp, (5, 7), "ringbuf_output", false);
        check(ProgramType::Xdp, (5, 8), "ringbuf_output", true);
        check(ProgramType::SocketFilter, (6, 12), "get_current_comm", false);
        check(ProgramType::SocketFilter, (6, 18), "get_current_comm", true);
        check(ProgramType::Kprobe, (5, 10), "get_current_comm", true);
        check(ProgramType::Lsm, (6, 12), "bprm_opts_set", true);
        check(ProgramType::Tracing, (6, 12), "bprm_opts_set", false);
    }

    #[test]
    fn variants_are_found_by_program_type() {
        let cookie = by_name("get_socket_cookie").expect("helper 46");
        assert_eq!(cookie.signature_in(ProgramType::SchedCls).args[0].kind, ArgKind::Ctx);
        assert_eq!(cookie.signature_in(ProgramType::Tracing).args[0].kind, ArgKind::BtfIdSockCommon);
    }
}
