// An array in a map value indexed by a value without an upper bound.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct table {
	__u64 slots[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

SEC("xdp")
int tally(struct xdp_md *ctx)
{
	__u32 zero = 0, slot = ctx->rx_queue_index;
	struct table *table = bpf_map_lookup_elem(&tables, &zero);

	if (!table)
		return XDP_PASS;
	table->slots[slot] += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: tally
reason:  R0 unbounded memory access, make sure to bounds check any such access
line:    25: table->slots[slot] += 1;
after:   23: if (!table)
title:   an index or offset may be too large
fix:     bound it right before the use: `if (i >= MAX) return 0;`, or mask it: `i &= MAX - 1` with MAX a power of two
*/
