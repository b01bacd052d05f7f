/* Map definitions of every form that section .maps knows. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct key { int a; short b; };
struct value { long count; char name[16]; };
struct event { int pid; };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 100);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE);
	__uint(numa_node, 1);
	__type(key, struct key);
	__type(value, struct value);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 7);
	__uint(value_size, 4);
	__uint(map_extra, 5);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");
SKEP_RECORD(events, struct event);

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
} per_cpu_events SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, long);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &first, [3] = &second } };

int tail(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 8);
	__uint(key_size, 4);
	__array(values, int(struct xdp_md *));
} jumps SEC(".maps") = { .values = { [5] = &tail } };

SEC("xdp")
int entry(struct xdp_md *ctx)
{
	struct key key = {};
	struct value *value = bpf_map_lookup_elem(&typed, &key);

	if (value)
		value->count++;
	bpf_tail_call(ctx, &jumps, 5);
	return XDP_PASS;
}

SEC("xdp")
int tail(struct xdp_md *ctx)
{
	int zero = 0;

	return bpf_map_lookup_elem(&outer, &zero) ? XDP_DROP : XDP_PASS;
}
