//! One instruction: which part of the check decides it.

use skep_isa::{Call, Insn, InsnIdx, Reg, Source, Wide, Width};
use skep_object::{ExternKind, RelocKind};

use crate::Code;
use crate::explore::{Flow, Verifier};
use crate::scalar::Scalar;
use crate::state::{MapId, RegFlags, RegKind, RegState};
use crate::stop::Stop;

impl Verifier<'_, '_> {
    pub(crate) fn execute_insn(&mut self, at: u32, insn: Insn) -> Result<Flow, Stop> {
        match insn {
            Insn::Alu { width, op, dst, src } => self.alu(width, op, dst, src)?,
            Insn::Neg { width, dst } => self.negate(width, dst)?,
            Insn::MovSx { form, dst, src } => self.move_sign_extended(form, dst, src)?,
            Insn::ByteSwap { op, bits, dst } => self.byte_swap(op, bits, dst)?,
            Insn::AddrSpaceCast { .. } => return Err(Stop::unsupported("arena address space casts")),
            Insn::LoadWide { dst, value } => self.load_wide(at, dst, value)?,
            Insn::Load { size, dst, base, off } => self.load(size, dst, base, off, false)?,
            Insn::LoadSx { size, dst, base, off } => self.load(size.into(), dst, base, off, true)?,
            Insn::Store { size, base, off, src } => self.store(size, base, off, src)?,
            Insn::Atomic { width, op, base, off, src } => self.atomic(width, op, base, off, src)?,
            Insn::LoadAcquire { size, dst, base, off } => self.load_acquire(size, dst, base, off)?,
            Insn::StoreRelease { size, base, off, src } => self.store_release(size, base, off, src)?,
            Insn::LoadAbs { .. } => self.load_from_packet(None)?,
            Insn::LoadInd { src, .. } => self.load_from_packet(Some(src))?,
            Insn::Jump { .. } | Insn::JumpLong { .. } => {
                self.count_jump();
                return insn.target(InsnIdx(at)).map(|to| Flow::Goto(to.0)).ok_or_else(|| no_target(at));
            }
            Insn::JumpIf { width, op, dst, src, .. } => {
                self.count_jump();
                let target = insn.target(InsnIdx(at)).ok_or_else(|| no_target(at))?;
                return self.branch(width, op, dst, src, target.0);
            }
            Insn::MayGoto { .. } => {
                self.count_jump();
                let target = insn.target(InsnIdx(at)).ok_or_else(|| no_target(at))?;
                return self.may_goto(target.0);
            }
            Insn::Call(call) => {
                self.count_jump();
                match call {
                    Call::Helper(id) => self.check_helper_call(at, id)?,
                    Call::Kfunc { btf_id, .. } => self.check_kfunc_call(at, btf_id)?,
                    Call::Subprog(_) => {
                        let target = insn.target(InsnIdx(at)).ok_or_else(|| no_target(at))?;
                        return self.call_subprog(target.0);
                    }
                }
            }
            Insn::Exit => {
                self.count_jump();
                return self.exit();
            }
            Insn::JumpReg { .. } => return Err(Stop::unsupported("indirect jumps (gotox)")),
            Insn::CallReg { .. } => return Err(Stop::unsupported("calls through registers")),
        }
        Ok(Flow::Next)
    }

    /// A register that is read: it must hold something.
    pub(crate) fn read(&self, reg: Reg) -> Result<&RegState, Stop> {
        let state = self.cur.reg(reg);
        if state.is_init() { Ok(state) } else { Err(self.uninit(reg)) }
    }

    fn uninit(&self, reg: Reg) -> Stop {
        let after_call = matches!(reg, Reg::R1 | Reg::R2 | Reg::R3 | Reg::R4 | Reg::R5);
        let stop = Stop::reject(Code::UninitRegister, format!("{} has no value here", name(reg)))
            .kernel(format!("R{} !read_ok", reg.number()))
            .about(reg);
        match reg {
            Reg::R0 if matches!(self.env.insn(self.insn), Some(Insn::Exit)) => {
                stop.title("the function returns without a value").help("return a number on every path")
            }
            _ if after_call => stop.fact("calls leave nothing in r1 to r5").help(
                "give the variable a value on every path; values kept over calls belong in r6 to r9 or on the stack",
            ),
            _ => stop.help("give the variable a value on every path that leads here"),
        }
    }

    /// A register that is written.
    pub(crate) fn write(&mut self, reg: Reg, value: RegState) -> Result<(), Stop> {
        self.writable(reg)?;
        *self.cur.reg_mut(reg) = value;
        Ok(())
    }

