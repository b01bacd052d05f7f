//! Tells a waiting consumer that records have come.
//!
//! One signal may serve several maps: whoever reads them all waits once. Raising it when nobody waits costs a few
//! nanoseconds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicU64,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Signal {
    /// Wakes all who wait.
    pub fn raise(&self) {
        self.raised.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            // Under the lock, so that nobody is between looking and sleeping.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// How often it was raised: read it, look at the buffers, then [`Signal::wait_past`] it, and nothing is missed.
    pub fn count(&self) -> u64 {
        self.raised.load(SeqCst)
    }

    /// Waits until it was raised more often than `seen`, at most `timeout`; whether it was.
    pub fn wait_past(&self, seen: u64, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        self.waiting.fetch_add(1, SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.count() == seen {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = self.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(guard);
        self.waiting.fetch_sub(1, SeqCst);
        self.count() != seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_wakes_or_gives_up() {
        let signal = Signal::default();
        let seen = signal.count();
        assert!(!signal.wait_past(seen, Duration::from_millis(5)));
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(signal.wait_past(seen, Duration::from_secs(20))));
            scope.spawn(|| signal.raise());
        });
        assert!(signal.wait_past(seen, Duration::ZERO));
    }
}
