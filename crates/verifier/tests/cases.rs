//! The text cases under `tests/verifier/*.txt`: a program, and all that skep says of it.
//!
//! ```text
//! === a packet is read after a check
//! type xdp
//! map table array key 4 value 8 entries 1
//! code
//!   r0 = 2
//!   exit
//! ---
//! pass
//! ```
//!
//! Above `code` stand lines as [`skep_progen::Generated`] has them, and these: `kernel 6.1` checks for that kernel (else 6.18),
//! `unprivileged` without capabilities, `cpus 4`, `differs WHY` where the running kernel is known to say something else.
//! Below `---` stands `pass`, or the whole diagnostic. `SKEP_BLESS=1` writes it anew.
//!
//! As root each program is loaded into the running kernel too, which must agree: what passes loads, what fails does not. (Cases for
//! other kernels or without privileges are left out.)

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use skep_abi::KernelVersion;
use skep_btf::Btf;
use skep_kernel::load::{LoadError, LoadOptions, load};
use skep_object::ProgramIdx;
use skep_progen::Generated;
use skep_verifier::render::{Layout, render};
use skep_verifier::{Options, Verdict, check};

/// A case as it stands in its file.
struct Case {
    title: String,
    /// Everything up to the `---`, as written.
    source: String,
    /// The program, without the lines that are the harness's own.
    program: String,
    kernel: Option<KernelVersion>,
    unprivileged: bool,
    cpus: u32,
    differs: bool,
    expected: String,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/verifier")
}

fn parse(text: &str, file: &Path) -> (String, Vec<Case>) {
    let mut parts = text.split("=== ");
    let preamble = parts.next().unwrap_or_default().to_owned();
    let cases = parts
        .map(|part| {
            let (title, body) = part.split_once('\n').unwrap_or((part, ""));
            let Some((source, expected)) = body.split_once("---\n") else {
                panic!("{}: case {title:?} has no line `---`", file.display());
            };
            let mut case = Case {
                title: title.trim().to_owned(),
                source: source.to_owned(),
                program: String::new(),
                kernel: None,
                unprivileged: false,
                cpus: 8192,
                differs: false,
                expected: expected.trim_end().to_owned(),
            };
            for line in source.lines() {
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                match word {
                    "kernel" => case.kernel = Some(rest.parse().expect("a kernel version")),
                    "unprivileged" => case.unprivileged = true,
                    "cpus" => case.cpus = rest.parse().expect("a number of CPUs"),
                    "differs" => case.differs = true,
                    _ => {
                        case.program.push_str(line);
                        case.program.push('\n');
                    }
                }
            }
            case
        })
        .collect();
    (preamble, cases)
}

/// What the running kernel says: whether it takes the program, and its log; `None` where it cannot be asked.
fn ask_kernel(program: &Generated) -> Option<(bool, String)> {
    match load(&program.to_spec(), &LoadOptions::default()) {
        Ok(_) => Some((true, String::new())),
        Err(LoadError::Program(refusal)) => Some((false, refusal.log.clone())),
        Err(_) => None,
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().filter(|line| !line.starts_with("processed")).take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
}

#[test]
fn cases_say_what_is_written_and_what_the_kernel_says() {
    let bless = std::env::var_os("SKEP_BLESS").is_some_and(|value| value == "1");
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("needs root: the cases are not loaded into the kernel");
    }
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok().and_then(|bytes| Btf::parse(bytes).ok());
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .expect("tests/verifier is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .filter(|path| path.file_name().is_some_and(|name| name != "disagreements.txt"))
        .collect();
    files.sort();
    let mut wrong = String::new();
    let (mut count, mut asked) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable case");
        let (preamble, cases) = parse(&text, &file);
        let mut blessed = preamble;
        for case in cases {
            count += 1;
            let place = format!("{}: {}", file.file_name().unwrap_or_default().display(), case.title);
            let program = match Generated::parse(&case.program) {
                Ok(program) => program,
                Err(error) => {
                    let _ = writeln!(wrong, "{place}: {error}");
                    let _ = write!(blessed, "=== {}\n{}---\n{}\n\n", case.title, case.source, case.expected);
                    continue;
                }
            };
            let spec = program.to_spec();
            let options = Options {
                kernel: case.kernel.unwrap_or(KernelVersion::new(6, 18)),
                target_btf: btf.as_ref(),
                privileged: !case.unprivileged,
                cpus: case.cpus,
                ..Options::default()
            };
            let report = check(&spec, ProgramIdx(0), &options);
            let said = match render(&spec, ProgramIdx(0), &report, &Layout::default()) {
                Some(text) => text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"),
                None => "pass".to_owned(),
            };
            let _ = write!(blessed, "=== {}\n{}---\n{}\n\n", case.title, case.source, said.trim_end());
            if said.trim_end() != case.expected && !bless {
                let _ = writeln!(wrong, "{place}: says\n{said}\ninstead of\n{}\n", case.expected);
            }
            if !root || case.kernel.is_some() || case.unprivileged {
                continue;
            }
            let passes = match report.verdict {
                Verdict::Pass => true,
                Verdict::Fail(_) => false,
                Verdict::Unsupported(_) => continue,
            };
            let Some((taken, log)) = ask_kernel(&program) else { continue };
            asked += 1;
            if (taken != passes) != case.differs {
                let ours = if passes { "passes" } else { "fails" };
                let theirs = if taken { "takes" } else { "refuses" };
                let _ = writeln!(wrong, "{place}: {ours} here, the kernel {theirs} it:\n    {}", last_lines(&log));
            }
        }
        if bless {
            let text = format!("{}\n", blessed.trim_end());
            std::fs::write(&file, text).expect("the case is written");
        }
    }
    println!("{count} cases, {asked} of them loaded into the kernel");
    assert!(wrong.is_empty(), "\n{wrong}");
}
