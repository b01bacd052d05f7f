// Helpers and kernel functions: each program writes what they give into `out`, and the embedded engine and the running
// kernel must agree on it (crates/vm/tests/helpers.rs). A line a call, so that a difference names it.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

enum { RESULTS = 96, TEXT = 512 };

struct {
	long r[RESULTS];
	char text[TEXT];
} out SEC(".bss.out");

// Input: what the programs whose names start with generated_ run over, many times.
struct operation {
	__u32 kind;
	__u32 offset;
	__u32 len;
	__u32 other;
};

struct {
	__u64 flags;
	__u64 count;
	__u32 len;
	int start;
	int end;
	char a[44];
	char b[44];
	__u64 words[8];
	struct operation operations[8];
} in SEC(".bss.in");

// A result.
#define R(n, value) (out.r[n] = (long)(value))

static const char numbers[][24] = {
	"42", "  -42x", "0x1f", "0x", "0X1F", "017", "08", "1f", "9", "", "-", "+1", "\t\n 7",
	"18446744073709551615", "18446744073709551616", "9223372036854775807", "9223372036854775808",
	"-9223372036854775808", "-9223372036854775809", "-0", "--1", "000000000000000000001", "0b1", "0xg",
};

static long parse(__u32 i, int as_signed, __u64 flags, long *value)
{
	if (i >= sizeof(numbers) / sizeof(numbers[0]))
		return 0;
	// Of the whole field: the zero behind the number ends it.
	return as_signed ? bpf_strtol(numbers[i], sizeof(numbers[0]), flags, value)
			 : bpf_strtoul(numbers[i], sizeof(numbers[0]), flags, (unsigned long *)value);
}

#define PARSE(NAME, AS_SIGNED, FLAGS)                                                                                \
	SEC("syscall") int NAME(void *ctx)                                                                           \
	{                                                                                                            \
		for (__u32 i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {                                   \
			long value = 77;                                                                             \
			R(2 * i, parse(i, AS_SIGNED, FLAGS, &value));                                                \
			R(2 * i + 1, value);                                                                         \
		}                                                                                                    \
		return 0;                                                                                            \
	}
PARSE(strtol_any, 1, 0)
PARSE(strtol_8, 1, 8)
PARSE(strtol_10, 1, 10)
PARSE(strtol_16, 1, 16)
PARSE(strtol_2, 1, 2)
PARSE(strtol_flag, 1, 32)
PARSE(strtoul_any, 0, 0)
PARSE(strtoul_10, 0, 10)
PARSE(strtoul_16, 0, 16)

SEC("syscall") int strncmp_(void *ctx)
{
	char a[8] = "abcdef";
	R(0, bpf_strncmp(a, 8, "abcdef"));
	R(1, bpf_strncmp(a, 8, "abcdeg"));
	R(2, bpf_strncmp(a, 8, "abc"));
	R(3, bpf_strncmp(a, 3, "abcxyz"));
	R(4, bpf_strncmp(a, 8, "\xff"));
	a[0] = '\xff';
	R(5, bpf_strncmp(a, 8, "a"));
	a[0] = 0;
	R(6, bpf_strncmp(a, 8, ""));
	R(7, bpf_strncmp(a, 1, "a"));
	return 0;
}

char source[64] = "a string in a map";

SEC("syscall") int probe_read_kernel(void *ctx)
{
	char on_stack[16] = "on the stack";
	R(0, bpf_probe_read_kernel(out.text, 16, on_stack));
	R(1, bpf_probe_read_kernel(out.text + 16, 16, source));
	R(2, bpf_probe_read_kernel(out.text + 32, 8, (void *)0));
	R(3, bpf_probe_read_kernel(out.text + 32, 0, (void *)0));
	R(4, bpf_probe_read_kernel(out.text + 40, 8, (void *)4096));
	R(5, bpf_probe_read_kernel(out.text + 48, 8, (void *)~7UL));
	R(6, bpf_probe_read_kernel_str(out.text + 64, 64, source));
	R(7, bpf_probe_read_kernel_str(out.text + 128, 5, source));
	R(8, bpf_probe_read_kernel_str(out.text + 136, 1, source));
	R(9, bpf_probe_read_kernel_str(out.text + 144, 0, source));
	R(10, bpf_probe_read_kernel_str(out.text + 152, 8, (void *)0));
	R(11, bpf_probe_read_kernel_str(out.text + 160, 18, source));
	R(12, bpf_probe_read_kernel_str(out.text + 180, 17, source));
	R(13, bpf_probe_read_kernel_str(out.text + 200, 16, on_stack));
	R(14, bpf_probe_read(out.text + 220, 8, source));
	R(15, bpf_probe_read_str(out.text + 230, 8, source));
	return 0;
}

SEC("syscall") int probe_read_user(void *ctx)
{
	__builtin_memset(out.text, '#', 128);
	R(0, bpf_probe_read_user(out.text, 8, (void *)0));
	R(1, bpf_probe_read_user_str(out.text + 16, 8, (void *)8));
	R(2, bpf_probe_read_user_str(out.text + 32, 0, (void *)8));
	R(3, bpf_probe_read_user(out.text + 48, 8, source));
	R(4, bpf_probe_read(out.text + 64, 8, (void *)16));
	return 0;
}

SEC("syscall") int task(void *ctx)
{
	struct bpf_pidns_info info = {};
	R(0, bpf_get_current_pid_tgid());
	R(1, bpf_get_current_uid_gid());
	R(2, bpf_get_current_comm(out.text, 16));
	R(3, bpf_get_current_comm(out.text + 16, 4));
	R(4, bpf_get_current_comm(out.text + 32, 1));
	R(5, bpf_get_current_comm(out.text + 48, 64));
	R(6, bpf_get_ns_current_pid_tgid(1, 2, &info, sizeof(info)));
	R(7, info.pid);
	R(8, bpf_get_ns_current_pid_tgid(1UL << 40, 2, &info, sizeof(info)));
	R(9, bpf_get_numa_node_id());
	// The test's own namespace: device and inode.
	R(10, bpf_get_ns_current_pid_tgid(in.flags, in.count, &info, sizeof(info)));
	R(11, info.pid);
	R(12, info.tgid);
	R(13, bpf_get_ns_current_pid_tgid(in.flags, in.count + 1, &info, sizeof(info)));
	return 0;
}

static long count(__u32 i, long *ctx)
{
	ctx[0] += i;
	return ctx[1] == i;
}

SEC("syscall") int loop(void *ctx)
{
	long state[2] = { 0, 1000 };
	R(0, bpf_loop(10, count, state, 0));
	R(1, state[0]);
	state[1] = 5;
	R(2, bpf_loop(10, count, state, 0));
	R(3, state[0]);
	R(4, bpf_loop(0, count, state, 0));
	R(5, bpf_loop(10, count, state, 1));
	R(6, bpf_loop(8388609, count, state, 0));
	R(7, bpf_loop(8388609, count, state, 1));
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, __u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 2);
	__type(value, __u64);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__type(value, __u64);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4);
	__type(key, __u64);
	__type(value, __u64);
} trie SEC(".maps");

