// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Each TCP connection that this machine opens: who to whom, how long the handshake took, whether it was answered.
 *
 *	skep run examples/tcpconnect.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"

#define AF_INET 2

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum handshake_outcome { handshake_done = 1, handshake_failed = 2 };

struct tcp_connect_event {
	__u32 pid;
	char comm[16];
	enum handshake_outcome outcome;
	__u64 handshake_us;
	__u16 source_port;
	__u16 destination_port;
	struct in6_addr source;      /* IPv4 as ::ffff:a.b.c.d */
	struct in6_addr destination;
};

struct tcp_attempt {
	__u64 at_ns;
	__u32 pid;
	char comm[16];
};

/* Sockets that wait for an answer. The later states come by interrupt, in whichever process happens to run. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, const void *);
	__type(value, struct tcp_attempt);
} attempts SEC(".maps");
SKEP_HIDE(attempts);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} connections SEC(".maps");
SKEP_RECORD(connections, struct tcp_connect_event);

__u64 lost; /* records that found the ring buffer full */

static __always_inline void report(struct trace_event_raw_inet_sock_set_state *ctx, struct tcp_attempt *attempt)
{
	struct tcp_connect_event *record = bpf_ringbuf_reserve(&connections, sizeof(*record), 0);

	if (!record) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	record->pid = attempt->pid;
	__builtin_memcpy(record->comm, attempt->comm, sizeof(record->comm));
	record->outcome = ctx->newstate == TCP_ESTABLISHED ? handshake_done : handshake_failed;
	record->handshake_us = (bpf_ktime_get_ns() - attempt->at_ns) / 1000;
	record->source_port = ctx->sport;
	record->destination_port = ctx->dport;
	/* The tracepoint fills these for IPv4 too. */
	bpf_probe_read_kernel(&record->source, sizeof(record->source), ctx->saddr_v6);
	bpf_probe_read_kernel(&record->destination, sizeof(record->destination), ctx->daddr_v6);
	bpf_ringbuf_submit(record, 0);
}

SEC("tp/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
	const void *socket = ctx->skaddr;
	struct tcp_attempt *known, attempt = {};

	if (ctx->protocol != IPPROTO_TCP)
		return 0;
	if (ctx->newstate == TCP_SYN_SENT) {
		attempt.at_ns = bpf_ktime_get_ns();
		attempt.pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(attempt.comm, sizeof(attempt.comm));
		bpf_map_update_elem(&attempts, &socket, &attempt, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&attempts, &socket);
	if (known) {
		report(ctx, known);
		bpf_map_delete_elem(&attempts, &socket);
	}
	return 0;
}
