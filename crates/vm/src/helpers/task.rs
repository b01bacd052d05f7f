//! The task that a program runs in.

use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::HelperResult;

/// `bpf_get_current_pid_tgid`: process id above, thread id below.
pub(super) fn get_current_pid_tgid(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(u64::from(env.task().pid()) << 32 | u64::from(env.task().tid()))
}

/// `bpf_get_current_uid_gid`: group above, user below.
pub(super) fn get_current_uid_gid(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(u64::from(env.task().gid()) << 32 | u64::from(env.task().uid()))
}

/// `bpf_get_current_comm`: the name, zeros behind it, the last byte always zero.
pub(super) fn get_current_comm(env: &mut Env, [buffer, size, ..]: [u64; 5]) -> HelperResult {
    let task = env.task().clone();
    let out = env.bytes_mut(buffer, u64::from(size as u32))?;
    let comm = task.comm();
    // 16 bytes with the zero, and no more than fit.
    let name = comm.iter().take_while(|&&byte| byte != 0).take(15.min(out.len().saturating_sub(1)));
    let filled = name.copied().chain(std::iter::repeat(0));
    out.iter_mut().zip(filled).for_each(|(to, from)| *to = from);
    Ok(0)
}

/// `bpf_get_current_cgroup_id`. Where it is not known the run ends: 0 would be an answer.
pub(super) fn get_current_cgroup_id(env: &mut Env, _: [u64; 5]) -> HelperResult {
    match env.task().cgroup_id() {
        Some(id) => Ok(id),
        None => {
            let why = format!("the cgroup of process {} is not known to this source of events", env.task().pid());
            Err(FaultKind::Helper { helper: "bpf_get_current_cgroup_id", why }.into())
        }
    }
}