static long found(__u64 *value)
{
	return value ? (long)*value : -1;
}

SEC("syscall") int hash_map(void *ctx)
{
	__u32 key = 1, other = 2;
	__u64 value = 10, *at;
	R(0, found(bpf_map_lookup_elem(&hash, &key)));
	R(1, bpf_map_delete_elem(&hash, &key));
	R(2, bpf_map_update_elem(&hash, &key, &value, BPF_EXIST));
	R(3, bpf_map_update_elem(&hash, &key, &value, BPF_NOEXIST));
	R(4, bpf_map_update_elem(&hash, &key, &value, BPF_NOEXIST));
	R(5, bpf_map_update_elem(&hash, &key, &value, 3));
	R(6, bpf_map_update_elem(&hash, &key, &value, BPF_F_LOCK));
	at = bpf_map_lookup_elem(&hash, &key);
	if (at)
		*at += 5;
	R(7, found(bpf_map_lookup_elem(&hash, &key)));
	R(8, bpf_map_update_elem(&hash, &other, &value, BPF_ANY));
	other = 3;
	R(9, bpf_map_update_elem(&hash, &other, &value, BPF_ANY));
	other = 4;
	R(10, bpf_map_update_elem(&hash, &other, &value, BPF_ANY));
	R(11, bpf_map_delete_elem(&hash, &key));
	R(12, found(bpf_map_lookup_elem(&hash, &key)));
	R(13, bpf_map_update_elem(&hash, &other, &value, BPF_ANY));
	return 0;
}

SEC("syscall") int array_map(void *ctx)
{
	__u32 key = 2, past = 3;
	__u64 value = 10;
	R(0, found(bpf_map_lookup_elem(&array, &key)));
	R(1, found(bpf_map_lookup_elem(&array, &past)));
	R(2, bpf_map_update_elem(&array, &key, &value, BPF_ANY));
	R(3, bpf_map_update_elem(&array, &key, &value, BPF_NOEXIST));
	R(4, bpf_map_update_elem(&array, &past, &value, BPF_ANY));
	R(5, bpf_map_update_elem(&array, &key, &value, 8));
	R(6, bpf_map_delete_elem(&array, &key));
	R(7, found(bpf_map_lookup_elem(&array, &key)));
	R(8, bpf_map_update_elem(&percpu, &key, &value, BPF_ANY));
	key = 1;
	R(9, bpf_map_update_elem(&percpu, &key, &value, BPF_ANY));
	R(10, found(bpf_map_lookup_elem(&percpu, &key)));
	R(11, found(bpf_map_lookup_percpu_elem(&percpu, &key, 1 << 20)));
	R(12, found(bpf_map_lookup_percpu_elem(&percpu, &key, bpf_get_smp_processor_id())));
	return 0;
}

SEC("tc") int queues(struct __sk_buff *skb)
{
	__u64 value = 1;
	R(0, bpf_map_pop_elem(&queue, &value));
	R(1, value);
	for (__u64 i = 0; i < 3; i++) {
		value = 100 + i;
		R(2 + i, bpf_map_push_elem(&queue, &value, BPF_ANY));
		R(5 + i, bpf_map_push_elem(&stack, &value, BPF_ANY));
	}
	R(8, bpf_map_push_elem(&queue, &value, BPF_EXIST));
	R(9, bpf_map_push_elem(&stack, &value, BPF_EXIST));
	R(10, bpf_map_push_elem(&queue, &value, BPF_NOEXIST));
	R(11, bpf_map_push_elem(&queue, &value, 8));
	R(12, bpf_map_peek_elem(&queue, &value));
	R(13, value);
	R(14, bpf_map_peek_elem(&stack, &value));
	R(15, value);
	R(16, bpf_map_pop_elem(&queue, &value));
	R(17, value);
	R(18, bpf_map_pop_elem(&stack, &value));
	R(19, value);
	value = 5;
	R(20, bpf_map_peek_elem(&bloom, &value));
	R(21, bpf_map_push_elem(&bloom, &value, BPF_ANY));
	R(22, bpf_map_peek_elem(&bloom, &value));
	R(23, bpf_map_push_elem(&bloom, &value, BPF_EXIST));
	return 0;
}

static long each(void *map, const __u32 *key, __u64 *value, long *ctx)
{
	ctx[0] += *key * 1000 + *value;
	*value += 1;
	return --ctx[1] == 0;
}

// Zero, which the verifier does not know.
int zero;

