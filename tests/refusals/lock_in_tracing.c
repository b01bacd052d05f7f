// A lock in a map of a program that may interrupt the one that holds it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct value {
	struct bpf_spin_lock lock;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} values SEC(".maps");

SEC("tracepoint/sched/sched_switch")
int count(void *ctx)
{
	__u32 zero = 0;
	struct value *value = bpf_map_lookup_elem(&values, &zero);

	if (value)
		__sync_fetch_and_add(&value->count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: count
reason:  tracing progs cannot use bpf_spin_lock yet
title:   a map holds a field that this type of program may not use
fix:     take the lock or timer out of the value; count with atomic additions, or keep a value for each CPU
*/
