//! SIGINT, SIGTERM and SIGHUP end a run in order: everything is printed and detached.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether somebody asked for the end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Listens from here on. A second signal ends the process at once. Links live no longer than their owner, so they go
    /// then as well; what is not a link is taken away by a sweeper, as after SIGKILL (the classic tc hook).
    pub(crate) fn listen() -> Result<Stop> {
        let signal = Arc::new(AtomicUsize::new(0));
        // Whoever starts skep under nohup wants it to go on without its terminal.
        let hangup = if is_ignored(SIGHUP) { None } else { Some(SIGHUP) };
        for number in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register_conditional_default(number, Arc::clone(&seen)).context("listen for signals")?;
            signal_hook::flag::register(number, seen).context("listen for signals")?;
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value).context("listen for signals")?;
        }
        Ok(Stop(signal))
    }

    /// Whether one has come.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// Whether this process was started with a signal ignored.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(number - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}
