// Four bytes are written at an odd place on the stack.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 16);
} table SEC(".maps");

SEC("socket")
int store_length(struct __sk_buff *skb)
{
	char buf[16] = {};
	__u32 zero = 0;

	*(volatile __u32 *)(buf + 1) = skb->len;
	bpf_map_update_elem(&table, &zero, buf, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