SEC("syscall") int for_each(void *ctx)
{
	long state[2] = { zero, zero + 100 };
	__u32 key;
	for (__u32 i = 0; i < 3; i++) {
		__u64 value = 7 * i;
		key = i;
		bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
		bpf_map_update_elem(&array, &key, &value, BPF_ANY);
	}
	R(0, bpf_for_each_map_elem(&hash, each, state, 0));
	R(1, state[0]);
	R(2, bpf_for_each_map_elem(&array, each, state, 0));
	R(3, state[0]);
	state[1] = zero + 2;
	R(4, bpf_for_each_map_elem(&array, each, state, 0));
	R(5, state[0]);
	R(6, bpf_for_each_map_elem(&array, each, state, 1));
	key = 1;
	R(7, found(bpf_map_lookup_elem(&array, &key)));
	R(8, found(bpf_map_lookup_elem(&hash, &key)));
	return 0;
}

struct named {
	char name[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct named);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct named);
} names_percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct named);
} names_lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4);
	__type(key, __u64);
	__type(value, struct named);
} names_lpm SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct named);
} names_percpu_array SEC(".maps");

extern int bpf_strlen(const char *s) __ksym __weak;

// Strings in values of each kind, by addresses that the verifier does not look at.
#define NAMED(AT, MAP)                                                                                               \
	for (__u64 i = 0; i < 3; i++) {                                                                              \
		__u64 key = i == 2 ? 40 : 8 + i;                                                                     \
		struct named named = { "name of a thing" }, *value;                                                  \
		if (&MAP == (void *)&names_percpu_array)                                                             \
			key = i;                                                                                     \
		named.name[8 + i] = 0;                                                                               \
		R((AT) + 4 * i, bpf_map_update_elem(&MAP, &key, &named, BPF_ANY));                                   \
		value = bpf_map_lookup_elem(&MAP, &key);                                                             \
		if (value) {                                                                                         \
			R((AT) + 4 * i + 1, bpf_probe_read_kernel(&out.text[(AT) * 4], 16, value));                  \
			R((AT) + 4 * i + 2, bpf_strlen(value->name));                                                \
			R((AT) + 4 * i + 3, bpf_probe_read_kernel_str(&out.text[(AT) * 4 + 16], 16, value->name + 3)); \
		}                                                                                                    \
	}

SEC("raw_tp/task_rename") int names_in_values(void *ctx)
{
	NAMED(0, names)
	NAMED(12, names_percpu)
	NAMED(24, names_lru)
	NAMED(36, names_lpm)
	NAMED(48, names_percpu_array)
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

SEC("syscall") int ring_buffer(void *ctx)
{
	char data[100] = "record";
	long *record;
	R(0, bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE));
	R(1, bpf_ringbuf_output(&ring, data, 100, 0));
	R(2, bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA));
	record = bpf_ringbuf_reserve(&ring, 8, 0);
	R(3, record != 0);
	if (record) {
		*record = 5;
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	}
	record = bpf_ringbuf_reserve(&ring, 9, 0);
	R(4, record != 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	R(5, bpf_ringbuf_query(&ring, BPF_RB_PROD_POS));
	R(6, bpf_ringbuf_query(&ring, BPF_RB_CONS_POS));
	R(7, bpf_ringbuf_query(&ring, 9));
	record = bpf_ringbuf_reserve(&ring, 8, 1);
	R(8, record != 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	record = bpf_ringbuf_reserve(&ring, 4090, 0);
	R(9, record != 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	R(10, bpf_ringbuf_output(&ring, data, 100, 4));
	for (int i = 0; i < 50; i++)
		R(11 + i, bpf_ringbuf_output(&ring, data, 100, BPF_RB_FORCE_WAKEUP));
	R(61, bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA));
	return 0;
}

SEC("syscall") int ring_buffer_dynptr(void *ctx)
{
	struct bpf_dynptr ptr;
	char data[16] = "record";
	R(0, bpf_ringbuf_reserve_dynptr(&ring, 64, 0, &ptr));
	R(1, bpf_dynptr_write(&ptr, 0, data, 16, 0));
	R(2, bpf_dynptr_write(&ptr, 49, data, 16, 0));
	R(3, bpf_dynptr_write(&ptr, 48, data, 16, 1));
	R(4, bpf_dynptr_read(out.text, 16, &ptr, 0, 0));
	R(5, bpf_dynptr_data(&ptr, 0, 64) != 0);
	R(6, bpf_dynptr_data(&ptr, 1, 64) != 0);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	R(7, bpf_ringbuf_reserve_dynptr(&ring, 8192, 0, &ptr));
	R(8, bpf_dynptr_read(data, 4, &ptr, 0, 0));
	R(9, bpf_dynptr_write(&ptr, 0, data, 4, 0));
	R(10, bpf_dynptr_data(&ptr, 0, 4) != 0);
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	R(11, bpf_ringbuf_reserve_dynptr(&ring, 8, 1, &ptr));
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	R(12, bpf_ringbuf_reserve_dynptr(&ring, 1 << 24, 0, &ptr));
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	R(13, bpf_ringbuf_query(&ring, BPF_RB_PROD_POS));
	return 0;
}

char memory[64];

SEC("syscall") int dynptr_helpers(void *ctx)
{
	struct bpf_dynptr ptr, bad;
	char data[16] = "0123456789abcde";
	char *at;
	R(0, bpf_dynptr_from_mem(memory, 32, 0, &ptr));
	R(1, bpf_dynptr_from_mem(memory, 32, 1, &bad));
	R(2, bpf_dynptr_read(data, 1, &bad, 0, 0));
	R(3, bpf_dynptr_write(&ptr, 0, data, 16, 0));
	R(4, bpf_dynptr_write(&ptr, 16, data, 16, 0));
	R(5, bpf_dynptr_write(&ptr, 17, data, 16, 0));
	R(6, bpf_dynptr_write(&ptr, 33, data, 0, 0));
	R(7, bpf_dynptr_write(&ptr, 32, data, 0, 0));
	R(8, bpf_dynptr_write(&ptr, 0, data, 16, 2));
	// Onto itself.
	R(9, bpf_dynptr_write(&ptr, 4, memory, 16, 0));
	R(10, bpf_dynptr_read(out.text, 32, &ptr, 0, 0));
	R(11, bpf_dynptr_read(out.text + 32, 8, &ptr, 24, 0));
	R(12, bpf_dynptr_read(out.text + 40, 8, &ptr, 25, 0));
	R(13, bpf_dynptr_read(out.text + 40, 8, &ptr, ~0U, 0));
	R(14, bpf_dynptr_read(out.text + 40, 8, &ptr, 0, 1));
	at = bpf_dynptr_data(&ptr, 30, 2);
	R(15, at != 0);
	if (at)
		at[1] = 'X';
	R(16, memory[31]);
	R(17, bpf_dynptr_data(&ptr, 31, 2) != 0);
	return 0;
}

extern int bpf_dynptr_adjust(const struct bpf_dynptr *p, __u32 start, __u32 end) __ksym __weak;
extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone__uninit) __ksym __weak;
extern int bpf_dynptr_copy(struct bpf_dynptr *dst, __u32 dst_off, struct bpf_dynptr *src, __u32 src_off,
			   __u32 size) __ksym __weak;
