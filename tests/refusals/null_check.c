// A map lookup used without a test for NULL.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	__u64 *value = bpf_map_lookup_elem(&counts, &key);

	*value += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: count
reason:  R0 invalid mem access 'map_value_or_null'
line:    19: *value += 1;
title:   a pointer that may be null is used without a check
fix:     test the pointer right after the lookup: `if (!value) return 0;`
*/
