//! What a helper returns: the state of r0 after the call.

use skep_abi::MapType;
use skep_abi::flags::map_create;
use skep_abi::helpers::{HelperFlags, Ret, RetKind, Signature, TypeFlags};
use skep_btf::Kind;

use crate::call::args::CallMeta;
use crate::env::FieldKind;
use crate::explore::Verifier;
use crate::state::{BtfOf, RegFlags, RegKind, RegState};
use crate::stop::Stop;
use crate::subprog::between;

/// Errors are the negative numbers down to this.
const MAX_ERRNO: i64 = 4095;
const LOOKUP: u32 = 1;
const GET_SMP_PROCESSOR_ID: u32 = 8;
/// `bpf_get_stack`, `bpf_get_task_stack`, `bpf_probe_read_str` and its kin: as many bytes as they wrote, or an error.
const GIVE_SIZE: &[u32] = &[67, 141, 45, 114, 115];

fn reg_flags(flags: TypeFlags) -> RegFlags {
    [
        (TypeFlags::MAYBE_NULL, RegFlags::MAYBE_NULL),
        (TypeFlags::RDONLY, RegFlags::RDONLY),
        (TypeFlags::RINGBUF, RegFlags::RINGBUF),
        (TypeFlags::TRUSTED, RegFlags::TRUSTED),
    ]
    .iter()
    .filter(|(from, _)| flags.contains(*from))
    .fold(RegFlags::NONE, |all, (_, to)| all.with(*to))
}

impl Verifier<'_, '_> {
    /// r0 after the call; takes on the reference if the helper gives one.
    pub(super) fn helper_result(&mut self, meta: &CallMeta, signature: &Signature) -> Result<RegState, Stop> {
        let mut result = self.plain_result(meta, &signature.ret)?;
        if result.maybe_null() {
            result.id = self.new_id();
        }
        let socket_lookup = meta.id == LOOKUP
            && meta
                .map
                .and_then(|(map, _)| self.env.map(map))
                .is_some_and(|info| matches!(info.map_type(), MapType::Sockmap | MapType::Sockhash));
        if meta.flags.contains(HelperFlags::CASTS) {
            result.ref_id = meta.ref_id;
        } else if (meta.flags.contains(HelperFlags::ACQUIRES) && meta.id != LOOKUP) || socket_lookup {
            let id = self.acquire_reference()?;
            result.id = id;
            result.ref_id = id;
        }
        Ok(result)
    }

    fn plain_result(&mut self, meta: &CallMeta, ret: &Ret) -> Result<RegState, Stop> {
        let flags = reg_flags(ret.flags);
        Ok(match ret.kind {
            RetKind::Integer => self.number_result(meta),
            RetKind::Void => RegState::not_init(),
            RetKind::MapValue => {
                let Some((map, uid)) = meta.map else {
                    return Err(Stop::unsupported(format!("{} without a map", meta.name)));
                };
                let Some(info) = self.env.map(map) else {
                    return Err(Stop::unsupported("a map that is not described"));
                };
                // The element of a constant index is always there. Another inner map may have fewer, unless it is an array
                // without BPF_F_INNER_MAP: those are only put in place of one another with as many elements.
                let may_differ = u64::from(info.spec.flags) & map_create::BPF_F_INNER_MAP != 0;
                let as_many = !may_differ && (info.idx.is_some() || info.map_type() == MapType::Array);
                let there = meta.id == LOOKUP
                    && as_many
                    && meta.const_key.is_some_and(|key| key < u64::from(info.spec.max_entries));
                let locked = info.field(FieldKind::SpinLock).is_some() || info.field(FieldKind::ResSpinLock).is_some();
                let flags = if there { flags.without(RegFlags::MAYBE_NULL) } else { flags };
                let mut result = RegState { aux: uid, ..RegState::pointer(RegKind::MapValue(map), flags) };
                if !result.maybe_null() && locked {
                    result.id = self.new_id();
                }
                result
            }
            RetKind::Socket => RegState::pointer(RegKind::Sock, flags),
            RetKind::TcpSock => RegState::pointer(RegKind::TcpSock, flags),
            RetKind::SockCommon => RegState::pointer(RegKind::SockCommon, flags),
            RetKind::Mem => RegState { aux: meta.mem_size, ..RegState::pointer(RegKind::Mem, flags) },
            RetKind::BtfId => {
                let Some(btf) = self.env.kernel_btf else {
                    return Err(Stop::unsupported(format!("{} without the kernel's types", meta.name)));
                };
                let ty = ret.btf.and_then(|name| btf.find(name, Kind::Struct));
                let Some(ty) = ty else { return Err(Stop::unsupported(format!("what {} returns", meta.name))) };
                RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), flags)
            }
            RetKind::MemOrBtfId => {
                let (Some(btf), Some(ty)) = (self.env.kernel_btf, meta.percpu) else {
                    return Err(Stop::unsupported(format!("what {} returns", meta.name)));
                };
                if matches!(btf.kind(ty), Ok(Kind::Struct)) {
                    // Kernel objects are only ever read.
                    RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), flags.without(RegFlags::RDONLY))
                } else {
                    let size = btf.size_of(ty).ok().and_then(|size| u32::try_from(size).ok());
                    let Some(size) = size else {
                        return Err(Stop::unsupported("a kernel variable whose size cannot be told"));
                    };
                    RegState { aux: size, ..RegState::pointer(RegKind::Mem, flags) }
                }
            }
        })
    }

    fn number_result(&self, meta: &CallMeta) -> RegState {
        if meta.id == GET_SMP_PROCESSOR_ID {
            return between(0, i64::from(self.env.options.cpus.max(1)) - 1);
        }
        if GIVE_SIZE.contains(&meta.id) {
            return match i64::try_from(meta.size_max) {
                Ok(max) => between(-MAX_ERRNO, max),
                Err(_) => RegState::unknown(),
            };
        }
        RegState::unknown()
    }
}