extern int bpf_dynptr_memset(struct bpf_dynptr *p, __u32 offset, __u32 size, __u8 val) __ksym __weak;
extern bool bpf_dynptr_is_null(const struct bpf_dynptr *p) __ksym __weak;
extern bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p) __ksym __weak;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym __weak;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt,
			      __u32 buffer__szk) __ksym __weak;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt,
				   __u32 buffer__szk) __ksym __weak;
extern int bpf_dynptr_from_skb(struct __sk_buff *s, __u64 flags, struct bpf_dynptr *ptr__uninit) __ksym __weak;
extern int bpf_dynptr_from_xdp(struct xdp_md *x, __u64 flags, struct bpf_dynptr *ptr__uninit) __ksym __weak;
extern int bpf_probe_read_kernel_dynptr(struct bpf_dynptr *dptr, __u32 off, __u32 size,
					const void *unsafe_ptr__ign) __ksym __weak;
extern int bpf_probe_read_kernel_str_dynptr(struct bpf_dynptr *dptr, __u32 off, __u32 size,
					    const void *unsafe_ptr__ign) __ksym __weak;
extern int bpf_probe_read_user_dynptr(struct bpf_dynptr *dptr, __u32 off, __u32 size,
				      const void *unsafe_ptr__ign) __ksym __weak;

SEC("tc") int dynptr_kfuncs(struct __sk_buff *skb)
{
	struct bpf_dynptr ptr, other, null, twin;
	char buffer[8];
	bpf_dynptr_from_mem(memory, 32, 0, &ptr);
	bpf_dynptr_from_mem(source, 64, 0, &other);
	bpf_dynptr_from_mem(memory, 32, 1, &null);
	R(0, bpf_dynptr_size(&ptr));
	R(1, (int)bpf_dynptr_size(&null));
	R(2, bpf_dynptr_is_null(&null));
	R(3, bpf_dynptr_is_null(&ptr));
	R(4, bpf_dynptr_is_rdonly(&ptr));
	R(5, bpf_dynptr_is_rdonly(&null));
	R(6, bpf_dynptr_memset(&ptr, 0, 32, 'm'));
	R(7, bpf_dynptr_memset(&ptr, 1, 32, 'n'));
	R(8, bpf_dynptr_memset(&null, 0, 0, 'n'));
	R(9, bpf_dynptr_memset(&null, 0, 1, 'n'));
	R(10, bpf_dynptr_copy(&ptr, 2, &other, 2, 8));
	R(11, bpf_dynptr_copy(&ptr, 25, &other, 2, 8));
	R(12, bpf_dynptr_copy(&ptr, 2, &other, 57, 8));
	R(13, bpf_dynptr_copy(&ptr, 2, &null, 0, 1));
	R(14, bpf_dynptr_copy(&null, 0, &other, 0, 1));
	R(15, bpf_dynptr_copy(&ptr, 4, &ptr, 2, 8));
	R(16, bpf_dynptr_adjust(&ptr, 2, 20));
	R(17, bpf_dynptr_size(&ptr));
	R(18, bpf_dynptr_adjust(&ptr, 5, 4));
	R(19, bpf_dynptr_adjust(&ptr, 5, 19));
	R(20, bpf_dynptr_adjust(&null, 0, 0));
	R(21, bpf_dynptr_clone(&ptr, &twin));
	R(22, bpf_dynptr_size(&twin));
	R(23, bpf_dynptr_read(out.text, 18, &twin, 0, 0));
	R(24, bpf_dynptr_slice(&ptr, 0, buffer, 8) != 0);
	R(25, bpf_dynptr_slice(&ptr, 11, buffer, 8) != 0);
	R(26, bpf_dynptr_slice_rdwr(&null, 0, buffer, 8) != 0);
	R(27, bpf_probe_read_kernel_dynptr(&ptr, 1, 8, source));
	R(28, bpf_probe_read_kernel_dynptr(&ptr, 11, 8, source));
	R(29, bpf_probe_read_kernel_dynptr(&ptr, 1, 8, (void *)8));
	R(30, bpf_probe_read_kernel_str_dynptr(&ptr, 1, 16, source));
	R(31, bpf_probe_read_kernel_str_dynptr(&ptr, 1, 4, source + 3));
	R(32, bpf_probe_read_kernel_str_dynptr(&ptr, 1, 4, (void *)8));
	R(33, bpf_probe_read_user_dynptr(&ptr, 1, 4, (void *)8));
	R(34, bpf_probe_read_kernel_dynptr(&null, 0, 1, source));
	R(35, bpf_dynptr_copy(&null, 0, &null, 0, 0));
	R(36, bpf_dynptr_copy(&ptr, 0, &other, 0, 0));
	R(37, bpf_dynptr_clone(&null, &null));
	__builtin_memcpy(out.text + 64, memory, 64);
	return 0;
}

