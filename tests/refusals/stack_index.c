// An array on the stack indexed by a value without a bound.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int scatter(struct xdp_md *ctx)
{
	volatile char room[16] = {};

	room[ctx->rx_queue_index] = 1;
	return room[3] ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: scatter
reason:  invalid unbounded variable-offset write to stack R2
line:    10: room[ctx->rx_queue_index] = 1;
title:   an array on the stack is indexed by a value that is not bounded
fix:     bound the index right before the use, or keep the array in a map
*/
