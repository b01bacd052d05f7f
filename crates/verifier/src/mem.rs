//! Loads and stores: what may be accessed through each kind of pointer, and what comes out.

use skep_abi::ProgramType;
use skep_isa::{AtomicOp, Reg, Size, Source, Width};

use crate::Code;
use crate::alu::{describe, kernel_kind};
use crate::env::FieldKind;
use crate::exec::name;
use crate::explore::Verifier;
use crate::scalar::Tnum;
use crate::stack::{HelperUse, Stored};
use crate::state::{MAX_VAR_OFF, MapId, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// Direction of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// What a load fills or a store writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    /// The register that is filled; none for reads that only ask whether they are allowed.
    Into(Option<Reg>),
    /// What is written.
    From(Stored),
}

/// Size of `struct bpf_flow_keys`.
const FLOW_KEYS_SIZE: i64 = 56;
/// Size of `struct bpf_tcp_sock`.
const TCP_SOCK_SIZE: i64 = 112;
/// Greatest size of the record of a writable raw tracepoint.
const TP_BUFFER_MAX: i64 = 4096;

/// Classes of [`Verifier::pointer_kinds`] that can be mixed: memory with kernel objects in loads, memory with any other.
const KERNEL_OBJECT: u8 = 6;
const MEMORY: u8 = 7;
const ANY_MEMORY: u8 = 0xff;

