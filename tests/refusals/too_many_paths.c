// A loop with branches that multiply.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("xdp")
int walk(struct xdp_md *ctx)
{
	__u64 sum = 0;

	for (int i = 0; i < 100000; i++) {
		if (bpf_get_prandom_u32() & 1)
			sum += i;
		else
			sum ^= i;
	}
	return sum & 1 ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: walk
reason:  The sequence of 8193 jumps is too complex.
line:    12: if (bpf_get_prandom_u32() & 1)
after:   11: for (int i = 0; i < 100000; i++) {
after:   12: if (bpf_get_prandom_u32() & 1)
after:   11: for (int i = 0; i < 100000; i++) {
after:   12: if (bpf_get_prandom_u32() & 1)
title:   the verifier gave up: too many branches
fix:     use bpf_loop() or bpf_for() for loops, split the program by tail calls, move work into global functions
*/
