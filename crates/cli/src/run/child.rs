//! The command behind `--`: started stopped, so that its process id is known and everything is attached before it runs.
//!
//! The child is this binary again. It asks to be killed if its parent dies, stops itself, and becomes the command once it
//! is continued.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Name of the hidden subcommand.
pub(crate) const WAIT_COMMAND: &str = "__wait-then-exec";

/// A command that has not been let go, or runs. Dropped before its end, it is killed: it is ours.
pub(crate) struct Held {
    child: Child,
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Held {
    /// Starts the command, stopped before its first instruction.
    pub(crate) fn start(command: &[OsString]) -> Result<Held> {
        let name = command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let skep = std::env::current_exe().context("find the skep binary itself")?;
        let child = Command::new(skep)
            .arg(WAIT_COMMAND)
            .arg(std::process::id().to_string())
            .arg("--")
            .args(command)
            .stdin(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start `{name}`"))?;
        let pid = Pid::from_child(&child);
        let mut held = Held { child, pid, ended: None };
        match waitpid(Some(pid), WaitOptions::UNTRACED).with_context(|| format!("wait for `{name}` to be ready"))? {
            Some((_, status)) if status.stopped() => Ok(held),
            _ => {
                held.ended = held.child.try_wait().ok().flatten();
                bail!("start `{name}`: it ended before it could be held");
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run.
    pub(crate) fn go(&self) -> Result<()> {
        kill_process(self.pid, Signal::CONT).with_context(|| format!("continue process {}", self.child.id()))
    }

    /// Its status once it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // Only fails when the child is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The child's side: waits to be continued, then becomes the command. Returns only when that fails. `parent` is the process
/// that waits for it.
pub(crate) fn wait_then_exec(parent: u32, command: &[OsString]) -> anyhow::Error {
    let Some((program, args)) = command.split_first() else {
        return anyhow::anyhow!("{WAIT_COMMAND}: no command");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return anyhow::Error::new(error).context("tie the command to skep");
    }
    // The parent may have died before the line above: then another has adopted this process, and nobody would continue it.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent) {
        return anyhow::anyhow!("skep ended before the command started");
    }
    if let Err(error) = kill_process(rustix::process::getpid(), Signal::STOP) {
        return anyhow::Error::new(error).context("hold the command until everything is attached");
    }
    // The command is the user's own: what became of skep is no longer its matter.
    let _ = set_parent_process_death_signal(None);
    let error = Command::new(program).args(args).exec();
    anyhow::Error::new(error).context(format!("start `{}`", program.to_string_lossy()))
}
