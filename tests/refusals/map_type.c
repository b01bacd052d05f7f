// A helper called with a map of the wrong type.
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
int report(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();

	bpf_ringbuf_output(&counts, &now, sizeof(now), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: report
reason:  cannot pass map_type 1 into func bpf_ringbuf_output#130
line:    18: bpf_ringbuf_output(&counts, &now, sizeof(now), 0);
title:   a helper is called with a map of a type that it does not take
fix:     use the helper for this map type (bpf_ringbuf_* for ring buffers, bpf_perf_event_output for perf event arrays, bpf_map_* for the others)
*/
