// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Compiled without -g this has no BTF: the old way of defining maps, and no type for anything. It runs all the same. */
#define SEC(name) __attribute__((section(name), used))

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

char LICENSE[] SEC("license") = "GPL";

struct bpf_map_def SEC("maps") skbi_old_counts = {
	.type = 2, /* BPF_MAP_TYPE_ARRAY */
	.key_size = 4,
	.value_size = 8,
	.max_entries = 1,
};

SEC("tp/sched/sched_process_exec")
int skbi_no_types(void *ctx)
{
	unsigned int key = 0;
	unsigned long long *count = bpf_map_lookup_elem(&skbi_old_counts, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
