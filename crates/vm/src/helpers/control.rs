//! Loops, locks, and the marks that mean something to the kernel's scheduler only.

use super::{fail, fail32};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::{HelperResult, Stop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Most rounds of `bpf_loop`. Source: `BPF_MAX_LOOPS`.
const MAX_LOOPS: u64 = 8 * 1024 * 1024;

/// `bpf_loop`: rounds made.
pub(super) fn bpf_loop(env: &mut Env, [rounds, callback, context, flags, _]: [u64; 5]) -> HelperResult {
    if flags != 0 {
        return fail(libc::EINVAL);
    }
    if rounds > MAX_LOOPS {
        // The verifier replaces the call by a loop, which looks at all of r1 (the helper itself would take the lower half)
        // and sets the lower half of r0 only.
        return fail32(libc::E2BIG);
    }
    for round in 0..rounds {
        if env.call_back(callback, [round, context, 0, 0, 0])? != 0 {
            return Ok(round + 1);
        }
    }
    Ok(rounds)
}

/// How long an unverified program may wait for a lock: its bytes could be anything.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

fn lock_fault(helper: &'static str, why: String) -> Stop {
    FaultKind::Helper { helper, why }.into()
}

/// `bpf_spin_lock`. A run holds one at a time, as in the kernel; one that it still holds at its end is given back.
pub(super) fn spin_lock(env: &mut Env, [lock, ..]: [u64; 5]) -> HelperResult {
    const NAME: &str = "bpf_spin_lock";
    if let Some(held) = env.scratch.lock {
        return Err(lock_fault(NAME, format!("the program holds the lock at {held:#x} already")));
    }
    let checked = env.is_checked();
    let word = env.lock_word(lock)?;
    let (mut tries, mut since) = (0u32, None);
    while word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        tries = tries.saturating_add(1);
        if tries < 100 {
            std::hint::spin_loop();
            continue;
        }
        std::thread::yield_now();
        if checked && since.get_or_insert_with(Instant::now).elapsed() > LONGEST_WAIT {
            return Err(lock_fault(NAME, format!("the lock at {lock:#x} was not given back within a second")));
        }
    }
    env.scratch.lock = Some(lock);
    Ok(0)
}

/// `bpf_spin_unlock`.
pub(super) fn spin_unlock(env: &mut Env, [lock, ..]: [u64; 5]) -> HelperResult {
    if env.scratch.lock != Some(lock) {
        return Err(lock_fault("bpf_spin_unlock", format!("the program does not hold the lock at {lock:#x}")));
    }
    env.lock_word(lock)?.store(0, Ordering::Release);
    env.scratch.lock = None;
    Ok(0)
}

/// kfuncs `bpf_rcu_read_lock`, `bpf_rcu_read_unlock`, `bpf_preempt_disable`, `bpf_preempt_enable`: what they ask for holds
/// throughout a run (nothing that it looked up goes away, and nothing else runs on its virtual CPU).
pub(super) fn already_so(_: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(0)
}

/// kfunc `bpf_local_irq_save`: no interrupt runs on a virtual CPU; the flags are there to be given back.
pub(super) fn local_irq_save(env: &mut Env, [flags, ..]: [u64; 5]) -> HelperResult {
    env.write(flags, [0; 8])?;
    Ok(0)
}

/// kfunc `bpf_local_irq_restore`.
pub(super) fn local_irq_restore(env: &mut Env, [flags, ..]: [u64; 5]) -> HelperResult {
    env.read::<8>(flags)?;
    Ok(0)
}
