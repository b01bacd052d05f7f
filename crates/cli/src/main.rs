//! The `skep` command: parses arguments, calls, prints. What it prints is documented under docs/.

// The standard macros panic where nobody reads; `output` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod check;
mod diagnose;
mod doctor;
mod dump;
mod exec;
mod failure;
mod output;
mod ps;
mod run;
mod signals;
mod view;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Exec(args) => exec::exec(&args).map(|()| 0),
        Command::Ps(args) => ps::ps(&args).map(|()| 0),
        Command::Dump(args) => dump::dump(&args).map(|()| 0),
        Command::Doctor(args) => doctor::doctor(&args).map(|()| 0),
        Command::Sweep { leftovers } => run::sweeper::sweep(&leftovers).map(|()| 0),
        Command::Wait { parent, command } => {
            output::tell(format_args!("error: {:#}", run::child::wait_then_exec(parent, &command)));
            Ok(127)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::tell(&failure);
            ExitCode::from(failure.code())
        }
    }
}
