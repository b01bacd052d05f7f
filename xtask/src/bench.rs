//! `cargo xtask bench`: skep and libbpf side by side in one run, as the tables of `docs/performance.md`.
//!
//! Both sides load the same prebuilt object, taking turns, and a launch ends when the side says that all is attached.
//! Absolute times on a shared machine are noise; the ratio of the two medians is what the table is for. Programs are
//! attached to the whole machine for the few milliseconds of a launch, as any tracing tool does.

use crate::page;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Objects that both sides can load and attach by themselves, on any kernel that has BTF.
const EXAMPLES: &[&str] = &["hello", "syscall_latency", "runqlat", "execsnoop", "opensnoop", "tcpconnect"];

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Launches of each side for each object
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Also time a clean release build, in a target directory of its own
    #[arg(long)]
    build: bool,
    /// Print only; leave docs/performance.md as it is
    #[arg(long)]
    print: bool,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    ensure!(is_root(), "bench: loading programs wants root; run it as root");
    let root = crate::workspace_dir();
    let work = crate::target_dir().join("bench");
    std::fs::create_dir_all(&work)?;
    let skep = crate::target_dir().join("release/skep");
    ensure!(skep.exists(), "bench: {} is missing; run `make bench`, which builds it", skep.display());
    let loader = work.join("libbpf_loader");
    run(Command::new("cc").args(["-O2", "-o"]).arg(&loader).arg(root.join("benches/libbpf_loader.c")).arg("-lbpf"))?;

    let mut launch = machine();
    launch.push_str(&launches(&skep, &loader, &work, args.rounds)?);
    launch.push_str(&sizes(&skep, &work)?);
    print!("{launch}");
    let build = if args.build { Some(clean_build(&work)?) } else { None };
    print!("{}", build.as_deref().unwrap_or_default());
    if !args.print {
        let path = root.join("docs/performance.md");
        page::put(&path, "launch", &launch)?;
        // What is measured only on request stays from the last time it was.
        if let Some(build) = build {
            page::put(&path, "build", &build)?;
        }
        update_readme(&root.join("README.md"), &std::fs::read_to_string(&path)?)?;
    }
    Ok(())
}

/// The machine that a table was made on, as a paragraph.
pub(crate) fn machine() -> String {
    format!("Kernel {}, {} CPUs.\n\n", kernel(), cpus())
}

/// Puts the tables of the launch and of the build between the marks of the README.
fn update_readme(path: &Path, page: &str) -> Result<()> {
    let sections = ["launch", "build"].into_iter().filter_map(|name| page::get(page, name));
    let tables = sections.map(|section| {
        let lines = section.lines().skip_while(|line| !line.starts_with("## "));
        lines.map(|line| format!("{}\n", line.replacen("## ", "### ", 1))).collect::<String>()
    });
    let tables = tables.collect::<Vec<_>>().join("\n");
    page::put(path, "bench", &tables)
}

/// libbpf wants tracefs to be mounted; skep does without. Mounted for the time of the bench where it is not.
struct TraceFs;

impl TraceFs {
    const POINT: &'static str = "/sys/kernel/tracing";

    fn mount() -> Result<Option<TraceFs>> {
        if Path::new(TraceFs::POINT).join("events").exists() {
            return Ok(None);
        }
        run(Command::new("mount").args(["-t", "tracefs", "tracefs", TraceFs::POINT]))?;
        Ok(Some(TraceFs))
    }
}

impl Drop for TraceFs {
    fn drop(&mut self) {
        // A bench that was measured is worth more than a mount that stays.
        let _ = Command::new("umount").arg(TraceFs::POINT).status();
    }
}

fn launches(skep: &Path, loader: &Path, work: &Path, rounds: usize) -> Result<String> {
    let mut out = String::from(
        "## Launch to attached\n\nMedian milliseconds from starting the process to all programs attached, prebuilt object, \
         both sides taking turns.\n\n| object | programs | libbpf | skep | skep / libbpf |\n|---|---|---|---|---|\n",
    );
    let _tracefs = TraceFs::mount()?;
    let mut ratios = Vec::new();
    for name in EXAMPLES {
        let source = crate::workspace_dir().join(format!("examples/{name}.bpf.c"));
        if !source.exists() {
            continue;
        }
        let object = compile(&source, work)?;
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        let mut programs = 0;
        for round in 0..=rounds {
            let a = launch(Command::new(loader).arg(&object), false, "attached")?;
            let b = launch(Command::new(skep).args(["run", "--interval", "0"]).arg(&object), true, "attached")?;
            programs = b.1;
            // The first round warms the page cache.
            if round > 0 {
                theirs.push(a.0);
                ours.push(b.0);
            }
        }
        let (theirs, ours) = (median(&mut theirs), median(&mut ours));
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        ratios.push(ratio);
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        writeln!(out, "| {name} | {programs} | {:.1} | {:.1} | {ratio:.2} |", ms(theirs), ms(ours))?;
    }
    ensure!(!ratios.is_empty(), "bench: no example was found");
    let mean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
    writeln!(out, "| geometric mean | | | | {mean:.2} |\n")?;
    Ok(out)
}

