//! `--kernel`: programs against kernels, with the first reason that fails.

use super::{Checked, check_program, output};
use crate::args::{CheckArgs, Format};
use crate::output::Output;
use crate::view::table::{Column, printable, set};
use skep_abi::KernelVersion;
use skep_isa::InsnIdx;
use skep_object::{ObjectSpec, ProgramIdx};
use skep_verifier::versions::{Lack, lacks};
use skep_verifier::{Code, NEWEST_KERNEL, Options, Rejection, Report, Stats, Verdict, render};
use std::time::Duration;

/// Checks each program for each kernel. Gives whether all passed on all.
pub(super) fn table(
    args: &CheckArgs,
    spec: &ObjectSpec,
    programs: &[ProgramIdx],
    options: &Options<'_>,
    out: &mut Output,
) -> bool {
    let mut passed = true;
    let mut rows = Vec::new();
    let mut reasons = Vec::new();
    for &program in programs {
        let Some(found) = spec.programs.get(program.0) else { continue };
        let mut row = vec![found.name.clone()];
        for &kernel in &args.kernels {
            let checked = check_for(spec, program, options, kernel);
            let (cell, reason) = match &checked.report.verdict {
                Verdict::Pass => ("yes", None),
                Verdict::Fail(rejection) if rejection.code == Code::KernelTooOld => {
                    ("no", Some(rejection.title.clone()))
                }
                Verdict::Fail(rejection) => {
                    let line = render::source_line(spec, found, rejection.insn);
                    let place = line.map(|line| format!(" (line {})", line.line)).unwrap_or_default();
                    let message = render::message(spec, program, rejection);
                    ("no", Some(format!("{}: {message}{place}", rejection.code)))
                }
                Verdict::Unsupported(unsupported) => ("?", Some(format!("unsupported: {}", unsupported.feature))),
            };
            passed &= checked.report.verdict == Verdict::Pass;
            row.push(cell.to_owned());
            if let Some(reason) = reason {
                reasons.push((found.name.clone(), kernel.to_string(), reason));
            }
            if args.format == Format::Json {
                out.json(&output::json(spec, &checked, Some(kernel), None));
            }
        }
        rows.push(row);
    }
    if args.format == Format::Text {
        let kernels = args.kernels.iter().map(|kernel| Column::text(kernel.to_string()));
        let columns: Vec<Column> = [Column::text("program")].into_iter().chain(kernels).collect();
        out.text(&set(&columns, rows));
        if !reasons.is_empty() {
            out.text("\n");
        }
        // One line for the kernels that fail for one reason.
        let mut at = 0;
        while let Some((program, _, reason)) = reasons.get(at) {
            let same = |other: &&(String, String, String)| other.0 == *program && other.2 == *reason;
            let group: Vec<&str> =
                reasons[at..].iter().take_while(same).map(|(_, kernel, _)| kernel.as_str()).collect();
            out.text(&format!("{}\n", printable(format!("{program} on {}: {reason}", group.join(", ")))));
            at += group.len();
        }
    }
    passed
}

/// Checks one program for a kernel: whether it has what the program needs, and then by its rules.
pub(super) fn check_for(
    spec: &ObjectSpec,
    program: ProgramIdx,
    options: &Options<'_>,
    kernel: KernelVersion,
) -> Checked {
    let needs = spec.programs.get(program.0).map(|found| lacks(spec, found, None, kernel)).unwrap_or_default();
    match needs.into_iter().next() {
        Some(lack) => lacking(program, &lack),
        // A newer kernel than those known here takes what the newest known one takes.
        None => check_program(spec, program, &Options { kernel: kernel.min(NEWEST_KERNEL), ..*options }),
    }
}

/// What is missing as a report.
fn lacking(program: ProgramIdx, lack: &Lack) -> Checked {
    let rejection = Rejection {
        code: Code::KernelTooOld,
        insn: lack.insn.unwrap_or(InsnIdx(0)),
        title: lack.to_string(),
        label: "needed here".to_owned(),
        path: Vec::new(),
        facts: Vec::new(),
        help: None,
        kernel_says: None,
    };
    let report = Report {
        verdict: Verdict::Fail(Box::new(rejection)),
        warnings: Vec::new(),
        stats: Stats::default(),
        complexity: Vec::new(),
    };
    Checked { program, report, elapsed: Duration::ZERO }
}
