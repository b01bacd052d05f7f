// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Counts the packets and bytes that an interface receives, by protocol, where the driver first sees them. Drops
 * nothing.
 *
 *	skep run --iface eth0 --duration 10s examples/xdp_proto.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define MAX_VLAN_TAGS 2

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum packet_family { family_other = 0, family_ipv4 = 4, family_ipv6 = 6 };

/* Numbers assigned by IANA; one that has no name here is shown as its number. */
enum packet_protocol {
	proto_none = 0,
	proto_icmp = 1,
	proto_igmp = 2,
	proto_tcp = 6,
	proto_udp = 17,
	proto_gre = 47,
	proto_esp = 50,
	proto_icmpv6 = 58,
	proto_sctp = 132,
};

struct protocol_key {
	enum packet_family family;
	enum packet_protocol protocol; /* IPv6: the first next-header, which may be an extension header */
};

struct protocol_traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH); /* each CPU counts for itself: no atomic operation on the way of a packet */
	__uint(max_entries, 1024);
	__type(key, struct protocol_key);
	__type(value, struct protocol_traffic);
} by_protocol SEC(".maps");

/* Family and protocol of a frame. Each step checks that the packet is long enough before it looks. */
static __always_inline struct protocol_key classify(void *data, void *end)
{
	struct protocol_key key = {};
	struct ethhdr *eth = data;
	void *at = eth + 1;
	__be16 type;

	if (at > end)
		return key;
	type = eth->h_proto;
	for (int i = 0; i < MAX_VLAN_TAGS && (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)); i++) {
		struct vlan_hdr *tag = at;

		if ((void *)(tag + 1) > end)
			return key;
		type = tag->h_vlan_encapsulated_proto;
		at = tag + 1;
	}
	if (type == bpf_htons(ETH_P_IP) && at + sizeof(struct iphdr) <= end)
		key = (struct protocol_key){ family_ipv4, ((struct iphdr *)at)->protocol };
	else if (type == bpf_htons(ETH_P_IPV6) && at + sizeof(struct ipv6hdr) <= end)
		key = (struct protocol_key){ family_ipv6, ((struct ipv6hdr *)at)->nexthdr };
	return key;
}

SEC("xdp")
int count_packets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct protocol_key key = classify(data, end);
	struct protocol_traffic first = { 1, end - data }, *seen = bpf_map_lookup_elem(&by_protocol, &key);

	if (!seen) {
		bpf_map_update_elem(&by_protocol, &key, &first, BPF_NOEXIST);
		return XDP_PASS;
	}
	seen->packets++;
	seen->bytes += end - data;
	return XDP_PASS;
}
