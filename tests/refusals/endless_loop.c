// A loop that never ends.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("xdp")
int spin(struct xdp_md *ctx)
{
	for (;;)
		asm volatile("" ::: "memory");
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: spin
reason:  infinite loop detected at insn 0
line:    9: for (;;)
title:   a loop may never end
fix:     count rounds: `for (int i = 0; i < MAX; i++)` with a constant MAX, or use bpf_for()
*/