SEC("tc") int dynptr_skb(struct __sk_buff *skb)
{
	struct bpf_dynptr ptr;
	char buffer[8] = "buffer", *at;
	R(0, bpf_dynptr_from_skb(skb, 1, &ptr));
	R(1, bpf_dynptr_from_skb(skb, 0, &ptr));
	R(2, bpf_dynptr_size(&ptr));
	R(3, bpf_dynptr_is_rdonly(&ptr));
	R(4, bpf_dynptr_read(out.text, 16, &ptr, 10, 0));
	R(5, bpf_dynptr_read(out.text, 16, &ptr, 60, 0));
	R(6, bpf_dynptr_write(&ptr, 20, buffer, 8, 0));
	R(7, bpf_dynptr_write(&ptr, 20, buffer, 8, 1));
	R(8, bpf_dynptr_write(&ptr, 20, buffer, 8, 4));
	R(9, bpf_dynptr_data(&ptr, 0, 4) != 0);
	at = bpf_dynptr_slice_rdwr(&ptr, 30, buffer, 8);
	R(10, at != 0);
	if (at)
		at[0] = 'Z';
	at = bpf_dynptr_slice(&ptr, 30, buffer, 8);
	R(11, at ? at[0] : -1);
	R(12, bpf_dynptr_slice(&ptr, 57, buffer, 8) != 0);
	R(13, bpf_dynptr_adjust(&ptr, 14, 40));
	R(14, bpf_dynptr_read(out.text + 32, 8, &ptr, 6, 0));
	R(15, bpf_dynptr_memset(&ptr, 1, 3, 'q'));
	R(16, bpf_dynptr_read(out.text + 48, 16, &ptr, 0, 0));
	return 0;
}

extern int bpf_dynptr_from_skb_meta(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr__uninit) __ksym __weak;

SEC("tc") int dynptr_metadata(struct __sk_buff *skb)
{
	struct bpf_dynptr ptr;
	char buffer[8];
	R(0, bpf_dynptr_from_skb_meta(skb, 1, &ptr));
	R(1, bpf_dynptr_from_skb_meta(skb, 0, &ptr));
	R(2, bpf_dynptr_size(&ptr));
	R(3, bpf_dynptr_is_null(&ptr));
	R(4, bpf_dynptr_read(buffer, 8, &ptr, 0, 0));
	R(5, bpf_dynptr_write(&ptr, 0, buffer, 8, 0));
	R(6, bpf_dynptr_slice(&ptr, 0, 0, 8) != 0);
	return 0;
}

SEC("xdp") int dynptr_xdp(struct xdp_md *ctx)
{
	struct bpf_dynptr ptr;
	char buffer[8] = "buffer", *at;
	R(0, bpf_dynptr_from_xdp(ctx, 1, &ptr));
	R(1, bpf_dynptr_from_xdp(ctx, 0, &ptr));
	R(2, bpf_dynptr_size(&ptr));
	R(3, bpf_dynptr_read(out.text, 16, &ptr, 10, 0));
	R(4, bpf_dynptr_write(&ptr, 20, buffer, 8, 0));
	R(5, bpf_dynptr_write(&ptr, 20, buffer, 8, 1));
	at = bpf_dynptr_slice_rdwr(&ptr, 30, buffer, 8);
	R(6, at != 0);
	if (at)
		at[0] = 'Z';
	at = bpf_dynptr_slice(&ptr, 30, buffer, 8);
	R(7, at ? at[0] : -1);
	R(8, bpf_dynptr_write(&ptr, 57, buffer, 8, 0));
	return 0;
}

extern int bpf_strcmp(const char *s1, const char *s2) __ksym __weak;
extern int bpf_strcasecmp(const char *s1, const char *s2) __ksym __weak;
extern int bpf_strchr(const char *s, char c) __ksym __weak;
extern int bpf_strnchr(const char *s, unsigned long count, char c) __ksym __weak;
extern int bpf_strchrnul(const char *s, char c) __ksym __weak;
extern int bpf_strrchr(const char *s, int c) __ksym __weak;
extern int bpf_strlen(const char *s) __ksym __weak;
extern int bpf_strnlen(const char *s, unsigned long count) __ksym __weak;
extern int bpf_strspn(const char *s, const char *accept) __ksym __weak;
extern int bpf_strcspn(const char *s, const char *reject) __ksym __weak;
extern int bpf_strstr(const char *s1, const char *s2) __ksym __weak;
extern int bpf_strnstr(const char *s1, const char *s2, unsigned long len) __ksym __weak;

