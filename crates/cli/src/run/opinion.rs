//! skep's own verdict on what the kernel is given to load.
//!
//! It is found on a thread of its own: of what the kernel took once all is attached, so that the launch does not wait for
//! it, of what it refused at once. The kernel's word is what counts. Where the two do not agree one of them is wrong, most
//! likely this one: that is a bug to be sent, with a file that has all that is needed to see it again
//! ([`Disagreement::write`]).

use crate::args::RunArgs;
use crate::check::input::{self, Input};
use crate::check::{Checked, check_program, output, running_cpus};
use crate::output::tell;
use crate::run::source;
use crate::view::table::printable;
use serde_json::{Value, json};
use skep_engine::Refusal;
use skep_object::{ObjectSpec, ProgramIdx};
use skep_verifier::{Options, Verdict, render};
use std::fmt::Write;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a refusal waits for the reasons. Checks of all but the largest programs take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A verdict in the making.
pub(super) struct Opinion {
    checks: JoinHandle<Option<Checks>>,
}

/// The programs as the kernel was given them, and the verdicts.
struct Checks {
    spec: ObjectSpec,
    checked: Vec<Checked>,
}

impl Opinion {
    /// Starts to check what the kernel was given: the programs of these names, or all that their sections do not hold back.
    /// `None` where no thread can be had.
    pub(super) fn form(spec: &ObjectSpec, only: &[String]) -> Option<Opinion> {
        let (spec, only) = (spec.clone(), only.to_vec());
        let checks = std::thread::Builder::new().name("check".to_owned()).spawn(move || {
            // What cannot be fitted to this kernel will not load either, and the loader says why.
            let Input { spec, btf, kernel, .. } = input::for_this_kernel(spec).ok()?;
            let wanted = |program: &skep_object::ProgramSpec| match only.as_slice() {
                [] => program.hook.autoload,
                names => names.contains(&program.name),
            };
            let chosen = spec.programs.iter().enumerate().filter(|(_, program)| wanted(program));
            let options = Options { kernel, target_btf: btf.as_ref(), cpus: running_cpus(), ..Options::default() };
            let checked = chosen.map(|(index, _)| check_program(&spec, ProgramIdx(index), &options)).collect();
            Some(Checks { spec, checked })
        });
        Some(Opinion { checks: checks.ok()? })
    }

    /// The verdicts, waiting for them for so long.
    fn wait(self, most: Duration) -> Option<Checks> {
        let until = Instant::now() + most;
        while !self.checks.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.checks.is_finished() { self.checks.join().ok().flatten() } else { None }
    }

    /// What there is to say beside the kernel's refusal: why, in the programmer's words, or that there is a bug.
    pub(super) fn of_refusal(self, refusal: &Refusal, args: &RunArgs, styled: bool) -> Option<String> {
        let checks = self.wait(PATIENCE)?;
        let name = |checked: &&Checked| {
            checks.spec.programs.get(checked.program.0).is_some_and(|program| program.name == refusal.program)
        };
        let checked = checks.checked.iter().find(name)?;
        match &checked.report.verdict {
            Verdict::Fail(rejection) => {
                let text = output::diagnostic(&checks.spec, checked, None, styled)?;
                Some(format!(
                    "skep's own check, with the way there:\n\n{text}\n\n`skep check --explain {}` says more",
                    rejection.code
                ))
            }
            Verdict::Unsupported(_) => None,
            Verdict::Pass => {
                let kernel = json!({
                    "verdict": "fail",
                    "errno": refusal.errno.to_string(),
                    "message": refusal.message,
                    "insn": refusal.insn.map(|insn| insn.0),
                    "log": refusal.log,
                });
                Some(Disagreement { checks: &checks, checked, kernel }.tell(args))
            }
        }
    }

    /// Says so where a program that the kernel took is not safe by skep's own check. A check that has not come to an end
    /// is not waited for.
    pub(super) fn of_acceptance(self, args: &RunArgs) {
        let Some(checks) = self.wait(Duration::ZERO) else { return };
        for checked in checks.checked.iter().filter(|checked| matches!(checked.report.verdict, Verdict::Fail(_))) {
            let kernel = json!({ "verdict": "pass" });
            let text = Disagreement { checks: &checks, checked, kernel }.tell(args);
            if !args.quiet {
                tell(text);
            }
        }
    }
}

/// Two verdicts that do not agree.
struct Disagreement<'a> {
    checks: &'a Checks,
    checked: &'a Checked,
    kernel: Value,
}

