/* A packet balancer: flows that are known go where they went before, new ones where the Maglev table says (Eisenbud and
 * others, NSDI 2016); the packet's Ethernet addresses are rewritten and a counter of the backend goes up. */
#include "common.h"
#include <bpf/bpf_endian.h>

#define TABLE_SIZE 65537
#define BACKENDS 256

struct flow {
	__u32 saddr, daddr;
	__u16 sport, dport;
	__u32 proto;
};

struct backend {
	__u8 mac[6];
	__u16 weight;
	__u64 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, __u32);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TABLE_SIZE);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BACKENDS);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

SEC("xdp")
int maglev(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx), *end = packet_end(ctx);
	struct ethhdr *eth = (void *)data;
	struct iphdr *ip = (void *)(data + ETH_HLEN);
	if (data + ETH_HLEN + sizeof(*ip) + 4 > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(0x0800) || ip->ihl != 5)
		return XDP_PASS;
	if (ip->protocol != 6 && ip->protocol != 17)
		return XDP_PASS;
	__u16 *ports = (__u16 *)(ip + 1);
	struct flow flow = {
		.saddr = ip->saddr,
		.daddr = ip->daddr,
		.sport = ports[0],
		.dport = ports[1],
		.proto = ip->protocol,
	};
	__u32 chosen;
	__u32 *known = bpf_map_lookup_elem(&flows, &flow);
	if (known) {
		chosen = *known;
	} else {
		__u64 key = mix((__u64)flow.saddr << 32 | flow.daddr);
		__u32 slot = mix(key ^ ((__u64)flow.sport << 32 | (__u32)flow.dport << 16 | flow.proto)) % TABLE_SIZE;
		__u32 *entry = bpf_map_lookup_elem(&ring, &slot);
		if (!entry)
			return XDP_DROP;
		chosen = *entry;
		/* Flows with an even port are remembered: both ways stay in the measurement. */
		if (!(flow.sport & bpf_htons(1)))
			bpf_map_update_elem(&flows, &flow, &chosen, BPF_ANY);
	}
	struct backend *backend = bpf_map_lookup_elem(&backends, &chosen);
	if (!backend)
		return XDP_DROP;
	backend->packets += 1;
	__builtin_memcpy(eth->h_source, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, backend->mac, 6);
	return XDP_TX;
}

char _license[] SEC("license") = "GPL";
