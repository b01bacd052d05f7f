// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A hash of two entries that is asked to take one for each thread that the command starts: it fills, the program goes on. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} skbi_full SEC(".maps");

__u64 seen_count, refused_count;

SEC("tp/sched/sched_process_exec")
int skbi_full_map(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1;

	__sync_fetch_and_add(&seen_count, 1);
	if (bpf_map_update_elem(&skbi_full, &pid, &one, BPF_ANY))
		__sync_fetch_and_add(&refused_count, 1);
	return 0;
}
