// Two functions, one inside the other, need more stack together than there is.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

static __noinline int inner(struct __sk_buff *skb, __u32 seed)
{
	char buf[300] = {};

	bpf_skb_load_bytes(skb, 0, buf, sizeof(buf));
	return buf[seed & 255];
}

SEC("socket")
int outer(struct __sk_buff *skb)
{
	char buf[300] = {};

	bpf_skb_load_bytes(skb, 0, buf, sizeof(buf));
	return inner(skb, buf[7]) + buf[skb->len & 255];
}

char LICENSE[] SEC("license") = "GPL";
