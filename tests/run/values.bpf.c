// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Every kind of type and most kinds of map, with values at their edges, as skep run prints them: values.expected has the text,
 * values.json the JSON. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 target_pid = 0;

enum color { RED, GREEN = 5, BLUE = -3 };
enum wide { WIDE = 0x1ffffffffULL };

union word {
	__u32 whole;
	__u8 bytes[4];
};

typedef struct {
	int x, y;
} point;

struct bits {
	__u32 three : 3, five : 5;
	__s32 seven : 7;
	__u64 long_one : 33;
	bool flag : 1;
	enum color tint : 4;
};

struct everything {
	__u8 u8;
	__s8 s8;
	__u16 u16;
	__s64 s64;
	double dbl;
	float flt;
	char text[5];
	char letter;
	__u32 list[3];
	__u32 matrix[2][3];
	point points[2];
	union word word;
	struct bits bits;
	enum color color;
	enum wide wide;
	void *pointer;
	bool yes;
	__int128 huge;
	__u8 saddr[16];
	__u8 ip4[4];
	__be32 daddr;
	__be16 port;
	__u64 long_ns;
	__s64 early_ns;
	__u64 flags;
	char names[2][8];
	struct {
		int in_struct;
		union {
			int in_union;
			__u8 in_union_too;
		};
	};
	struct {
	} nothing;
	__u64 slots[8];
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, point); __type(value, struct everything); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, point); } per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 64); __type(key, enum color); __type(value, char); } lru SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, __u32); } queue SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK); __uint(max_entries, 4); __type(value, point); } stack SEC(".maps");
struct prefix { __u32 prefixlen; __u8 ip[4]; };
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 4); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, struct prefix); __type(value, __u64); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(max_entries, 4); __type(value, __u64); } bloom SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } inner_map SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 3); __type(key, __u32); __array(values, struct inner); } array_of_maps SEC(".maps") = { .values = { [1] = &inner_map } };
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, __u64); } storage SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY); __uint(max_entries, 2); __uint(key_size, 4); __uint(value_size, 4); } cgroups SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, int); __type(value, int); } perf_records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4096); } user_ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, point); } records SEC(".maps");

int tail(void *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = (void *)&tail } };

double one_and_a_half = 1.5, not_a_number = __builtin_nan("");
float minus_zero = -0.0f, infinite = -__builtin_inff();
char text[20] = "a\x1b[31m\"b\n";
__int128 minus_one = -1;
enum color blue = BLUE;
point corner = { 1, -2 };
int primes[3] = { 2, 3, 5 };
int in_own_section SEC(".data.own") = 7;
int __attribute__((weak)) weak_one = 3;
__u64 tail_count, loop_count, from_config;

extern bool CONFIG_BPF __kconfig __weak;
extern int CONFIG_SKBI_DOES_NOT_EXIST __kconfig __weak;
extern int LINUX_KERNEL_VERSION __kconfig;
extern void skbi_no_such_function(void) __ksym __weak;

static long count_up(__u64 index, void *unused)
{
	loop_count++;
	return 0;
}

static __noinline int thrice(int a)
{
	return a * 3;
}

__noinline int thrice_and_one(int a)
{
	return thrice(a) + 1;
}

SEC("tp/sched/sched_process_exec")
int tail(void *ctx)
{
	tail_count++;
	return 0;
}

static struct everything value;

SEC("tp/sched/sched_process_exec")
int values(void *ctx)
{
	point key = { 3, -4 };
	__u32 one = 1, none = 0;
	__u64 nine = 9;
	enum color green = GREEN;
	char letter = 'x';
	struct prefix prefix = { 24, { 10, 1, 2, 0 } };
	char three_bytes[3] = "abc";

	if (bpf_get_current_pid_tgid() >> 32 != target_pid)
		return 0;
	value.u8 = 255;
	value.s8 = -1;
	value.u16 = 65535;
	value.s64 = -9223372036854775807LL - 1;
	__builtin_memcpy(value.text, "\x1b[2J\xff", 5);
	value.letter = '\n';
	value.matrix[1][2] = 7;
	value.points[1].y = -9;
	value.word.whole = 0x01020304;
	value.bits.three = 5;
	value.bits.five = 17;
	value.bits.seven = -3;
	value.bits.long_one = 0x1ffffffffULL;
	value.bits.flag = 1;
	value.bits.tint = 5;
	value.color = BLUE;
	value.wide = WIDE;
	value.pointer = (void *)-1L;
	value.yes = true;
	value.saddr[15] = 1;
	value.ip4[0] = 127;
	value.ip4[3] = 1;
	value.daddr = 0x0100007f;
	value.port = 0x5000;
	value.long_ns = ~0ULL;
	value.early_ns = -1500;
	value.flags = ~0ULL;
	__builtin_memcpy(value.names[1], "ab\"c\\d", 7);
	value.in_struct = 11;
	value.in_union = 0x0102;
	value.slots[3] = 5;
	bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	bpf_map_update_elem(&per_cpu, &one, &key, BPF_ANY);
	bpf_map_update_elem(&lru, &green, &letter, BPF_ANY);
	bpf_map_push_elem(&queue, &one, BPF_ANY);
	bpf_map_push_elem(&stack, &key, BPF_ANY);
	bpf_map_update_elem(&routes, &prefix, &nine, BPF_ANY);
	bpf_map_push_elem(&bloom, &nine, BPF_ANY);
	bpf_map_update_elem(&inner_map, &one, &nine, BPF_ANY);
	bpf_ringbuf_output(&records, &key, sizeof(key), 0);
	bpf_ringbuf_output(&records, three_bytes, sizeof(three_bytes), 0); /* shorter than its type */
	bpf_perf_event_output(ctx, &perf_records, BPF_F_CURRENT_CPU, &key, sizeof(key));
	bpf_loop(10, count_up, 0, 0);
	weak_one = thrice_and_one(weak_one);
	in_own_section++;
	from_config = CONFIG_BPF + CONFIG_SKBI_DOES_NOT_EXIST + (LINUX_KERNEL_VERSION > 0);
	if (skbi_no_such_function)
		skbi_no_such_function();
	bpf_tail_call(ctx, &programs, 1);
	return 0;
}

SEC("?tp/sched/skbi_no_such_event")
int held_back(void *ctx)
{
	return 0;
}
