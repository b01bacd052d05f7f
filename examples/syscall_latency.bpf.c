// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * How long system calls take: by process and call as a table, over all as a histogram.
 *
 *	skep run --duration 10s examples/syscall_latency.bpf.c
 *	skep run --param target_pid=1 --param min_ns=1000000 examples/syscall_latency.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"
#include "skep_syscalls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u32 target_pid = 0; /* only this process; 0: all */
const volatile __u64 min_ns = 0;     /* leave out calls shorter than this */

struct call_key {
	char comm[16];
	enum skep_syscall call;
};

struct latency_stats {
	__u64 count;
	__u64 total_ns;
	__u64 max_ns;
};

struct call_entry {
	__u64 at_ns;
	long nr;
};

/* The call that each thread is in. A thread that ends within a call leaves its entry behind; the oldest make room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct call_entry);
} entered SEC(".maps");
SKEP_HIDE(entered);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct call_key);
	__type(value, struct latency_stats);
} latency_by_call SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct skep_histogram);
} latency_ns SEC(".maps");

__u64 not_counted; /* calls that found latency_by_call full */

SEC("tracepoint/raw_syscalls/sys_enter")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call_entry entry = { bpf_ktime_get_ns(), ctx->id };
	__u32 thread = id;

	if (!target_pid || id >> 32 == target_pid)
		bpf_map_update_elem(&entered, &thread, &entry, BPF_ANY);
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid(), zero = 0;
	struct call_entry *entry = bpf_map_lookup_elem(&entered, &thread);
	struct latency_stats none = {}, *latency;
	struct skep_histogram *histogram;
	struct call_key call = {};
	__u64 ns;

	if (!entry)
		return 0; /* entered before this program was attached, or not the target's */
	ns = bpf_ktime_get_ns() - entry->at_ns;
	call.call = entry->nr;
	bpf_map_delete_elem(&entered, &thread);
	if (ns < min_ns)
		return 0;

	histogram = bpf_map_lookup_elem(&latency_ns, &zero);
	if (histogram)
		skep_histogram_add(histogram, ns);

	bpf_get_current_comm(call.comm, sizeof(call.comm));
	latency = bpf_map_lookup_elem(&latency_by_call, &call);
	if (!latency) {
		bpf_map_update_elem(&latency_by_call, &call, &none, BPF_NOEXIST);
		latency = bpf_map_lookup_elem(&latency_by_call, &call);
	}
	if (!latency) {
		__sync_fetch_and_add(&not_counted, 1);
		return 0;
	}
	__sync_fetch_and_add(&latency->count, 1);
	__sync_fetch_and_add(&latency->total_ns, ns);
	skep_max(&latency->max_ns, ns);
	return 0;
}
