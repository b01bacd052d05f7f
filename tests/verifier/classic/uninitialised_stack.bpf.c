// A key of which only a part is written is given to a helper. (Since 6.3 kernels allow it to programs loaded with privileges.)
// args: --kernel 6.1
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct counted {
	__u32 length;
	__u32 cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct counted);
	__type(value, __u64);
} counts SEC(".maps");

SEC("socket")
int count_packets(struct __sk_buff *skb)
{
	struct counted key;
	__u64 one = 1;

	key.length = skb->len;
	bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
