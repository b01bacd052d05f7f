//! How often programs run and how long they take. The kernel counts only while somebody asks it to.
//!
//! ```no_run
//! let _counting = skep_kernel::stats::enable()?;
//! let program = skep_kernel::Program::from_id(7)?;
//! let before = skep_kernel::stats::Usage::of(&program)?;
//! std::thread::sleep(std::time::Duration::from_secs(1));
//! let spent = skep_kernel::stats::Usage::of(&program)?.since(&before);
//! println!("{} runs, {} ns each", spent.run_count, spent.mean_ns());
//! # Ok::<(), skep_kernel::Error>(())
//! ```

use crate::Program;
use crate::error::{Error, Result};
use crate::info::ProgramInfo;
use crate::sys::obj;
use std::os::fd::OwnedFd;

/// The switch of kernels before 5.8.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Keeps the counting on as long as it lives. Costs every run of every program some 20 ns.
#[derive(Debug)]
pub struct RunStats(Held);

#[derive(Debug)]
enum Held {
    /// Ends with the descriptor, also when the process is killed.
    Descriptor(#[expect(dead_code, reason = "held for its drop")] OwnedFd),
    /// What the switch was set to before.
    Sysctl(String),
}

/// Starts counting.
pub fn enable() -> Result<RunStats> {
    let error = match obj::enable_run_time_stats() {
        Ok(fd) => return Ok(RunStats(Held::Descriptor(fd))),
        Err(e) => e,
    };
    if error.raw_os_error() != Some(libc::EINVAL) {
        return Err(
            Error::kernel("count", "runs of programs", error).with_next("this takes CAP_SYS_ADMIN; run as root")
        );
    }
    let before = std::fs::read_to_string(SYSCTL).map_err(|e| Error::file("read", SYSCTL, e))?;
    std::fs::write(SYSCTL, "1").map_err(|e| Error::file("write", SYSCTL, e))?;
    Ok(RunStats(Held::Sysctl(before)))
}

impl Drop for RunStats {
    fn drop(&mut self) {
        if let Held::Sysctl(before) = &self.0 {
            // There is nobody left to tell.
            let _ = std::fs::write(SYSCTL, before.trim());
        }
    }
}

/// What a program has used while counting was on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Time in it, on all CPUs.
    pub run_time_ns: u64,
    /// Runs.
    pub run_count: u64,
    /// Runs that did not happen because it was running already on that CPU.
    pub missed: u64,
}

impl Usage {
    /// What it has used so far.
    pub fn of(program: &Program) -> Result<Usage> {
        program.info().map(|info| Usage::from(&info))
    }

    /// What was used since an earlier reading.
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            run_time_ns: self.run_time_ns.saturating_sub(before.run_time_ns),
            run_count: self.run_count.saturating_sub(before.run_count),
            missed: self.missed.saturating_sub(before.missed),
        }
    }

    /// Mean time of a run, 0 without runs.
    pub fn mean_ns(&self) -> u64 {
        self.run_time_ns.checked_div(self.run_count).unwrap_or(0)
    }
}

impl From<&ProgramInfo> for Usage {
    fn from(info: &ProgramInfo) -> Usage {
        Usage { run_time_ns: info.run_time_ns, run_count: info.run_count, missed: info.recursion_misses }
    }
}
