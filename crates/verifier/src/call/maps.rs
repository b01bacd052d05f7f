//! Which maps a helper takes, and what else depends on the map: read-only maps, tail calls, sockets in maps.

use skep_abi::{AttachType, MapType, ProgramType, map_helpers};
use skep_isa::Reg;

use crate::Code;
use crate::call::args::CallMeta;
use crate::explore::Verifier;
use crate::state::{MapId, RegState};
use crate::stop::Stop;

/// Helpers that change a map's elements.
const CHANGES: &[&str] = &["bpf_map_update_elem", "bpf_map_delete_elem", "bpf_map_push_elem", "bpf_map_pop_elem"];

impl Verifier<'_, '_> {
    /// A map argument: whether helper and map go together. Source: `check_map_func_compatibility` and `record_func_map`.
    pub(crate) fn check_map_for_helper(&self, meta: &CallMeta, reg: Reg, map: MapId) -> Result<(), Stop> {
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        let kind = info.map_type();
        let helper = meta.name;
        if !map_helpers::takes(helper, kind) && !self.socket_map_exception(helper, kind) {
            let only: Vec<&str> = map_helpers::ONLY_HELPERS
                .iter()
                .find(|(only, _)| *only == kind)
                .map(|(_, names)| names.to_vec())
                .unwrap_or_default();
            let stop = Stop::reject(Code::MapMismatch, format!("`{}` is a {kind} map", info.name()))
                .title(format!("{helper} does not take {kind} maps"))
                .about(reg)
                .kernel(format!("cannot pass map_type {} into func {helper}#{}", kind as u32, meta.id));
            let wanted: Option<String> = map_helpers::ONLY_MAPS
                .iter()
                .find(|(name, _)| *name == helper)
                .map(|(_, kinds)| kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
            return Err(match wanted {
                Some(wanted) => stop.help(format!("{helper} is for maps of these types: {wanted}")),
                None if only.is_empty() => stop.help(format!("no helper takes {kind} maps")),
                None => stop.help(format!("helpers for {kind} maps: {}", only.join(", "))),
            });
        }
        if matches!(kind, MapType::Sockmap | MapType::Sockhash)
            && matches!(helper, "bpf_map_update_elem" | "bpf_map_delete_elem")
            && !self.may_change_socket_map(helper)
        {
            return Err(Stop::reject(Code::MapMismatch, format!("`{}` is a {kind} map", info.name()))
                .title(format!("{} programs cannot change socket maps with {helper}", self.env.place.prog_type))
                .about(reg)
                .kernel(format!(
                    "cannot update sockmap in this context / cannot pass map_type {} into func {helper}",
                    kind as u32
                )));
        }
        if !info.can_write() && CHANGES.contains(&helper) {
            return Err(Stop::reject(Code::ReadOnly, format!("programs may not write map `{}`", info.name()))
                .about(reg)
                .help("take BPF_F_RDONLY_PROG off the map, or change it from user space")
                .kernel("write into map forbidden"));
        }
        Ok(())
    }

    /// Maps of sockets take update and delete where sockets may be put into them.
    fn socket_map_exception(&self, helper: &str, kind: MapType) -> bool {
        matches!(kind, MapType::Sockmap | MapType::Sockhash)
            && matches!(helper, "bpf_map_update_elem" | "bpf_map_delete_elem")
            && self.may_change_socket_map(helper)
    }

    fn may_change_socket_map(&self, helper: &str) -> bool {
        match self.env.place.prog_type {
            ProgramType::SockOps => helper == "bpf_map_delete_elem",
            ProgramType::Tracing => self.env.place.attach == Some(AttachType::TraceIter),
            program => map_helpers::SOCKMAP_UPDATERS.contains(program),
        }
    }

    /// `bpf_tail_call`: nothing may be held, and in a function the call that succeeds is a return to the caller.
    pub(crate) fn check_tail_call(&mut self, map: MapId) -> Result<(), Stop> {
        self.check_duties_done("the program may be left by a tail call").map_err(|stop| {
            stop.help("release everything before the tail call").kernel("tail_call would lead to reference leak")
        })?;
        let entries = self.env.map(map).map_or(0, |info| info.spec.max_entries);
        let index = *self.cur.reg(Reg::R3);
        if index.const_value().is_some_and(|index| index < u64::from(entries)) {
            self.mark_precise(Reg::R3);
        }
        if self.cur.frames.depth() == 0 {
            return Ok(());
        }
        let frame = self.cur.top();
        if frame.in_callback {
            return Err(Stop::reject(Code::TailCall, "in a callback")
                .title("a callback cannot make tail calls")
                .help("make the tail call behind the loop")
                .kernel("At callback return the register R0 has unknown scalar value should have been in [0, 1]"));
        }
        let callsite = frame.callsite;
        let back = self.fork(callsite.0 + 1, 1)?;
        if back.frames.pop().is_none() {
            return Err(Stop::unsupported("a tail call without a caller"));
        }
        *back.reg_mut(Reg::R0) = RegState::unknown();
        back.change_regs(RegState::is_any_packet, |reg| *reg = RegState::not_init());
        Ok(())
    }
}
