//! Which function stands behind which number or name.
#![expect(unsafe_code, reason = "the form in which compiled code calls helpers")]

use crate::helper::{Builtin, helper_fn};

/// Rows `number name = function`.
macro_rules! helpers {
    ($($id:literal $name:literal = $function:path;)*) => {
        &[$(Builtin { id: $id, name: $name, function: helper_fn!($function) },)*]
    };
}

/// Rows `name = function`.
macro_rules! kfuncs {
    ($($name:literal = $function:path;)*) => {
        &[$(Builtin { id: 0, name: $name, function: helper_fn!($function) },)*]
    };
}

/// By number, sorted. Helpers of packets and cgroup hooks stand in modules of their own.
pub(super) static HELPERS: &[Builtin] = helpers! {
    1 "bpf_map_lookup_elem" = super::maps::lookup;
    2 "bpf_map_update_elem" = super::maps::update;
    3 "bpf_map_delete_elem" = super::maps::delete;
    4 "bpf_probe_read" = super::probe::probe_read;
    5 "bpf_ktime_get_ns" = super::time::ktime_get_ns;
    6 "bpf_trace_printk" = super::print::trace_printk;
    7 "bpf_get_prandom_u32" = super::time::get_prandom_u32;
    8 "bpf_get_smp_processor_id" = super::time::get_smp_processor_id;
    14 "bpf_get_current_pid_tgid" = super::task::get_current_pid_tgid;
    15 "bpf_get_current_uid_gid" = super::task::get_current_uid_gid;
    16 "bpf_get_current_comm" = super::task::get_current_comm;
    25 "bpf_perf_event_output" = super::maps::perf_event_output;
    42 "bpf_get_numa_node_id" = super::time::get_numa_node_id;
    45 "bpf_probe_read_str" = super::probe::probe_read_str;
    80 "bpf_get_current_cgroup_id" = super::task::get_current_cgroup_id;
    87 "bpf_map_push_elem" = super::maps::push;
    88 "bpf_map_pop_elem" = super::maps::pop;
    89 "bpf_map_peek_elem" = super::maps::peek;
    93 "bpf_spin_lock" = super::control::spin_lock;
    94 "bpf_spin_unlock" = super::control::spin_unlock;
    105 "bpf_strtol" = super::text::strtol;
    106 "bpf_strtoul" = super::text::strtoul;
    112 "bpf_probe_read_user" = super::probe::probe_read_user;
    113 "bpf_probe_read_kernel" = super::probe::probe_read_kernel;
    114 "bpf_probe_read_user_str" = super::probe::probe_read_user_str;
    115 "bpf_probe_read_kernel_str" = super::probe::probe_read_kernel_str;
    118 "bpf_jiffies64" = super::time::jiffies64;
    120 "bpf_get_ns_current_pid_tgid" = super::time::get_ns_current_pid_tgid;
    125 "bpf_ktime_get_boot_ns" = super::time::ktime_get_boot_ns;
    130 "bpf_ringbuf_output" = super::maps::ringbuf_output;
    131 "bpf_ringbuf_reserve" = super::maps::ringbuf_reserve;
    132 "bpf_ringbuf_submit" = super::maps::ringbuf_submit;
    133 "bpf_ringbuf_discard" = super::maps::ringbuf_discard;
    134 "bpf_ringbuf_query" = super::maps::ringbuf_query;
    148 "bpf_copy_from_user" = super::probe::copy_from_user;
    160 "bpf_ktime_get_coarse_ns" = super::time::ktime_get_coarse_ns;
    164 "bpf_for_each_map_elem" = super::maps::for_each;
    165 "bpf_snprintf" = super::print::snprintf;
    177 "bpf_trace_vprintk" = super::print::trace_vprintk;
    181 "bpf_loop" = super::control::bpf_loop;
    182 "bpf_strncmp" = super::text::strncmp;
    183 "bpf_get_func_arg" = super::tracing::get_func_arg;
    185 "bpf_get_func_arg_cnt" = super::tracing::get_func_arg_cnt;
    195 "bpf_map_lookup_percpu_elem" = super::maps::lookup_percpu;
    197 "bpf_dynptr_from_mem" = super::dynptr::from_mem;
    198 "bpf_ringbuf_reserve_dynptr" = super::dynptr::ringbuf_reserve;
    199 "bpf_ringbuf_submit_dynptr" = super::dynptr::ringbuf_submit;
    200 "bpf_ringbuf_discard_dynptr" = super::dynptr::ringbuf_discard;
    201 "bpf_dynptr_read" = super::dynptr::read;
    202 "bpf_dynptr_write" = super::dynptr::write;
    203 "bpf_dynptr_data" = super::dynptr::data;
    208 "bpf_ktime_get_tai_ns" = super::time::ktime_get_tai_ns;
};

