//! Is this BPF program safe, and if not, why, in the programmer's words.
//!
//! Turns an [`ObjectSpec`](skep_object::ObjectSpec) and the number of a program in it into a [`Report`], by following every
//! path through the program as the kernel's verifier does. It is pure: no I/O, no kernel, no panic on any input.
//!
//! ```
//! use skep_object::{ObjectSpec, ProgramIdx};
//! use skep_verifier::{Options, Verdict, check};
//! fn refused(spec: &ObjectSpec) -> Vec<String> {
//!     (0..spec.programs.len())
//!         .filter_map(|index| match check(spec, ProgramIdx(index), &Options::default()).verdict {
//!             Verdict::Fail(rejection) => Some(format!("{}: {}", rejection.code, rejection.title)),
//!             Verdict::Pass | Verdict::Unsupported(_) => None,
//!         })
//!         .collect()
//! }
//! ```
//!
//! # How it goes
//!
//! | step | module | in words |
//! |---|---|---|
//! | decode | `env` | slots to instructions, functions, maps with the fields the kernel manages |
//! | shape | `cfg` | jumps land, nothing is unreachable, no recursion; where states are kept |
//! | liveness | `live` | which registers and stack bytes can still be read |
//! | explore | `explore`, `exec` | depth first over all paths, one abstract state each |
//! | numbers | [`scalar`], `alu`, `branch` | what is computed and what branches tell |
//! | memory | `mem`, `stack`, `ctx`, `kobj` | what each kind of pointer may access |
//! | calls | `call`, `subprog` | helpers, kernel functions, functions of the program, callbacks |
//! | prune | `equal`, `precision` | stop where an earlier path saw as much; compare only numbers that mattered |
//! | explain | `record`, [`render`] | go the failing path again and tell it |
//!
//! CO-RE records are to be applied before ([`skep_object::core::relocate`]): an instruction that could not be satisfied is
//! refused where it can be reached. What is not modelled (arenas, struct_ops, exceptions, kernel pointers in maps, graph data
//! structures) gives [`Verdict::Unsupported`], never a guess.
//!
//! # What is proved
//!
//! All chapters assume that the machine does what RFC 9669 says, that helpers do what their prototypes in [`skep_abi`] say,
//! and that the kernel's types, where given, are those of the kernel that will run the program.
//!
//! ## Memory
//!
//! Every load, store and atomic operation, and every access of a helper on the program's behalf, lies within memory that is the
//! program's: its stack, its context (fields of the program type, as [`skep_abi::context`] has them), map values, packet bytes
//! that a comparison with the packet's end has shown to be there, records it reserved, or a kernel object of a known type, for
//! reading. Each address is a base with a fixed offset and a number of known bounds; the access is allowed if it fits for every
//! value within the bounds. A pointer that may be null is followed only behind a comparison. Pointers into the packet end when
//! something may move the packet; pointers to what a reference holds end with the reference.
//!
//! It rests on the abstract numbers holding every concrete one: [`scalar`] is tested on every pair at small widths, and
//! `tests/soundness.rs` holds observed registers against computed ones. A pointer into a kernel object that is not known to be
//! valid is read with exception handling by the kernel; such a read gives some number and never faults. Not proved: that values
//! in maps are what another program or process meant, that packet bytes do not change under a program that shares them.
//!
//! ## Termination
//!
//! A loop is followed turn by turn. It is accepted if every path leaves it within [`Limits::insns`] looked-at instructions, or if
//! it ends by something the kernel counts: an iterator that runs dry, `may_goto`, a helper that calls back a given number of
//! times. Those are left once a turn sees no more than an earlier one did. A state that comes again unchanged is refused as an
//! endless loop. Recursion is refused, and chains of calls are bounded in number and in bytes of stack. Not proved: how long a
//! program runs in seconds; a helper's own time; that a program which waits for a lock gets it.
//!
//! ## Leaks
//!
//! With privileges (the default, as programs are loaded with CAP_BPF and CAP_PERFMON) programs may see kernel addresses, and the
//! kernel does not mind. Always refused is what would let an address outlive its memory: a stack address in a caller's frame or
//! as a result, parts of a spilled pointer used as a pointer. With [`Options::privileged`] off, an address reaches neither maps
//! nor memory nor the context nor the result, nor a comparison with a number, and stack that was never written is not read.
//! Not modelled: speculative execution, for which the kernel masks and fences unprivileged programs by itself.
//!
//! ## References and locks
//!
//! What a call takes on (a socket, a ring buffer record, a task, a dynptr) is released exactly once on every path, before the
//! program ends, before a tail call, and within the callback that took it on. A pointer that may be null holds its reference only
//! where it is not. A spin lock is released by the function that took it, no second one is taken meanwhile, and no call is made that
//! could sleep or take it again; RCU sections, disabled preemption and disabled interrupts balance the same way. Not proved:
//! freedom from deadlock between programs beyond the one-lock rule.
//!
//! # Limits
//!
//! [`Limits`]: instructions looked at, pending branches, stack, frames; past each the program is refused. Memory: a stored state
//! takes about 1.2 kB for each frame, 110 bytes for each stack slot in use and up to 1.3 kB of history, and shares frames that
//! did not change. At most one is stored for eight instructions looked at (one for a hundred within a loop), and those that no
//! longer help are dropped. So the bound is that of the kernel, 125,000 states for a million instructions; measured are 31 MB for
//! a loop of 900,000 instructions that keeps 9,092 states, and 7 MB for a million instructions over branches that meet again.

