//! Arithmetic: on numbers by [`crate::scalar`], on pointers by the rules for offsets.
//!
//! A pointer may have numbers added and subtracted, known ones into its fixed offset, others into the variable part. The sum of
//! both stays below 512 MB either way, so that no address wraps. Everything else done to a pointer gives no pointer, and is
//! refused unless what comes out is plainly a number (a difference of pointers, for the privileged).

use skep_isa::{AluOp, Reg, SignExtend, Source, SwapBits, SwapOp, Width};

use crate::Code;
use crate::exec::name;
use crate::explore::Verifier;
use crate::scalar::{self, Scalar};
use crate::state::{ADD_CONST, MAX_VAR_OFF, RegFlags, RegKind, RegState};
use crate::stop::Stop;

impl Verifier<'_, '_> {
    pub(crate) fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: Source) -> Result<(), Stop> {
        if op == AluOp::Mov {
            return self.mov(width, dst, src);
        }
        if let Source::Imm(imm) = src {
            let bits = if width == Width::W64 { 64 } else { 32 };
            if matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) && !(0..bits).contains(&imm) {
                return Err(Stop::reject(
                    Code::BadInstruction,
                    format!("shifts by {imm}; 0 to {} are possible", bits - 1),
                )
                .kernel(format!("invalid shift {imm}")));
            }
            if matches!(op, AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod) && imm == 0 {
                return Err(Stop::reject(Code::BadInstruction, "divides by the constant 0").kernel("div by zero"));
            }
        }
        self.read(dst)?;
        let right = self.operand(src, width)?;
        self.writable(dst)?;
        let left = *self.cur.reg(dst);
        let src_reg = match src {
            Source::Reg(reg) => Some(reg),
            Source::Imm(_) => None,
        };
        match (left.is_pointer(), right.is_pointer()) {
            (true, true) => {
                if op == AluOp::Sub && self.env.privileged {
                    *self.cur.reg_mut(dst) = RegState::unknown();
                    return Ok(());
                }
                Err(Stop::reject(
                    Code::PointerArithmetic,
                    format!("both {} and the other operand are pointers", name(dst)),
                )
                .about(dst)
                .kernel(format!("R{} pointer {} pointer prohibited", dst.number(), op.symbol())))
            }
            (true, false) => {
                if let Some(src) = src_reg {
                    self.mark_precise(src);
                }
                let result = self.offset_pointer(width, op, &left, &right, dst, false)?;
                *self.cur.reg_mut(dst) = result;
                Ok(())
            }
            (false, true) => {
                self.mark_precise(dst);
                let result = self.offset_pointer(width, op, &right, &left, dst, true)?;
                *self.cur.reg_mut(dst) = result;
                Ok(())
            }
            (false, false) => {
                let result = self.combine(width, op, &left, &right);
                *self.cur.reg_mut(dst) = result;
                Ok(())
            }
        }
    }

    /// Two numbers.
    fn combine(&self, width: Width, op: AluOp, left: &RegState, right: &RegState) -> RegState {
        // What the kernel does not compute it forgets whole, also after 32-bit operations.
        let num = if scalar::kernel_tracks(op, width, &right.num, self.env.kernel) {
            left.num.alu(op, width, &right.num)
        } else {
            Scalar::unknown()
        };
        let mut result = RegState::number(num);
        // `r1 = r2; r1 += 4`: r1 stays linked to r2.
        let delta = match (op, right.num.as_const()) {
            (AluOp::Add, Some(n)) => i32::try_from(n as i64).ok(),
            (AluOp::Sub, Some(n)) if self.env.since(6, 18) => i32::try_from((n as i64).wrapping_neg()).ok(),
            _ => None,
        };
        let delta = delta.filter(|delta| *delta >= 0 || self.env.since(6, 18));
        if let Some(delta) = delta {
            let linked = self.env.privileged && width == Width::W64 && left.id != 0 && left.id & ADD_CONST == 0;
            if linked && self.env.since(6, 12) {
                result.id = left.id | ADD_CONST;
                result.off = delta;
            }
        }
        result
    }

    fn mov(&mut self, width: Width, dst: Reg, src: Source) -> Result<(), Stop> {
        let Source::Reg(from) = src else {
            let value = self.operand(src, width)?;
            return self.write(dst, value);
        };
        self.read(from)?;
        self.writable(dst)?;
        let source = *self.cur.reg(from);
        if width == Width::W64 {
            if source.is_scalar() {
                self.give_id(from);
            }
            let copy = *self.cur.reg(from);
            *self.cur.reg_mut(dst) = copy;
            return Ok(());
        }
        if self.leaks(&source) {
            return Err(self.leak(from, "in part into another register"));
        }
        let result = if source.is_scalar() {
            if source.num.umax <= u64::from(u32::MAX) {
                self.give_id(from);
                *self.cur.reg(from)
            } else {
                RegState::number(source.num.truncate(32))
            }
        } else {
            RegState::number(Scalar::zero_extended(32))
        };
        *self.cur.reg_mut(dst) = result;
        Ok(())
    }

    /// Gives a number an identity before it is copied, so that what a branch tells of one copy is told of the other.
    pub(crate) fn give_id(&mut self, reg: Reg) {
        let state = self.cur.reg(reg);
        if let Some(changed) = self.identified(state) {
            if changed.id > self.last_id {
                self.last_id = changed.id;
            }
            *self.cur.reg_mut(reg) = changed;
        }
    }

    /// The number with an identity, if that is something new.
    pub(crate) fn identified(&self, state: &RegState) -> Option<RegState> {
        if !state.is_scalar() || !self.env.privileged {
            return None;
        }
        let linked = state.id & ADD_CONST != 0;
        if state.id != 0 && !linked {
            return None;
        }
        let mut changed = *state;
        if linked {
            changed.id = 0;
            changed.off = 0;
        }
        if !state.num.is_const() {
            changed.id = self.last_id + 1;
        } else if !linked {
            return None;
        }
        Some(changed)
    }

    pub(crate) fn negate(&mut self, width: Width, dst: Reg) -> Result<(), Stop> {
        let state = *self.read(dst)?;
        self.writable(dst)?;
        if self.leaks(&state) {
            return Err(self.leak(dst, "into arithmetic"));
        }
        let num = match (state.is_scalar() && self.env.kernel >= scalar::TRACKS_NEG_SINCE, width) {
            (true, _) => state.num.neg(width),
            (false, _) => Scalar::unknown(),
        };
        *self.cur.reg_mut(dst) = RegState::number(num);
        Ok(())
    }

    pub(crate) fn byte_swap(&mut self, op: SwapOp, bits: SwapBits, dst: Reg) -> Result<(), Stop> {
        let state = *self.read(dst)?;
        self.writable(dst)?;
        if self.leaks(&state) {
            return Err(self.leak(dst, "into arithmetic"));
        }
        let num = if state.is_scalar() && self.env.kernel >= scalar::TRACKS_BYTE_SWAP_SINCE {
            state.num.byte_swap(op, bits)
        } else {
            Scalar::unknown()
        };
        *self.cur.reg_mut(dst) = RegState::number(num);
        Ok(())
    }

    pub(crate) fn move_sign_extended(&mut self, form: SignExtend, dst: Reg, src: Reg) -> Result<(), Stop> {
        let state = *self.read(src)?;
        self.writable(dst)?;
        if self.leaks(&state) {
            return Err(self.leak(src, "in part into another register"));
        }
        let result = if state.is_scalar() {
            // Where nothing changes, the copy is the number itself.
            if state.num.umax < 1 << (form.bits() - 1) {
                self.give_id(src);
                *self.cur.reg(src)
            } else {
                RegState::number(state.num.sign_extend_as(form))
            }
        } else if form.width() == Width::W32 {
            RegState::number(Scalar::zero_extended(32))
        } else {
            RegState::unknown()
        };
        *self.cur.reg_mut(dst) = result;
        Ok(())
    }

    /// A pointer and a number; `swapped` if the number was the left operand.
    fn offset_pointer(
        &mut self,
        width: Width,
        op: AluOp,
        ptr: &RegState,
        offset: &RegState,
        dst: Reg,
        swapped: bool,
    ) -> Result<RegState, Stop> {
        let refuse = |label: String| Stop::reject(Code::PointerArithmetic, label).about(dst);
        if width == Width::W32 {
            if op == AluOp::Sub && self.env.privileged {
                return Ok(RegState::number(Scalar::unknown()));
            }
            return Err(refuse(format!("32-bit arithmetic on {}, which holds {}", name(dst), describe(ptr)))
                .help("pointers have 64 bits: compute the offset first and add it to the pointer")
                .kernel(format!("R{} 32-bit pointer arithmetic prohibited", dst.number())));
        }
        if ptr.maybe_null() {
            return Err(Stop::reject(Code::MaybeNull, format!("{} may be null and is computed with", name(dst)))
                .title("a pointer is computed with before it is checked for null")
                .about(dst)
                .help("compare the pointer with NULL first")
                .kernel(format!(
                    "R{} pointer arithmetic on {}_or_null prohibited, null-check it first",
                    dst.number(),
                    kernel_kind(ptr)
                )));
        }
        if ptr.kind == RegKind::Mem && ptr.flags.any(RegFlags::UNTRUSTED) {
            return Ok(*ptr);
        }
        let known = offset.num.as_const().map(|n| n as i64);
        let allowed = match ptr.kind {
            RegKind::FlowKeys => known.is_some(),
            RegKind::MapPtr(_) => known == Some(0) && op == AluOp::Add,
            RegKind::PacketEnd | RegKind::Sock | RegKind::SockCommon | RegKind::TcpSock | RegKind::XdpSock => false,
            _ => true,
        };
        if !allowed {
            return Err(refuse(format!("{} holds {}, which stays as it is", name(dst), describe(ptr)))
                .kernel(format!("R{} pointer arithmetic on {} prohibited", dst.number(), kernel_kind(ptr))));
        }
        self.sane_offset(dst, offset)?;
        self.sane_offset(dst, ptr)?;
        let mut result = *ptr;
        match op {
            AluOp::Add => {
                if let Some(off) =
                    known.and_then(|n| i64::from(ptr.off).checked_add(n)).and_then(|n| i32::try_from(n).ok())
                {
                    result.off = off;
                } else {
                    result.num = ptr.num.alu(AluOp::Add, Width::W64, &offset.num);
                    if ptr.is_packet() {
                        result.id = self.new_id();
                        result.set_range(0);
                    }
                }
            }
            AluOp::Sub => {
                if swapped {
                    return Err(refuse(format!("subtracts a pointer from the number in {}", name(dst)))
                        .kernel(format!("R{} tried to subtract pointer from scalar", dst.number())));
                }
                if matches!(ptr.kind, RegKind::Stack(_)) {
                    return Err(refuse("subtracts from a stack address".to_owned())
                        .help("add a negative number")
                        .kernel(format!("R{} subtraction from stack pointer prohibited", dst.number())));
                }
                if let Some(off) =
                    known.and_then(|n| i64::from(ptr.off).checked_sub(n)).and_then(|n| i32::try_from(n).ok())
                {
                    result.off = off;
                } else {
                    result.num = ptr.num.alu(AluOp::Sub, Width::W64, &offset.num);
                    if ptr.is_packet() {
                        result.id = self.new_id();
                        if offset.num.smin < 0 {
                            result.set_range(0);
                        }
                    }
                }
            }
            _ => {
                return Err(refuse(format!("`{}` on {}, which holds {}", op.symbol(), name(dst), describe(ptr)))
                    .help("only additions and subtractions keep a pointer; compute the offset in a number first")
                    .kernel(format!("R{} pointer arithmetic with {} operator prohibited", dst.number(), op.symbol())));
            }
        }
        self.sane_offset(dst, &result)?;
        Ok(result)
    }

    /// Neither part of an offset may grow past 512 MB either way.
    fn sane_offset(&self, dst: Reg, reg: &RegState) -> Result<(), Stop> {
        let unbounded = |label: String, says: String| {
            Stop::reject(Code::UnboundedOffset, label)
                .about(dst)
                .help(
                    "bound the number before it is added: mask it with & or compare it, as unsigned or with both ends",
                )
                .kernel(says)
        };
        if let Some(n) = reg.num.as_const().map(|n| n as i64)
            && n.checked_abs().is_none_or(|n| n >= MAX_VAR_OFF)
        {
            return Err(unbounded(
                format!("the offset becomes {n}"),
                format!("math between pointer and {n} is not allowed"),
            ));
        }
        if i64::from(reg.off).abs() >= MAX_VAR_OFF {
            return Err(unbounded(
                format!("the offset becomes {}", reg.off),
                format!("pointer offset {} is not allowed", reg.off),
            ));
        }
        let smin = reg.num.smin;
        if smin == i64::MIN {
            return Err(unbounded(
                format!("what is added to {} has no lower bound", name(dst)),
                "math between pointer and register with unbounded min value is not allowed".to_owned(),
            ));
        }
        if smin >= MAX_VAR_OFF || smin <= -MAX_VAR_OFF {
            return Err(unbounded(
                format!("the least value of the offset is {smin}"),
                format!("value {smin} makes pointer be out of bounds"),
            ));
        }
        Ok(())
    }
}

