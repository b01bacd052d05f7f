//! Short names for what comes again and again in the helper tables.

use super::HelperFlags;
pub(super) use super::{Arg, ArgKind, Helper, ProgramSet, Ret, RetKind, Signature, TypeFlags as F};
use crate::ProgramType as P;

pub(super) const fn sig(ret: Ret, args: &'static [Arg], flags: HelperFlags) -> Signature {
    Signature { ret, args, flags }
}

pub(super) const fn of(programs: &[P]) -> ProgramSet {
    ProgramSet::of(programs)
}

pub(super) const NO: HelperFlags = HelperFlags::NONE;
pub(super) const GPL: HelperFlags = HelperFlags::GPL;
pub(super) const PKT: HelperFlags = HelperFlags::PACKET_ACCESS;
pub(super) const SLEEP: HelperFlags = HelperFlags::SLEEPS;
pub(super) const FAST: HelperFlags = HelperFlags::FAST_CALL;
pub(super) const CHANGES_PACKET: HelperFlags = HelperFlags::CHANGES_PACKET;
pub(super) const ACQUIRES: HelperFlags = HelperFlags::ACQUIRES;
pub(super) const CASTS: HelperFlags = HelperFlags::CASTS;
pub(super) const CALLBACK: HelperFlags = HelperFlags::CALLBACK;
pub(super) const LATER_CALLBACK: HelperFlags = HelperFlags::LATER_CALLBACK;

pub(super) const INT: Ret = Ret::new(RetKind::Integer);
pub(super) const VOID: Ret = Ret::new(RetKind::Void);

pub(super) const ANY: Arg = Arg::new(ArgKind::Anything);
pub(super) const CTX: Arg = Arg::new(ArgKind::Ctx);
pub(super) const MAP: Arg = Arg::new(ArgKind::ConstMapPtr);
pub(super) const KEY: Arg = Arg::new(ArgKind::MapKey);
pub(super) const VALUE: Arg = Arg::new(ArgKind::MapValue);
/// A map value or null.
pub(super) const VALUE0: Arg = VALUE.with(F::MAYBE_NULL);
pub(super) const SIZE: Arg = Arg::new(ArgKind::ConstSize);
pub(super) const SIZE0: Arg = Arg::new(ArgKind::ConstSizeOrZero);
pub(super) const ALLOC_SIZE: Arg = Arg::new(ArgKind::ConstAllocSizeOrZero);
/// Memory that is only read.
pub(super) const MEM_RD: Arg = Arg::new(ArgKind::Mem).with(F::RDONLY);
/// Memory that is only read, or null.
pub(super) const MEM_RD0: Arg = MEM_RD.with(F::MAYBE_NULL);
/// Memory that is filled; need not be initialized.
pub(super) const MEM_OUT: Arg = Arg::new(ArgKind::Mem).with(F::UNINIT).with(F::WRITE);
/// Memory that is read and written.
pub(super) const MEM_WR: Arg = Arg::new(ArgKind::Mem).with(F::WRITE);
/// Memory of which the prototype says no more.
pub(super) const MEM: Arg = Arg::new(ArgKind::Mem);
/// The same, or null.
pub(super) const MEM0: Arg = MEM.with(F::MAYBE_NULL);
pub(super) const FUNC: Arg = Arg::new(ArgKind::Func);
pub(super) const TIMER: Arg = Arg::new(ArgKind::Timer);
pub(super) const LOCK: Arg = Arg::new(ArgKind::SpinLock);
pub(super) const CONST_STR: Arg = Arg::new(ArgKind::ConstStr);
pub(super) const SOCK_COMMON: Arg = Arg::new(ArgKind::SockCommon);
pub(super) const BTF_SOCK: Arg = Arg::new(ArgKind::BtfIdSockCommon);
pub(super) const PERCPU: Arg = Arg::new(ArgKind::PercpuBtfId);
pub(super) const KPTR: Arg = Arg::new(ArgKind::KptrXchgDest);

/// `bpf_tracing_func_proto` and what stands on it.
pub(super) const TRACE: ProgramSet = of(&[P::Kprobe, P::Tracepoint, P::PerfEvent]).or(RAW_TP).or(BTF_TRACE);
pub(super) const RAW_TP: ProgramSet = of(&[P::RawTracepoint, P::RawTracepointWritable]);
/// `tracing_prog_func_proto` and what stands on it.
pub(super) const BTF_TRACE: ProgramSet = of(&[P::Tracing, P::Lsm, P::Syscall]);
pub(super) const TC: ProgramSet = of(&[P::SchedCls, P::SchedAct]);
pub(super) const LWT: ProgramSet = of(&[P::LwtIn, P::LwtOut, P::LwtXmit, P::LwtSeg6local]);
pub(super) const CGROUP: ProgramSet = of(&[
    P::CgroupSkb,
    P::CgroupSock,
    P::CgroupDevice,
    P::CgroupSockAddr,
    P::CgroupSysctl,
    P::CgroupSockopt,
    P::SockOps,
]);
/// Every type that has helpers of its own: all but extensions, which have those of their target.
pub(super) const ALL: ProgramSet = ProgramSet::of(P::ALL).but(of(&[P::Unspec, P::Ext]));
pub(super) const NONE: ProgramSet = ProgramSet::EMPTY;
