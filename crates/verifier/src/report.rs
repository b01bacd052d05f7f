//! What [`check`](crate::check) is asked and what it answers, as plain values.

use std::fmt;

use skep_abi::{AttachType, KernelVersion, ProgramType};
use skep_btf::Btf;
use skep_isa::{InsnIdx, Reg};
use skep_object::MapIdx;

use crate::Code;
use crate::scalar::Scalar;

/// The newest kernel whose rules are known here.
pub const NEWEST_KERNEL: KernelVersion = KernelVersion::new(7, 2);

/// Sizes that bound a check. The defaults are the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Instructions that are looked at, counted once for each path: past it the program is refused.
    pub insns: u32,
    /// Branches that wait to be looked at: past it the program is refused.
    pub jumps: u32,
    /// Bytes of stack of a chain of calls.
    pub stack: u32,
    /// Functions within one another.
    pub frames: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { insns: 1_000_000, jumps: 8192, stack: 512, frames: 8 }
    }
}

/// What a register holds, for [`Options::trace`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum TraceValue {
    /// Nothing that may be read.
    Unknown,
    /// A number among these.
    Number(Scalar),
    /// A pointer (or null).
    Pointer,
}

/// The registers before an instruction, on one of the paths to it.
#[derive(Clone, Debug)]
pub struct TraceEvent<'t> {
    /// The instruction about to be executed.
    pub insn: InsnIdx,
    /// 0 for the entry function, 1 for what it calls and so on.
    pub depth: usize,
    /// r0 to r10.
    pub registers: &'t [TraceValue; 11],
}

/// How to check.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whose rules: the newest kernel known here by default.
    pub kernel: KernelVersion,
    /// The kernel's types: for typed arguments (`tp_btf`, `fentry`, `lsm`, `iter`), kernel functions and kernel objects.
    pub target_btf: Option<&'a Btf>,
    /// Instead of what the section name says.
    pub prog_type: Option<ProgramType>,
    /// Instead of what the section name says.
    pub attach_type: Option<AttachType>,
    /// With CAP_BPF and CAP_PERFMON (and CAP_NET_ADMIN), as `skep run` loads.
    pub privileged: bool,
    /// Possible CPUs of the machine: what `bpf_get_smp_processor_id` returns is below that. The kernel's own limit by default.
    pub cpus: u32,
    /// Bounds of the check itself.
    pub limits: Limits,
    /// Called with the registers before each instruction that is looked at.
    pub trace: Option<&'a dyn Fn(&TraceEvent<'_>)>,
    /// Whether [`Report::complexity`] is wanted.
    pub want_complexity: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            kernel: NEWEST_KERNEL,
            target_btf: None,
            prog_type: None,
            attach_type: None,
            privileged: true,
            cpus: 8192,
            limits: Limits::default(),
            trace: None,
            want_complexity: false,
        }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("kernel", &self.kernel)
            .field("target_btf", &self.target_btf.is_some())
            .field("prog_type", &self.prog_type)
            .field("attach_type", &self.attach_type)
            .field("privileged", &self.privileged)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What came out of a check.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Safe, not safe, or not known.
    pub verdict: Verdict,
    /// What is odd but does not decide.
    pub warnings: Vec<String>,
    /// How much work it was.
    pub stats: Stats,
    /// For each instruction slot how many times it was looked at; empty unless asked for.
    pub complexity: Vec<u32>,
}

/// Whether a program is safe.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Safe on every path.
    Pass,
    /// Not shown to be safe.
    Fail(Box<Rejection>),
    /// It uses what is not modelled here.
    Unsupported(Unsupported),
}

/// What a check cannot judge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsupported {
    /// The feature, such as `arena maps`.
    pub feature: String,
    /// Where it is first used, if at an instruction.
    pub insn: Option<InsnIdx>,
}

/// Why a program is refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Rejection {
    /// What kind of mistake.
    pub code: Code,
    /// The instruction that cannot be shown to be safe.
    pub insn: InsnIdx,
    /// What is wrong, in the programmer's words.
    pub title: String,
    /// What to write under the instruction's source line.
    pub label: String,
    /// How the program gets there.
    pub path: Vec<Step>,
    /// What is known there: bounds, sizes.
    pub facts: Vec<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// How the kernel's log would say it, roughly.
    pub kernel_says: Option<String>,
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// In a register.
    Reg(Reg),
    /// On the stack of the current function, at this distance from r10.
    Stack(i16),
}

/// Something that happened on the way to the failing instruction.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Where.
    pub insn: InsnIdx,
    /// What.
    pub kind: StepKind,
}

/// Kinds of [`Step`].
#[derive(Clone, PartialEq, Debug)]
pub enum StepKind {
    /// A conditional jump was taken or not; the condition is the instruction.
    Branch {
        /// Whether it jumped.
        taken: bool,
    },
    /// The value in question came into being here.
    Origin {
        /// Where it was put.
        place: Place,
        /// What it is.
        what: Origin,
    },
    /// The value in question was copied (also to or from the stack).
    Copied {
        /// From here.
        from: Place,
        /// To here.
        to: Place,
    },
    /// What a check had established is no longer known from here on.
    CheckLost {
        /// The value that had been checked.
        place: Place,
        /// What took it away.
        by: LostBy,
    },
    /// The value was changed by arithmetic here, and what is known of it now.
    Changed {
        /// Where it is.
        place: Place,
        /// Known values after, for a number or the variable part of an offset.
        now: Scalar,
    },
    /// A function of the program was called.
    Call {
        /// Its first instruction.
        function: InsnIdx,
    },
    /// It returned.
    Return,
    /// A reference, lock or other duty was taken on.
    Acquired {
        /// By what, such as `bpf_ringbuf_reserve`.
        by: String,
    },
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Looked up in a map; null if there is no such element.
    Lookup {
        /// The map, where it is known which.
        map: Option<MapIdx>,
    },
    /// Loaded from the context.
    Context {
        /// The field's name where it has one.
        field: Option<&'static str>,
        /// Bytes from the context's start.
        offset: i32,
    },
    /// Returned by a helper or kernel function.
    Call {
        /// Its name.
        function: String,
    },
    /// The address of a map, or of a variable in its first value.
    Map {
        /// The map.
        map: MapIdx,
        /// Bytes into the value, for a variable.
        value_offset: Option<u32>,
    },
    /// A constant of the program.
    Constant(u64),
    /// Loaded from memory that is not tracked byte for byte.
    Memory,
    /// An argument of the function.
    Argument(u8),
    /// An address on the stack.
    Stack,
    /// Not written yet.
    Uninitialised,
    /// Something else.
    Other,
}

/// What made a check void.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LostBy {
    /// A helper or kernel function that may move or change the memory.
    Call {
        /// Its name.
        function: String,
    },
    /// A write through a pointer with an unknown offset.
    Write,
    /// A lock, RCU section or reference ended.
    Release,
}

/// How much work a check was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Instructions looked at, once for each path; what the kernel calls "processed insns".
    pub insns_processed: u32,
    /// States kept in total.
    pub total_states: u32,
    /// States kept at the same time, at most.
    pub peak_states: u32,
    /// Branches that waited at the same time, at most.
    pub peak_pending: u32,
    /// Instructions of the longest path.
    pub longest_path: u32,
    /// Bytes of stack that the program needs along its deepest chain of calls.
    pub stack_depth: u32,
}
