// A return value that the hook does not take.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("cgroup/connect4")
int guard(struct bpf_sock_addr *ctx)
{
	return ctx->user_port;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: guard
reason:  At program exit the register R0 has smin=0 smax=4294967295 should have been in [0, 1]
line:    9: return ctx->user_port;
title:   the return value is not one that this hook allows
fix:     return only what the hook takes: 0 or 1 for cgroup programs, 0 or -errno for LSM, 0 for tracing
*/
