//! The engine, the programs it has loaded, and how they are run.
#![expect(unsafe_code, reason = "compiled code and program memory are reached by address")]

use crate::code::{Callee, Code, CodeError, Linked, Resolve};
use crate::context::Context;
use crate::cpus::Cpus;
use crate::env::{Env, Limits, MAX_TAIL_CALLS};
use crate::fault::Fault;
use crate::helper::{Helper, Stop, host_trampoline};
use crate::helpers;
use crate::host::{Host, Task};
use crate::interp::{self, Trace, Untraced};
use skep_abi::ProgramType;
use skep_isa::{Endian, Insn, InsnIdx, Raw, Wide};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether accesses to memory are checked while a program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Memory {
    /// Every access must fall into memory that the program owns; anything else is a fault. For programs that no verifier
    /// has passed.
    #[default]
    Checked,
    /// Nothing is checked. **Only for programs that a verifier has passed**: any other can read and write this process.
    Fast,
}

/// How programs run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By the interpreter, which is the definition.
    #[default]
    Interpreter,
    /// As machine code, where there is a compiler for this machine; by the interpreter elsewhere (see
    /// [`Program::is_compiled`]).
    Compiled,
}

/// How an engine is to be.
#[derive(Clone)]
pub struct Config {
    /// Whether accesses are checked.
    pub memory: Memory,
    /// How programs run.
    pub mode: Mode,
    /// What a run may use up.
    pub limits: Limits,
    /// Virtual CPUs: values of per-CPU maps, and programs that run at a time; more runs wait. At least one. A function of the
    /// host that runs a program itself, on the same engine, needs a second one: with one it waits for itself.
    pub cpus: u32,
    /// Clocks, random numbers, where printed lines go.
    pub host: Arc<dyn Host>,
    /// The task that programs run in, unless a runner says otherwise.
    pub task: Arc<dyn Task>,
    /// Functions of the host program.
    pub helpers: Vec<Helper>,
}

impl Default for Config {
    /// Checked, interpreted, a million instructions and ten seconds a run, as many CPUs as the machine has.
    fn default() -> Config {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let time = Some(std::time::Duration::from_secs(10));
        Config {
            memory: Memory::Checked,
            mode: Mode::Interpreter,
            limits: Limits { insns: Some(1_000_000), time, ..Limits::default() },
            cpus,
            host: Arc::new(crate::system::SystemHost::default()),
            task: Arc::new(crate::system::OwnTask::default()),
            helpers: Vec::new(),
        }
    }
}

/// What all programs and runners of an engine share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) helpers: Arc<[Helper]>,
    pub(crate) cpus: Cpus,
}

/// An embedded engine: loads programs and makes runners for them. Cheap to clone; clones are the same engine.
#[derive(Clone)]
pub struct Vm {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.shared.config;
        f.debug_struct("Vm")
            .field("memory", &config.memory)
            .field("mode", &config.mode)
            .field("cpus", &config.cpus)
            .finish()
    }
}

/// Why programs cannot be loaded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A program that cannot be made ready to run.
    #[error("load program {program}: {cause}")]
    Code {
        /// Its name.
        program: String,
        /// Why.
        cause: CodeError,
    },
    /// A map that cannot be made or filled.
    #[error("make map {map}: {cause}")]
    Map {
        /// Its name.
        map: String,
        /// Why.
        cause: String,
    },
    /// Something else about the object.
    #[error("{cause}")]
    Object {
        /// What is wrong.
        cause: String,
    },
    /// Machine code that could not be made.
    #[error("compile program {program}: {cause}")]
    Compile {
        /// Its name.
        program: String,
        /// Why.
        cause: String,
    },
}

/// A program ready to run. Cheap to clone; clones are the same program.
#[derive(Clone)]
pub struct Program {
    pub(crate) loaded: Arc<Loaded>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.loaded.code.name).field("type", &self.loaded.kind).finish()
    }
}

/// What a [`Program`] is.
pub(crate) struct Loaded {
    pub(crate) code: Code,
    pub(crate) kind: ProgramType,
    id: u32,
}

impl Vm {
    /// An engine of this kind.
    pub fn new(config: Config) -> Vm {
        let helpers = config.helpers.clone().into();
        let cpus = Cpus::new(config.cpus);
        Vm { shared: Arc::new(Shared { config, helpers, cpus }) }
    }

    /// How it is.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Loads bytecode (8 bytes an instruction, this machine's byte order) that names no maps. Helpers are those that
    /// programs of this type may call; [`ProgramType::Unspec`] may call any.
    pub fn load_bytes(&self, name: &str, kind: ProgramType, bytes: &[u8]) -> Result<Program, LoadError> {
        let (slots, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(LoadError::Code { program: name.to_owned(), cause: CodeError::Length(bytes.len()) });
        }
        let slots: Vec<Raw> = slots.iter().map(|slot| Raw::from_bytes(*slot, Endian::NATIVE)).collect();
        self.load_slots(name, kind, &slots)
    }

