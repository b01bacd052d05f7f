// The context pointer moved before it is used.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("socket")
int pick(struct __sk_buff *skb)
{
	__u32 i = skb->priority & 3;

	return skb->cb[i];
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: pick
reason:  variable ctx access var_off=(0x0; 0xc) disallowed
line:    11: return skb->cb[i];
title:   the context is indexed by a variable
fix:     access fields by constants: `switch (i) { case 0: v = skb->cb[0]; break; ... }`, or unroll the loop with `#pragma unroll`
*/