impl Disagreement<'_> {
    /// Writes the file, and says what to do with it.
    fn tell(&self, args: &RunArgs) -> String {
        let program = self.checks.spec.programs.get(self.checked.program.0);
        let name = program.map(|program| program.name.clone()).unwrap_or_default();
        let (ours, theirs) = match &self.checked.report.verdict {
            Verdict::Fail(rejection) => {
                let message = render::message(&self.checks.spec, self.checked.program, rejection);
                (format!("refuses it ({}: {message})", rejection.code), "accepts")
            }
            _ => ("takes it for safe".to_owned(), "refuses"),
        };
        let said = format!("skep: bug: the kernel {theirs} program `{name}`, and skep's own check {ours}");
        let next = match self.write(args, &name) {
            Ok(path) => format!("the kernel's word counts; please send {} with a report", path.display()),
            Err(error) => format!("the kernel's word counts; no file for a report could be written: {error}"),
        };
        printable(format!("{said}; {next}"))
    }

    /// Writes a file with the object, both verdicts and the kernel's version.
    fn write(&self, args: &RunArgs, name: &str) -> std::io::Result<PathBuf> {
        let path = match &args.report {
            Some(path) => path.clone(),
            None => {
                let dir = report_dir().ok_or_else(|| std::io::Error::other("no cache directory; use --report FILE"))?;
                std::fs::create_dir_all(&dir)?;
                let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
                dir.join(format!("{name}-{}.json", std::process::id()))
            }
        };
        let bytes = source::object_bytes(&args.file, &args.cflags).unwrap_or_default();
        let object = bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let params: Vec<String> = args.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut mine = output::json(&self.checks.spec, self.checked, None, None);
        if let Some(mine) = mine.as_object_mut() {
            mine.insert(
                "diagnostic".to_owned(),
                output::diagnostic(&self.checks.spec, self.checked, None, false).into(),
            );
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let report = json!({
            "skep": env!("CARGO_PKG_VERSION"),
            "kernel_release": release.trim(),
            "machine": std::env::consts::ARCH,
            "file": args.file.display().to_string(),
            "params": params,
            "kernel": self.kernel,
            "check": mine,
            "object_hex": object,
        });
        std::fs::write(&path, format!("{report:#}\n"))?;
        Ok(path)
    }
}

/// `$XDG_CACHE_HOME/skep/reports`, or the like.
fn report_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("skep").join("reports"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use skep_isa::InsnIdx;
    use skep_verifier::{Code, Rejection, Report, Stats};

    #[test]
    fn a_disagreement_becomes_a_file_with_all_that_is_needed() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.bpf.c");
        let dir = tempfile::tempdir().expect("directory");
        let report = dir.path().join("report.json");
        let words = ["skep", "run", "--report", report.to_str().expect("path"), "-p", "a=1", example];
        let Command::Run(args) = Cli::try_parse_from(words).expect("parses").command else { panic!("not run") };
        let spec = source::read_file(&args.file, &args.cflags).expect("compiles");
        let rejection = Rejection {
            code: Code::MaybeNull,
            insn: InsnIdx(1),
            title: "r0 may be null".into(),
            label: "followed here".into(),
            path: Vec::new(),
            facts: Vec::new(),
            help: None,
            kernel_says: None,
        };
        let verdict = Verdict::Fail(Box::new(rejection));
        let report_of = Report { verdict, warnings: Vec::new(), stats: Stats::default(), complexity: Vec::new() };
        let checked = vec![Checked { program: ProgramIdx(0), report: report_of, elapsed: Duration::ZERO }];
        let checks = Checks { spec, checked };
        let kernel = json!({ "verdict": "pass" });
        let text = Disagreement { checks: &checks, checked: &checks.checked[0], kernel }.tell(&args);
        assert!(
            text.contains("the kernel accepts program `hello`, and skep's own check refuses it (SKEP0009"),
            "{text}"
        );
        assert!(text.contains(&report.display().to_string()), "{text}");
        let written = std::fs::read_to_string(&report).expect("report");
        let written: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(written["kernel"]["verdict"], "pass");
        assert_eq!(written["check"]["code"], "SKEP0009");
        assert_eq!(written["params"][0], "a=1");
        let object: crate::exec::HexBytes = written["object_hex"].as_str().expect("text").parse().expect("hex digits");
        assert!(ObjectSpec::parse("again", &object.0).is_ok());
    }
}