    /// The same from instruction slots.
    pub fn load_slots(&self, name: &str, kind: ProgramType, slots: &[Raw]) -> Result<Program, LoadError> {
        let insns = skep_isa::decode(slots)
            .map_err(|error| LoadError::Code { program: name.to_owned(), cause: error.into() })?;
        self.load_insns(name, kind, &insns, &mut Unlinked { helpers: &self.shared.helpers, kind })
    }

    /// Makes decoded instructions a program; `resolve` knows what they name.
    pub(crate) fn load_insns(
        &self,
        name: &str,
        kind: ProgramType,
        insns: &[(InsnIdx, Insn)],
        resolve: &mut dyn Resolve,
    ) -> Result<Program, LoadError> {
        let mut code = Code::build(name.into(), insns, resolve)
            .map_err(|cause| LoadError::Code { program: name.to_owned(), cause })?;
        if self.shared.config.mode == Mode::Compiled
            && let Some(compiler) = crate::jit::compiler()
        {
            let counted = Env::counts(&self.shared.config.limits);
            let options = crate::jit::Options { checked: self.shared.config.memory == Memory::Checked, counted };
            let native = compiler
                .compile(&code, options)
                .map_err(|cause| LoadError::Compile { program: name.to_owned(), cause })?;
            code.native = Some(native);
        }
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Program { loaded: Arc::new(Loaded { code, kind, id }) })
    }

    /// Something to run programs with, for one thread.
    pub fn runner(&self) -> Runner {
        let shared = self.shared.clone();
        let config = &shared.config;
        let checked = config.memory == Memory::Checked;
        let env = Env::new(config.limits, checked, config.host.clone(), config.task.clone(), shared.helpers.clone());
        Runner { env: Box::new(env), shared, cpu: 0 }
    }

    /// Runs a program once.
    pub fn run(&self, program: &Program, context: &mut Context<'_>) -> Result<u64, Fault> {
        self.runner().run(program, context)
    }
}

/// Finds helpers for a program of a type.
pub(crate) fn resolve_helper(helpers: &[Helper], kind: ProgramType, id: u32) -> Result<Callee, String> {
    if let Some(place) = helpers.iter().position(|helper| helper.id() == id) {
        return Ok(Callee { function: host_trampoline(), id, host: Some(place) });
    }
    let known = skep_abi::helpers::by_id(id);
    if let Some(builtin) = helpers::by_id(id) {
        let allowed = known.is_none_or(|helper| helper.programs_on(None).contains(kind));
        if !allowed && kind != ProgramType::Unspec {
            return Err(format!("programs of type {} cannot call {}", kind.short_name(), builtin.name));
        }
        return Ok(Callee { function: builtin.function, id, host: None });
    }
    match known {
        Some(helper) => {
            let why = helpers::why_refused(helper.name).map(|why| format!(": {why}")).unwrap_or_default();
            Err(format!(
                "{} has no meaning outside the kernel, so the embedded engine does not have it{why}; use --engine kernel",
                helper.name
            ))
        }
        None => Err(format!("there is no helper with number {id}")),
    }
}

/// Resolves for bytecode that names no maps.
struct Unlinked<'h> {
    helpers: &'h [Helper],
    kind: ProgramType,
}

impl Resolve for Unlinked<'_> {
    fn helper(&mut self, _: InsnIdx, id: u32) -> Result<Callee, String> {
        resolve_helper(self.helpers, self.kind, id)
    }

    fn kfunc(&mut self, _: InsnIdx, btf_id: i32, _: i16) -> Result<Callee, String> {
        Err(format!("kernel function {btf_id} has no name here; load the object file it comes from"))
    }

    fn wide(&mut self, _: InsnIdx, value: Wide) -> Result<u64, String> {
        Err(match value {
            Wide::MapFd(fd) | Wide::MapValue { fd, .. } => {
                format!("map {fd} is not known: bytecode on its own has no maps")
            }
            _ => "what it loads is not known: bytecode on its own has no maps or kernel variables".to_owned(),
        })
    }

    fn finish(&mut self) -> Linked {
        Linked::default()
    }
}

