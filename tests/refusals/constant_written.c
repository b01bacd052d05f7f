// A constant written through a cast.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

const volatile __u32 limit = 7;

SEC("xdp")
int raise(struct xdp_md *ctx)
{
	*(volatile __u32 *)&limit = ctx->rx_queue_index;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: raise
reason:  write into map forbidden, value_size=4 off=0 size=4
line:    11: *(volatile __u32 *)&limit = ctx->rx_queue_index;
title:   a read-only map is written
fix:     drop the `const` if the program is to change it, or copy the value first
*/
