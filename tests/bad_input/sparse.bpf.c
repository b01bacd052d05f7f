// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A large array in which only the last entry is set. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define LAST 299999

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LAST + 1);
	__type(key, __u32);
	__type(value, __u64);
} skbi_sparse SEC(".maps");

SEC("tp/sched/sched_process_exec")
int skbi_set_last(void *ctx)
{
	__u32 key = LAST;
	__u64 *value = bpf_map_lookup_elem(&skbi_sparse, &key);

	if (value)
		*value = 5;
	return 0;
}
