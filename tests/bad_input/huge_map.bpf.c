// SPDX-License-Identifier: GPL-2.0 OR MIT
/* 2^28 - 16 entries of 64 KiB: no machine has the memory. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct skbi_block {
	char bytes[65536];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 0x0ffffff0);
	__type(key, __u32);
	__type(value, struct skbi_block);
} skbi_huge SEC(".maps");

SEC("tp/sched/sched_process_exec")
int skbi_huge_map(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&skbi_huge, &key) != 0;
}
