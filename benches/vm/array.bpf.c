/* Lookups in an array of 1,024 entries: 64 a run. */
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

SEC("xdp")
int array(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx);
	if (data + 8 > packet_end(ctx))
		return 0;
	__u64 x = *(__u64 *)data, sum = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 64; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		__u32 key = (x >> 33) & 1023;
		__u64 *value = bpf_map_lookup_elem(&table, &key);
		if (value)
			sum += *value ^ x;
	}
	return sum ^ sum >> 32;
}

char _license[] SEC("license") = "GPL";