/// By name, sorted.
pub(super) static KFUNCS: &[Builtin] = kfuncs! {
    "bpf_copy_from_user_dynptr" = super::dynptr::probe_read_user;
    "bpf_copy_from_user_str" = super::probe::copy_from_user_str;
    "bpf_copy_from_user_str_dynptr" = super::dynptr::probe_read_user_str;
    "bpf_dynptr_adjust" = super::dynptr::adjust;
    "bpf_dynptr_clone" = super::dynptr::clone;
    "bpf_dynptr_copy" = super::dynptr::copy;
    "bpf_dynptr_from_skb" = super::dynptr::from_skb;
    "bpf_dynptr_from_skb_meta" = super::dynptr::from_skb_meta;
    "bpf_dynptr_from_xdp" = super::dynptr::from_xdp;
    "bpf_dynptr_is_null" = super::dynptr::is_null;
    "bpf_dynptr_is_rdonly" = super::dynptr::is_rdonly;
    "bpf_dynptr_memset" = super::dynptr::memset;
    "bpf_dynptr_size" = super::dynptr::size;
    "bpf_dynptr_slice" = super::dynptr::slice;
    "bpf_dynptr_slice_rdwr" = super::dynptr::slice_rdwr;
    "bpf_iter_bits_destroy" = super::iter::bits_destroy;
    "bpf_iter_bits_new" = super::iter::bits_new;
    "bpf_iter_bits_next" = super::iter::bits_next;
    "bpf_iter_num_destroy" = super::iter::num_destroy;
    "bpf_iter_num_new" = super::iter::num_new;
    "bpf_iter_num_next" = super::iter::num_next;
    "bpf_local_irq_restore" = super::control::local_irq_restore;
    "bpf_local_irq_save" = super::control::local_irq_save;
    "bpf_map_sum_elem_count" = super::maps::sum_elem_count;
    "bpf_preempt_disable" = super::control::already_so;
    "bpf_preempt_enable" = super::control::already_so;
    "bpf_probe_read_kernel_dynptr" = super::dynptr::probe_read_kernel;
    "bpf_probe_read_kernel_str_dynptr" = super::dynptr::probe_read_kernel_str;
    "bpf_probe_read_user_dynptr" = super::dynptr::probe_read_user;
    "bpf_probe_read_user_str_dynptr" = super::dynptr::probe_read_user_str;
    "bpf_rcu_read_lock" = super::control::already_so;
    "bpf_rcu_read_unlock" = super::control::already_so;
    "bpf_strcasecmp" = super::strings::strcasecmp;
    "bpf_strcasestr" = super::strings::strcasestr;
    "bpf_strchr" = super::strings::strchr;
    "bpf_strchrnul" = super::strings::strchrnul;
    "bpf_strcmp" = super::strings::strcmp;
    "bpf_strcspn" = super::strings::strcspn;
    "bpf_strlen" = super::strings::strlen;
    "bpf_strncasecmp" = super::strings::strncasecmp;
    "bpf_strncasestr" = super::strings::strncasestr;
    "bpf_strnchr" = super::strings::strnchr;
    "bpf_strnlen" = super::strings::strnlen;
    "bpf_strnstr" = super::strings::strnstr;
    "bpf_strrchr" = super::strings::strrchr;
    "bpf_strspn" = super::strings::strspn;
    "bpf_strstr" = super::strings::strstr;
};

/// The helper with this number.
pub(super) fn by_id(id: u32) -> Option<&'static Builtin> {
    let at = HELPERS.binary_search_by_key(&id, |helper| helper.id).ok()?;
    HELPERS.get(at)
}

/// The kernel function with this name.
pub(super) fn kfunc(name: &str) -> Option<&'static Builtin> {
    let at = KFUNCS.binary_search_by_key(&name, |function| function.name).ok()?;
    KFUNCS.get(at)
}
