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
//! Limits: programs have about 10 to 500 instructions. No CO-RE, no source lines.

mod arith;
mod build;
mod choices;
mod edit;
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
pub enum Family {
    /// Exact: computing on plain memory, for `skep exec`.
    ArithMemory,
    /// Exact: computing on an XDP packet of at least [`MEMORY`] bytes.
    ArithXdp,
    /// Exact: computing in a socket filter.
    ArithSocket,
}

impl Family {
    /// All of them.
    pub const ALL: &'static [Family] = &[Family::ArithMemory, Family::ArithXdp, Family::ArithSocket];

    /// Its name in texts and tables.
    pub fn name(self) -> &'static str {
        match self {
            Family::ArithMemory => "arith-memory",
            Family::ArithXdp => "arith-xdp",
            Family::ArithSocket => "arith-socket",
        }
    }

    /// The family of this name.
    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.iter().copied().find(|family| family.name() == name)
    }

    /// Whether its programs (without mistakes) are accepted by a verifier and give the same in every engine.
    pub fn is_exact(self) -> bool {
        matches!(self, Family::ArithMemory | Family::ArithXdp | Family::ArithSocket)
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
}

impl Options {
    /// No mistakes.
    pub fn valid() -> Options {
        Options { faults: 0, mutations: 0 }
    }

    /// So many that a verifier accepts about half.
    pub fn mixed() -> Options {
        Options { faults: 4, mutations: 30 }
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