    pub(crate) fn writable(&self, reg: Reg) -> Result<(), Stop> {
        if reg == Reg::R10 {
            return Err(Stop::reject(Code::FramePointer, "writes r10").kernel("frame pointer is read only"));
        }
        Ok(())
    }

    /// The right operand, read.
    pub(crate) fn operand(&self, src: Source, width: Width) -> Result<RegState, Stop> {
        match src {
            Source::Reg(reg) => self.read(reg).copied(),
            Source::Imm(imm) => Ok(match width {
                Width::W64 => RegState::number(Scalar::immediate(imm)),
                Width::W32 => RegState::constant((imm as u32).into()),
            }),
        }
    }

    /// Whether using this register as a number would show a kernel address to a program that must not see it.
    pub(crate) fn leaks(&self, reg: &RegState) -> bool {
        !self.env.privileged && reg.is_pointer()
    }

    fn load_wide(&mut self, at: u32, dst: Reg, value: Wide) -> Result<(), Stop> {
        self.writable(dst)?;
        let state = match self.env.reloc(at) {
            Some(RelocKind::Map(map)) => self.map_address(MapId(map.0 as u32))?,
            Some(RelocKind::MapValue(map)) => {
                let offset = match value {
                    Wide::MapValue { off, .. } | Wide::MapIdxValue { off, .. } => off,
                    Wide::Imm64(bits) => (bits >> 32) as u32,
                    _ => 0,
                };
                self.map_value_address(MapId(map.0 as u32), offset)?
            }
            Some(RelocKind::Extern(index)) => {
                let Some(spec) = self.env.extern_spec(index) else {
                    return Err(Stop::unsupported("a reference to an extern that is not described"));
                };
                match spec.kind {
                    ExternKind::TypedKsym { .. } => self.kernel_variable(spec.lookup_name(), spec.weak)?,
                    ExternKind::UntypedKsym => RegState::unknown(),
                    ExternKind::Kfunc { .. } => self.kfunc_address(spec.lookup_name(), spec.weak),
                    ExternKind::Kconfig { .. } => {
                        return Err(Stop::unsupported("a .kconfig variable that is not in its map"));
                    }
                }
            }
            Some(RelocKind::ExternCall(_)) => return Err(Stop::unsupported("a call relocation at a load")),
            None => match value {
                Wide::Imm64(bits) => RegState::constant(bits),
                Wide::Func(_) => {
                    let target = self.env.insn(at).and_then(|insn| insn.target(InsnIdx(at)));
                    let subprog = target.and_then(|to| self.env.subprog_at(to.0)).ok_or_else(|| no_target(at))?;
                    if self.env.subprog(subprog).is_some_and(|subprog| subprog.global) {
                        return Err(Stop::reject(Code::Callback, "a global function cannot be a callback")
                            .help("make the callback static")
                            .kernel("callback function not static"));
                    }
                    RegState::pointer(RegKind::Func(subprog), RegFlags::NONE)
                }
                Wide::BtfVar { btf_id, btf_fd: 0 } => self.kernel_variable_by_id(skep_btf::TypeId(btf_id))?,
                _ => return Err(Stop::unsupported("maps and types given by file descriptor")),
            },
        };
        *self.cur.reg_mut(dst) = state;
        Ok(())
    }

    fn map_address(&self, map: MapId) -> Result<RegState, Stop> {
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        self.check_map(info)?;
        Ok(RegState::pointer(RegKind::MapPtr(map), RegFlags::NONE))
    }

    fn map_value_address(&mut self, map: MapId, offset: u32) -> Result<RegState, Stop> {
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        self.check_map(info)?;
        let size = info.spec.value_size;
        if info.spec.map_type != skep_abi::MapType::Array || info.spec.max_entries > 1 || offset >= size {
            return Err(Stop::reject(Code::MapMismatch, "the address of a value of this map")
                .fact(format!("offset {offset}; the value has {size} bytes"))
                .kernel("direct value offset of %u is not allowed"));
        }
        let off = i32::try_from(offset).map_err(|_| Stop::unsupported("data sections past 2 GB"))?;
        let mut state = RegState { off, ..RegState::pointer(RegKind::MapValue(map), RegFlags::NONE) };
        if info.field(crate::env::FieldKind::SpinLock).is_some() {
            // Tells locks of different loads apart.
            state.id = self.new_id();
        }
        Ok(state)
    }