/// Starts a process, waits for the line that says it is attached, ends it in order. Time, and the number of programs
/// that the line names (0 if it names none).
fn launch(command: &mut Command, line_on_stderr: bool, wanted: &str) -> Result<(Duration, usize)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let (stdout, stderr) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let mut seen = String::new();
    let (mut watched, other): (Box<dyn BufRead>, Box<dyn Read + Send>) = if line_on_stderr {
        (Box::new(BufReader::new(stderr)), Box::new(stdout))
    } else {
        (Box::new(BufReader::new(stdout)), Box::new(stderr))
    };
    let mut elapsed = None;
    let mut line = String::new();
    while watched.read_line(&mut line)? > 0 {
        if line.contains(wanted) {
            elapsed = Some(started.elapsed());
            break;
        }
        seen.push_str(&line);
        line.clear();
    }
    let programs = line.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
    drop(child.stdin.take());
    if line_on_stderr {
        // skep ends in order by a signal; it is ours, by its id.
        run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    }
    std::thread::spawn(move || std::io::copy(&mut { other }, &mut std::io::sink()));
    std::io::copy(&mut watched, &mut std::io::sink())?;
    child.wait()?;
    let Some(elapsed) = elapsed else { bail!("{command:?} ended without being attached: {seen}") };
    Ok((elapsed, programs))
}

fn sizes(skep: &Path, work: &Path) -> Result<String> {
    let mut out = String::from("## Sizes\n\n| what | measured | to reach |\n|---|---|---|\n");
    let open = crate::target_dir().join("release/examples/btf_open_bench");
    run(Command::new(env!("CARGO")).args([
        "build",
        "--quiet",
        "--release",
        "-p",
        "skep-btf",
        "--example",
        "btf_open_bench",
    ]))?;
    let text = output(&mut Command::new(&open))?;
    writeln!(
        out,
        "| open the running kernel's BTF | {} | 10 ms |",
        text.lines().find(|line| line.contains("open")).unwrap_or(&text).trim()
    )?;
    let object = compile(&crate::workspace_dir().join("examples/syscall_latency.bpf.c"), work)?;
    writeln!(out, "| peak memory of `skep run` on a prebuilt object | {:.1} MB | 20 MB |", peak_mb(skep, &object)?)?;
    let source = crate::workspace_dir().join("examples/syscall_latency.bpf.c");
    writeln!(
        out,
        "| peak memory of `skep run` on C source (without clang's own) | {:.1} MB | 20 MB |",
        peak_mb(skep, &source)?
    )?;
    let bytes = std::fs::metadata(skep)?.len();
    writeln!(out, "| release binary | {:.1} MB | 15 MB |\n", bytes as f64 / 1e6)?;
    Ok(out)
}

/// Peak resident set of a run of two seconds, in 10^6 bytes, as the kernel counted it (`VmHWM`).
fn peak_mb(skep: &Path, file: &Path) -> Result<f64> {
    let mut child = Command::new(skep)
        .args(["run", "--duration", "2s", "--interval", "500ms"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0u64;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(child.wait()?.success() && peak_kib > 0, "skep run {} failed", file.display());
    Ok(peak_kib as f64 * 1024.0 / 1e6)
}

fn clean_build(work: &Path) -> Result<String> {
    let target = work.join("clean-target");
    let _ = std::fs::remove_dir_all(&target);
    let started = Instant::now();
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "-p", "skep-cli", "--target-dir"])
        .arg(&target))?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&target)?;
    Ok(format!(
        "## Clean release build\n\nBy `cargo xtask bench --build`, dependencies already downloaded: {seconds:.0} s on {} CPUs (to reach: 300 s).\n",
        cpus()
    ))
}

/// Compiles an example by the flags that skep itself uses.
pub fn compile(source: &Path, work: &Path) -> Result<PathBuf> {
    let stem = source.file_stem().and_then(|stem| stem.to_str()).context("file name")?;
    let object = work.join(format!("{stem}.o"));
    let compiled = skep_cc::Compiler::from_env().compile(source)?;
    std::fs::write(&object, compiled.object)?;
    Ok(object)
}

pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.current_dir(crate::workspace_dir()).status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.current_dir(crate::workspace_dir()).output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