SEC("syscall") int string_kfuncs(void *ctx)
{
	char on_stack[16] = "on the stack";
	R(0, bpf_strcmp("abc", "abc"));
	R(1, bpf_strcmp("abc", "abd"));
	R(2, bpf_strcmp("abd", "abc"));
	R(3, bpf_strcmp("ab", "abc"));
	R(4, bpf_strcmp("\xff", "a"));
	R(5, bpf_strcmp(0, "a"));
	R(6, bpf_strcmp("a", (char *)8));
	R(7, bpf_strcmp("a", (char *)~0UL));
	R(8, bpf_strcasecmp("aBc", "AbC"));
	R(9, bpf_strcasecmp("aBc", "AbD"));
	R(10, bpf_strcasecmp("\xc0", "\xe0"));
	R(11, bpf_strcasecmp("\xd7", "\xf7"));
	R(12, bpf_strchr("hello", 'l'));
	R(13, bpf_strchr("hello", 'x'));
	R(14, bpf_strchr("hello", 0));
	R(15, bpf_strnchr("hello", 2, 'l'));
	R(16, bpf_strnchr("hello", 3, 'l'));
	R(17, bpf_strnchr("hello", 0, 'h'));
	R(18, bpf_strnchr("hello", ~0UL, 'o'));
	R(19, bpf_strchrnul("hello", 'l'));
	R(20, bpf_strchrnul("hello", 'x'));
	R(21, bpf_strrchr("hello", 'l'));
	R(22, bpf_strrchr("hello", 'x'));
	R(23, bpf_strrchr("hello", 0));
	R(24, bpf_strrchr("h\xe9llo", (int)(char)0xe9));
	R(25, bpf_strrchr("h\xe9llo", 0xe9));
	R(26, bpf_strrchr("hello", 'l' + 256));
	R(27, bpf_strlen("hello"));
	R(28, bpf_strlen(""));
	R(29, bpf_strlen(0));
	R(30, bpf_strnlen("hello", 3));
	R(31, bpf_strnlen("hello", 9));
	R(32, bpf_strnlen("hello", 0));
	R(33, bpf_strnlen(0, 0));
	R(34, bpf_strspn("hello", "leh"));
	R(35, bpf_strspn("hello", ""));
	R(36, bpf_strspn("hello", "helo"));
	R(37, bpf_strspn("", "a"));
	R(38, bpf_strcspn("hello", "l"));
	R(39, bpf_strcspn("hello", ""));
	R(40, bpf_strcspn("hello", "xyz"));
	R(41, bpf_strstr("hello", "ll"));
	R(42, bpf_strstr("hello", ""));
	R(43, bpf_strstr("hello", "lo"));
	R(44, bpf_strstr("hello", "lox"));
	R(45, bpf_strstr("", "a"));
	R(46, bpf_strstr("", ""));
	R(47, bpf_strnstr("hello", "ll", 3));
	R(48, bpf_strnstr("hello", "ll", 4));
	R(49, bpf_strnstr("hello", "", 0));
	R(50, bpf_strnstr("hello", "h", 0));
	R(51, bpf_strnstr("hello", "hello", 5));
	R(52, bpf_strnstr("hello", "hello", 4));
	R(53, bpf_strnstr("hello", "o", 100));
	R(54, bpf_strnstr("hello", "x", 100));
	R(55, bpf_strnstr("aaab", "aab", 4));
	R(56, bpf_strlen(on_stack));
	R(57, bpf_strlen(source));
	R(58, bpf_strstr(source, "map"));
	return 0;
}

// Strings about as long as the kernel looks at: 65,536 bytes. `endless` ends past that, `longest` just before.
char endless[66000] SEC(".data.endless") = { [0 ... 65990] = 'a' };
char longest[66000] SEC(".data.longest") = { [0 ... 65534] = 'a' };
char over[66000] SEC(".data.over") = { [0 ... 65535] = 'a' };

SEC("syscall") int long_strings(void *ctx)
{
	R(0, bpf_strlen(endless));
	R(1, bpf_strlen(longest));
	R(2, bpf_strlen(over));
	R(3, bpf_strnlen(endless, 65535));
	R(4, bpf_strnlen(endless, 65536));
	R(5, bpf_strnlen(endless, 65537));
	R(6, bpf_strnlen(longest, 65536));
	R(7, bpf_strcmp(endless, endless));
	R(8, bpf_strcmp(longest, longest));
	R(9, bpf_strcmp(longest, over));
	R(10, bpf_strchr(endless, 'b'));
	R(11, bpf_strchr(longest, 'b'));
	R(12, bpf_strchr(longest, 0));
	R(13, bpf_strchr(over, 0));
	R(14, bpf_strnchr(endless, 65535, 'b'));
	R(15, bpf_strnchr(endless, 65536, 'b'));
	R(16, bpf_strchrnul(longest, 'b'));
	R(17, bpf_strchrnul(endless, 'b'));
	R(18, bpf_strrchr(longest, 'a'));
	R(19, bpf_strrchr(endless, 'a'));
	R(20, bpf_strspn(longest, "a"));
	R(21, bpf_strspn(endless, "a"));
	R(22, bpf_strspn("b", endless));
	R(23, bpf_strcspn(longest, "b"));
	R(24, bpf_strcspn(endless, "b"));
	R(25, bpf_strcspn("b", endless));
	R(26, bpf_strstr(longest, "b"));
	R(27, bpf_strstr(endless, "b"));
	R(28, bpf_strstr(endless, endless));
	R(29, bpf_strstr(longest, longest));
	R(30, bpf_strstr(over, over));
	R(31, bpf_strnstr(endless, "b", 65535));
	R(32, bpf_strnstr(endless, "b", 65536));
	R(33, bpf_strnstr(endless, "b", 65537));
	R(34, bpf_strnstr(endless, "", 65536));
	R(35, bpf_strnstr(endless, "ab", 65536));
	R(36, bpf_probe_read_kernel_str(out.text, 8, endless + 65988));
	R(37, bpf_strlen(endless + 465));
	R(38, bpf_strlen(endless + 455));
	return 0;
}

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;

static void numbers_between(int at, int start, int end)
{
	struct bpf_iter_num it;
	long sum = 0, rounds = 0;
	int *n;
	R(at, bpf_iter_num_new(&it, start, end));
	while ((n = bpf_iter_num_next(&it))) {
		sum += *n;
		rounds++;
		// Enough is seen.
		if (rounds == 20)
			break;
	}
	R(at + 1, sum);
	R(at + 2, rounds);
	bpf_iter_num_destroy(&it);
}

SEC("syscall") int numeric_iterator(void *ctx)
{
	numbers_between(0, 0, 5);
	numbers_between(3, -3, 3);
	numbers_between(6, 5, 5);
	numbers_between(9, 6, 5);
	numbers_between(12, 0, 8388608);
	numbers_between(15, 0, 8388609);
	numbers_between(18, -2147483647 - 1, -2147483647 + 3);
	numbers_between(21, 2147483647 - 3, 2147483647);
	numbers_between(24, -2147483647 - 1, 2147483647);
	return 0;
}

extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *unsafe_ptr__ign, __u32 nr_words) __ksym __weak;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym __weak;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym __weak;

__u64 words[8] = { 0x8000000000000001, 0, 0x10, ~0UL };

static void bits_of(int at, const __u64 *from, __u32 count)
{
	struct bpf_iter_bits it;
	long sum = 0, rounds = 0;
	int *bit;
	R(at, bpf_iter_bits_new(&it, from, count));
	while ((bit = bpf_iter_bits_next(&it))) {
		sum += *bit;
		rounds++;
	}
	R(at + 1, sum);
	R(at + 2, rounds);
	bpf_iter_bits_destroy(&it);
}

SEC("syscall") int bit_iterator(void *ctx)
{
	bits_of(0, words, 1);
	bits_of(3, words, 4);
	bits_of(6, words + 1, 1);
	bits_of(9, words, 0);
	bits_of(12, 0, 1);
	bits_of(15, words, 512);
	bits_of(18, (void *)8, 1);
	bits_of(21, (void *)8, 2);
	return 0;
}

struct locked {
	struct bpf_spin_lock lock;
	int value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct locked);
} locks SEC(".maps");

SEC("tc") int spin_lock(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct locked *locked = bpf_map_lookup_elem(&locks, &key);
	struct locked fresh = { .value = 9 };
	if (!locked)
		return 1;
	bpf_spin_lock(&locked->lock);
	locked->value += 3;
	bpf_spin_unlock(&locked->lock);
	R(0, locked->value);
	R(1, bpf_map_update_elem(&locks, &key, &fresh, BPF_F_LOCK));
	R(2, locked->value);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

SEC("tc") int perf_output(struct __sk_buff *skb)
{
	long data = 5;
	R(0, bpf_perf_event_output(skb, &events, 1UL << 60, &data, 8));
	R(1, bpf_perf_event_output(skb, &events, 70000, &data, 8));
	R(2, bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU | (65UL << 32), &data, 8));
	return 0;
}

SEC("syscall") int printing(void *ctx)
{
	char comm[16] = "sh";
	__u64 args[4] = { 5, (long)comm, (long)source, ~0UL };
	R(0, bpf_snprintf(out.text, 64, "%d [%5s] %s %lx", args, sizeof(args)));
	R(1, bpf_snprintf(out.text + 64, 4, "%d [%5s] %s %lx", args, sizeof(args)));
	R(2, bpf_snprintf(0, 0, "%d [%5s] %s %lx", args, sizeof(args)));
	R(3, bpf_trace_vprintk("%q", 3, args, 8));
	R(4, bpf_trace_vprintk("%d", 3, args, 9));
	R(5, bpf_trace_vprintk("%d", 2, args, 8));
	R(6, bpf_trace_vprintk("%d", 3, 0, 0));
	R(7, bpf_trace_printk("%", 2));
	R(8, bpf_trace_printk("%d", 2));
	return 0;
}

extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;
extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;
extern void bpf_local_irq_save(unsigned long *flags__irq_flag) __ksym __weak;
extern void bpf_local_irq_restore(unsigned long *flags__irq_flag) __ksym __weak;
extern s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym __weak;

SEC("tc") int sections(struct __sk_buff *skb)
{
	unsigned long flags;
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	bpf_preempt_disable();
	bpf_preempt_enable();
	bpf_local_irq_save(&flags);
	bpf_local_irq_restore(&flags);
	R(0, 1);
	return 0;
}

// Clocks cannot be the same; both engines' must be between those of their callers.
SEC("tc") int clocks(struct __sk_buff *skb)
{
	out.r[80] = bpf_ktime_get_ns();
	out.r[81] = bpf_ktime_get_boot_ns();
	out.r[82] = bpf_ktime_get_coarse_ns();
	out.r[83] = bpf_ktime_get_tai_ns();
	out.r[84] = bpf_jiffies64();
	out.r[85] = bpf_get_prandom_u32();
	return 0;
}

// What follows runs many times over generated input.
extern int bpf_copy_from_user_str(void *dst, u32 dst__sz, const void *unsafe_ptr__ign, u64 flags) __ksym __weak;

SEC("syscall") int generated_text(void *ctx)
{
	long value = 1;
	unsigned long magnitude = 1;
	__u32 len = in.len & 31;
	const char *a = in.a, *b = in.b;
	R(0, bpf_strtol(a, len + 1, in.flags, &value));
	R(1, value);
	R(2, bpf_strtoul(a, len + 1, in.flags, &magnitude));
	R(3, magnitude);
	R(4, bpf_strncmp(a, len + 1, "ab1"));
	R(5, bpf_strcmp(a, b));
	R(6, bpf_strcasecmp(a, b));
	R(7, bpf_strchr(a, *b));
	R(8, bpf_strnchr(a, in.count, *b));
	R(9, bpf_strchrnul(a, *b));
	R(10, bpf_strrchr(a, *b));
	R(11, bpf_strlen(a));
	R(12, bpf_strnlen(a, in.count));
	R(13, bpf_strspn(a, b));
	R(14, bpf_strcspn(a, b));
	R(15, bpf_strstr(a, b));
	R(16, bpf_strnstr(a, b, in.count));
	R(17, bpf_probe_read_kernel_str(out.text, len, a));
	R(18, bpf_probe_read_kernel(out.text + 64, len, a));
	return 0;
}

