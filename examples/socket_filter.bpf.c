// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A socket filter: sizes of the packets that pass an interface, in and out, as a histogram; count by kind.
 *
 *	skep run --iface eth0 --duration 10s examples/socket_filter.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "skep.h"

#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86DD

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct skep_histogram);
} packet_bytes SEC(".maps");

__u64 ipv4_packets;
__u64 ipv6_packets;
__u64 arp_packets;
__u64 other_packets;

SEC("socket")
int measure(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct skep_histogram *histogram = bpf_map_lookup_elem(&packet_bytes, &zero);

	if (histogram)
		skep_histogram_add(histogram, skb->len);
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		__sync_fetch_and_add(&ipv4_packets, 1);
		break;
	case ETH_P_IPV6:
		__sync_fetch_and_add(&ipv6_packets, 1);
		break;
	case ETH_P_ARP:
		__sync_fetch_and_add(&arp_packets, 1);
		break;
	default:
		__sync_fetch_and_add(&other_packets, 1);
	}
	return 0; /* of each packet, nothing is to be queued on the socket */
}
