//! Clocks, random numbers and where a program runs.

use super::fail;
use crate::env::Env;
use crate::helper::HelperResult;
use crate::host::Clock;
use std::sync::OnceLock;

/// `bpf_ktime_get_ns`.
pub(super) fn ktime_get_ns(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.host.now_ns(Clock::Monotonic))
}

/// `bpf_ktime_get_boot_ns`.
pub(super) fn ktime_get_boot_ns(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.host.now_ns(Clock::Boot))
}

/// `bpf_ktime_get_coarse_ns`.
pub(super) fn ktime_get_coarse_ns(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.host.now_ns(Clock::Coarse))
}

/// `bpf_ktime_get_tai_ns`.
pub(super) fn ktime_get_tai_ns(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.host.now_ns(Clock::Tai))
}

/// Timer interrupts a second (`CONFIG_HZ`), from what the kernel says of its coarse clock.
fn ticks_per_second() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
        let tick_ns = u64::try_from(tick.tv_nsec).unwrap_or(0);
        // 4 ms, the usual tick, where there is no answer.
        1_000_000_000_u64.checked_div(tick_ns).filter(|hz| *hz > 0).unwrap_or(250)
    })
}

/// `bpf_jiffies64`: the kernel starts to count five minutes below the overflow of 32 bits (`INITIAL_JIFFIES`). Counted from
/// the monotonic clock, which is set right now and then: about a second off the kernel's own, differences are not.
pub(super) fn jiffies64(env: &mut Env, _: [u64; 5]) -> HelperResult {
    let hz = ticks_per_second();
    let start = u64::from(0u32.wrapping_sub(300 * hz as u32));
    let ticks = u128::from(env.host.now_ns(Clock::Coarse)) * u128::from(hz) / 1_000_000_000;
    Ok(start.wrapping_add(ticks as u64))
}

/// `bpf_get_prandom_u32`.
pub(super) fn get_prandom_u32(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.host.random_u32().into())
}

/// `bpf_get_smp_processor_id`: the virtual CPU, whose values per-CPU maps give.
pub(super) fn get_smp_processor_id(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.cpu().into())
}

/// Memory node of each CPU of this machine.
fn nodes() -> &'static [u32] {
    static NODES: OnceLock<Vec<u32>> = OnceLock::new();
    NODES.get_or_init(|| {
        let node_of = |cpu: usize| {
            let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
            let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.find_map(|name| name.strip_prefix("node")?.parse().ok())
        };
        let exists = |cpu: &usize| std::path::Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists();
        // A machine that does not tell has one node.
        (0..).take_while(exists).map(|cpu| node_of(cpu).unwrap_or(0)).collect()
    })
}

/// `bpf_get_numa_node_id`: that of the CPU of this machine that the thread is on.
pub(super) fn get_numa_node_id(_: &mut Env, _: [u64; 5]) -> HelperResult {
    let cpu = rustix::thread::sched_getcpu();
    Ok(nodes().get(cpu).copied().unwrap_or(0).into())
}

/// The process id namespace of this process: device (as the kernel numbers devices) and inode.
fn own_pid_namespace() -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    static NAMESPACE: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *NAMESPACE.get_or_init(|| {
        let file = std::fs::metadata("/proc/self/ns/pid").ok()?;
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        Some((u64::from(major) << 20 | u64::from(minor), file.ino()))
    })
}

/// `bpf_get_ns_current_pid_tgid`: the ids that this process sees, if the namespace asked for is its own.
pub(super) fn get_ns_current_pid_tgid(env: &mut Env, [dev, ino, info, size, _]: [u64; 5]) -> HelperResult {
    let size = u64::from(size as u32);
    let out = env.bytes_mut(info, size)?;
    out.fill(0);
    if size != 8 || own_pid_namespace() != Some((dev, ino)) {
        return fail(libc::EINVAL);
    }
    let (tid, pid) = (env.task().tid(), env.task().pid());
    env.write(info, tid.to_ne_bytes())?;
    env.write(info.wrapping_add(4), pid.to_ne_bytes())?;
    Ok(0)
}
