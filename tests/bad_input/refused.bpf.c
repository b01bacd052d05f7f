// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verifier refuses this: the value may not be there. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} skbi_counts SEC(".maps");

SEC("tp/sched/sched_process_exec")
int skbi_refused(void *ctx)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&skbi_counts, &key);

	*count += 1; /* no test for NULL */
	return 0;
}
