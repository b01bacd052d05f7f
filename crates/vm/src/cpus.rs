//! Virtual CPUs: a thread that runs a program holds one for the length of the run, so per-CPU values have one user at a time.
//!
//! More threads than CPUs wait for each other, as in the kernel; a run is bounded, so the wait is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// On a line of its own, so that taking one does not slow the next.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Cpu {
    taken: AtomicBool,
}

/// The virtual CPUs of an engine.
#[derive(Debug)]
pub(crate) struct Cpus {
    cpus: Box<[Cpu]>,
}

impl Cpus {
    /// At least one.
    pub(crate) fn new(count: u32) -> Cpus {
        Cpus { cpus: (0..count.max(1)).map(|_| Cpu::default()).collect() }
    }

    pub(crate) fn count(&self) -> u32 {
        self.cpus.len() as u32
    }

    /// Takes one, this one if it is free; waits until one is.
    #[inline]
    pub(crate) fn enter(&self, preferred: u32) -> u32 {
        match self.try_enter(preferred) {
            true => preferred,
            false => self.enter_any(preferred),
        }
    }

    #[inline]
    fn try_enter(&self, cpu: u32) -> bool {
        let free = |cpu: &Cpu| cpu.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        self.cpus.get(cpu as usize).is_some_and(free)
    }

    #[cold]
    fn enter_any(&self, preferred: u32) -> u32 {
        let count = self.count();
        loop {
            for step in 0..count {
                let cpu = (preferred % count + step) % count;
                if self.try_enter(cpu) {
                    return cpu;
                }
            }
            thread::yield_now();
        }
    }

    /// Gives it back.
    #[inline]
    pub(crate) fn leave(&self, cpu: u32) {
        if let Some(cpu) = self.cpus.get(cpu as usize) {
            cpu.taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_threads_hold_one_cpu() {
        let cpus = Cpus::new(2);
        let inside = [AtomicBool::new(false), AtomicBool::new(false)];
        thread::scope(|scope| {
            for thread in 0..4 {
                let (cpus, inside) = (&cpus, &inside);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let cpu = cpus.enter(thread);
                        assert!(!inside[cpu as usize].swap(true, Ordering::SeqCst));
                        inside[cpu as usize].store(false, Ordering::SeqCst);
                        cpus.leave(cpu);
                    }
                });
            }
        });
    }
}
