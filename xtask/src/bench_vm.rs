//! `cargo xtask bench-vm`: the embedded engine against the kernel's compiler, rbpf and Rust, as a table in
//! `docs/performance.md`. The measuring itself is in `crates/vm/examples/bench_vm.rs`.

use crate::bench::{compile, is_root, machine, output, run};
use crate::page;
use anyhow::{Result, ensure};
use std::process::Command;

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
        "Nanoseconds a run, the median of rounds in which the sides take turns. Every side runs the same object on the same \
         packet and gives the same number; interpreter and JIT run as programs do that a verifier has passed. The kernel is \
         measured by `BPF_PROG_TEST_RUN`, rbpf where a program needs no map. Native Rust uses the standard library \
         (`HashMap`), and the compiler may vectorise.\n\n",
    );
    text.push_str(&table);
    print!("{text}");
    if !args.print {
        page::put(&root.join("docs/performance.md"), "vm", &text)?;
    }
    Ok(())
}
