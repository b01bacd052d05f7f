//! A seed, or bytes from a fuzzer -> a BPF program with its maps: for the tests, fuzz targets and benches of the crates
//! that run and check programs.
//!
//! ```
//! use skep_progen::{Family, Generated, Options, generate};
//! let program = generate(Family::ArithXdp, 1, &Options::valid());
//! // The same on every machine and in every release of a test run,
//! assert_eq!(program, generate(Family::ArithXdp, 1, &Options::valid()));
//! // to be loaded, checked or run,
//! assert_eq!(program.to_spec().programs.len(), 1);
//! // and a text that is read, changed and read back.
//! assert_eq!(Generated::parse(&program.to_string()).unwrap(), program);
//! ```
//!
//! Two kinds of [`Family`]: *exact* ones, whose programs a verifier accepts and that give the same result in every
//! engine (for interpreter against JIT against kernel), and those made for a verifier, from fragments of what real
//! programs do, with a few mistakes: a check left out, a size too large, an instruction changed at random
//! ([`Options`]). A program that two judges disagree on is made small by [`Generated::shrink`].
//!
//! Limits: programs have about 10 to 500 instructions, those of [`Options::large`] as many as are asked for. No CO-RE, no
//! source lines.

mod arith;
mod build;
mod choices;
mod edit;
mod fragments;
pub mod kfuncs;
mod program;
mod text;
mod types;

pub use arith::MEMORY;
pub use choices::Choices;
pub use program::{Func, Generated, MapDef, Param, Special};
pub use text::ParseError;

use build::Builder;
use skep_abi::{AttachType, ProgramType};

/// What kind of programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Family {
    /// Exact: computing on plain memory, for `skep exec`.
    ArithMemory,
    /// Exact: computing on an XDP packet of at least [`MEMORY`] bytes.
    ArithXdp,
    /// Exact: computing in a socket filter.
    ArithSocket,
    /// Packets with checks against their end, also headers of variable length, metadata, options.
    Packet,
    /// Lookups with and without a check for null, updates, queues, maps in maps, variables.
    Maps,
    /// Values, stack and read-only data at an index that is bounded in one of many ways.
    Index,
    /// Numbers and pointers on the stack, by all sizes.
    Spills,
    /// Bytes of the stack, and how much of it chains of calls use.
    Stack,
    /// Loops bounded by constants, numbers and map values, nested, and `may_goto`.
    Loops,
    /// `bpf_loop` and `bpf_for_each_map_elem`.
    Callbacks,
    /// Number iterators, by kernel functions.
    Iterators,
    /// Static and global functions, with numbers, memory and the context.
    Subprograms,
    /// Tail calls, also from functions.
    TailCalls,
    /// Helpers of all kinds with memory and sizes.
    Helpers,
    /// Ring buffer records, given back or leaked.
    Ringbuf,
    /// Dynptrs of ring buffers, map values and packets.
    Dynptrs,
    /// Spin locks in map values.
    Locks,
    /// Timers in map values.
    Timers,
    /// Sockets of the context and looked up, released or leaked.
    Sockets,
    /// Fields of the context of every program type, by all sizes.
    Context,
    /// Pointer arithmetic and comparisons, allowed and forbidden ones, and leaks.
    Pointers,
    /// What is known of numbers: conversions, linked registers, equality, bit tests.
    Scalars,
    /// Paths that meet and must not be taken for the same.
    Precision,
    /// Kernel objects by their BTF: the current task, arguments of tracepoints, references, RCU.
    Objects,
    /// Instructions with rules of their own: atomics, ordered loads and stores, packet loads, constants.
    Instructions,
    /// Fragments of all families, in every program type.
    Mixed,
}

/// Families with their names.
static NAMES: &[(Family, &str)] = &[
    (Family::ArithMemory, "arith-memory"),
    (Family::ArithXdp, "arith-xdp"),
    (Family::ArithSocket, "arith-socket"),
    (Family::Packet, "packet"),
    (Family::Maps, "maps"),
    (Family::Index, "index"),
    (Family::Spills, "spills"),
    (Family::Stack, "stack"),
    (Family::Loops, "loops"),
    (Family::Callbacks, "callbacks"),
    (Family::Iterators, "iterators"),
    (Family::Subprograms, "subprograms"),
    (Family::TailCalls, "tail-calls"),
    (Family::Helpers, "helpers"),
    (Family::Ringbuf, "ringbuf"),
    (Family::Dynptrs, "dynptrs"),
    (Family::Locks, "locks"),
    (Family::Timers, "timers"),
    (Family::Sockets, "sockets"),
    (Family::Context, "context"),
    (Family::Pointers, "pointers"),
    (Family::Scalars, "scalars"),
    (Family::Precision, "precision"),
    (Family::Objects, "objects"),
    (Family::Instructions, "instructions"),
    (Family::Mixed, "mixed"),
];

