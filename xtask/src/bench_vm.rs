//! `cargo xtask bench-vm`: the embedded engine against the kernel's compiler, rbpf and Rust, as a table in
//! `docs/performance.md`. The measuring itself is in `crates/vm/examples/bench_vm.rs`.

use crate::bench::{compile, is_root, machine, output, run};
use crate::page;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Arguments of `cargo xtask bench-vm`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Turns of each side
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Print only; leave docs/performance.md as it is
    #[arg(long)]
    print: bool,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    ensure!(is_root(), "bench-vm: one column is the running kernel, which wants root; run it as root");
    let root = crate::workspace_dir();
    let work = crate::target_dir().join("bench-vm");
    std::fs::create_dir_all(&work)?;
    for entry in std::fs::read_dir(root.join("benches/vm"))? {
        let source = entry?.path();
        if source.extension().is_some_and(|extension| extension == "c") {
            compile(&source, &work)?;
        }
    }
    run(Command::new(env!("CARGO")).args(["build", "--quiet", "--release", "-p", "skep-vm", "--example", "bench_vm"]))?;
    let bench = crate::target_dir().join("release/examples/bench_vm");
    let table = output(Command::new(bench).arg(&work).arg(args.rounds.to_string()))?;
    let mut text = machine();
    text.push_str(
        "Nanoseconds a run by the thread's CPU clock, the median of rounds in which the sides take turns. Every side runs the same object on the same \
         packet and gives the same number; interpreter and JIT run as programs do that a verifier has passed. The kernel is \
         measured by `BPF_PROG_TEST_RUN`, whose own figure leaves out the time in which it gives the CPU away; rbpf where a program needs no map. Native Rust uses the standard library \
         (`HashMap`), and the compiler may vectorise.\n\n",
    );
    text.push_str(&table);
    text.push_str(&following(&work, args.rounds)?);
    print!("{text}");
    if !args.print {
        page::put(&root.join("docs/performance.md"), "vm", &text)?;
    }
    Ok(())
}

/// What a command pays for being followed.
fn following(work: &Path, rounds: usize) -> Result<String> {
    let skep = crate::target_dir().join("release/skep");
    ensure!(skep.exists(), "bench-vm: {} is missing; run `make bench-vm`, which builds it", skep.display());
    let all = compile(&crate::workspace_dir().join("examples/syscall_latency.bpf.c"), work)?;
    let some = compile(&crate::workspace_dir().join("examples/opensnoop.bpf.c"), work)?;
    let run = |object: &Path| {
        let mut command = Command::new(&skep);
        command.args(["run", "--quiet", "--engine", "vm"]).arg(object).arg("--");
        command
    };
    let strace = |words: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null"]).args(words);
        command
    };
    let mut sides: Vec<(&str, Command)> = vec![
        ("alone", Command::new("env")),
        ("skep, opensnoop: both ends of some calls", run(&some)),
        ("skep, syscall_latency: both ends of every call", run(&all)),
    ];
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        sides.push((
            "strace --seccomp-bpf of the same some calls",
            strace(&["--seccomp-bpf", "-e", "open,openat,openat2"]),
        ));
        sides.push(("strace of every call", strace(&[])));
    }
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..=rounds {
        for ((name, command), times) in sides.iter_mut().zip(&mut times) {
            if round == 0 {
                command.args(["ls", "-lR", "/usr/include"]).stdout(Stdio::null()).stderr(Stdio::null());
            }
            let started = Instant::now();
            let status = command.status().with_context(|| format!("start {name}"))?;
            let elapsed = started.elapsed();
            ensure!(status.success(), "{name}: {status}");
            // The first round warms the page cache.
            if round > 0 {
                times.push(elapsed);
            }
        }
    }
    let mut out = String::from(
        "\n## Following a command\n\nMedian wall time of `ls -lR /usr/include`, the sides taking turns; programs run checked.\n\n\
         | followed by | ms | to alone |\n|---|---|---|\n",
    );
    let medians: Vec<Duration> = times.iter_mut().map(|times| crate::bench::median(times)).collect();
    let alone = medians.first().copied().unwrap_or_default().as_secs_f64();
    for ((name, _), time) in sides.iter().zip(&medians) {
        let time = time.as_secs_f64();
        writeln!(out, "| {name} | {:.0} | {:.1} |", time * 1e3, time / alone)?;
    }
    Ok(out)
}
