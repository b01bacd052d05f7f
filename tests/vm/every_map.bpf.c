// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Works on a map of every type that the embedded engine has, by what stands in the packet. crates/vm/tests/every_map.rs
 * runs it over the same packets in the engine and in the kernel, and compares what the maps hold.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct value {
	__u64 count;
	__u32 last;
	__u8 bytes[12];
};

struct prefix {
	__u32 length;
	__u8 address[4];
};

#define TABLE(NAME, TYPE, ENTRIES, KEY, VALUE, FLAGS)                                                                  \
	struct {                                                                                                       \
		__uint(type, TYPE);                                                                                    \
		__uint(max_entries, ENTRIES);                                                                          \
		__uint(map_flags, FLAGS);                                                                              \
		__type(key, KEY);                                                                                      \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")

TABLE(array, BPF_MAP_TYPE_ARRAY, 16, __u32, struct value, 0);
TABLE(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 16, __u32, struct value, 0);
TABLE(hash, BPF_MAP_TYPE_HASH, 24, __u64, struct value, 0);
TABLE(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 64, __u64, struct value, 0);
TABLE(lru_hash, BPF_MAP_TYPE_LRU_HASH, 1024, __u64, struct value, 0);
TABLE(lru_percpu_hash, BPF_MAP_TYPE_LRU_PERCPU_HASH, 1024, __u64, struct value, 0);
TABLE(trie, BPF_MAP_TYPE_LPM_TRIE, 64, struct prefix, struct value, BPF_F_NO_PREALLOC);

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} array_of_maps SEC(".maps") = { .values = { &inner_a, &inner_b } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} hash_of_maps SEC(".maps") = { .values = { [1] = &inner_b, [2] = &inner_a } };

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__type(value, __u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 8);
	__type(value, __u64);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__uint(map_extra, 3);
	__type(value, __u64);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

int tail(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} programs SEC(".maps") = { .values = { [2] = &tail } };

__u64 results[8];
__u64 errors;
const volatile __u64 salt = 0x5a;
static __u64 total = 7;

static __always_inline void touch(void *map, void *key, __u32 word)
{
	struct value *value = bpf_map_lookup_elem(map, key);
	if (value) {
		value->count += 1;
		value->last = word;
		value->bytes[word & 7] ^= word >> 8;
	} else {
		struct value fresh = { .count = 100, .last = word };
		if (bpf_map_update_elem(map, key, &fresh, BPF_NOEXIST))
			__sync_fetch_and_add(&errors, 1);
	}
}

static long count_entry(void *map, __u64 *key, struct value *value, __u64 *sum)
{
	*sum += value->count ^ value->last;
	return 0;
}

SEC("xdp")
int tail(struct xdp_md *ctx)
{
	results[4] += 1;
	return XDP_TX;
}

SEC("xdp")
int every_map(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 64 > end)
		return XDP_ABORTED;
	__u32 word = *(__u32 *)(data + 16);
	__u32 small = word & 15;
	__u64 key = word % 40, *counter, taken = 0, sum = 0;
	struct prefix prefix = { .length = 8 + (word & 24) };

	total += word;
	touch(&array, &small, word);
	touch(&percpu_array, &small, word);
	touch(&hash, &key, word);
	touch(&percpu_hash, &key, word);
	touch(&lru_hash, &key, word);
	touch(&lru_percpu_hash, &key, word);
	if (word & 0x100)
		bpf_map_delete_elem(&hash, &key);
	if (word & 0x200)
		bpf_map_delete_elem(&percpu_hash, &key);

	__builtin_memcpy(prefix.address, data + 16, 4);
	touch(&trie, &prefix, word);
	prefix.length = 32;
	struct value *match = bpf_map_lookup_elem(&trie, &prefix);
	if (match)
		results[0] += match->count;

	__u32 which = word & 1;
	void *found = bpf_map_lookup_elem(&array_of_maps, &which);
	if (found) {
		__u32 slot = word >> 4 & 3;
		counter = bpf_map_lookup_elem(found, &slot);
		if (counter)
			*counter += word & 0xff;
	}
	which = word % 5;
	found = bpf_map_lookup_elem(&hash_of_maps, &which);
	if (found) {
		__u32 slot = 0;
		counter = bpf_map_lookup_elem(found, &slot);
		if (counter)
			*counter += 1000;
	}

	key ^= salt;
	if (bpf_map_push_elem(&queue, &key, word & 1 ? BPF_EXIST : BPF_ANY))
		__sync_fetch_and_add(&errors, 1);
	if (bpf_map_push_elem(&stack, &key, word & 2 ? BPF_EXIST : BPF_ANY))
		__sync_fetch_and_add(&errors, 1);
	if ((word & 12) == 0 && bpf_map_pop_elem(&queue, &taken) == 0)
		results[1] += taken;
	if ((word & 12) == 4 && bpf_map_peek_elem(&stack, &taken) == 0)
		results[2] += taken;
	bpf_map_push_elem(&bloom, &key, BPF_ANY);
	if (bpf_map_peek_elem(&bloom, &key))
		__sync_fetch_and_add(&errors, 1);

	bpf_for_each_map_elem(&hash, count_entry, &sum, 0);
	results[3] = sum;

	struct value *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (record) {
		__builtin_memset(record, 0, sizeof(*record));
		record->count = key;
		record->last = word;
		if (word & 0x400)
			bpf_ringbuf_discard(record, 0);
		else
			bpf_ringbuf_submit(record, 0);
	} else {
		results[5] += 1;
	}
	results[6] = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &key, sizeof(key));

	bpf_tail_call(ctx, &programs, word & 3);
	results[7] += 1;
	return XDP_PASS;
}
