// A packet read without a test against data_end.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include <linux/if_ether.h>

SEC("xdp")
int protocol(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return eth->h_proto == bpf_htons(ETH_P_IP) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: protocol
reason:  R1 offset is outside of the packet: invalid access to packet, off=12 size=1, R1(id=0,off=12,r=0)
line:    13: return eth->h_proto == bpf_htons(ETH_P_IP) ? XDP_PASS : XDP_DROP;
title:   the packet is read beyond what was checked
fix:     before the access: `if ((void *)(p + 1) > data_end) return XDP_PASS;` and use the same `p` afterwards
*/
