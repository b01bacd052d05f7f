// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The name of each process that starts, as it is: some have control characters in them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct skbi_name {
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct skbi_name);
} skbi_names_that_are_longer_than_15_bytes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct skbi_name);
	__type(value, __u64);
} skbi_counts_of_names_in_a_hash SEC(".maps");

char last_comm[16];

SEC("tp/sched/sched_process_exec")
int skbi_program_with_a_name_longer_than_15_bytes(void *ctx)
{
	struct skbi_name name = { .pid = bpf_get_current_pid_tgid() >> 32 };
	__u64 one = 1;

	bpf_get_current_comm(name.comm, sizeof(name.comm));
	bpf_get_current_comm(last_comm, sizeof(last_comm));
	bpf_map_update_elem(&skbi_counts_of_names_in_a_hash, &name, &one, BPF_ANY);
	bpf_ringbuf_output(&skbi_names_that_are_longer_than_15_bytes, &name, sizeof(name), 0);
	bpf_printk("comm %s", name.comm);
	return 0;
}