/// What a pointer is of, for people.
pub(crate) fn describe(reg: &RegState) -> &'static str {
    match reg.kind {
        RegKind::NotInit => "nothing",
        RegKind::Scalar => "a number",
        RegKind::Ctx => "the context",
        RegKind::MapPtr(_) => "a map",
        RegKind::MapValue(_) => "a map value",
        RegKind::MapKey(_) => "a map key",
        RegKind::Stack(_) => "a stack address",
        RegKind::Packet => "a packet pointer",
        RegKind::PacketMeta => "a packet metadata pointer",
        RegKind::PacketEnd => "the packet's end",
        RegKind::FlowKeys => "flow keys",
        RegKind::Sock | RegKind::SockCommon => "a socket",
        RegKind::TcpSock => "a TCP socket",
        RegKind::XdpSock => "an XDP socket",
        RegKind::TpBuffer => "a tracepoint's record",
        RegKind::Btf(..) => "a kernel object",
        RegKind::Mem => "memory",
        RegKind::Buf => "a buffer",
        RegKind::Func(_) => "a function's address",
        RegKind::Dynptr(_) => "a dynptr",
        RegKind::Iter(_) => "an iterator",
    }
}

/// What the kernel's log calls it.
pub(crate) fn kernel_kind(reg: &RegState) -> &'static str {
    match reg.kind {
        RegKind::NotInit => "?",
        RegKind::Scalar => "scalar",
        RegKind::Ctx => "ctx",
        RegKind::MapPtr(_) => "map_ptr",
        RegKind::MapValue(_) => "map_value",
        RegKind::MapKey(_) => "map_key",
        RegKind::Stack(_) => "fp",
        RegKind::Packet => "pkt",
        RegKind::PacketMeta => "pkt_meta",
        RegKind::PacketEnd => "pkt_end",
        RegKind::FlowKeys => "flow_keys",
        RegKind::Sock => "sock",
        RegKind::SockCommon => "sock_common",
        RegKind::TcpSock => "tcp_sock",
        RegKind::XdpSock => "xdp_sock",
        RegKind::TpBuffer => "tp_buffer",
        RegKind::Btf(..) => "ptr_",
        RegKind::Mem => "mem",
        RegKind::Buf => "buf",
        RegKind::Func(_) => "func",
        RegKind::Dynptr(_) => "dynptr_ptr",
        RegKind::Iter(_) => "iter",
    }
}
