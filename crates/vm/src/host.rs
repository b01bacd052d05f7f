//! What a program can ask of its surroundings: clocks, random numbers, a place to print to, the task it runs in.
//!
//! Both traits are passed in, so that a test can run a program at a fixed time, and an event source can answer for the
//! process that an event belongs to.

use std::borrow::Cow;

/// A clock of the kernel that helpers read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Clock {
    /// `bpf_ktime_get_ns`: `CLOCK_MONOTONIC`.
    Monotonic,
    /// `bpf_ktime_get_boot_ns`: `CLOCK_BOOTTIME`.
    Boot,
    /// `bpf_ktime_get_coarse_ns`: `CLOCK_MONOTONIC_COARSE`.
    Coarse,
    /// `bpf_ktime_get_tai_ns`: `CLOCK_TAI`.
    Tai,
}

/// A line that a program printed with `bpf_trace_printk`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print<'a> {
    /// Name of the task.
    pub comm: &'a str,
    /// Its thread id.
    pub tid: u32,
    /// The virtual CPU that the program ran on.
    pub cpu: u32,
    /// The text, without its line end. What is not UTF-8 comes as U+FFFD.
    pub text: &'a str,
}

/// The surroundings of all runs.
pub trait Host: Send + Sync {
    /// Nanoseconds of this clock.
    fn now_ns(&self, clock: Clock) -> u64;
    /// A random number, `bpf_get_prandom_u32`.
    fn random_u32(&self) -> u32;
    /// A line printed by a program.
    fn print(&self, line: Print<'_>);
}

/// A task that could not be read from: the address that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAddress(pub u64);

/// The task that a program runs in, the answer to "who is it".
pub trait Task: Send + Sync {
    /// Thread id, the kernel's `pid`.
    fn tid(&self) -> u32;
    /// Process id, the kernel's `tgid`.
    fn pid(&self) -> u32;
    /// Real user id.
    fn uid(&self) -> u32;
    /// Real group id.
    fn gid(&self) -> u32;
    /// Name of the thread, at most 15 bytes.
    fn comm(&self) -> Cow<'_, [u8]>;
    /// Id of its cgroup in the version 2 hierarchy, where known.
    fn cgroup_id(&self) -> Option<u64> {
        None
    }
    /// Fills `into` from the task's own memory.
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BadAddress>;
}
