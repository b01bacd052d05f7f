//! Verifier logs to what a person needs of them.
//!
//! [`Refusal::new`] takes the log of a refused program apart: the kernel's reason, the instruction, the source line it
//! was made from (the log quotes it), the state of the registers. Pure text work. [`advice`] says in a programmer's words
//! what a reason means and what is usually done about it.

use crate::error::Errno;
use skep_isa::InsnIdx;
use std::fmt;

/// A program that the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Name of the program.
    pub program: String,
    /// What bpf(2) returned.
    pub errno: Errno,
    /// The kernel's reason: the line of its log that says it, or what the error number means when there is no log.
    pub message: String,
    /// The instruction that it stopped at.
    pub insn: Option<InsnIdx>,
    /// That instruction as the verifier printed it.
    pub insn_text: Option<String>,
    /// The source line that the instruction was made from.
    pub source: Option<SourceLine>,
    /// The registers as the verifier last printed them.
    pub registers: Option<String>,
    /// The source lines on the way there, oldest first, at most [`Refusal::PATH_LIMIT`] of the last.
    pub path: Vec<SourceLine>,
    /// Counts from the end of the log.
    pub stats: Option<Stats>,
    /// Instructions of this program that a relocation could not satisfy, where the refusal is about reaching one.
    pub poisoned: Option<String>,
    /// The whole log.
    pub log: String,
}

/// A line of C as the log quotes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLine {
    /// File, `""` if unknown.
    pub file: String,
    /// From 1, 0 if unknown.
    pub line: u32,
    /// From 1, 0 if unknown (the log has columns since 7.0 only; the object's records have them).
    pub column: u32,
    /// Text of the line.
    pub text: String,
}

/// What the verifier counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Instructions walked over, on all paths.
    pub processed_insns: u64,
    /// Most it would have walked over.
    pub limit: u64,
    /// Microseconds (only with statistics asked for).
    pub time_us: Option<u64>,
    /// Bytes of stack of each function, as `32+0`.
    pub stack: Option<String>,
    /// States kept at the most visited instruction.
    pub max_states_per_insn: Option<u64>,
    /// States in all.
    pub total_states: Option<u64>,
    /// States kept at most.
    pub peak_states: Option<u64>,
}

/// What a reason means and what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advice {
    /// In a programmer's words, such as `the pointer may be null`.
    pub title: &'static str,
    /// Why the kernel insists.
    pub why: &'static str,
    /// What is usually done.
    pub fix: &'static str,
}

impl Refusal {
    /// Most source lines kept in [`Refusal::path`].
    pub const PATH_LIMIT: usize = 32;

    /// What is usually done about it.
    pub fn advice(&self) -> Option<Advice> {
        advice(&self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused program `{}`: {}", self.program, self.message)
    }
}

impl std::error::Error for Refusal {}

/// What a reason of the verifier means, `None` for one that is not known here.
pub fn advice(_message: &str) -> Option<Advice> {
    None
}
