//! Fragments about helpers: memory with its size, records, dynptrs, locks, timers, sockets.

use skep_abi::helpers::{self, ArgKind, HelperFlags, RetKind, TypeFlags};
use skep_abi::{MapType, ProgramType};
use skep_isa::{AluOp, JmpOp, Reg, Size};

use super::Gen;
use super::flow::Later;
use super::{R0, R1, R2, R3, R4, R5, R6, R7, R10};
use crate::program::{MapDef, Param, Special};
use Reg::{R8, R9};

const ARGS: [Reg; 5] = [R1, R2, R3, R4, R5];

/// Never called: they warn in the kernel's log when a program with them is loaded; what they return is known by the number
/// of CPUs there are.
const LEFT_OUT: [&str; 4] =
    ["bpf_probe_write_user", "bpf_override_return", "bpf_copy_from_user_task", "bpf_get_smp_processor_id"];

impl Gen<'_, '_, '_> {
    /// A size for memory of `len` bytes in r9 or as a constant; what to move into the argument is returned.
    fn size_for(&mut self, len: i16, bail: crate::build::Label) -> Option<Reg> {
        if self.c.chance(50) {
            return None;
        }
        self.number(R9);
        self.bound(R9, len as u32, bail);
        Some(R9)
    }

    fn put_size(&mut self, dst: Reg, known: Option<Reg>, len: i16) {
        match known {
            Some(reg) => self.b.mov(dst, reg),
            None => {
                let size =
                    if self.fault("a size beyond the end") { len + 1 } else { self.c.between(1, len.into()) as i16 };
                let size = if self.fault("a size of zero or less") { self.c.pick(&[0, -1]) } else { size };
                self.b.mov_k(dst, size.into());
            }
        }
    }

    /// A helper that reads or writes memory of a given size.
    pub(super) fn helper_memory(&mut self) {
        let end = self.b.label();
        let len: i16 = self.c.pick(&[16, 32, 64, 8, 100]);
        let at = self.room(len);
        let known = self.size_for(len, end);
        let choices: Vec<&str> = [
            "probe_read_kernel",
            "get_current_comm",
            "skb_load_bytes",
            "skb_store_bytes",
            "xdp_load_bytes",
            "csum_diff",
            "perf_event_output",
            "msg_pull_data",
            "get_stack",
            "sysctl_get_name",
            "probe_read_user_str",
        ]
        .into_iter()
        .filter(|name| self.may_call(name))
        .collect();
        let Some(name) = self.c.pick_ref(&choices).copied() else { return self.map_change() };
        // Memory that is written need not be set before.
        let reads = matches!(name, "skb_store_bytes" | "csum_diff" | "perf_event_output");
        if reads || self.c.chance(30) {
            self.fill(at, len);
        }
        match name {
            "probe_read_kernel" | "probe_read_user_str" => {
                self.stack_address(R1, at);
                self.put_size(R2, known, len);
                self.b.mov(R3, R7);
            }
            "get_current_comm" => {
                self.stack_address(R1, at);
                self.put_size(R2, known, len);
            }
            "csum_diff" => {
                self.stack_address(R1, at);
                self.b.mov_k(R2, i32::from(len) & !3);
                self.b.mov_k(R3, 0);
                self.b.mov_k(R4, 0);
                self.b.mov_k(R5, 0);
                if self.c.chance(40) {
                    self.stack_address(R3, at);
                    self.put_size(R4, known, len);
                }
            }
            "perf_event_output" => {
                let map = self.b.map_of(MapDef::new("events", MapType::PerfEventArray, 4, 4, 1));
                self.b.mov(R1, R6);
                self.b.map(R2, map);
                self.b.wide(R3, 0xffff_ffff);
                self.stack_address(R4, at);
                self.put_size(R5, known, len);
            }
            "msg_pull_data" => {
                self.b.mov(R1, R6);
                self.b.mov_k(R2, 0);
                self.b.mov_k(R3, 8);
                self.b.mov_k(R4, 0);
            }
            "get_stack" => {
                self.b.mov(R1, R6);
                self.stack_address(R2, at);
                self.put_size(R3, known, len);
                self.b.mov_k(R4, 0);
            }
            "sysctl_get_name" => {
                self.b.mov(R1, R6);
                self.stack_address(R2, at);
                self.put_size(R3, known, len);
                self.b.mov_k(R4, 0);
            }
            _ => {
                self.b.mov(R1, R6);
                self.b.mov_k(R2, 0);
                self.stack_address(R3, at);
                self.put_size(R4, known, len);
                self.b.mov_k(R5, 0);
            }
        }
        self.b.helper(name);
        if self.c.chance(40) {
            self.some_branch(R0, end);
        }
        if self.c.chance(50) {
            self.b.load(Size::B, R7, R10, at);
        }
        self.b.here(end);
    }

    /// A helper with a text that says what its arguments are.
    pub(super) fn helper_text(&mut self) {
        let text = match self.c.below(4) {
            0 => "%d %u\0",
            1 => "%llx\0",
            2 => "%s\0",
            _ => "plain\0",
        };
        let mut data = text.as_bytes().to_vec();
        data.resize(16, 0);
        if self.fault("a text without an end") {
            data.fill(b'a');
        }
        let mut def = MapDef::new(".rodata", MapType::Array, 4, 16, 1);
        def.flags = skep_abi::flags::map_create::BPF_F_RDONLY_PROG as u32;
        def.rodata = Some(data);
        let map = self.b.map_of(def);
        match self.c.below(3) {
            0 => {
                let at = self.room(32);
                let args = self.room(16);
                self.fill(args, 16);
                self.stack_address(R1, at);
                self.b.mov_k(R2, 32);
                self.b.map_value(R3, map, 0);
                self.stack_address(R4, args);
                let bytes = self.c.pick(&[8, 16, 0]);
                self.b.mov_k(R5, bytes);
                self.b.helper("snprintf");
            }
            1 => {
                let at = self.room(16);
                self.fill(at, 16);
                self.stack_address(R1, at);
                self.b.map_value(R3, map, 0);
                self.b.mov_k(R2, 8);
                self.b.helper("strncmp");
            }
            _ => {
                let at = self.room(8);
                let number = self.room(8);
                self.fill(at, 8);
                if self.c.chance(30) {
                    self.fill(number, 8);
                }
                self.stack_address(R1, at);
                self.b.mov_k(R2, 8);
                self.b.mov_k(R3, 10);
                self.stack_address(R4, number);
                self.b.helper("strtol");
                self.b.load(Size::DW, R7, R10, number);
            }
        }
    }

    /// A map of the type that a helper works on.
    fn map_for(&mut self, helper: &str) -> (usize, i16, i16) {
        let (kind, key, value, entries) = match helper {
            name if name.contains("ringbuf") => (MapType::Ringbuf, 0, 0, 4096),
            name if name.contains("perf_event") || name.contains("_output") => (MapType::PerfEventArray, 4, 4, 1),
            "bpf_get_stackid" => (MapType::StackTrace, 4, 64, 8),
            "bpf_redirect_map" => (MapType::Devmap, 4, 4, 8),
            name if name.contains("under_cgroup") => (MapType::CgroupArray, 4, 4, 1),
            name if name.contains("hash") && name.contains("redirect") => (MapType::Sockhash, 4, 4, 8),
            name if name.contains("redirect") => (MapType::Sockmap, 4, 4, 8),
            "bpf_sock_map_update" => (MapType::Sockmap, 4, 4, 8),
            "bpf_sock_hash_update" => (MapType::Sockhash, 4, 4, 8),
            name if name.contains("sk_select_reuseport") => (MapType::ReuseportSockarray, 4, 4, 8),
            name if name.contains("push_elem") || name.contains("pop_elem") || name.contains("peek_elem") => {
                (MapType::Queue, 0, 8, 8)
            }
            "bpf_map_lookup_percpu_elem" => (MapType::PercpuHash, 4, 16, 8),
            _ => (MapType::Hash, 8, 16, 8),
        };
        (self.b.map_of(MapDef::new("m", kind, key, value, entries)), key as i16, value as i16)
    }

    /// Any helper that programs of this type may call, with arguments of the kinds that it wants.
    pub(super) fn helper_any(&mut self) {
        let kind = self.site.prog_type;
        let sleeps = self.site.sleepable;
        let fits = |helper: &&helpers::Helper| {
            let signature = helper.signature_in(kind);
            let odd = signature.args.iter().any(|arg| {
                matches!(
                    arg.kind,
                    ArgKind::SpinLock
                        | ArgKind::RingbufMem
                        | ArgKind::Func
                        | ArgKind::Timer
                        | ArgKind::KptrXchgDest
                        | ArgKind::Dynptr
                        | ArgKind::PercpuBtfId
                        | ArgKind::Stack
                )
            });
            helper.programs_on(None).contains(kind)
                && !odd
                && !helper.conditional.contains(kind)
                && !signature.flags.contains(HelperFlags::ACQUIRES)
                && (sleeps || !signature.might_sleep())
                && !LEFT_OUT.contains(&helper.name)
                && !helper.name.contains("storage")
        };
        let foreign = self.c.chance(3);
        let list: Vec<&helpers::Helper> =
            helpers::all().filter(|helper| fits(helper) || foreign && !LEFT_OUT.contains(&helper.name)).collect();
        let Some(helper) = self.c.pick_ref(&list).copied() else { return };
        let end = self.b.label();
        let signature = helper.signature_in(kind);
        self.b.note(format!("calls {}", helper.name));
        let (map, key, value) = match signature.args.iter().any(|arg| arg.kind == ArgKind::ConstMapPtr) {
            true => self.map_for(helper.name),
            false => (0, 8, 16),
        };
        // What takes calls or checks of its own comes first, in r8 and r9.
        let object = signature.args.iter().any(|arg| matches!(arg.kind, ArgKind::BtfId | ArgKind::BtfIdSockCommon));
        if object {
            if self.may_call("get_current_task_btf") {
                self.b.helper("get_current_task_btf");
                self.b.mov(R8, R0);
            } else {
                self.b.mov(R8, R6);
            }
        }
        let len: i16 = self.c.pick(&[16, 64, 4, 40]);
        let sized = signature.args.iter().any(|arg| matches!(arg.kind, ArgKind::ConstSize | ArgKind::ConstSizeOrZero));
        let known = if sized { self.size_for(len, end) } else { None };
        let socket = signature.args.iter().any(|arg| matches!(arg.kind, ArgKind::SockCommon | ArgKind::Socket));
        if socket {
            self.socket_of_context(end);
        }
        let flags = signature.args.len();
        for (index, arg) in signature.args.iter().enumerate() {
            let Some(dst) = ARGS.get(index).copied() else { break };
            if self.fault("another argument") {
                self.b.mov(dst, if self.c.chance(50) { R7 } else { R6 });
                continue;
            }
            if arg.flags.contains(TypeFlags::MAYBE_NULL) && self.c.chance(30) {
                self.b.mov_k(dst, 0);
                continue;
            }
            match arg.kind {
                ArgKind::Ctx => self.b.mov(dst, R6),
                ArgKind::ConstMapPtr => self.b.map(dst, map),
                ArgKind::MapKey => self.stack_memory(dst, key.max(4), true),
                ArgKind::MapValue => self.stack_memory(dst, value.max(8), !arg.flags.contains(TypeFlags::UNINIT)),
                ArgKind::Mem if arg.flags.contains(TypeFlags::FIXED_SIZE) => {
                    self.stack_memory(dst, arg.size as i16, !arg.flags.contains(TypeFlags::UNINIT));
                }
                ArgKind::Mem => self.stack_memory(dst, len, !arg.flags.contains(TypeFlags::UNINIT)),
                ArgKind::ConstSize | ArgKind::ConstSizeOrZero => self.put_size(dst, known, len),
                ArgKind::ConstAllocSizeOrZero => self.b.mov_k(dst, 16),
                ArgKind::BtfId | ArgKind::BtfIdSockCommon | ArgKind::SockCommon | ArgKind::Socket => {
                    self.b.mov(dst, R8);
                }
                ArgKind::ConstStr => {
                    let mut def = MapDef::new(".rodata", MapType::Array, 4, 8, 1);
                    def.flags = skep_abi::flags::map_create::BPF_F_RDONLY_PROG as u32;
                    def.rodata = Some(b"%d\0\0\0\0\0\0".to_vec());
                    let text = self.b.map_of(def);
                    self.b.map_value(dst, text, 0);
                }
                _ if index + 1 == flags => {
                    let flags = self.c.pick(&[0, 0, 1, 8]);
                    self.b.mov_k(dst, flags);
                }
                _ if self.c.chance(40) => self.b.mov(dst, R7),
                _ => {
                    let imm = self.c.between(0, 20) as i32;
                    self.b.mov_k(dst, imm);
                }
            }
        }
        let name = helper.name.strip_prefix("bpf_").unwrap_or(helper.name);
        self.b.helper(name);
        match signature.ret.kind {
            RetKind::Integer => {
                if self.c.chance(50) {
                    self.some_branch(R0, end);
                }
                self.b.mov(R7, R0);
            }
            RetKind::MapValue | RetKind::Mem => {
                self.null_check(R0, end);
                self.touch(R0, if signature.ret.kind == RetKind::MapValue { value } else { 8 }, true);
            }
            RetKind::Void => {
                if self.fault("a result that is none") {
                    self.b.mov(R7, R0);
                }
            }
            _ => {
                if self.c.chance(70) {
                    self.null_check(R0, end);
                }
                self.b.load(Size::W, R3, R0, 4);
            }
        }
        self.b.here(end);
    }

    fn stack_memory(&mut self, dst: Reg, len: i16, filled: bool) {
        let at = self.room(len);
        if filled {
            self.fill(at, len);
        }
        self.stack_address(dst, at);
    }

    fn ring(&mut self) -> usize {
        self.b.map_of(MapDef::new("ring", MapType::Ringbuf, 0, 0, 4096))
    }

    pub(super) fn ringbuf_record(&mut self) {
        let end = self.b.label();
        let ring = self.ring();
        let len: i16 = self.c.pick(&[16, 8, 64, 32]);
        self.b.map(R1, ring);
        if self.fault("a size that is not known before") {
            self.b.mov(R2, R7);
        } else {
            self.b.mov_k(R2, len.into());
        }
        self.b.mov_k(R3, 0);
        self.b.helper("ringbuf_reserve");
        self.null_check(R0, end);
        self.b.mov(R8, R0);
        for _ in 0..1 + self.c.below(3) {
            self.touch(R8, len, true);
        }
        if self.c.chance(30) {
            // The record is written by a helper.
            if self.may_call("get_current_comm") {
                self.b.mov(R1, R8);
                let size = i32::from(len) + i32::from(self.fault("a size beyond the end"));
                self.b.mov_k(R2, size);
                self.b.helper("get_current_comm");
            }
        }
        if self.fault("a record that is not given back on one path") {
            self.some_branch(R7, end);
        }
        if self.c.chance(20) {
            // It is given back in a function.
            let func = self.b.declare("submit", false, vec![Param::Any]);
            self.b.mov(R1, R8);
            self.b.call(func);
            self.later.push(Later {
                func,
                write: Box::new(|g| {
                    g.b.mov_k(R2, 0);
                    g.b.helper("ringbuf_submit");
                    g.b.mov_k(R0, 0);
                    g.b.exit();
                }),
            });
        } else if !self.fault("a record that is not given back") {
            let name = if self.c.chance(70) { "ringbuf_submit" } else { "ringbuf_discard" };
            self.b.mov(R1, R8);
            if self.fault("an address within the record") {
                self.b.alu_k(AluOp::Add, R1, 8);
            }
            self.b.mov_k(R2, 0);
            self.b.helper(name);
        }
        if self.fault("a record is used that was given back") {
            self.touch(R8, len, true);
        }
        self.b.here(end);
    }

    pub(super) fn ringbuf_output(&mut self) {
        let end = self.b.label();
        let ring = self.ring();
        if self.c.chance(30) {
            self.b.map(R1, ring);
            self.b.mov_k(R2, 0);
            self.b.helper("ringbuf_query");
            self.b.mov(R7, R0);
            return;
        }
        let len: i16 = self.c.pick(&[16, 32, 8]);
        let known = self.size_for(len, end);
        let at = self.room(len);
        self.fill(at, len);
        self.b.map(R1, ring);
        self.stack_address(R2, at);
        self.put_size(R3, known, len);
        self.b.mov_k(R4, 0);
        self.b.helper("ringbuf_output");
        self.b.here(end);
    }

    pub(super) fn dynptr_ringbuf(&mut self) {
        let ring = self.ring();
        let at = self.room(16);
        self.b.map(R1, ring);
        if self.c.chance(50) {
            self.b.mov(R2, R7);
        } else {
            self.b.mov_k(R2, 64);
        }
        self.b.mov_k(R3, 0);
        self.stack_address(R4, at);
        self.b.helper("ringbuf_reserve_dynptr");
        let discard = self.b.label();
        if self.c.chance(50) {
            self.b.jump_k(JmpOp::Ne, R0, 0, discard);
        }
        self.dynptr_use(at, discard, true);
        self.b.here(discard);
        if self.fault("a dynptr is overwritten") {
            self.b.store_k(Size::DW, R10, at, 0);
        }
        if !self.fault("a record that is not given back") {
            self.stack_address(R1, at);
            self.b.mov_k(R2, 0);
            let name = if self.c.chance(50) { "ringbuf_submit_dynptr" } else { "ringbuf_discard_dynptr" };
            self.b.helper(name);
        }
        if self.fault("a dynptr is used that was given back") {
            let end = self.b.label();
            self.dynptr_use(at, end, true);
            self.b.here(end);
        }
    }

    /// Reads, writes and looks through the dynptr at `at`.
    fn dynptr_use(&mut self, at: i16, bail: crate::build::Label, write: bool) {
        let at = if self.fault("not where the dynptr is") { at + 8 } else { at };
        for _ in 0..1 + self.c.below(2) {
            match self.c.below(3) {
                0 => {
                    let room = self.room(16);
                    self.stack_address(R1, room);
                    self.b.mov_k(R2, 16);
                    self.stack_address(R3, at);
                    self.b.mov_k(R4, 0);
                    self.b.mov_k(R5, 0);
                    self.b.helper("dynptr_read");
                }
                1 if write => {
                    let room = self.room(16);
                    self.fill(room, 16);
                    self.stack_address(R1, at);
                    self.b.mov_k(R2, 0);
                    self.stack_address(R3, room);
                    self.b.mov_k(R4, 16);
                    self.b.mov_k(R5, 0);
                    self.b.helper("dynptr_write");
                }
                _ => {
                    self.stack_address(R1, at);
                    self.b.mov_k(R2, 0);
                    self.b.mov_k(R3, 8);
                    self.b.helper("dynptr_data");
                    self.null_check(R0, bail);
                    self.touch(R0, 8, true);
                }
            }
        }
    }

    pub(super) fn dynptr_memory(&mut self) {
        let end = self.b.label();
        let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 64, 8));
        self.lookup(map, 4);
        self.null_check(R0, end);
        let at = self.room(16);
        self.b.mov(R1, R0);
        if self.fault("a dynptr of the stack") {
            let room = self.room(64);
            self.fill(room, 64);
            self.stack_address(R1, room);
        }
        self.b.mov_k(R2, 64);
        self.b.mov_k(R3, 0);
        self.stack_address(R4, at);
        self.b.helper("dynptr_from_mem");
        self.dynptr_use(at, end, true);
        self.b.here(end);
    }

    pub(super) fn dynptr_packet(&mut self) {
        let make = match self.site.prog_type {
            ProgramType::Xdp => "bpf_dynptr_from_xdp",
            ProgramType::SchedCls | ProgramType::SchedAct | ProgramType::CgroupSkb | ProgramType::SocketFilter => {
                "bpf_dynptr_from_skb"
            }
            _ => return self.dynptr_memory(),
        };
        let end = self.b.label();
        let at = self.room(16);
        self.b.mov(R1, R6);
        self.b.mov_k(R2, 0);
        self.stack_address(R3, at);
        self.b.kfunc(make);
        if self.c.chance(60) {
            let room = self.room(16);
            self.stack_address(R1, at);
            self.b.mov_k(R2, 0);
            self.stack_address(R3, room);
            if self.c.chance(20) {
                self.b.mov_k(R3, 0);
            }
            self.b.mov_k(R4, 16);
            self.b.kfunc("bpf_dynptr_slice");
            self.null_check(R0, end);
            let write = self.fault("a write to a slice that is only read");
            self.touch(R0, 16, write);
        } else {
            self.dynptr_use(at, end, true);
        }
        self.b.here(end);
    }

    pub(super) fn lock_value(&mut self) {
        let end = self.b.label();
        let mut def = MapDef::new("locked", if self.c.chance(50) { MapType::Hash } else { MapType::Array }, 4, 24, 8);
        def.field = Some((Special::SpinLock, 8));
        let map = self.b.map_of(def);
        self.lookup(map, 4);
        self.null_check(R0, end);
        self.b.mov(R8, R0);
        self.b.mov(R1, R8);
        let off = if self.fault("not where the lock is") { 0 } else { 8 };
        self.b.alu_k(AluOp::Add, R1, off);
        self.b.helper("spin_lock");
        self.b.store_k(Size::DW, R8, 0, 1);
        self.b.load(Size::W, R3, R8, 16);
        if self.fault("the lock is written") {
            self.b.store_k(Size::W, R8, 8, 0);
        }
        if self.fault("a helper under a lock") {
            self.b.helper("ktime_get_ns");
        }
        if self.fault("a lock is taken twice") {
            self.b.mov(R1, R8);
            self.b.alu_k(AluOp::Add, R1, 8);
            self.b.helper("spin_lock");
        }
        if self.fault("a lock is kept on one path") {
            self.some_branch(R7, end);
        }
        if self.c.chance(20) {
            // A branch under the lock.
            let skip = self.b.label();
            self.some_branch(R3, skip);
            self.b.store_k(Size::DW, R8, 16, 5);
            self.b.here(skip);
        }
        if !self.fault("a lock is kept") {
            self.b.mov(R1, R8);
            if self.fault("the lock of another value") {
                self.lookup(map, 4);
                self.null_check(R0, end);
                self.b.mov(R1, R0);
            }
            self.b.alu_k(AluOp::Add, R1, 8);
            self.b.helper("spin_unlock");
        }
        self.b.here(end);
    }

    pub(super) fn timer_value(&mut self) {
        let end = self.b.label();
        let mut def = MapDef::new("timed", MapType::Array, 4, 32, 4);
        def.field = Some((Special::Timer, 8));
        let map = self.b.map_of(def);
        self.lookup(map, 4);
        self.null_check(R0, end);
        self.b.mov(R8, R0);
        self.b.mov(R1, R8);
        self.b.alu_k(AluOp::Add, R1, 8);
        self.b.map(R2, map);
        self.b.mov_k(R3, 1);
        self.b.helper("timer_init");
        let func = self.b.declare("fire", false, vec![Param::Any, Param::Any, Param::Any]);
        self.b.mov(R1, R8);
        let off = if self.fault("not where the timer is") { 4 } else { 8 };
        self.b.alu_k(AluOp::Add, R1, off);
        self.b.func_address(R2, func);
        self.b.helper("timer_set_callback");
        self.b.mov(R1, R8);
        self.b.alu_k(AluOp::Add, R1, 8);
        self.b.mov_k(R2, 1000);
        self.b.mov_k(R3, 0);
        self.b.helper("timer_start");
        if self.fault("the timer is read") {
            self.b.load(Size::DW, R3, R8, 8);
        }
        self.b.store_k(Size::DW, R8, 0, 1);
        let value = if self.fault("a return value that may be none") { 1 } else { 0 };
        self.later.push(Later {
            func,
            write: Box::new(move |g| {
                g.b.load(Size::W, R4, R2, 0);
                g.b.store(Size::DW, R3, 0, R4);
                g.b.mov_k(R0, value);
                g.b.exit();
            }),
        });
        self.b.here(end);
    }

    /// r8 = the context's socket, or something in its place.
    pub(super) fn socket_of_context(&mut self, bail: crate::build::Label) {
        let access = skep_abi::context::access(self.site.prog_type, self.site.attach_type);
        let field = access.and_then(|access| {
            access.of("sk").filter(|field| field.reads != 0)?;
            access.context.field("sk")
        });
        let Some(field) = field else {
            self.b.mov(R8, R6);
            return;
        };
        self.b.load(Size::DW, R8, R6, field.offset as i16);
        self.null_check(R8, bail);
        if self.c.chance(40) && self.may_call("sk_fullsock") {
            self.b.mov(R1, R8);
            self.b.helper("sk_fullsock");
            self.null_check(R0, bail);
            self.b.mov(R8, R0);
        }
    }

    /// The context's socket and its fields.
    pub(super) fn socket_field(&mut self) {
        let end = self.b.label();
        self.socket_of_context(end);
        let offset = 4 * self.c.below(21) as i16;
        let size = if self.c.chance(80) { Size::W } else { self.size() };
        self.b.load(size, R3, R8, offset);
        if self.fault("a write to a socket") {
            self.b.store_k(Size::W, R8, 16, 1);
        }
        if self.c.chance(30) && self.may_call("tcp_sock") {
            self.b.mov(R1, R8);
            self.b.helper("tcp_sock");
            self.null_check(R0, end);
            let at = 4 * self.c.below(20) as i16;
            self.b.load(Size::W, R3, R0, at);
        }
        self.b.here(end);
    }

    pub(super) fn socket_lookup(&mut self) {
        let choices = ["sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp"];
        let Some(name) = self.c.pick_ref(&choices).copied().filter(|name| self.may_call(name)) else {
            return self.socket_field();
        };
        let end = self.b.label();
        let at = self.room(12);
        self.fill(at, 12);
        self.b.mov(R1, R6);
        self.stack_address(R2, at);
        self.b.mov_k(R3, 12);
        self.b.mov_k(R4, -1);
        self.b.mov_k(R5, 0);
        self.b.helper(name);
        self.null_check(R0, end);
        self.b.mov(R8, R0);
        let offset = 4 * self.c.below(12) as i16;
        self.b.load(Size::W, R3, R8, offset);
        if self.c.chance(30) && self.may_call("tcp_sock") {
            self.b.mov(R1, R8);
            self.b.helper("tcp_sock");
            let skip = self.b.label();
            self.null_check(R0, skip);
            self.b.load(Size::W, R3, R0, 0);
            self.b.here(skip);
        }
        if self.fault("a socket that is not released on one path") {
            self.some_branch(R7, end);
        }
        if !self.fault("a socket that is not released") {
            self.b.mov(R1, R8);
            self.b.helper("sk_release");
        }
        if self.fault("a socket is used that was released") {
            self.b.load(Size::W, R3, R8, 4);
        }
        self.b.here(end);
    }
}