impl Family {
    /// All of them.
    pub const ALL: &'static [Family] = &[
        Family::ArithMemory,
        Family::ArithXdp,
        Family::ArithSocket,
        Family::Packet,
        Family::Maps,
        Family::Index,
        Family::Spills,
        Family::Stack,
        Family::Loops,
        Family::Callbacks,
        Family::Iterators,
        Family::Subprograms,
        Family::TailCalls,
        Family::Helpers,
        Family::Ringbuf,
        Family::Dynptrs,
        Family::Locks,
        Family::Timers,
        Family::Sockets,
        Family::Context,
        Family::Pointers,
        Family::Scalars,
        Family::Precision,
        Family::Objects,
        Family::Instructions,
        Family::Mixed,
    ];

    /// Its name in texts and tables.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(family, _)| *family == self).map_or("", |(_, name)| name)
    }

    /// The family of this name.
    pub fn from_name(name: &str) -> Option<Family> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(family, _)| *family)
    }

    /// Whether its programs (without mistakes) are accepted by a verifier and give the same in every engine.
    pub fn is_exact(self) -> bool {
        matches!(self, Family::ArithMemory | Family::ArithXdp | Family::ArithSocket)
    }

    /// Whether its programs can be made to give the same in every engine, see [`Options::repeatable`].
    pub fn is_repeatable(self) -> bool {
        use Family as F;
        let odd = [
            F::Instructions,
            F::TailCalls,
            F::Helpers,
            F::Timers,
            F::Sockets,
            F::Context,
            F::Pointers,
            F::Objects,
            F::Mixed,
        ];
        !odd.contains(&self)
    }

    /// Whether its programs have a program type, so that a kernel can load them.
    pub fn is_loadable(self) -> bool {
        self != Family::ArithMemory
    }
}

/// How many mistakes programs have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Of a hundred places where a check or a step can be left out or done wrong, in how many it is.
    pub faults: usize,
    /// Of a hundred programs, how many have one to three instructions changed at random.
    pub mutations: usize,
    /// Nothing that differs from run to run or from engine to engine becomes part of a result: no time, no random numbers,
    /// no addresses. Numbers that nobody knows come from the map `input`, which who runs the program fills. Holds for
    /// families that are [`Family::is_repeatable`].
    pub repeatable: bool,
    /// How many fragments a program for a verifier has; 0 is one to four, by chance. A fragment has about 15 instructions.
    pub fragments: usize,
}

impl Options {
    /// No mistakes.
    pub fn valid() -> Options {
        Options { faults: 0, mutations: 0, repeatable: false, fragments: 0 }
    }

    /// No mistakes, and the same result each time.
    pub fn repeatable() -> Options {
        Options { repeatable: true, ..Options::valid() }
    }

    /// No mistakes, and a program of this many fragments: for measuring what a verifier takes for large ones.
    pub fn large(fragments: usize) -> Options {
        Options { fragments, ..Options::valid() }
    }

    /// So many that a verifier accepts about half.
    pub fn mixed() -> Options {
        Options { faults: 4, mutations: 30, repeatable: false, fragments: 0 }
    }
}

/// The program of a family that belongs to this seed.
pub fn generate(family: Family, seed: u64, options: &Options) -> Generated {
    // Families and options do not share decisions, so that the same seed is another program in each.
    let mixed = seed ^ (family as u64 + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mut program = generate_from(family, &mut Choices::seeded(mixed), options);
    program.name = format!("{}-{seed}", family.name());
    program
}

/// The program of a family that these decisions lead to.
pub fn generate_from(family: Family, choices: &mut Choices<'_>, options: &Options) -> Generated {
    let draft = match family {
        Family::ArithMemory => arith::generate(arith::Entry::Memory, choices),
        Family::ArithXdp => arith::generate(arith::Entry::Packet, choices),
        Family::ArithSocket => arith::generate(arith::Entry::Socket, choices),
        _ => fragments::generate(family, choices, options),
    };
    let mut program = draft.finish(family);
    if choices.chance(options.mutations) {
        for _ in 0..1 + choices.weighted(&[4, 2, 1]) {
            program.mutate(choices);
        }
    }
    program
}

/// A program that has been written but not put together.
struct Draft {
    prog_type: ProgramType,
    attach_type: Option<AttachType>,
    target: Option<String>,
    sleepable: bool,
    memory: Option<u32>,
    builder: Builder,
}

impl Draft {
    fn new(prog_type: ProgramType, builder: Builder) -> Draft {
        Draft { prog_type, attach_type: None, target: None, sleepable: false, memory: None, builder }
    }

    fn finish(self, family: Family) -> Generated {
        let parts = self.builder.finish();
        Generated {
            name: family.name().to_owned(),
            family: family.name().to_owned(),
            prog_type: self.prog_type,
            attach_type: self.attach_type,
            target: self.target,
            sleepable: self.sleepable,
            license: "GPL".to_owned(),
            memory: self.memory,
            insns: parts.insns,
            funcs: parts.funcs,
            maps: parts.maps,
            kfuncs: parts.kfuncs,
            notes: parts.notes,
        }
    }
}
