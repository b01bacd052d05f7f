/* String scanning: where in a kilobyte of text a word stands, by comparing at each place, and how many lines come before. */
#include "common.h"

#define TEXT 1024

static const char word[8] = "/metrics";

SEC("xdp")
int scan(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx);
	if (data + TEXT > packet_end(ctx))
		return 0;
	__u32 lines = 0, found = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < TEXT - 8; i++) {
		__u8 byte = data[i];
		if (byte == '\n')
			lines++;
		if (byte != word[0])
			continue;
		int same = 1;
#pragma clang loop unroll(disable)
		for (int j = 1; j < 8; j++) {
			if (data[i + j] != (__u8)word[j]) {
				same = 0;
				break;
			}
		}
		if (same) {
			found = i;
			break;
		}
	}
	return found << 8 | (lines & 0xff);
}

char _license[] SEC("license") = "GPL";
