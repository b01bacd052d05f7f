// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Bytes by direction and VLAN on an interface, at the traffic control hook (tcx since Linux 6.6, clsact before).
 *
 *	skep run --iface eth0 --duration 10s examples/tc_bytes.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"

#define TC_ACT_UNSPEC -1 /* no opinion: the next program, or the packet's usual way */

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum packet_direction { packet_received = 1, packet_sent = 2 };

struct vlan_flow {
	enum packet_direction direction;
	__u32 vlan; /* 0: none */
};

struct vlan_traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct vlan_flow);
	__type(value, struct vlan_traffic);
} traffic_by_vlan SEC(".maps");

static __always_inline int count(struct __sk_buff *skb, enum packet_direction direction)
{
	struct vlan_flow flow = { direction, skb->vlan_present ? skb->vlan_tci & 0xFFF : 0 };
	struct vlan_traffic first = { 1, skb->len }, *seen = bpf_map_lookup_elem(&traffic_by_vlan, &flow);

	if (seen) {
		seen->packets++;
		seen->bytes += skb->len;
	} else {
		bpf_map_update_elem(&traffic_by_vlan, &flow, &first, BPF_NOEXIST);
	}
	return TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int on_receive(struct __sk_buff *skb)
{
	return count(skb, packet_received);
}

SEC("tcx/egress")
int on_send(struct __sk_buff *skb)
{
	return count(skb, packet_sent);
}
