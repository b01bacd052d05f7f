//! The verdict on a program as text for a person and as JSON.

use super::Checked;
use super::dwarf::DwarfLines;
use crate::args::CheckArgs;
use crate::diagnose::{from_here, read_source};
use crate::output::Output;
use crate::view::table::printable;
use serde_json::{Value, json};
use skep_abi::KernelVersion;
use skep_isa::InsnIdx;
use skep_object::{ObjectSpec, ProgramSpec};
use skep_verifier::render::{self, Layout};
use skep_verifier::{Code, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;

/// What has been shown so far.
pub(super) struct Shown {
    styled: bool,
    /// Whether there is an end that sums it up.
    text: bool,
    programs: usize,
    passed: usize,
    codes: BTreeSet<Code>,
}

impl Shown {
    pub(super) fn new(args: &CheckArgs, styled: bool) -> Shown {
        let text = args.format == crate::args::Format::Text && args.kernels.len() < 2;
        Shown { styled, text, programs: 0, passed: 0, codes: BTreeSet::new() }
    }

    /// Prints what there is to say of a program.
    pub(super) fn text(&mut self, spec: &ObjectSpec, checked: &Checked, dwarf: Option<&DwarfLines>, out: &mut Output) {
        self.programs += 1;
        let report = &checked.report;
        let Some(program) = spec.programs.get(checked.program.0) else { return };
        for warning in &report.warnings {
            out.text(&format!("warning: {}\n", printable(format!("{}: {warning}", program.name))));
        }
        match &report.verdict {
            Verdict::Pass => {
                self.passed += 1;
                let stats = &report.stats;
                let line = format!(
                    "{}: {} ({}) is safe: {} instructions on all paths, {}",
                    from_here(&spec.name),
                    program.name,
                    program.section,
                    stats.insns_processed,
                    time(checked.elapsed)
                );
                out.text(&format!("{}\n", printable(line)));
                return;
            }
            Verdict::Fail(rejection) => {
                self.codes.insert(rejection.code);
            }
            Verdict::Unsupported(_) => {}
        }
        let text = diagnostic(spec, checked, dwarf, self.styled).unwrap_or_default();
        out.text(&format!("{text}\n\n"));
    }

    /// Sums up.
    pub(super) fn end(&self, out: &mut Output) {
        if !self.text || self.programs == self.passed {
            return;
        }
        let programs = if self.programs == 1 { "program is" } else { "programs are" };
        out.text(&format!("{} of {} {programs} safe", self.passed, self.programs));
        match self.codes.iter().map(Code::to_string).collect::<Vec<_>>().as_slice() {
            [] => out.text("\n"),
            [code] => out.text(&format!("; `skep check --explain {code}` says more\n")),
            [first, ..] => out.text(&format!("; `skep check --explain {first}` says more, and so on for each code\n")),
        }
    }
}

/// The report as a person reads it, `None` for a program that passed.
pub(crate) fn diagnostic(
    spec: &ObjectSpec,
    checked: &Checked,
    dwarf: Option<&DwarfLines>,
    styled: bool,
) -> Option<String> {
    let name = |path: &str| from_here(path).to_owned();
    let lines = |program: &ProgramSpec, insn: InsnIdx| dwarf.and_then(|dwarf| dwarf.line(program, insn));
    let layout = Layout { styled, read: Some(&read_source), lines: Some(&lines), name: Some(&name) };
    render::render(spec, checked.program, &checked.report, &layout)
}

fn time(elapsed: Duration) -> String {
    format!("{:.1} ms", elapsed.as_secs_f64() * 1000.0)
}

/// The object that stands for a program in JSON.
pub(crate) fn json(
    spec: &ObjectSpec,
    checked: &Checked,
    kernel: Option<KernelVersion>,
    dwarf: Option<&DwarfLines>,
) -> Value {
    let report = &checked.report;
    let program = spec.programs.get(checked.program.0);
    let (verdict, code, message, insn) = match &report.verdict {
        Verdict::Pass => ("pass", None, None, None),
        Verdict::Fail(rejection) => {
            let message = render::message(spec, checked.program, rejection);
            ("fail", Some(rejection.code.to_string()), Some(message), Some(rejection.insn))
        }
        Verdict::Unsupported(unsupported) => ("unsupported", None, Some(unsupported.feature.clone()), unsupported.insn),
    };
    let line = program
        .zip(insn)
        .and_then(|(program, insn)| render::source_line(spec, program, insn).or_else(|| dwarf?.line(program, insn)));
    let mut object = json!({
        "file": spec.name,
        "section": program.map(|program| program.section.as_str()),
        "program": program.map(|program| program.name.as_str()),
        "verdict": verdict,
        "code": code,
        "message": message,
        "insn": insn.map(|insn| insn.0),
        "source_file": line.as_ref().map(|line| line.file.as_str()),
        "source_line": line.as_ref().map(|line| line.line),
        "insns_processed": report.stats.insns_processed,
        "states": report.stats.total_states,
        "time_us": u64::try_from(checked.elapsed.as_micros()).unwrap_or(u64::MAX),
    });
    if let (Some(kernel), Some(object)) = (kernel, object.as_object_mut()) {
        object.insert("kernel".to_owned(), kernel.to_string().into());
    }
    object
}
