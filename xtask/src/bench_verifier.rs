//! `cargo xtask bench-verifier`: skep's verifier and the kernel's on the same programs, as a table in `docs/performance.md`.
//! The measuring itself is in `crates/verifier/examples/bench_verifier.rs`.

use crate::bench::{compile, is_root, machine, output, run};
use crate::page;
use anyhow::{Result, ensure};
use std::process::Command;

/// Arguments of `cargo xtask bench-verifier`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Turns of each side
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Print only; leave docs/performance.md as it is
    #[arg(long)]
    print: bool,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    ensure!(is_root(), "bench-verifier: one side is the running kernel, which wants root; run it as root");
    let root = crate::workspace_dir();
    let work = crate::target_dir().join("bench-verifier");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    for dir in ["examples", "benches/vm"] {
        for entry in std::fs::read_dir(root.join(dir))? {
            let source = entry?.path();
            if source.extension().is_some_and(|extension| extension == "c") {
                compile(&source, &work)?;
            }
        }
    }
    run(Command::new(env!("CARGO")).args([
        "build",
        "--quiet",
        "--release",
        "-p",
        "skep-verifier",
        "--example",
        "bench_verifier",
    ]))?;
    let bench = crate::target_dir().join("release/examples/bench_verifier");
    let table = output(Command::new(bench).arg(&work).arg(args.rounds.to_string()))?;
    let mut text = machine();
    text.push_str(
        "Microseconds, the median of rounds in which the sides take turns. The kernel's is the \"verification time\" that it \
         tells itself; skep's is the whole of a check. Programs are those of examples/ and benches/vm/, and large generated \
         ones.\n\n",
    );
    text.push_str(&table);
    print!("{text}");
    if !args.print {
        page::put(&root.join("docs/performance.md"), "verifier", &text)?;
    }
    Ok(())
}
