// Socket filters may not write the mark of a packet; tc programs may.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("socket")
int set_mark(struct __sk_buff *skb)
{
	skb->mark = 7;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
