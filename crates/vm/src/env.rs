//! A run: what it may use, how far it has got, what helpers may ask of it.
#![expect(unsafe_code, reason = "BPF programs work on addresses")]

use crate::code::Code;
use crate::context::{Access, Context, Packet};
use crate::fault::{BadAccess, Fault, FaultKind, RegionView};
use crate::helper::{Helper, HelperResult, Stop};
use crate::host::{Host, Task};
use crate::map::Map;
use crate::memory::{Region, RegionName, Regions};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a stack frame. Source: `MAX_BPF_STACK`.
pub const STACK_FRAME_BYTES: usize = 512;

/// Tail calls that a run may make. Source: `MAX_TAIL_CALL_CNT`.
pub const MAX_TAIL_CALLS: u32 = 33;

/// How often `may_goto` lets a run go on before it jumps. Source: `BPF_MAX_LOOPS`.
pub const MAX_MAY_GOTO: u64 = 8 * 1024 * 1024;

/// Instructions between two looks at the clock.
const SLICE: u64 = 1 << 16;

/// Bytes that helpers go over between two looks at the clock: one call can take as long as a million instructions.
const WORK_SLICE: u64 = 1 << 20;

/// What a run may use up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Instructions, those of functions called and of programs tail-called included; `None` for as many as it takes.
    pub insns: Option<u64>,
    /// Time on the clock, looked at every 65,536 instructions, and after a helper when helpers have gone over another
    /// megabyte.
    pub time: Option<Duration>,
    /// Stack frames of 512 bytes: nested calls of functions and callbacks, the program itself counted.
    pub frames: u32,
}

impl Default for Limits {
    /// No limit on instructions and time, as for a program that a verifier passed; 8 frames as in Linux.
    fn default() -> Limits {
        Limits { insns: None, time: None, frames: 8 }
    }
}

/// A stretch of memory that the last checked access fell into.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Cached {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Cached {
    #[inline(always)]
    fn holds(self, addr: u64, size: u64) -> bool {
        let at = addr.wrapping_sub(self.start);
        at < self.len && self.len - at >= size
    }
}

/// How the engine that runs a program calls one of its functions: first operation, arguments; gives r0.
///
/// # Safety
/// The run is going on, `Env::code` is its program, and the operation starts one of its functions.
pub(crate) type CallFunc = unsafe fn(&mut Env, u32, [u64; 5]) -> u64;

/// A run. Helpers get it; compiled code reads and writes the fields at its start.
#[repr(C)]
pub struct Env {
    // Used by compiled code at fixed offsets (see jit).
    /// Instructions left before `refill`.
    pub(crate) budget: u64,
    /// r10 of the function that runs.
    pub(crate) frame: u64,
    /// The lowest r10 that still has a whole frame.
    pub(crate) lowest_frame: u64,
    /// Native stack pointer to go back to on a fault.
    pub(crate) native_sp: u64,
    /// Not 0: a helper found something wrong.
    pub(crate) faulted: u32,
    /// The virtual CPU.
    pub(crate) cpu: u32,
    pub(crate) tail_calls: u32,
    /// Callee of the call that is being made, for functions of the host.
    pub(crate) callee: u32,
    pub(crate) may_goto: u64,
    pub(crate) readable: Cached,
    pub(crate) writable: Cached,
    /// Where compiled code puts r0 to r10 when it hands over to the interpreter.
    pub(crate) regs: [u64; 11],
    /// The program that runs.
    pub(crate) code: *const Code,