SEC("syscall") int generated_iterators(void *ctx)
{
	struct bpf_iter_num it;
	struct bpf_iter_bits bits;
	long sum = 0, rounds = 0;
	int *n;
	R(0, bpf_iter_num_new(&it, in.start, in.end));
	while ((n = bpf_iter_num_next(&it))) {
		sum += *n;
		if (++rounds == 20)
			break;
	}
	bpf_iter_num_destroy(&it);
	R(1, sum);
	R(2, rounds);
	sum = 0;
	R(3, bpf_iter_bits_new(&bits, in.words, in.len & 7));
	while ((n = bpf_iter_bits_next(&bits)))
		sum = sum * 31 + *n;
	bpf_iter_bits_destroy(&bits);
	R(4, sum);
	return 0;
}

// Does the operations on a dynptr, one result each.
static __always_inline void operate(struct bpf_dynptr *ptr, struct bpf_dynptr *other)
{
	for (__u32 i = 0; i < 8; i++) {
		struct operation *op = &in.operations[i];
		char buffer[16] = {}, *at;
		__u32 len = op->len & 15;
		long result = 0;
		switch (op->kind & 7) {
		case 0:
			result = bpf_dynptr_read(out.text + i * 16, len, ptr, op->offset, 0);
			break;
		case 1:
			result = bpf_dynptr_write(ptr, op->offset, in.a, len, 0);
			break;
		case 2:
			result = bpf_dynptr_adjust(ptr, op->offset, op->other);
			break;
		case 3:
			result = bpf_dynptr_memset(ptr, op->offset, op->len, op->other);
			break;
		case 4:
			result = bpf_dynptr_copy(ptr, op->offset, other, op->other, op->len);
			break;
		case 5:
			at = bpf_dynptr_slice(ptr, op->offset, buffer, 8);
			result = at ? *at : -1000;
			break;
		case 6:
			at = bpf_dynptr_slice_rdwr(ptr, op->offset, buffer, 4);
			if (at)
				at[1] += 1;
			result = at ? at[1] : -1000;
			break;
		case 7:
			result = bpf_dynptr_size(ptr) | (bpf_dynptr_is_null(ptr) << 30);
			break;
		}
		R(i, result);
	}
}

SEC("tc") int generated_dynptr(struct __sk_buff *skb)
{
	struct bpf_dynptr ptr, other;
	bpf_dynptr_from_mem(memory, sizeof(memory), 0, &ptr);
	bpf_dynptr_from_mem(source, sizeof(source), in.flags & 1, &other);
	operate(&ptr, &other);
	__builtin_memcpy(out.text + 128, memory, sizeof(memory));
	return 0;
}

SEC("tc") int generated_dynptr_skb(struct __sk_buff *skb)
{
	struct bpf_dynptr ptr, other;
	bpf_dynptr_from_skb(skb, 0, &ptr);
	bpf_dynptr_from_mem(source, sizeof(source), 0, &other);
	operate(&ptr, &other);
	return 0;
}

SEC("xdp") int generated_dynptr_xdp(struct xdp_md *ctx)
{
	struct bpf_dynptr ptr, other;
	bpf_dynptr_from_xdp(ctx, 0, &ptr);
	bpf_dynptr_from_mem(source, sizeof(source), 0, &other);
	operate(&ptr, &other);
	return 0;
}

// What follows runs in the embedded engine only, in surroundings that the test makes up: a task with the text "hello" at
// 0x10000 and "two pages" across the end of its first page, nothing behind the second, which ends with "end.".
extern int bpf_copy_from_user_dynptr(struct bpf_dynptr *dptr, u32 off, u32 size,
				     const void *unsafe_ptr__ign) __ksym __weak;
extern int bpf_copy_from_user_str_dynptr(struct bpf_dynptr *dptr, u32 off, u32 size,
					 const void *unsafe_ptr__ign) __ksym __weak;
extern int bpf_probe_read_user_str_dynptr(struct bpf_dynptr *dptr, u32 off, u32 size,
					  const void *unsafe_ptr__ign) __ksym __weak;

#define USER ((const char *)0x10000)

SEC("?syscall") int user_strings(void *ctx)
{
	struct bpf_dynptr ptr;
	__builtin_memset(out.text, '#', 128);
	R(0, bpf_copy_from_user_str(out.text, 16, USER, 0));
	R(1, bpf_copy_from_user_str(out.text + 16, 16, USER, 1));
	R(2, bpf_copy_from_user_str(out.text + 32, 4, USER, 0));
	R(3, bpf_copy_from_user_str(out.text + 40, 8, USER + 8188, 1));
	R(4, bpf_copy_from_user_str(out.text + 48, 8, USER + 8188, 0));
	R(5, bpf_copy_from_user_str(out.text + 56, 0, USER, 0));
	R(6, bpf_copy_from_user_str(out.text + 56, 8, USER, 2));
	R(7, bpf_copy_from_user_str(out.text + 64, 16, USER + 4090, 0));
	bpf_dynptr_from_mem(memory, sizeof(memory), 0, &ptr);
	R(8, bpf_copy_from_user_dynptr(&ptr, 1, 5, USER));
	R(9, bpf_copy_from_user_dynptr(&ptr, 60, 5, USER));
	R(10, bpf_copy_from_user_dynptr(&ptr, 0, 5, USER + 8190));
	R(11, bpf_copy_from_user_str_dynptr(&ptr, 10, 16, USER));
	R(12, bpf_probe_read_user_str_dynptr(&ptr, 20, 3, USER));
	R(13, bpf_probe_read_user_str_dynptr(&ptr, 24, 8, (void *)8));
	R(14, bpf_probe_read_user_dynptr(&ptr, 32, 4, USER + 1));
	__builtin_memcpy(out.text + 128, memory, sizeof(memory));
	return 0;
}

SEC("?tc") int perf_with_packet(struct __sk_buff *skb)
{
	long data = 5;
	R(0, bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU | (16UL << 32), &data, 8));
	R(1, bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &data, 4));
	R(2, bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU | (65UL << 32), &data, 8));
	return 0;
}