mod alu;
mod branch;
mod call;
mod cfg;
mod codes;
mod ctx;
mod env;
mod equal;
mod exec;
mod explore;
mod kobj;
mod live;
mod mem;
pub mod pages;
mod precision;
mod record;
pub mod render;
mod report;
pub mod scalar;
mod stack;
mod state;
mod stop;
mod subprog;
pub mod versions;

pub use codes::Code;
pub use report::*;

use skep_isa::InsnIdx;
use skep_object::{ObjectSpec, ProgramIdx};

use crate::explore::Verifier;
use crate::stop::Stop;

/// Checks one program.
pub fn check(spec: &ObjectSpec, program: ProgramIdx, options: &Options<'_>) -> Report {
    let mut report =
        Report { verdict: Verdict::Pass, warnings: Vec::new(), stats: Stats::default(), complexity: Vec::new() };
    let Some(program) = spec.programs.get(program.0) else {
        report.verdict =
            Verdict::Unsupported(Unsupported { feature: "a program that is not there".to_owned(), insn: None });
        return report;
    };
    let prepared = env::Env::new(spec, program, options).and_then(|mut env| {
        let cfg = cfg::build(&mut env)?;
        let live = live::compute(&env, &cfg);
        Ok((env, cfg, live))
    });
    let (env, cfg, live) = match prepared {
        Ok(prepared) => prepared,
        Err(stop) => {
            report.verdict = verdict(stop, InsnIdx(0));
            return report;
        }
    };
    let mut verifier = Verifier::new(&env, &cfg, &live);
    let outcome = verifier.run();
    report.stats = verifier.stats;
    report.complexity = std::mem::take(&mut verifier.complexity);
    report.warnings = env.warnings.clone();
    report.warnings.append(&mut verifier.warnings);
    if let Err(stop) = outcome {
        let at = InsnIdx(verifier.insn);
        let about = match &stop {
            Stop::Reject(partial) => partial.about,
            Stop::Unsupported(_) => None,
        };
        report.verdict = verdict(stop, at);
        if let Verdict::Fail(rejection) = &mut report.verdict {
            // A program that is too large has no single path that explains it. A loop without an end has one without an end.
            let no_path = matches!(
                rejection.code,
                Code::TooComplex | Code::TooManyBranches | Code::StackTooDeep | Code::InfiniteLoop
            );
            if !no_path {
                let steps = steps(&verifier, at, about);
                name_use_after_release(rejection, &steps);
                rejection.path.splice(0..0, steps);
                rejection.path.sort_by_key(|step| !matches!(step.kind, StepKind::Acquired { .. }));
            }
        }
    }
    report
}

/// A number that was a pointer until what it pointed to was released: that is what is wrong, not that it is a number.
fn name_use_after_release(rejection: &mut Rejection, steps: &[Step]) {
    let released = |step: &Step| matches!(&step.kind, StepKind::CheckLost { by: LostBy::Release, .. });
    if rejection.code == Code::NotAPointer && steps.iter().any(released) {
        rejection.title = "something is used after it was released".to_owned();
        rejection.help = Some("use it before it is released, or copy what is needed".to_owned());
    }
}

/// Goes the way to the present state of a check again, and tells what happened on it.
fn steps(failed: &Verifier<'_, '_>, at: InsnIdx, about: Option<Place>) -> Vec<Step> {
    let mut again = Verifier::new(failed.env, failed.cfg, failed.live);
    again.typed = failed.typed.clone();
    again.replay = Some(explore::Replay { decisions: failed.decisions(), next: 0 });
    again.recorder = Some(record::Recorder::default());
    let same = again.start(failed.root).is_err() && again.insn == at.0;
    match &again.recorder {
        Some(recorder) if same => recorder.steps(failed.env, about),
        _ => Vec::new(),
    }
}

/// A stop as a verdict; `at` is where the path stood.
fn verdict(stop: Stop, at: InsnIdx) -> Verdict {
    match stop {
        Stop::Reject(partial) => {
            let mut rejection = partial.rejection;
            if !partial.placed {
                rejection.insn = at;
            }
            Verdict::Fail(Box::new(rejection))
        }
        Stop::Unsupported(mut what) => {
            what.insn = what.insn.or(Some(at));
            Verdict::Unsupported(*what)
        }
    }
}
