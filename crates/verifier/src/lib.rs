//! Is this BPF program safe, and if not, why, in the programmer's words.
//!
//! Turns an [`ObjectSpec`](skep_object::ObjectSpec) and the number of a program in it into a [`Report`], by following every
//! path through the program as the kernel's verifier does. It is pure: no I/O, no kernel, no panic on any input.

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
            // A program that is too large has no single path that explains it.
            if !matches!(rejection.code, Code::TooComplex | Code::TooManyBranches | Code::StackTooDeep) {
                let steps = steps(&verifier, at, about);
                rejection.path.splice(0..0, steps);
                rejection.path.sort_by_key(|step| !matches!(step.kind, StepKind::Acquired { .. }));
            }
        }
    }
    report
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
