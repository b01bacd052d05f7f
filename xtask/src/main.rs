//! `cargo xtask`: automation for this workspace. One subcommand a module of the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Automation for this workspace", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command under one of Debian's kernels in QEMU; output and exit code come through
    Guest(xtask::guest::cli::Args),
    /// Measure skep against libbpf and write docs/performance.md
    Bench(xtask::bench::Args),
    /// The embedded engine against the kernel's compiler, rbpf and Rust
    BenchVm(xtask::bench_vm::Args),
    /// The verifier against the kernel's own
    BenchVerifier(xtask::bench_verifier::Args),
    /// Hold the verifier against the running kernel on generated programs (as root)
    Agree(xtask::agree::Args),
    /// Run the fuzz targets
    Fuzz(xtask::fuzz::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Guest(args) => xtask::guest::cli::main(&args),
        Command::BenchVm(args) => report(xtask::bench_vm::main(&args)),
        Command::BenchVerifier(args) => report(xtask::bench_verifier::main(&args)),
        Command::Bench(args) => report(xtask::bench::main(&args)),
        Command::Agree(args) => report(xtask::agree::main(&args)),
        Command::Fuzz(args) => report(xtask::fuzz::main(&args)),
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