impl Program {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.loaded.code.name
    }

    /// Its type.
    pub fn kind(&self) -> ProgramType {
        self.loaded.kind
    }

    /// Its number, different from that of every other program of this process, as a program array shows it.
    pub fn id(&self) -> u32 {
        self.loaded.id
    }

    /// What a tail call of machine code jumps to; 0 where it does not run as machine code.
    pub(crate) fn entry(&self) -> usize {
        self.loaded.code.native.as_ref().map_or(0, |native| native.entry())
    }

    /// Whether it runs as machine code.
    pub fn is_compiled(&self) -> bool {
        self.loaded.code.native.is_some()
    }

    /// Its machine code; empty where it is interpreted.
    pub fn machine_code(&self) -> &[u8] {
        self.loaded.code.native.as_ref().map_or(&[], |native| native.bytes())
    }

    /// The slot of the instruction with this index, as [`Trace`] counts them.
    pub fn slot_of(&self, index: usize) -> InsnIdx {
        self.loaded.code.slot(index)
    }
}

/// Runs programs on one thread, one after the other. Keeps what a run needs, so that a run allocates nothing.
pub struct Runner {
    env: Box<Env>,
    shared: Arc<Shared>,
    /// The virtual CPU of the last run, tried first for the next.
    cpu: u32,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

impl Runner {
    /// The task that programs run in from now on.
    pub fn set_task(&mut self, task: Arc<dyn Task>) {
        self.env.task = task;
    }

    /// The virtual CPU to run on from now on, if it is free.
    pub fn prefer_cpu(&mut self, cpu: u32) {
        self.cpu = cpu;
    }

    /// Instructions that the last run used, where the engine limits them.
    pub fn used_insns(&self) -> u64 {
        self.env.used()
    }

    /// Runs a program once, with r1 pointing to the context (and r2 its length for the caller's memory). Gives r0.
    pub fn run(&mut self, program: &Program, context: &mut Context<'_>) -> Result<u64, Fault> {
        self.run_by(program, context, |env, code, args| {
            if let Some(native) = code.native_for(crate::jit::Options::of(env)) {
                env.call_func = crate::jit::call_func;
                // SAFETY: the run is started, the code is this program's, and the options are the run's; in the fast mode
                // the program has been verified, as `Memory::Fast` demands.
                return unsafe { native.run(env, 0, args) };
            }
            env.call_func = interp::call_func;
            let mut regs = [0; 16];
            regs[1..6].copy_from_slice(&args);
            match env.checked {
                // SAFETY: the run is started; in the fast mode the program has been verified, as `Memory::Fast` demands.
                true => unsafe { interp::run::<true, _>(env, code, 0, &mut regs, &mut Untraced) },
                // SAFETY: as above.
                false => unsafe { interp::run::<false, _>(env, code, 0, &mut regs, &mut Untraced) },
            }
        })
    }

    /// Runs a program once in the interpreter, checked, and shows every instruction before it runs.
    pub fn run_traced(
        &mut self,
        program: &Program,
        context: &mut Context<'_>,
        trace: &mut impl Trace,
    ) -> Result<u64, Fault> {
        let checked = std::mem::replace(&mut self.env.checked, true);
        let result = self.run_by(program, context, |env, code, args| {
            env.call_func = interp::call_func;
            let mut regs = [0; 16];
            regs[1..6].copy_from_slice(&args);
            // SAFETY: the run is started.
            unsafe { interp::run::<true, _>(env, code, 0, &mut regs, trace) }
        });
        self.env.checked = checked;
        result
    }

    fn run_by(
        &mut self,
        program: &Program,
        context: &mut Context<'_>,
        run: impl FnOnce(&mut Env, &Code, [u64; 5]) -> u64,
    ) -> Result<u64, Fault> {
        let env = &mut *self.env;
        self.cpu = self.shared.cpus.enter(self.cpu);
        env.guard = Some(crossbeam_epoch::pin());
        let code = &program.loaded.code;
        let args = context.arguments();
        env.start(context, self.cpu);
        env.enter(code);
        let result = run(env, code, args);
        env.end(context);
        env.guard = None;
        self.shared.cpus.leave(self.cpu);
        match env.take_fault() {
            Some(fault) => Err(fault),
            None => Ok(result),
        }
    }
}

/// Where a tail call leads, `None` for nowhere: no such slot, an empty one, or too many tail calls.
pub(crate) fn tail_target(env: &mut Env, map: u64, index: u32) -> Result<Option<*const Code>, Stop> {
    if env.tail_calls >= MAX_TAIL_CALLS {
        return Ok(None);
    }
    let target = env.map(map)?.tail_target(index);
    // SAFETY: the run's guard keeps what stood in the slot.
    let Some(loaded) = unsafe { target.as_ref() }.and_then(|target| target.program.downcast_ref::<Loaded>()) else {
        return Ok(None);
    };
    env.tail_calls += 1;
    env.own_data(&loaded.code);
    Ok(Some(&raw const loaded.code))
}
