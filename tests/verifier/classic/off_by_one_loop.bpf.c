// The loop's last round is one too far: the array has 8 slots, and the index goes up to 8.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct slots {
	__u64 slot[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slots);
} table SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int sum_slots(void *ctx)
{
	__u32 zero = 0;
	__u64 sum = 0;
	struct slots *slots = bpf_map_lookup_elem(&table, &zero);

	if (!slots)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= 8; i++)
		sum += slots->slot[i];
	bpf_printk("%llu", sum);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
