/* Lookups in a hash of 10,000 entries: 64 a run, three of four find something. */
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10000);
	__type(key, __u64);
	__type(value, __u64);
} table SEC(".maps");

SEC("xdp")
int hash(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx);
	if (data + 8 > packet_end(ctx))
		return 0;
	__u64 x = *(__u64 *)data, sum = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 64; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		__u64 key = (x >> 33) % 13333;
		__u64 *value = bpf_map_lookup_elem(&table, &key);
		if (value)
			sum += *value;
		else
			sum ^= key;
	}
	return sum ^ sum >> 32;
}

char _license[] SEC("license") = "GPL";