    // Not used by compiled code.
    pub(crate) checked: bool,
    /// Instructions that may still come into `budget`.
    after: u64,
    limits: Limits,
    deadline: Option<Instant>,
    /// Bytes that helpers have gone over since the last look at the clock.
    work: Cell<u64>,
    fault: Option<Box<Fault>>,
    pending: Option<FaultKind>,
    stack: Box<[u128]>,
    pub(crate) call_func: CallFunc,
    regions: Regions,
    inner_maps: Vec<u64>,
    /// The memory r1 points to.
    context: Region,
    access: Access,
    /// Memory that the context points to.
    pointee: Cached,
    /// The packet that the context is about.
    pub(crate) packet: Option<Packet>,
    /// What a cgroup hook makes its system call return.
    pub(crate) retval: i32,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) task: Arc<dyn Task>,
    helpers: Arc<[Helper]>,
    /// Programs that this run has tail-called stay valid while it holds this.
    pub(crate) guard: Option<crossbeam_epoch::Guard>,
    /// What helpers keep for the length of a run (spin locks held, bytes for bpf_override_return and so on).
    pub(crate) scratch: crate::helpers::Scratch,
}

impl Env {
    pub(crate) fn new(
        limits: Limits,
        checked: bool,
        host: Arc<dyn Host>,
        task: Arc<dyn Task>,
        helpers: Arc<[Helper]>,
    ) -> Env {
        let frames = limits.frames.max(1) as usize;
        let stack = vec![0u128; frames * STACK_FRAME_BYTES / 16].into_boxed_slice();
        let base = stack.as_ptr().expose_provenance() as u64;
        Env {
            budget: 0,
            frame: base + (frames * STACK_FRAME_BYTES) as u64,
            lowest_frame: base + STACK_FRAME_BYTES as u64,
            native_sp: 0,
            faulted: 0,
            cpu: 0,
            tail_calls: 0,
            callee: 0,
            may_goto: MAX_MAY_GOTO,
            readable: Cached::default(),
            writable: Cached::default(),
            regs: [0; 11],
            code: std::ptr::null(),
            checked,
            after: 0,
            limits,
            deadline: None,
            work: Cell::new(0),
            fault: None,
            pending: None,
            stack,
            call_func: crate::interp::call_func,
            regions: Regions::default(),
            inner_maps: Vec::new(),
            context: Region { start: 0, len: 0, writable: false, name: RegionName::Context },
            access: Access::ReadOnly,
            pointee: Cached::default(),
            packet: None,
            retval: 0,
            host,
            task,
            helpers,
            guard: None,
            scratch: crate::helpers::Scratch::default(),
        }
    }

    /// Makes ready for a run over this context, on this CPU.
    pub(crate) fn start(&mut self, context: &mut Context, cpu: u32) {
        self.frame = self.stack_top();
        self.faulted = 0;
        self.cpu = cpu;
        self.tail_calls = 0;
        self.may_goto = MAX_MAY_GOTO;
        self.forget_cached();
        self.fault = None;
        self.pending = None;
        self.budget = 0;
        self.after = self.limits.insns.unwrap_or(u64::MAX);
        match self.limits.time {
            Some(limit) => self.deadline = Instant::now().checked_add(limit),
            // No clock to look at: all of it at once.
            None => {
                self.budget = self.after.min(i64::MAX as u64);
                self.after -= self.budget;
            }
        }
        if self.checked {
            self.regions.clear();
            self.inner_maps.clear();
            if let Some(pointee) = context.pointee() {
                self.regions.add(pointee.clone());
            }
        }
        self.pointee = context.pointee().map_or(Cached::default(), |at| Cached { start: at.start, len: at.len });
        let (region, access) = context.lend(&mut self.packet);
        // Field by field: a struct written in pieces and then moved whole waits for the pieces.
        (self.context.start, self.context.len, self.context.writable) = (region.start, region.len, region.writable);
        if self.context.name != region.name {
            self.context.name = region.name.clone();
        }
        self.access = access;
        self.retval = 0;
    }

    /// Ends the run: what it borrowed goes back to the context.
    pub(crate) fn end(&mut self, context: &mut Context) {
        self.settle();
        context.give_back(&mut self.packet, self.retval);
        self.context.len = 0;
    }

