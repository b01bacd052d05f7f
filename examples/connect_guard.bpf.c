// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Denies the processes of a cgroup to connect to a port, over IPv4 and IPv6; reports and counts each attempt.
 *
 *	skep run --cgroup /sys/fs/cgroup/shop --param deny_port=25 examples/connect_guard.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u16 deny_port = 0; /* this port is denied, beside those in denied_ports; 0: none */

enum connect_verdict { connect_denied = 0, connect_allowed = 1 }; /* the numbers are what the kernel expects back */

struct connect_event {
	__u32 pid;
	char comm[16];
	enum connect_verdict verdict;
	__u16 port;
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
};

/* More ports to deny, that may change while the guard stands; the value counts how often each was. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u64);
} denied_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} attempts SEC(".maps");
SKEP_RECORD(attempts, struct connect_event);

__u64 allowed_connects;
__u64 denied_connects;
__u64 lost; /* records that found the ring buffer full */

static __always_inline int judge(__u16 port, __be32 a, __be32 b, __be32 c, __be32 d)
{
	__u64 *listed = bpf_map_lookup_elem(&denied_ports, &port);
	enum connect_verdict verdict = listed || (deny_port && port == deny_port) ? connect_denied : connect_allowed;
	struct connect_event *attempt = bpf_ringbuf_reserve(&attempts, sizeof(*attempt), 0);
	__be32 address[4] = { a, b, c, d };

	if (listed)
		__sync_fetch_and_add(listed, 1);
	__sync_fetch_and_add(verdict == connect_denied ? &denied_connects : &allowed_connects, 1);
	if (!attempt) {
		__sync_fetch_and_add(&lost, 1);
		return verdict;
	}
	attempt->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(attempt->comm, sizeof(attempt->comm));
	attempt->verdict = verdict;
	attempt->port = port;
	__builtin_memcpy(&attempt->address, address, sizeof(address));
	bpf_ringbuf_submit(attempt, 0);
	return verdict;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return judge(bpf_ntohs(ctx->user_port), 0, 0, bpf_htonl(0xFFFF), ctx->user_ip4);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return judge(bpf_ntohs(ctx->user_port), ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
}
