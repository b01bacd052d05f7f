/* A firewall: the source address looked up among 1,000 prefixes, the verdict counted. */
#include "common.h"
#include <bpf/bpf_endian.h>

struct prefix {
	__u32 length;
	__u32 address;
};

struct rule {
	__u32 verdict;
	__u32 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

SEC("xdp")
int firewall(struct xdp_md *ctx)
{
	__u8 *data = packet(ctx), *end = packet_end(ctx);
	struct ethhdr *eth = (void *)data;
	struct iphdr *ip = (void *)(data + ETH_HLEN);
	if (data + ETH_HLEN + sizeof(*ip) > end || eth->h_proto != bpf_htons(0x0800))
		return XDP_PASS;
	struct prefix key = { .length = 32, .address = ip->saddr };
	struct rule *rule = bpf_map_lookup_elem(&rules, &key);
	if (!rule)
		return XDP_PASS;
	__u64 *count = bpf_map_lookup_elem(&hits, &rule->id);
	if (count)
		*count += 1;
	return rule->verdict;
}

char _license[] SEC("license") = "GPL";
