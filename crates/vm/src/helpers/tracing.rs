//! Arguments of BTF tracepoints.

use super::fail;
use crate::env::Env;
use crate::helper::HelperResult;

/// Arguments that the context has, 8 bytes each.
fn count(env: &Env) -> u64 {
    env.context_len() / 8
}

/// `bpf_get_func_arg`.
pub(super) fn get_func_arg(env: &mut Env, [context, index, value, ..]: [u64; 5]) -> HelperResult {
    let index = u64::from(index as u32);
    if index >= count(env) {
        return fail(libc::EINVAL);
    }
    let arg = env.read::<8>(context.wrapping_add(index * 8))?;
    env.write(value, arg)?;
    Ok(0)
}

/// `bpf_get_func_arg_cnt`.
pub(super) fn get_func_arg_cnt(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(count(env))
}
