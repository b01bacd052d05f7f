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
        report.verdict = verdict(stop, at);
    }
    report
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
