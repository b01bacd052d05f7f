/* Integer arithmetic: a thousand rounds of shifts, multiplications and divisions. */
#include "common.h"

SEC("xdp")
int arithmetic(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx);
	if (data + 8 > packet_end(ctx))
		return 0;
	__u64 x = *(__u64 *)data | 1, sum = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum += x / ((x & 0xffff) + 1);
		sum = (sum << 5 | sum >> 59) * 31;
	}
	return sum ^ sum >> 32;
}

char _license[] SEC("license") = "GPL";
