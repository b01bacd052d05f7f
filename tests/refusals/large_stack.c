// Two functions whose stacks together are too large.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

static __noinline int inner(__u32 *seed)
{
	volatile char room[300] = {};

	room[*seed & 255] = 1;
	return room[(*seed >> 8) & 255];
}

SEC("xdp")
int outer(struct xdp_md *ctx)
{
	volatile char room[300] = {};
	__u32 seed = ctx->rx_queue_index;

	room[seed & 255] = 2;
	return inner(&seed) + room[(seed >> 8) & 255] ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: outer
reason:  combined stack size of 2 calls is 624. Too large
title:   the functions together use more stack than there is
fix:     move large variables into a per-CPU array map with one entry, or call the functions one after the other instead of one inside the other
*/