impl Verifier<'_, '_> {
    pub(crate) fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16, signed: bool) -> Result<(), Stop> {
        self.read(base)?;
        self.writable(dst)?;
        self.same_pointer_kind(base, true)?;
        self.access(base, off.into(), size, Operand::Into(Some(dst)), false, signed)
    }

    pub(crate) fn store(&mut self, size: Size, base: Reg, off: i16, src: Source) -> Result<(), Stop> {
        self.read(base)?;
        let value = match src {
            Source::Reg(reg) => {
                self.read(reg)?;
                Stored::Reg(reg)
            }
            Source::Imm(imm) => Stored::Imm(imm),
        };
        self.same_pointer_kind(base, false)?;
        self.access(base, off.into(), size, Operand::From(value), false, false)
    }

    pub(crate) fn load_acquire(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> Result<(), Stop> {
        self.read(base)?;
        self.writable(dst)?;
        self.atomic_target(base)?;
        self.same_pointer_kind(base, false)?;
        self.access(base, off.into(), size, Operand::Into(Some(dst)), true, false)
    }

    pub(crate) fn store_release(&mut self, size: Size, base: Reg, off: i16, src: Reg) -> Result<(), Stop> {
        self.read(src)?;
        self.read(base)?;
        self.atomic_target(base)?;
        self.same_pointer_kind(base, false)?;
        self.access(base, off.into(), size, Operand::From(Stored::Reg(src)), true, false)
    }

    pub(crate) fn atomic(&mut self, width: Width, op: AtomicOp, base: Reg, off: i16, src: Reg) -> Result<(), Stop> {
        let size = if width == Width::W64 { Size::DW } else { Size::W };
        self.read(src)?;
        self.read(base)?;
        if op == AtomicOp::CmpXchg {
            let old = *self.read(Reg::R0)?;
            if self.leaks(&old) {
                return Err(self.leak(Reg::R0, "into mem"));
            }
        }
        let value = *self.cur.reg(src);
        if self.leaks(&value) {
            return Err(self.leak(src, "into mem"));
        }
        self.atomic_target(base)?;
        let into = op.fetches_into(src);
        if let Some(into) = into {
            self.writable(into)?;
        }
        // The address must not change under the store by what the load fills.
        let address = *self.cur.reg(base);
        self.access(base, off.into(), size, Operand::Into(None), true, false)?;
        if let Some(into) = into {
            self.access(base, off.into(), size, Operand::Into(Some(into)), true, false)?;
        }
        let fetched = *self.cur.reg(base);
        *self.cur.reg_mut(base) = address;
        let stored = self.access(base, off.into(), size, Operand::From(Stored::Unknown), true, false);
        *self.cur.reg_mut(base) = fetched;
        stored
    }

    fn atomic_target(&self, base: Reg) -> Result<(), Stop> {
        let reg = self.cur.reg(base);
        let forbidden = matches!(reg.kind, RegKind::Ctx | RegKind::FlowKeys) || reg.is_any_packet() || reg.is_socket();
        if forbidden {
            return Err(Stop::reject(Code::Atomic, format!("{} holds {}", name(base), describe(reg)))
                .about(base)
                .help("atomic operations work on map values, other memory and the stack")
                .kernel(format!("BPF_ATOMIC stores into R{} {} is not allowed", base.number(), kernel_kind(reg))));
        }
        Ok(())
    }

    /// One instruction must access the same kind of pointer on all paths where the kernel rewrites the access by kind.
    fn same_pointer_kind(&mut self, base: Reg, load: bool) -> Result<(), Stop> {
        let reg = self.cur.reg(base);
        let class = match reg.kind {
            RegKind::Ctx => 1,
            RegKind::Sock => 2,
            RegKind::SockCommon => 3,
            RegKind::TcpSock => 4,
            RegKind::XdpSock => 5,
            RegKind::Btf(..) => KERNEL_OBJECT,
            RegKind::Mem => MEMORY,
            _ => ANY_MEMORY,
        };
        let Some(known) = self.pointer_kinds.get_mut(self.insn as usize) else { return Ok(()) };
        let plain = |class: u8| class == MEMORY || class == ANY_MEMORY;
        let guarded = |class: u8| class == MEMORY || class == KERNEL_OBJECT;
        if *known == 0 {
            *known = class;
        } else if *known != class && plain(*known) && plain(class) {
            *known = ANY_MEMORY;
        } else if *known != class && load && guarded(*known) && guarded(class) {
            *known = KERNEL_OBJECT;
        } else if *known != class {
            return Err(Stop::reject(
                Code::BadAccess,
                format!("{} holds {} here, and another kind of pointer on another path", name(base), describe(reg)),
            )
            .title("the same access is made through different kinds of pointers")
            .about(base)
            .help("access them in separate branches, and keep the compiler from merging those")
            .kernel("same insn cannot be used with different pointers"));
        }
        Ok(())
    }

    /// One access through a register, with the result put into the register.
    pub(crate) fn access(
        &mut self,
        base: Reg,
        off: i32,
        size: Size,
        operand: Operand,
        strict: bool,
        signed: bool,
    ) -> Result<(), Stop> {
        let reg = *self.cur.reg(base);
        let bytes = i32::from(size.bytes());
        let how = match operand {
            Operand::Into(_) => Access::Read,
            Operand::From(_) => Access::Write,
        };
        self.check_alignment(base, &reg, off, bytes, strict)?;
        let total = off.checked_add(reg.off).ok_or_else(|| Stop::unsupported("offsets past 2 GB"))?;
        let writes_pointer = match operand {
            Operand::From(Stored::Reg(src)) => self.leaks(self.cur.reg(src)).then_some(src),
            _ => None,
        };
        let no_leak = |this: &Self, whither: &str| match writes_pointer {
            Some(src) => Err(this.leak(src, whither)),
            None => Ok(()),
        };
        let result: RegState = match reg.kind {
            RegKind::MapKey(map) if !reg.maybe_null() => {
                if how == Access::Write {
                    return Err(self.read_only(base, &reg));
                }
                let limit = self.env.map(map).map_or(0, |map| map.spec.key_size);
                self.check_region(base, &reg, total, bytes, limit.into(), false)?;
                RegState::unknown()
            }
            RegKind::MapValue(map) if !reg.maybe_null() => {
                no_leak(self, "into map")?;
                self.check_map_value(base, &reg, map, total, bytes, how, false)?;
                self.frozen_value(&reg, map, total, bytes, signed).unwrap_or_else(RegState::unknown)
            }
            RegKind::Mem if !reg.maybe_null() => {
                if how == Access::Write && reg.flags.any(RegFlags::RDONLY) {
                    return Err(self.read_only(base, &reg));
                }
                no_leak(self, "into mem")?;
                if !reg.flags.any(RegFlags::UNTRUSTED) {
                    self.check_region(base, &reg, total, bytes, reg.aux.into(), false)?;
                }
                RegState::unknown()
            }
            RegKind::Ctx => {
                no_leak(self, "into ctx")?;
                self.check_unchanged(base, &reg)?;
                let value = self.access_context(base, total, bytes, how)?;
                // `data` of 4 bytes becomes a pointer of 8; with a sign it would become half of one.
                if signed && value.is_pointer() {
                    return Err(Stop::reject(
                        Code::ContextAccess,
                        format!("{} is loaded with its sign", describe(&value)),
                    )
                    .title("a pointer is loaded from the context as a signed number")
                    .about(base)
                    .help("load the field unsigned: `(void *)(long)ctx->data`")
                    .kernel(format!("invalid bpf_context access off={total} size={bytes}")));
                }
                value
            }
            RegKind::Stack(_) => {
                return match operand {
                    Operand::Into(dst) => {
                        self.read_stack(&reg, off, bytes, dst)?;
                        if let Some(dst) = dst {
                            self.cut(dst, size, signed);
                        }
                        Ok(())
                    }
                    Operand::From(value) => self.write_stack(&reg, off, bytes, value),
                };
            }
            RegKind::Packet | RegKind::PacketMeta => {
                if how == Access::Write && !may_write_packet(self.env.place.prog_type) {
                    return Err(Stop::reject(Code::ReadOnly, "the packet is only to be read here")
                        .title(format!("{} programs cannot write the packet", self.env.place.prog_type))
                        .kernel("cannot write into packet"));
                }
                no_leak(self, "into packet")?;
                if !may_read_packet(self.env.place.prog_type) {
                    return Err(self.invalid_access(base, &reg));
                }
                self.check_packet(base, &reg, total, bytes, false)?;
                RegState::unknown()
            }
            RegKind::FlowKeys => {
                no_leak(self, "into flow keys")?;
                if total < 0 || i64::from(total) + i64::from(bytes) > FLOW_KEYS_SIZE {
                    return Err(self.outside(base, &reg, total.into(), total.into(), bytes.into(), FLOW_KEYS_SIZE));
                }
                RegState::unknown()
            }
            RegKind::Sock | RegKind::SockCommon | RegKind::TcpSock | RegKind::XdpSock if !reg.maybe_null() => {
                if how == Access::Write {
                    return Err(self.read_only(base, &reg));
                }
                self.access_socket(base, &reg, total, bytes)?;
                RegState::unknown()
            }
            RegKind::TpBuffer => {
                if total < 0 || !reg.num.is_const() || i64::from(total) + i64::from(bytes) > TP_BUFFER_MAX {
                    return Err(self.outside(base, &reg, total.into(), total.into(), bytes.into(), TP_BUFFER_MAX));
                }
                RegState::unknown()
            }
            RegKind::Btf(of, ty) if !reg.maybe_null() => {
                self.access_kernel_object(base, &reg, of, ty, total, bytes, how)?
            }
            RegKind::MapPtr(map) if !reg.maybe_null() => self.access_map_struct(base, &reg, map, total, bytes, how)?,
            RegKind::Buf if !reg.maybe_null() => {
                if how == Access::Write && reg.flags.any(RegFlags::RDONLY) {
                    return Err(self.read_only(base, &reg));
                }
                if total < 0 || !reg.num.is_const() || reg.num.as_const().is_some_and(|n| (n as i64) < 0) {
                    return Err(
                        Stop::reject(Code::OutOfBounds, "the offset must be constant and not negative").about(base)
                    );
                }
                RegState::unknown()
            }
            _ => return Err(self.invalid_access(base, &reg)),
        };
        if let Operand::Into(Some(dst)) = operand {
            let value = result;
            *self.cur.reg_mut(dst) = value;
            if value.is_scalar() && value.const_value().is_none() {
                self.cut(dst, size, signed);
            }
        }
        Ok(())
    }

    /// A load of fewer than 8 bytes: the upper ones become zero, or copies of the sign.
    fn cut(&mut self, dst: Reg, size: Size, signed: bool) {
        let bits = u32::from(size.bits());
        let reg = self.cur.reg(dst);
        if bits == 64 || !reg.is_scalar() {
            return;
        }
        let num = if signed { reg.num.sign_extend(bits) } else { reg.num.truncate(bits) };
        if num != reg.num {
            // It is no longer the number it was.
            let reg = self.cur.reg_mut(dst);
            reg.num = num;
            if reg.id & crate::state::ADD_CONST != 0 || signed {
                reg.id = 0;
                reg.off = 0;
            }
        }
    }

    fn check_alignment(&self, base: Reg, reg: &RegState, off: i32, bytes: i32, strict: bool) -> Result<(), Stop> {
        let strict = strict || matches!(reg.kind, RegKind::Stack(_));
        if !strict || bytes == 1 || !reg.is_pointer() {
            return Ok(());
        }
        let total = reg.num.tnum.add(Tnum::constant((i64::from(reg.off) + i64::from(off)) as u64));
        if total.is_aligned(bytes as u64) {
            return Ok(());
        }
        Err(Stop::reject(Code::Misaligned, format!("{bytes} bytes at an address that is no multiple of {bytes}"))
            .about(base)
            .fact(format!("{} is {} here, the instruction adds {off}", name(base), describe(reg)))
            .help("align the variable, copy it with memcpy, or access it in smaller parts")
            .kernel(format!("misaligned access off {}+{off} size {bytes}", reg.off)))
    }

    /// A pointer that is not to be followed at all, or not before it is checked.
    pub(crate) fn invalid_access(&self, base: Reg, reg: &RegState) -> Stop {
        if reg.is_scalar() {
            return Stop::reject(Code::NotAPointer, format!("{} holds a number", name(base)))
                .about(base)
                .help("addresses come from the context, map lookups, helpers or the stack; to read other kernel memory use bpf_probe_read_kernel()")
                .kernel(format!("R{} invalid mem access 'scalar'", base.number()));
        }
        if reg.maybe_null() {
            return Stop::reject(Code::MaybeNull, format!("{} may be null here", name(base)))
                .title(match reg.kind {
                    RegKind::MapValue(_) => "the result of a map lookup is used without a check for null".to_owned(),
                    _ => "a pointer is used without a check for null".to_owned(),
                })
                .about(base)
                .help("check it first: `if (!p) return 0;`")
                .kernel(format!("R{} invalid mem access '{}_or_null'", base.number(), kernel_kind(reg)));
        }
        Stop::reject(Code::BadAccess, format!("{} holds {}", name(base), describe(reg))).about(base).kernel(format!(
            "R{} invalid mem access '{}'",
            base.number(),
            kernel_kind(reg)
        ))
    }

    pub(crate) fn read_only(&self, base: Reg, reg: &RegState) -> Stop {
        Stop::reject(Code::ReadOnly, format!("{} holds {}, which may only be read", name(base), describe(reg)))
            .about(base)
            .kernel(format!("R{} cannot write into {}", base.number(), kernel_kind(reg)))
    }

    /// An offset that the pointer must not have: the context and others are passed as they were got.
    pub(crate) fn check_unchanged(&self, base: Reg, reg: &RegState) -> Result<(), Stop> {
        if reg.off == 0 && reg.num.as_const() == Some(0) {
            return Ok(());
        }
        Err(Stop::reject(Code::ContextChanged, format!("{} holds {} with an offset added", name(base), describe(reg)))
            .about(base)
            .help("access fields through the original pointer, at constant offsets")
            .kernel(format!(
                "dereference of modified {} ptr R{} off={} disallowed",
                kernel_kind(reg),
                base.number(),
                reg.off
            )))
    }

    /// Memory of `limit` bytes, `off` and the variable part into it.
    pub(crate) fn check_region(
        &self,
        base: Reg,
        reg: &RegState,
        off: i32,
        size: i32,
        limit: i64,
        zero_allowed: bool,
    ) -> Result<(), Stop> {
        let (least, greatest) = (reg.num.smin, reg.num.umax);
        let off = i64::from(off);
        let size = i64::from(size);
        let low = least.checked_add(off);
        if least < 0 && low.is_none_or(|low| low < 0 || i32::try_from(low).is_err()) {
            return Err(self
                .outside(base, reg, low.unwrap_or(i64::MIN), clamp(greatest).saturating_add(off), size, limit)
                .help("the index may be negative: use an unsigned type, or check that it is >= 0 too")
                .kernel(format!(
                    "R{} min value is negative, either use unsigned index or do a if (index >=0) check.",
                    base.number()
                )));
        }
        let fits =
            |at: i64| at >= 0 && (size > 0 || zero_allowed) && at.checked_add(size).is_some_and(|end| end <= limit);
        let low = low.unwrap_or(0);
        let high = clamp(greatest).saturating_add(off);
        if !fits(low) {
            return Err(self
                .outside(base, reg, low, high, size, limit)
                .kernel(format!("R{} min value is outside of the allowed memory range", base.number())));
        }
        if greatest >= MAX_VAR_OFF as u64 {
            return Err(self
                .outside(base, reg, low, high, size, limit)
                .help("compare the index with the size of the memory before it is used, or mask it with &")
                .kernel(format!(
                    "R{} unbounded memory access, make sure to bounds check any such access",
                    base.number()
                )));
        }
        if !fits(high) {
            return Err(self
                .outside(base, reg, low, high, size, limit)
                .kernel(format!("R{} max value is outside of the allowed memory range", base.number())));
        }
        Ok(())
    }

    /// The rejection of an access that may lie outside of its memory.
    pub(crate) fn outside(&self, base: Reg, reg: &RegState, low: i64, high: i64, size: i64, limit: i64) -> Stop {
        let what = match reg.kind {
            RegKind::MapValue(map) => {
                format!("the value of map `{}`", self.env.map(map).map_or("?", |map| &map.spec.name))
            }
            RegKind::MapKey(_) => "the key".to_owned(),
            _ => "the memory".to_owned(),
        };
        let stop = Stop::reject(Code::OutOfBounds, format!("accesses {size} bytes at offset {}", span(low, high)))
            .title(format!("the access may lie outside of {what}"))
            .about(base)
            .fact(format!("{what} has {limit} bytes"));
        let stop = if low == high {
            stop
        } else {
            stop.fact(format!(
                "the offset is {} here; with {size} bytes it may be {} at most",
                span(low, high),
                limit - size
            ))
        };
        // What was added beside the index, and whether it seems to count elements rather than bytes.
        let fixed = low.saturating_sub(reg.num.smin);
        let counts_elements = size > 1 && reg.num.tnum.max().trailing_zeros() >= 64 - (size - 1).leading_zeros();
        let room = limit.saturating_sub(size).saturating_sub(fixed);
        stop.help(if low == high || room < 0 {
            "stay within the memory, or make it larger".to_owned()
        } else if counts_elements {
            format!(
                "check the index before it is used: what it adds may be {room} bytes at most, index {} of elements of {size} bytes",
                room / size
            )
        } else {
            format!("check that the index is at most {room} before it is used")
        })
        .kernel(format!("invalid access to {}, value_size={limit} off={high} size={size}", kernel_kind(reg)))
    }

    /// A map value: its size, its access flags and its managed fields. `by_helper`: a helper accesses it.
    #[expect(clippy::too_many_arguments, reason = "an access has that many parts")]
    pub(crate) fn check_map_value(
        &self,
        base: Reg,
        reg: &RegState,
        map: MapId,
        off: i32,
        size: i32,
        how: Access,
        by_helper: bool,
    ) -> Result<(), Stop> {
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        let allowed = match how {
            Access::Read => info.can_read(),
            Access::Write => info.can_write(),
        };
        if !allowed {
            let word = Self::access_word(how);
            return Err(Stop::reject(Code::ReadOnly, format!("programs may not {word} this map"))
                .title(format!(
                    "map `{}` cannot be {} by programs",
                    info.name(),
                    if how == Access::Read { "read" } else { "written" }
                ))
                .about(base)
                .help(if how == Access::Write {
                    "make the variable non-const, or copy it first"
                } else {
                    "take BPF_F_WRONLY_PROG off the map"
                })
                .kernel(format!("{} into map forbidden", if how == Access::Read { "read" } else { "write" })));
        }
        self.check_region(base, reg, off, size, info.spec.value_size.into(), by_helper)?;
        let (low, high) = (reg.num.smin.saturating_add(off.into()), clamp(reg.num.umax).saturating_add(off.into()));
        for field in &info.fields {
            let (start, end) = (i64::from(field.offset), i64::from(field.offset) + i64::from(field.size));
            if low < end && start < high.saturating_add(size.into()) {
                if field.kind == FieldKind::Kptr {
                    return Err(Stop::unsupported("kernel pointers in map values (kptrs)"));
                }
                return Err(Stop::reject(
                    Code::SpecialField,
                    format!("overlaps the {} at offset {start}", field.kind.name()),
                )
                .about(base)
                .help(format!("only helpers may access a {}", field.kind.name()))
                .kernel(format!(
                    "{} cannot be accessed {} by load/store",
                    field.kind.name(),
                    if by_helper { "indirectly" } else { "directly" }
                )));
            }
        }
        Ok(())
    }

    /// A constant of the program, read from where nothing can change it.
    fn frozen_value(&self, reg: &RegState, map: MapId, off: i32, size: i32, signed: bool) -> Option<RegState> {
        let data = self.env.map(map)?.frozen?;
        let at = usize::try_from(i64::from(off).checked_add(reg.num.as_const()? as i64)?).ok()?;
        let bytes = data.get(at..at.checked_add(size as usize)?)?;
        let mut word = [0u8; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let value = u64::from_le_bytes(word);
        let bits = 64 - 8 * size as u32;
        let value = if signed { ((value << bits) as i64 >> bits) as u64 } else { value };
        Some(RegState::constant(value))
    }

    /// The packet: within what comparisons with its end have shown to be there.
    pub(crate) fn check_packet(
        &self,
        base: Reg,
        reg: &RegState,
        off: i32,
        size: i32,
        zero_allowed: bool,
    ) -> Result<(), Stop> {
        let end = i64::from(off) + i64::from(size);
        if reg.num.smin < 0 {
            return Err(Stop::reject(
                Code::PacketBounds,
                format!("the offset that was added to {} may be negative", name(base)),
            )
            .title("a packet may be accessed before its start")
            .about(base)
            .fact(format!("the variable part of the offset is {} here", span(reg.num.smin, reg.num.smax)))
            .help("use an unsigned type for the offset, or check that it is >= 0")
            .kernel(format!(
                "R{} min value is negative, either use unsigned index or do a if (index >=0) check.",
                base.number()
            )));
        }
        let range = i64::from(reg.range());
        if range >= 0 && off >= 0 && (size > 0 || zero_allowed) && end <= range {
            return Ok(());
        }
        let stop = Stop::reject(Code::PacketBounds, format!("accesses {size} bytes at offset {off} from where the pointer was taken"))
            .about(base)
            .kernel(format!("invalid access to packet, off={off} size={size}, R{}(id={},off={},r={range}); R{} offset is outside of the packet", base.number(), reg.id, reg.off, base.number()));
        let meta = reg.kind == RegKind::PacketMeta;
        let limit = if meta { "data" } else { "data_end" };
        let stop = if range > 0 {
            stop.title("the packet is accessed past what was checked")
                .fact(format!("{range} bytes are known to be there, {end} are needed"))
        } else if range < 0 {
            stop.title("the packet is accessed where it is known to end")
                .fact("on this path the pointer was found to be at or past the packet's end")
        } else {
            stop.title("a packet is accessed without a check of its length")
                .fact(format!("nothing is known of the distance to `{limit}` here"))
        };
        let constant = reg.num.is_const();
        Err(stop.help(if constant {
            format!("check first that the packet is long enough: `if (data + {} > {limit}) return ...;`", end.max(0))
        } else {
            format!("check the computed pointer itself: `if ((void *)(p + 1) > {limit}) return ...;`, after the last change of it")
        }))
    }

    /// Memory that a helper gets, at a size that is known. Returns `true` for stack that it fills (see
    /// [`Self::check_stack_range`]).
    pub(crate) fn check_helper_mem(
        &mut self,
        base: Reg,
        size: i32,
        zero_allowed: bool,
        how: HelperUse,
    ) -> Result<bool, Stop> {
        let reg = *self.cur.reg(base);
        let access = if how == HelperUse::Read { Access::Read } else { Access::Write };
        if reg.maybe_null() {
            return Err(self.invalid_access(base, &reg));
        }
        match reg.kind {
            RegKind::Packet | RegKind::PacketMeta => {
                self.check_packet(base, &reg, reg.off, size, zero_allowed).map(|()| false)
            }
            RegKind::MapKey(map) => {
                if access == Access::Write {
                    return Err(self.read_only(base, &reg));
                }
                let limit = self.env.map(map).map_or(0, |map| map.spec.key_size);
                self.check_region(base, &reg, reg.off, size, limit.into(), zero_allowed).map(|()| false)
            }
            RegKind::MapValue(map) => {
                if size == 0 && zero_allowed {
                    return Ok(false);
                }
                self.check_map_value(base, &reg, map, reg.off, size, access, true).map(|()| false)
            }
            RegKind::Mem => {
                if access == Access::Write && reg.flags.any(RegFlags::RDONLY) {
                    return Err(self.read_only(base, &reg));
                }
                self.check_region(base, &reg, reg.off, size, reg.aux.into(), zero_allowed).map(|()| false)
            }
            RegKind::Buf => {
                if access == Access::Write && reg.flags.any(RegFlags::RDONLY) {
                    return Err(self.read_only(base, &reg));
                }
                if reg.off < 0 || !reg.num.is_const() {
                    return Err(
                        Stop::reject(Code::OutOfBounds, "the offset must be constant and not negative").about(base)
                    );
                }
                Ok(false)
            }
            RegKind::Stack(_) => {
                if size == 0 {
                    return if zero_allowed {
                        Ok(false)
                    } else {
                        Err(Stop::reject(Code::ArgumentSize, "the size is 0")
                            .about(base)
                            .kernel("invalid zero-sized read"))
                    };
                }
                self.check_stack_range(&reg, 0, size, how)
            }
            RegKind::Btf(of, ty) => {
                self.access_kernel_object(base, &reg, of, ty, reg.off, size, Access::Read)?;
                Ok(false)
            }
            RegKind::Ctx if self.env.place.prog_type == ProgramType::Syscall => {
                if size > 0 {
                    self.check_unchanged(base, &reg)?;
                    self.access_context(base, size - 1, 1, access)?;
                }
                Ok(false)
            }
            _ => {
                if zero_allowed && size == 0 && reg.is_null() {
                    return Ok(false);
                }
                Err(Stop::reject(
                    Code::ArgumentType,
                    format!("{} holds {}, memory is wanted", name(base), describe(&reg)),
                )
                .about(base)
                .kernel(format!(
                    "R{} type={} expected=fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf",
                    base.number(),
                    kernel_kind(&reg)
                )))
            }
        }
    }

    fn access_socket(&self, base: Reg, reg: &RegState, off: i32, size: i32) -> Result<(), Stop> {
        let refuse = || {
            Stop::reject(Code::ContextAccess, format!("{size} bytes at offset {off} of {}", describe(reg)))
                .about(base)
                .help("read each field whole, at its own size")
                .kernel(format!("R{} invalid {} access off={off} size={size}", base.number(), kernel_kind(reg)))
        };
        if reg.num.smin < 0 || !reg.num.is_const() || off < 0 || off % size != 0 {
            return Err(refuse());
        }
        let at = i64::from(off) + reg.num.as_const().unwrap_or(0) as i64;
        let valid = match reg.kind {
            RegKind::TcpSock => {
                at + i64::from(size) <= TCP_SOCK_SIZE && if (80..96).contains(&at) { size == 8 } else { size == 4 }
            }
            RegKind::XdpSock => at == 0 && size == 4,
            RegKind::SockCommon if (8..24).contains(&at) => false,
            _ => {
                let context = &skep_abi::context::BPF_SOCK;
                let narrow = |field: &skep_abi::context::Field| {
                    field.since <= self.env.kernel && size <= i32::from(field.element) && size <= 4
                };
                // The source address, the port and others are read whole; state and the like in parts too.
                match u16::try_from(at).ok().and_then(|at| context.field_at(at)) {
                    Some(field) => match field.name {
                        "dst_port" => size == 2 || (size == 4 && at == i64::from(field.offset)) || size == 1,
                        "bound_dev_if" | "mark" | "priority" => size == 4 && narrow(field),
                        name if name.contains("_ip") => narrow(field),
                        _ => at == i64::from(field.offset) && narrow(field),
                    },
                    None => false,
                }
            }
        };
        if valid { Ok(()) } else { Err(refuse()) }
    }
}

fn clamp(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// `4`, or `between 0 and 65535`.
pub(crate) fn span(low: i64, high: i64) -> String {
    if low == high {
        low.to_string()
    } else {
        let low = if low == i64::MIN { "anything".to_owned() } else { low.to_string() };
        let high = if high >= i64::from(u32::MAX) * 16 { "anything".to_owned() } else { high.to_string() };
        format!("between {low} and {high}")
    }
}

/// Program types that may read the packet directly. Source: `may_access_direct_pkt_data`.
pub(crate) fn may_read_packet(program: ProgramType) -> bool {
    use ProgramType as P;
    may_write_packet(program)
        || matches!(
            program,
            P::LwtIn | P::LwtOut | P::LwtSeg6local | P::SkReuseport | P::FlowDissector | P::CgroupSkb | P::SockOps
        )
}

/// Program types that may write it too.
pub(crate) fn may_write_packet(program: ProgramType) -> bool {
    use ProgramType as P;
    matches!(program, P::SchedCls | P::SchedAct | P::Xdp | P::LwtXmit | P::SkSkb | P::SkMsg | P::CgroupSockopt)
}
