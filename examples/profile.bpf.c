// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A sampling profiler: on each CPU, many times a second, which process runs and by which calls it got there.
 *
 *	skep run --duration 10s examples/profile.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"

#define STACK_DEPTH 127 /* the most that the kernel records */

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u32 target_pid = 0; /* only this process; 0: all */

struct profile_key {
	__u32 pid;
	char comm[16];
	__s32 kernel_stack_id; /* key into stacks; below 0: -errno, -EFAULT where there is no such stack */
	__s32 user_stack_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STACK_DEPTH * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct profile_key);
	__type(value, __u64);
} samples SEC(".maps");

__u64 idle;
__u64 lost; /* samples that found the table full */

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), one = 1, *count;
	struct profile_key sample = { .pid = id >> 32 };

	if (!id) { /* the idle task */
		__sync_fetch_and_add(&idle, 1);
		return 0;
	}
	if (target_pid && sample.pid != target_pid)
		return 0;
	bpf_get_current_comm(sample.comm, sizeof(sample.comm));
	sample.kernel_stack_id = bpf_get_stackid(ctx, &stacks, 0);
	sample.user_stack_id = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	count = bpf_map_lookup_elem(&samples, &sample);
	if (count)
		__sync_fetch_and_add(count, 1);
	else if (bpf_map_update_elem(&samples, &sample, &one, BPF_NOEXIST))
		__sync_fetch_and_add(&lost, 1);
	return 0;
}