    /// Map types that are not modelled, or that this kernel does not have.
    fn check_map(&self, info: &crate::env::MapInfo<'_>) -> Result<(), Stop> {
        let kind = info.map_type();
        if kind.since() > self.env.kernel {
            return Err(Stop::reject(Code::KernelTooOld, format!("map `{}`", info.name())).title(format!(
                "Linux {} has no {kind} maps; {} is the first that has",
                self.env.kernel,
                kind.since()
            )));
        }
        match kind {
            skep_abi::MapType::Arena => Err(Stop::unsupported("arena maps")),
            skep_abi::MapType::InsnArray => Err(Stop::unsupported("instruction array maps")),
            skep_abi::MapType::StructOps => Err(Stop::unsupported("struct_ops maps")),
            _ => {
                self.check_map_fits(info)?;
                self.check_map_fields(info)
            }
        }
    }

    /// Maps that programs of this type cannot use. Source: `check_map_prog_compatibility`.
    fn check_map_fits(&self, info: &crate::env::MapInfo<'_>) -> Result<(), Stop> {
        use skep_abi::MapType as M;
        let fits_sleepable = matches!(
            info.map_type(),
            M::Hash
                | M::LruHash
                | M::Array
                | M::PercpuHash
                | M::PercpuArray
                | M::LruPercpuHash
                | M::ArrayOfMaps
                | M::HashOfMaps
                | M::Ringbuf
                | M::UserRingbuf
                | M::InodeStorage
                | M::SkStorage
                | M::TaskStorage
                | M::CgrpStorage
                | M::Queue
                | M::Stack
                | M::Arena
        );
        if self.env.place.sleepable && !fits_sleepable {
            return Err(Stop::reject(Code::MapMismatch, format!("map `{}`", info.name()))
                .title(format!("programs that may sleep cannot use {} maps", info.map_type()))
                .kernel("Sleepable programs can only use array, hash, ringbuf and local storage maps"));
        }
        Ok(())
    }

    /// `r0 = *(u8 *)skb[...]`.
    fn load_from_packet(&mut self, src: Option<Reg>) -> Result<(), Stop> {
        use skep_abi::ProgramType as P;
        if !matches!(self.env.place.prog_type, P::SocketFilter | P::SchedCls | P::SchedAct) {
            return Err(Stop::reject(Code::BadInstruction, "this form of packet access")
                .title(format!("{} programs cannot use LD_ABS and LD_IND", self.env.place.prog_type))
                .help("use bpf_skb_load_bytes()")
                .kernel("BPF_LD_[ABS|IND] instructions not allowed for this program type"));
        }
        if self.cur.duties.locks > 0 || self.cur.duties.rcu > 0 || self.cur.duties.preempt > 0 {
            return Err(Stop::reject(Code::LockBalance, "may leave the program while a lock is held")
                .kernel("BPF_LD_[ABS|IND] cannot be used inside a locked region"));
        }
        if let Some(held) = self.cur.duties.held.first() {
            return Err(Stop::reject(Code::LeakedReference, "may leave the program while a reference is held")
                .fact(format!("the reference is from instruction {}", held.insn))
                .kernel("BPF_LD_[ABS|IND] would lead to reference leak"));
        }
        self.read(Reg::R6)?;
        let ctx = self.cur.reg(Reg::R6);
        if ctx.kind != RegKind::Ctx {
            return Err(Stop::reject(Code::ArgumentType, "r6 must hold the context here")
                .about(Reg::R6)
                .kernel("at the time of BPF_LD_ABS|IND R6 != pointer to skb"));
        }
        if ctx.off != 0 || ctx.num.as_const() != Some(0) {
            return Err(Stop::reject(Code::ContextChanged, "r6 must hold the unchanged context here").about(Reg::R6));
        }
        if let Some(src) = src {
            let index = self.read(src)?;
            if self.leaks(index) {
                return Err(self.leak(src, "into an offset"));
            }
        }
        let frame = self.cur.top_mut();
        for reg in &mut frame.regs[1..=5] {
            *reg = RegState::not_init();
        }
        frame.regs[0] = RegState::unknown();
        Ok(())
    }

    /// The rejection of a pointer that would be seen.
    pub(crate) fn leak(&self, reg: Reg, whither: &str) -> Stop {
        Stop::reject(Code::PointerLeak, format!("{} holds a kernel address and goes {whither}", name(reg)))
            .about(reg)
            .help("programs without CAP_PERFMON must not show addresses; store something else, such as an id")
            .kernel(format!("R{} leaks addr {whither}", reg.number()))
    }
}

fn no_target(at: u32) -> Stop {
    Stop::reject(Code::BadJump, "jumps out of the program").at(InsnIdx(at))
}

/// `r3`
pub(crate) fn name(reg: Reg) -> String {
    format!("r{}", reg.number())
}
