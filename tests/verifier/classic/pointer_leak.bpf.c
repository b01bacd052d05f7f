// An address of the kernel is handed to the user by a map.
// args: --unprivileged
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last SEC(".maps");

SEC("socket")
int remember(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *address = bpf_map_lookup_elem(&last, &zero);

	if (!address)
		return 0;
	*address = (__u64)skb;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