    /// Gives back what a run that ended early still holds.
    fn settle(&mut self) {
        let scratch = &mut self.scratch;
        if let Some(lock) = scratch.lock.take() {
            // SAFETY: this run took it, in memory that stays for as long as the run's guard does.
            unsafe { crate::map::spin_unlock(std::ptr::with_exposed_provenance_mut(lock as usize)) };
        }
        while let Some((record, _)) = scratch.records.pop() {
            // SAFETY: this run reserved it and did not give it back; the map is one that its program holds.
            unsafe { crate::map::ringbuf_discard(std::ptr::with_exposed_provenance_mut(record as usize), 0) };
        }
        scratch.bits.clear();
    }

    fn stack_top(&self) -> u64 {
        self.stack.as_ptr().addr() as u64 + (self.stack.len() * 16) as u64
    }

    /// The fault of the run, if it had one.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take().map(|fault| *fault)
    }

    /// Notes where the pending fault happened, if no function called back has done so.
    #[cold]
    pub(crate) fn fault_at(&mut self, code: &Code, op: usize) {
        self.faulted = 1;
        let kind = self.pending.take();
        if self.fault.is_none() {
            let kind = kind.unwrap_or_else(|| FaultKind::Helper {
                helper: "a helper",
                why: "it failed without saying why; this is a bug of skep".to_owned(),
            });
            self.fault = Some(Box::new(Fault { program: code.name.clone(), insn: code.slot(op), kind }));
        }
    }

    /// Notes why the run cannot go on; the engine adds where.
    #[cold]
    pub(crate) fn stop(&mut self, kind: FaultKind) {
        self.pending = Some(kind);
        self.faulted = 1;
    }

    /// Turns a helper's result into r0 and the fault flag.
    #[inline(always)]
    pub(crate) fn finish(&mut self, result: HelperResult) -> u64 {
        if self.work.get() >= WORK_SLICE {
            self.look_at_the_clock_next();
        }
        match result {
            Ok(value) => value,
            Err(Stop::Fault(kind)) => {
                self.stop(kind);
                0
            }
            Err(Stop::Nested) => {
                self.faulted = 1;
                0
            }
        }
    }

    /// Notes that a helper has gone over so many bytes, so that the time limit holds for what helpers do, too.
    #[inline]
    pub(crate) fn worked(&self, bytes: u64) {
        self.work.set(self.work.get().saturating_add(bytes));
    }

    /// The next instruction finds the budget used up, which is when the clock is looked at. What is left is not lost.
    #[cold]
    fn look_at_the_clock_next(&mut self) {
        self.work.set(0);
        if self.deadline.is_some() {
            self.after += self.budget;
            self.budget = 0;
        }
    }

    /// Called when the budget is used up: puts more into it, or says why not.
    #[cold]
    pub(crate) fn refill(&mut self) -> bool {
        if let (Some(limit), Some(deadline)) = (self.limits.time, self.deadline)
            && Instant::now() >= deadline
        {
            self.stop(FaultKind::TimeLimit { limit });
            return false;
        }
        let grant = self.after.min(SLICE);
        if grant == 0 {
            self.stop(FaultKind::InsnLimit { limit: self.limits.insns.unwrap_or(u64::MAX) });
            return false;
        }
        self.after -= grant;
        self.budget += grant;
        true
    }

    /// Counts `len` instructions that all run unless one faults; `false` if the run's limit may fall among them, when
    /// nothing is counted and no fault is noted. For compiled code, whose budget does not cover them.
    #[cold]
    pub(crate) fn refill_for(&mut self, len: u64) -> bool {
        while self.budget < len {
            let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let grant = self.after.min(SLICE);
            if late || grant == 0 {
                return false;
            }
            self.after -= grant;
            self.budget += grant;
        }
        self.budget -= len;
        true
    }

    /// Whether instructions of this run are counted.
    pub(crate) fn is_counted(&self) -> bool {
        Env::counts(&self.limits)
    }

    /// Instructions that the run has used so far; exact where there is a limit.
    pub(crate) fn used(&self) -> u64 {
        self.limits.insns.unwrap_or(u64::MAX).saturating_sub(self.after).saturating_sub(self.budget)
    }

    /// Whether the run is limited, so that compiled code must count.
    pub(crate) fn counts(limits: &Limits) -> bool {
        limits.insns.is_some() || limits.time.is_some()
    }

    /// The program starts: in the checked mode its frame is cleared and the map memory that it names is its own.
    pub(crate) fn enter(&mut self, code: &Code) {
        self.code = code;
        if self.checked {
            self.clear_frame();
            self.own_data(code);
        }
    }

    /// In the checked mode: the map memory that a program names is its own, also when it is entered by a tail call.
    pub(crate) fn own_data(&mut self, code: &Code) {
        if self.checked {
            for region in &code.linked.data {
                self.regions.add(region.clone());
            }
        }
    }

    /// The map that a map pointer means. In the checked mode it must be one that the running program names, or one
    /// that a lookup in a map of maps gave it.
    pub(crate) fn map(&mut self, pointer: u64) -> Result<&'static Map, Stop> {
        if self.checked {
            // SAFETY: as in `call_back`.
            let named = unsafe { self.code.as_ref() }
                .is_some_and(|code| code.linked.maps.iter().any(|map| Arc::as_ptr(map).addr() as u64 == pointer));
            if !named && !self.inner_maps.contains(&pointer) {
                let why = format!("{pointer:#x} is not a map of this program");
                return Err(FaultKind::Helper { helper: "map", why }.into());
            }
        }
        // SAFETY: the pointer is that of a map which the program holds for as long as it runs, or which the run's guard
        // keeps; no caller keeps the reference beyond the run.
        Ok(unsafe { &*std::ptr::with_exposed_provenance::<Map>(pointer as usize) })
    }

    /// A lookup in a map of maps gave the program this map.
    pub(crate) fn own_map(&mut self, pointer: u64) {
        if self.checked && !self.inner_maps.contains(&pointer) {
            self.inner_maps.push(pointer);
        }
    }

    /// A frame for a function called from the one that runs; `false` (with the fault noted) where there is none.
    #[inline]
    pub(crate) fn push_frame(&mut self) -> bool {
        let frame = self.frame - STACK_FRAME_BYTES as u64;
        if frame < self.lowest_frame {
            self.stop(FaultKind::StackDepth { frames: self.limits.frames });
            return false;
        }
        self.frame = frame;
        if self.checked {
            self.clear_frame();
        }
        true
    }

    /// Gives the frame of the function that returns back.
    #[inline]
    pub(crate) fn pop_frame(&mut self) {
        self.frame += STACK_FRAME_BYTES as u64;
        if self.checked {
            self.forget_cached();
        }
    }

    /// Makes the frame that runs all zeros: in the checked mode no program sees what another left behind.
    pub(crate) fn clear_frame(&mut self) {
        let start = self.frame - STACK_FRAME_BYTES as u64;
        // SAFETY: `frame` lies within the stack, a whole frame above its base (`lowest_frame`).
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(start as usize).write_bytes(0, STACK_FRAME_BYTES) };
    }

    pub(crate) fn forget_cached(&mut self) {
        self.readable = Cached::default();
        self.writable = Cached::default();
    }

    /// Whether an access is to the program's own memory; notes the fault if not. Only for the checked mode.
    #[inline(always)]
    pub(crate) fn check(&mut self, addr: u64, size: u64, write: bool) -> bool {
        let cached = if write { self.writable } else { self.readable };
        cached.holds(addr, size) || self.check_slowly(addr, size, write)
    }

    #[cold]
    fn check_slowly(&mut self, addr: u64, size: u64, write: bool) -> bool {
        match self.find(addr, size, write) {
            Ok(cached) => {
                if let Some(cached) = cached {
                    *(if write { &mut self.writable } else { &mut self.readable }) = cached;
                }
                true
            }
            Err(why) => {
                let regions = self.view();
                self.stop(FaultKind::Access(Box::new(BadAccess { addr, size, write, regions, why })));
                false
            }
        }
    }

    /// The stretch around an access that may be used alike, none where each access must be looked at; or why it is refused.
    fn find(&self, addr: u64, size: u64, write: bool) -> Result<Option<Cached>, Option<String>> {
        let low = self.frame - STACK_FRAME_BYTES as u64;
        let stack = Cached { start: low, len: self.stack_top() - low };
        if stack.holds(addr, size) {
            return Ok(Some(stack));
        }
        if self.context.holds(addr, size) {
            return self.access.allows(addr - self.context.start, size, write).map_err(Some);
        }
        if let Some(packet) = &self.packet
            && let Some((start, len)) = packet.holds(addr, size)
        {
            return if write && !packet.writable {
                Err(Some("the packet is read-only here".to_owned()))
            } else {
                Ok(Some(Cached { start, len }))
            };
        }
        match self.regions.at(addr).filter(|region| region.holds(addr, size)) {
            Some(region) if write && !region.writable => Err(Some(format!("{} is read-only", region.name))),
            Some(region) => Ok(Some(Cached { start: region.start, len: region.len })),
            None => Err(None),
        }
    }

    /// What the program owns, for a message.
    fn view(&self) -> Vec<RegionView> {
        let low = self.frame - STACK_FRAME_BYTES as u64;
        let mut regions = vec![RegionView { name: RegionName::Stack, start: low, len: self.stack_top() - low }];
        let view = |r: &Region| RegionView { name: r.name.clone(), start: r.start, len: r.len };
        if self.context.len > 0 {
            regions.push(view(&self.context));
        }
        if let Some(packet) = &self.packet {
            regions.extend(packet.view());
        }
        regions.extend(self.regions.iter().map(view));
        regions
    }

    /// In the checked mode: the program owns this memory from now on.
    pub(crate) fn own(
        &mut self,
        start: u64,
        len: u64,
        writable: bool,
        name: impl FnOnce() -> RegionName,
    ) -> Result<(), Stop> {
        if !self.checked || len == 0 {
            return Ok(());
        }
        if self.regions.add(Region { start, len, writable, name: name() }) {
            return Ok(());
        }
        let why = format!(
            "the run looked up more than {} pieces of memory, which the checked mode keeps",
            crate::memory::MAX_REGIONS
        );
        Err(FaultKind::Helper { helper: "memory", why }.into())
    }

    /// Whether this address is in memory that the program owns by a lookup or a reservation, in the checked mode.
    pub(crate) fn owns(&self, addr: u64) -> bool {
        self.regions.at(addr).is_some()
    }

    /// Whether the run owns so many pieces of memory that a walk should not add each that it comes by: adding one takes
    /// the longer the more there are, and there is a limit.
    pub(crate) fn owns_much(&self) -> bool {
        const KEPT_IN_WALKS: usize = 1024;
        self.regions.len() > KEPT_IN_WALKS
    }

    /// In the checked mode: the program has given up all that begins in this stretch.
    pub(crate) fn disown_all(&mut self, start: u64, len: u64) {
        if self.checked {
            self.regions.remove_within(start, len);
            self.forget_cached();
        }
    }

    /// In the checked mode: the program has given this memory up.
    pub(crate) fn disown(&mut self, start: u64) {
        if self.checked {
            self.regions.remove(start);
            self.forget_cached();
        }
    }

    /// Checks memory that a helper was given: in the checked mode it must be the program's own.
    #[inline]
    pub(crate) fn may(&mut self, addr: u64, len: u64, write: bool) -> Result<(), Stop> {
        self.worked(len);
        if !self.checked || len == 0 || self.check(addr, len, write) {
            return Ok(());
        }
        Err(self.not_yet())
    }

    /// What stops the run unless the helper goes on without it: a function of the host may answer with an error number.
    fn not_yet(&mut self) -> Stop {
        match self.pending.take() {
            Some(kind) => {
                self.faulted = u32::from(self.fault.is_some());
                Stop::Fault(kind)
            }
            None => Stop::Nested,
        }
    }

    /// Memory of the program, to read. In the checked mode the whole of it must be the program's own; otherwise a
    /// verifier has seen to that.
    ///
    /// What is in a map may change at any time by another thread's program; copy what must not.
    pub fn bytes(&mut self, addr: u64, len: u64) -> Result<&[u8], Stop> {
        self.may(addr, len, false)?;
        if len == 0 {
            return Ok(&[]);
        }
        // SAFETY: checked just now, or passed by a verifier; it stays for the run, which `self` is borrowed from.
        Ok(unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(addr as usize), len as usize) })
    }

    /// Memory of the program, to write. As [`Env::bytes`].
    pub fn bytes_mut(&mut self, addr: u64, len: u64) -> Result<&mut [u8], Stop> {
        self.may(addr, len, true)?;
        if len == 0 {
            return Ok(&mut []);
        }
        // SAFETY: as in `bytes`.
        Ok(unsafe {
            std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(addr as usize), len as usize)
        })
    }

    /// Copies memory of the program out, as in [`Env::bytes`].
    pub fn read<const N: usize>(&mut self, addr: u64) -> Result<[u8; N], Stop> {
        self.may(addr, N as u64, false)?;
        // SAFETY: as in `bytes`.
        Ok(unsafe { crate::memory::load(addr) })
    }

    /// Writes memory of the program, as in [`Env::bytes_mut`].
    pub fn write<const N: usize>(&mut self, addr: u64, value: [u8; N]) -> Result<(), Stop> {
        self.may(addr, N as u64, true)?;
        // SAFETY: as in `bytes`.
        unsafe { crate::memory::store(addr, value) };
        Ok(())
    }

    /// The program's own memory from this address on, at most `most` bytes of it; empty where the address is not its own.
    ///
    /// For addresses that nothing vouches for, such as `bpf_probe_read_kernel` takes: in both modes nothing else is read.
    pub(crate) fn own_bytes(&self, addr: u64, most: u64) -> &[u8] {
        let len = self.own_len(addr).min(most);
        self.worked(len);
        if len == 0 {
            return &[];
        }
        // SAFETY: `own_len` found these bytes in memory that stays for the run, which `self` is borrowed from.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(addr as usize), len as usize) }
    }

    /// How many bytes from this address on lie in one stretch of the program's own memory.
    fn own_len(&self, addr: u64) -> u64 {
        let after = |start: u64, len: u64| addr.checked_sub(start).and_then(|at| len.checked_sub(at)).unwrap_or(0);
        let low = self.frame - STACK_FRAME_BYTES as u64;
        let stack = after(low, self.stack_top() - low);
        if stack > 0 {
            return stack;
        }
        // The kernel's context structs are not those that programs see, so there is nothing to read in them.
        let plain = !matches!(self.access, Access::Fields(_));
        let context = after(self.context.start, self.context.len);
        if context > 0 {
            return if plain { context } else { 0 };
        }
        if let Some((start, len)) = self.packet.as_ref().and_then(|packet| packet.holds(addr, 1)) {
            return after(start, len);
        }
        let pointee = after(self.pointee.start, self.pointee.len);
        if pointee > 0 {
            return if plain { pointee } else { 0 };
        }
        if self.checked {
            return self.regions.at(addr).map_or(0, |region| after(region.start, region.len));
        }
        // No list is kept of what a verified program looked up: the maps that it names are asked.
        // SAFETY: as in `call_back`.
        let Some(code) = (unsafe { self.code.as_ref() }) else { return 0 };
        let data = code.linked.data.iter().map(|region| (region.start, region.len));
        let records = self.scratch.records.iter().copied();
        let stretch = |map: &Arc<Map>| {
            let found = map.stretch(usize::try_from(addr).ok()?)?;
            Some((found.start as u64, found.len() as u64))
        };
        let maps = code.linked.maps.iter().filter_map(stretch);
        data.chain(records).chain(maps).map(|(start, len)| after(start, len)).find(|len| *len > 0).unwrap_or(0)
    }

    /// Copies within the program's memory, checked as in [`Env::bytes`]; the two may overlap.
    pub(crate) fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), Stop> {
        self.may(from, len, false)?;
        self.may(to, len, true)?;
        if len > 0 {
            let from = std::ptr::with_exposed_provenance::<u8>(from as usize);
            // SAFETY: as in `bytes` and `bytes_mut`.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(to as usize).copy_from(from, len as usize) };
        }
        Ok(())
    }

    /// A word of the program's memory that runs use as a lock; its address is a multiple of 4. In the checked mode that of a
    /// map value, which only the helpers for it may write, or any that the program may write.
    pub(crate) fn lock_word(&mut self, addr: u64) -> Result<&std::sync::atomic::AtomicU32, Stop> {
        if !addr.is_multiple_of(4) {
            return Err(FaultKind::Misaligned { addr, size: 4 }.into());
        }
        let is_lock = |region: &Region| region.start == addr && matches!(region.name, RegionName::SpinLock(_));
        if !self.checked || !self.regions.at(addr).is_some_and(is_lock) {
            self.may(addr, 4, true)?;
        }
        // SAFETY: as in `bytes_mut`; aligned.
        Ok(unsafe { &*std::ptr::with_exposed_provenance(addr as usize) })
    }

    /// Whether accesses are checked: the program has not been verified.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked
    }

    /// Where the context stands.
    pub(crate) fn context_start(&self) -> u64 {
        self.context.start
    }

    /// Four bytes of the context, whatever the program may do with them; 0 past its end.
    pub(crate) fn context_u32(&self, off: usize) -> u32 {
        let off = off as u64;
        if off + 4 > self.context.len {
            return 0;
        }
        // SAFETY: within the context, which stays for the run.
        unsafe { crate::memory::load(self.context.start + off) }
    }

    /// Writes bytes of the context, whatever the program may do with them; nothing past its end.
    pub(crate) fn set_context<const N: usize>(&mut self, off: usize, value: [u8; N]) {
        let off = off as u64;
        if off + N as u64 <= self.context.len {
            // SAFETY: within the context, which stays for the run.
            unsafe { crate::memory::store(self.context.start + off, value) };
        }
    }

    /// How many bytes from the context's start on are the program's.
    pub(crate) fn context_len(&self) -> u64 {
        self.context.len
    }

    /// Calls a function of the program by the value that a function address loads as; gives its r0.
    pub fn call_back(&mut self, func: u64, args: [u64; 5]) -> HelperResult {
        // SAFETY: `code` is the program that runs, which outlives the run.
        let start = unsafe { self.code.as_ref() }.and_then(|code| code.func_of(func));
        let Some(start) = start else {
            let why = format!("{func:#x} is not the address of a function of the program");
            return Err(FaultKind::Helper { helper: "callback", why }.into());
        };
        let code = self.code;
        if !self.push_frame() {
            return Err(self.not_yet());
        }
        // SAFETY: the operation starts a function of the program that runs.
        let result = unsafe { (self.call_func)(self, start, args) };
        self.pop_frame();
        self.code = code;
        if self.faulted != 0 { Err(Stop::Nested) } else { Ok(result) }
    }

    /// The function of the host that is being called.
    pub(crate) fn host_helper(&self) -> Option<Helper> {
        // SAFETY: as in `call_back`.
        let code = unsafe { self.code.as_ref() }?;
        let callee = code.callees.get(self.callee as usize)?;
        self.helpers.get(callee.host?).cloned()
    }

    /// Why the call that is being made could not be had.
    pub(crate) fn refusal(&self) -> Option<String> {
        // SAFETY: as in `call_back`.
        let code = unsafe { self.code.as_ref() }?;
        let callee = code.callees.get(self.callee as usize)?;
        code.linked.refusals.get(callee.host?).cloned()
    }

    /// The virtual CPU that the program runs on.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The task that the program runs in.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// The packet that the context is about, if it is about one.
    pub fn packet(&self) -> Option<&Packet> {
        self.packet.as_ref()
    }
}
