// The packet's length is never compared: the first access may lie behind its end.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("xdp")
int drop_arp(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (eth->h_proto == 0x0608)
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
