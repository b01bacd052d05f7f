//! This machine as surroundings: its clocks, its random numbers, this process as the task.

use crate::host::{BadAddress, Clock, Host, Print, Task};
use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};
use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines of `bpf_trace_printk` that wait to be taken; more are counted and dropped.
pub const MAX_PRINTS: usize = 4096;

/// A printed line that waits to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Printed {
    /// Name of the task.
    pub comm: String,
    /// Its thread id.
    pub tid: u32,
    /// The virtual CPU.
    pub cpu: u32,
    /// The text.
    pub text: String,
}

/// The clocks of this machine; prints are kept until they are taken.
#[derive(Debug)]
pub struct SystemHost {
    random: AtomicU64,
    prints: Mutex<(Vec<Printed>, u64)>,
}

impl Default for SystemHost {
    /// Random numbers start anywhere.
    fn default() -> SystemHost {
        use std::hash::{BuildHasher, RandomState};
        SystemHost { random: AtomicU64::new(RandomState::new().hash_one(0)), prints: Mutex::default() }
    }
}

impl SystemHost {
    /// The lines printed since the last call, and how many found no room.
    pub fn take_prints(&self) -> (Vec<Printed>, u64) {
        std::mem::take(&mut *self.prints.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Host for SystemHost {
    fn now_ns(&self, clock: Clock) -> u64 {
        let time = match clock {
            Clock::Monotonic => clock_gettime(ClockId::Monotonic),
            Clock::Boot => clock_gettime(ClockId::Boottime),
            Clock::Coarse => clock_gettime(ClockId::MonotonicCoarse),
            // Linux has it since 3.10; where it is missing, it is the clock it differs from by leap seconds.
            Clock::Tai => {
                clock_gettime_dynamic(DynamicClockId::Tai).unwrap_or_else(|_| clock_gettime(ClockId::Realtime))
            }
        };
        u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
    }

    /// SplitMix64 (Steele, Lea and Flood 2014); not for secrets, as the kernel's is not.
    fn random_u32(&self) -> u32 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    fn print(&self, line: Print<'_>) {
        let mut prints = self.prints.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if prints.0.len() == MAX_PRINTS {
            prints.1 += 1;
            return;
        }
        prints.0.push(Printed { comm: line.comm.to_owned(), tid: line.tid, cpu: line.cpu, text: line.text.to_owned() });
    }
}

/// This process. Its own memory is not readable by programs: they have their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTask {}

impl Task for OwnTask {
    fn tid(&self) -> u32 {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn uid(&self) -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn gid(&self) -> u32 {
        rustix::process::getgid().as_raw()
    }

    fn comm(&self) -> Cow<'_, [u8]> {
        let name = std::fs::read("/proc/thread-self/comm").unwrap_or_default();
        Cow::Owned(name.strip_suffix(b"\n").unwrap_or(&name).to_vec())
    }

    fn read(&self, addr: u64, _: &mut [u8]) -> Result<(), BadAddress> {
        Err(BadAddress(addr))
    }
}
