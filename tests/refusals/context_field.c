// A context read beyond what this program type has.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("xdp")
int far(struct xdp_md *ctx)
{
	return *(__u32 *)((void *)ctx + 128);
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: far
reason:  invalid bpf_context access off=128 size=4
line:    9: return *(__u32 *)((void *)ctx + 128);
title:   a field of the context is used that this program type does not have or may not use so
fix:     check that the section name fits the context type of the function; read fields whole, as they are declared
*/
