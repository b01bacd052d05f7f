//! `skep check`: is a program safe, and if not, why, without loading it.

mod complexity;
mod dwarf;
mod explain;
pub(crate) mod input;
mod kernels;
pub(crate) mod output;

use crate::args::{CheckArgs, Format};
use crate::failure::{Exit, Failure};
use crate::output::{Output, tell};
use crate::run::source;
use dwarf::DwarfLines;
use input::Input;
use output::Shown;
use skep_abi::KernelVersion;
use skep_object::{ObjectSpec, ProgramIdx};
use skep_verifier::{NEWEST_KERNEL, Options, Report, Verdict};
use std::time::{Duration, Instant};

/// A program that has been checked.
pub(crate) struct Checked {
    /// Which.
    pub(crate) program: ProgramIdx,
    /// What came out.
    pub(crate) report: Report,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// Checks the files. Gives the exit code: 0 where every program passed.
pub(crate) fn check(args: &CheckArgs) -> Result<u8, Failure> {
    if let Some(code) = &args.explain {
        return explain::explain(code).map(|()| 0);
    }
    if args.files.is_empty() {
        return Err(Failure::say(Exit::Usage, "check: give at least one file, a .c source or an object"));
    }
    let mut out = Output::new();
    let mut worst = 0;
    let mut shown = Shown::new(args, out.is_terminal());
    for file in &args.files {
        // A file that cannot be read says so, and the others are still checked.
        let code = match one_file(args, file, &mut shown, &mut out) {
            Ok(true) => 0,
            Ok(false) => Exit::NotSo as u8,
            Err(failure) => {
                out.flush();
                tell(&failure);
                failure.code()
            }
        };
        worst = worst.max(code);
    }
    shown.end(&mut out);
    out.end()?;
    Ok(worst)
}

/// Checks the programs of one file. Gives whether all passed.
fn one_file(args: &CheckArgs, file: &std::path::Path, shown: &mut Shown, out: &mut Output) -> Result<bool, Failure> {
    let Input { spec, btf, kernel, warnings } = input::read(args, file)?;
    for warning in &warnings {
        tell(format_args!("warning: {}: {warning}", spec.name));
    }
    let chosen = input::chosen(args, &spec)?;
    if chosen.is_empty() {
        tell(format_args!("warning: {}: there is no program in it", spec.name));
    }
    let options = Options {
        target_btf: btf.as_ref(),
        privileged: !args.unprivileged,
        want_complexity: args.complexity,
        cpus: if args.kernels.is_empty() && args.btf.is_none() { running_cpus() } else { Options::default().cpus },
        ..Options::default()
    };
    if args.kernels.len() > 1 {
        return Ok(kernels::table(args, &spec, &chosen, &options, out));
    }
    let has_lines = spec.programs.iter().any(|program| !program.lines.is_empty());
    let dwarf = match &args.raw {
        None if !has_lines => DwarfLines::read(&source::object_bytes(file, &args.cflags)?),
        _ => None,
    };
    let mut passed = true;
    for program in chosen {
        let checked = match args.kernels.first() {
            Some(kernel) => kernels::check_for(&spec, program, &options, *kernel),
            None => check_program(&spec, program, &Options { kernel, ..options }),
        };
        passed &= checked.report.verdict == Verdict::Pass;
        match args.format {
            Format::Json => out.json(&output::json(&spec, &checked, None, dwarf.as_ref())),
            Format::Text => shown.text(&spec, &checked, dwarf.as_ref(), out),
        }
        if args.complexity {
            complexity::show(&spec, &checked, args.format, out);
        }
        out.flush();
    }
    Ok(passed)
}

/// Checks one program.
pub(crate) fn check_program(spec: &ObjectSpec, program: ProgramIdx, options: &Options<'_>) -> Checked {
    let started = Instant::now();
    let report = skep_verifier::check(spec, program, options);
    Checked { program, report, elapsed: started.elapsed() }
}

/// The running kernel's version, or the newest whose rules are known where it does not say (or is newer).
pub(crate) fn running_kernel() -> KernelVersion {
    match skep_kernel::kconfig::kernel_version_code() {
        Ok(code) => KernelVersion::from_code(code).min(NEWEST_KERNEL),
        Err(_) => NEWEST_KERNEL,
    }
}

/// CPUs that this machine can have: the kernel bounds a CPU's number by it.
pub(crate) fn running_cpus() -> u32 {
    let possible = skep_kernel::cpu::possible().ok().and_then(|count| u32::try_from(count).ok());
    possible.unwrap_or(Options::default().cpus)
}
