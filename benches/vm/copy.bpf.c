/* Memory copy: half of the packet over its other half, eight bytes at a time, eight times. */
#include "common.h"

#define HALF 512

SEC("xdp")
int copy(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx);
	if (data + 2 * HALF > packet_end(ctx))
		return 0;
	__u64 *from = (__u64 *)data, *to = (__u64 *)(data + HALF);
#pragma clang loop unroll(disable)
	for (int round = 0; round < 8; round++) {
#pragma clang loop unroll(disable)
		for (int i = 0; i < HALF / 8; i++)
			to[i] = from[i];
		from[round] += 1;
	}
	return to[3] ^ to[3] >> 32;
}

char _license[] SEC("license") = "GPL";
