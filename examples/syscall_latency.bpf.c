// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * How long system calls take: by process and call as a table, over all as a histogram.
 *
 *	skep run --duration 10s examples/syscall_latency.bpf.c
 *	skep run --param target_pid=1 --param min_ns=1000000 examples/syscall_latency.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
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

/* The call that each thread is in. Task storage goes away with its thread, also when a call never returns (exit). */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call_entry);
} entered SEC(".maps");

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

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long nr)
{
	struct call_entry *entry;

	if (target_pid && bpf_get_current_pid_tgid() >> 32 != target_pid)
		return 0;
	entry = bpf_task_storage_get(&entered, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (entry)
		*entry = (struct call_entry){ bpf_ktime_get_ns(), nr };
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_exit, struct pt_regs *regs, long ret)
{
	struct call_entry *entry = bpf_task_storage_get(&entered, bpf_get_current_task_btf(), 0, 0);
	struct skep_histogram *histogram;
	struct latency_stats none = {}, *latency;
	struct call_key call = {};
	__u64 ns;
	__u32 zero = 0;

	if (!entry || !entry->at_ns)
		return 0; /* entered before this program was attached */
	ns = bpf_ktime_get_ns() - entry->at_ns;
	entry->at_ns = 0;
	if (ns < min_ns)
		return 0;

	histogram = bpf_map_lookup_elem(&latency_ns, &zero);
	if (histogram)
		skep_histogram_add(histogram, ns);

	call.call = entry->nr;
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
