/* What the programs of `make bench-vm` share: every one is an XDP program that works on the packet it is given and
 * returns a number made of what it has seen, so that all engines can be compared by their results. */
#pragma once
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define ETH_HLEN 14

/* Start and end of the packet, as pointers. */
static __always_inline __u8 *packet(struct xdp_md *ctx) { return (__u8 *)(long)ctx->data; }
static __always_inline __u8 *packet_end(struct xdp_md *ctx) { return (__u8 *)(long)ctx->data_end; }

/* The finaliser of MurmurHash3 (Appleby, public domain): mixes 64 bits. */
static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}
