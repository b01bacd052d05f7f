//! Helpers that call a function of the program before they return: with which arguments it is entered.
//!
//! | helper | r1 | r2 | r3 | r4 |
//! |---|---|---|---|---|
//! | `bpf_loop` | any number | the data argument | | |
//! | `bpf_for_each_map_elem` | the map | a key | a value | the data argument |
//! | `bpf_find_vma` | the task | the area | the data argument | |
//!
//! The function returns 0 to go on and 1 to stop. How often it is gone through, and when that is enough, is the
//! exploration's ([`Verifier::push_callback`]).

use skep_abi::MapType;
use skep_btf::Kind;
use skep_isa::Reg;

use crate::Code;
use crate::call::args::CallMeta;
use crate::explore::Verifier;
use crate::state::{BtfOf, RegFlags, RegKind, RegState};
use crate::stop::Stop;
use crate::subprog::CallbackKind;

impl Verifier<'_, '_> {
    /// Enters the callback of a helper, as far as this module knows the helper.
    pub(crate) fn check_callback(&mut self, meta: &CallMeta) -> Result<(), Stop> {
        let Some(subprog) = meta.func else {
            return Err(Stop::unsupported(format!("{} without a callback", meta.name)));
        };
        let caller = self.cur.top().regs;
        let arg = |reg: Reg| caller[reg.index()];
        match meta.name {
            "bpf_loop" => {
                self.mark_precise(Reg::R1);
                let rounds = self.cur.reg(Reg::R1).num.umax;
                if u64::from(self.cur.top().callback_depth) >= rounds {
                    self.cur.top_mut().callback_depth = 0;
                    return Ok(());
                }
                self.push_callback(subprog, CallbackKind::Sync, |callee| {
                    callee.regs[1] = RegState::unknown();
                    callee.regs[2] = arg(Reg::R3);
                    callee.callback_range = (0, 1);
                })
            }
            "bpf_for_each_map_elem" => {
                let map_reg = arg(Reg::R1);
                let RegKind::MapPtr(map) = map_reg.kind else {
                    return Err(Stop::unsupported("a loop over no map"));
                };
                let Some(info) = self.env.map(map) else {
                    return Err(Stop::unsupported("a map that is not described"));
                };
                let known = matches!(
                    info.map_type(),
                    MapType::Array
                        | MapType::PercpuArray
                        | MapType::Hash
                        | MapType::PercpuHash
                        | MapType::LruHash
                        | MapType::LruPercpuHash
                );
                if !known {
                    return Err(Stop::reject(
                        Code::MapMismatch,
                        format!("`{}` is a {} map", info.name(), info.map_type()),
                    )
                    .title(format!("bpf_for_each_map_elem does not go through {} maps", info.map_type()))
                    .about(Reg::R1)
                    .help("it goes through arrays and hashes, also per-CPU and LRU ones")
                    .kernel("callback function not allowed for map"));
                }
                let locked = info.field(crate::env::FieldKind::SpinLock).is_some();
                let value_id = if locked { self.new_id() } else { 0 };
                self.push_callback(subprog, CallbackKind::Sync, |callee| {
                    callee.regs[1] = map_reg;
                    callee.regs[2] = RegState::pointer(RegKind::MapKey(map), RegFlags::NONE);
                    callee.regs[3] = RegState {
                        aux: map_reg.aux,
                        id: value_id,
                        ..RegState::pointer(RegKind::MapValue(map), RegFlags::NONE)
                    };
                    callee.regs[4] = arg(Reg::R3);
                    callee.callback_range = (0, 1);
                })
            }
            "bpf_find_vma" => {
                let area = self.env.kernel_btf.and_then(|btf| btf.find("vm_area_struct", Kind::Struct));
                let Some(area) = area else {
                    return Err(Stop::unsupported("bpf_find_vma without the kernel's types"));
                };
                self.push_callback(subprog, CallbackKind::Sync, |callee| {
                    callee.regs[1] = arg(Reg::R1);
                    callee.regs[2] = RegState::pointer(RegKind::Btf(BtfOf::Kernel, area), RegFlags::NONE);
                    callee.regs[3] = arg(Reg::R4);
                    callee.callback_range = (0, 1);
                })
            }
            _ => Err(Stop::unsupported(format!("callbacks of {}", meta.name))),
        }
    }
}
