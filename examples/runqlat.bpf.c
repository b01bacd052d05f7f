// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Scheduler latency: how long a task that could run waited for a CPU. A histogram over all, a table by process.
 *
 *	skep run --duration 10s examples/runqlat.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "skep.h"

#define TASK_RUNNING 0

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct waiter {
	char comm[16];
};

struct wait_stats {
	__u64 count;
	__u64 total_us;
	__u64 max_us;
};

/* Since when each waiting thread waits. A plain hash: its memory is there beforehand, and no memory may be asked for
 * while the scheduler holds its locks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} waiting SEC(".maps");
SKEP_HIDE(waiting);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct skep_histogram);
} wait_us SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct waiter);
	__type(value, struct wait_stats);
} wait_by_process SEC(".maps");

static __always_inline int starts_to_wait(struct task_struct *task)
{
	__u32 thread = task->pid;
	__u64 now_ns = bpf_ktime_get_ns();

	if (thread) /* 0: the idle task of a CPU, always ready */
		bpf_map_update_elem(&waiting, &thread, &now_ns, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	return starts_to_wait(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *task)
{
	return starts_to_wait(task);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *from, struct task_struct *to)
{
	struct wait_stats none = {}, *wait;
	struct skep_histogram *histogram;
	struct waiter process = {};
	__u32 thread = to->pid, zero = 0;
	__u64 *since_ns, us;

	if (preempted || from->__state == TASK_RUNNING)
		starts_to_wait(from); /* it would have gone on: back to the queue */
	since_ns = bpf_map_lookup_elem(&waiting, &thread);
	if (!since_ns)
		return 0;
	us = (bpf_ktime_get_ns() - *since_ns) / 1000;
	bpf_map_delete_elem(&waiting, &thread);

	histogram = bpf_map_lookup_elem(&wait_us, &zero);
	if (histogram)
		skep_histogram_add(histogram, us);
	bpf_probe_read_kernel_str(process.comm, sizeof(process.comm), to->comm);
	wait = bpf_map_lookup_elem(&wait_by_process, &process);
	if (!wait) {
		bpf_map_update_elem(&wait_by_process, &process, &none, BPF_NOEXIST);
		wait = bpf_map_lookup_elem(&wait_by_process, &process);
	}
	if (wait) {
		__sync_fetch_and_add(&wait->count, 1);
		__sync_fetch_and_add(&wait->total_us, us);
		skep_max(&wait->max_us, us);
	}
	return 0;
}
