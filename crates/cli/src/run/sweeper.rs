//! The classic tc hook has no link, so that its filter would stay if skep were killed. A sweeper is this binary again, in a
//! process group of its own: it waits at a pipe whose other end skep holds. A byte says that skep has taken the filter away
//! itself; the pipe's end without one says that skep is dead, and the sweeper takes it away.

use crate::failure::{Exit, Failure};
use anyhow::{Context, Result};
use skep_engine::Leftover;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Name of the hidden subcommand.
pub(crate) const SWEEP_COMMAND: &str = "__sweep-at-end";

/// A sweeper that waits.
pub(crate) struct Sweeper(Child);

impl Sweeper {
    /// Starts one for what was attached in this order, where there is anything.
    pub(crate) fn start(leftovers: &[Leftover]) -> Result<Option<Sweeper>> {
        if leftovers.is_empty() {
            return Ok(None);
        }
        let skep = std::env::current_exe().context("find the skep binary itself")?;
        let child = Command::new(skep)
            .arg(SWEEP_COMMAND)
            .args(leftovers.iter().map(Leftover::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for skep, which ends in order.
            .process_group(0)
            .spawn()
            .context("start what detaches the program if skep is killed")?;
        Ok(Some(Sweeper(child)))
    }

    /// Skep has detached the program itself.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // It fails only when the sweeper is gone already.
            let _ = pipe.write_all(b".");
        }
        let _ = self.0.wait();
    }
}

/// The sweeper's side. The last attached goes first: the qdisc goes with the one that it was made for.
pub(crate) fn sweep(leftovers: &[Leftover]) -> Result<(), Failure> {
    let told = std::io::stdin().read(&mut [0]).context("wait for the end of skep")?;
    if told > 0 {
        return Ok(());
    }
    let removed: Vec<_> = leftovers.iter().rev().map(|leftover| leftover.remove()).collect();
    let all: skep_kernel::Result<()> = removed.into_iter().collect();
    all.map_err(|error| Failure::new(Exit::from(error.class()), error))
}
