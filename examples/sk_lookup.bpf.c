// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One listening socket for a whole range of ports, without a bind for each: connections to first_port..last_port go
 * to the socket that stands in `target`. As long as none stands there, they take their usual way.
 *
 *	skep run --param first_port=7000 --param last_port=7999 examples/sk_lookup.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u32 first_port = 1; /* a range that is empty until it is set */
const volatile __u32 last_port = 0;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} target SEC(".maps");

__u64 looked_up;
__u64 steered;
__u64 without_target;

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0, port = ctx->local_port;
	struct bpf_sock *socket;

	__sync_fetch_and_add(&looked_up, 1);
	if (port < first_port || port > last_port)
		return SK_PASS;
	socket = bpf_map_lookup_elem(&target, &zero);
	if (!socket) {
		__sync_fetch_and_add(&without_target, 1);
		return SK_PASS;
	}
	if (!bpf_sk_assign(ctx, socket, 0))
		__sync_fetch_and_add(&steered, 1);
	bpf_sk_release(socket);
	return SK_PASS;
}
