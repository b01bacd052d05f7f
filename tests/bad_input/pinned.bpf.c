// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A map that stays: the second run goes on counting where the first ended. MAX_ENTRIES makes a declaration that does not fit
 * what is pinned. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#ifndef MAX_ENTRIES
#define MAX_ENTRIES 1
#endif

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} skbi_pinned_count SEC(".maps");

const volatile __u32 target_pid = 0;

SEC("tp/sched/sched_process_exec")
int skbi_pinned(void *ctx)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&skbi_pinned_count, &key);

	if (count && bpf_get_current_pid_tgid() >> 32 == target_pid)
		*count += 1;
	return 0;
}
