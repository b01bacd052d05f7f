// Programs that the kernel's verifier refuses: in the checked mode each ends with a fault, which stands above it, and never
// reaches memory that is not its own (crates/vm/tests/helpers.rs).
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct locked {
	struct bpf_spin_lock lock;
	int value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct locked);
} locks SEC(".maps");

char memory[64];
const volatile char constant[16] = "constant";

extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone__uninit) __ksym __weak;
extern int bpf_dynptr_memset(struct bpf_dynptr *p, __u32 offset, __u32 size, __u8 val) __ksym __weak;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt,
			      __u32 buffer__szk) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym __weak;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym __weak;

// Runs after each of the others.
// value: 0
SEC("syscall") int report(void *ctx)
{
	return bpf_ringbuf_output(&ring, "still here", 10, 0);
}

// fault: write of 8 bytes at
SEC("syscall") int dynptr_over_nothing(void *ctx)
{
	struct bpf_dynptr ptr = {};
	bpf_dynptr_from_mem((void *)0x7000, 8, 0, &ptr);
	return 0;
}

// fault: read of 8 bytes at 0x7000
SEC("syscall") int dynptr_forged(void *ctx)
{
	__u64 forged[2] = { 0x7000, 64 | 1UL << 28 };
	__u64 data;
	return bpf_dynptr_read(&data, 8, (void *)forged, 0, 0);
}

// fault: its bytes are not those of a dynptr
SEC("syscall") int dynptr_of_no_kind(void *ctx)
{
	__u64 forged[2] = { 0x7000, 64 };
	__u64 data;
	return bpf_dynptr_read(&data, 8, (void *)forged, 0, 0);
}

// fault: write of 8 bytes at
SEC("syscall") int dynptr_longer_than_its_memory(void *ctx)
{
	struct bpf_dynptr ptr;
	__u64 data = 1;
	bpf_dynptr_from_mem(memory, 64, 0, &ptr);
	*((__u32 *)&ptr + 2) += 64;
	return bpf_dynptr_write(&ptr, 60, &data, 8, 0);
}

// fault: write of 16 bytes at
SEC("syscall") int dynptr_onto_constants(void *ctx)
{
	struct bpf_dynptr ptr;
	return bpf_dynptr_from_mem((void *)constant, 16, 0, &ptr);
}

// A slice of a forged dynptr is an address that the program does not own.
// fault: read of 1 byte at 0x7000
SEC("syscall") int slice_forged(void *ctx)
{
	__u64 forged[2] = { 0x7000, 64 | 1UL << 28 };
	char buffer[8];
	char *at = bpf_dynptr_slice((void *)forged, 0, buffer, 8);
	return at ? *(volatile char *)at : 0;
}

// fault: write of 8 bytes at 0x7000
SEC("syscall") int memset_forged(void *ctx)
{
	__u64 forged[2] = { 0x7000, 64 | 1UL << 28 };
	return bpf_dynptr_memset((void *)forged, 0, 8, 1);
}

// fault: is not a record that the program has reserved
SEC("syscall") int submit_what_is_no_record(void *ctx)
{
	bpf_ringbuf_submit(memory, 0);
	return 0;
}

// fault: is not a record that the program has reserved
SEC("syscall") int submit_twice(void *ctx)
{
	long *record = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!record)
		return 0;
	bpf_ringbuf_submit(record, 0);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

// fault: is not a record that the program has reserved
SEC("syscall") int submit_the_middle(void *ctx)
{
	long *record = bpf_ringbuf_reserve(&ring, 64, 0);
	if (record)
		bpf_ringbuf_submit(record + 1, 0);
	return 0;
}

// fault: is not a record that the program has reserved
SEC("syscall") int submit_a_clone(void *ctx)
{
	struct bpf_dynptr ptr, twin;
	bpf_ringbuf_reserve_dynptr(&ring, 64, 0, &ptr);
	bpf_dynptr_clone(&ptr, &twin);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	bpf_ringbuf_submit_dynptr(&twin, 0);
	return 0;
}

// fault: write of 8 bytes at
SEC("syscall") int write_after_submit(void *ctx)
{
	long *record = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!record)
		return 0;
	bpf_ringbuf_submit(record, 0);
	*(volatile long *)record = 1;
	return 0;
}

// What is still reserved at the end is given back, so that the ring goes on: the record behind it is seen.
// fault: write of 8 bytes at 0x10
SEC("syscall") int fault_with_a_record(void *ctx)
{
	bpf_ringbuf_reserve(&ring, 8, 0);
	*(volatile long *)16 = 1;
	return 0;
}

// At the end of the run the lock would be given back in memory that is the ring's again.
// fault: which is in the record
SEC("syscall") int lock_in_a_record(void *ctx)
{
	__u32 *record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (!record)
		return 0;
	record[1] = 0;
	bpf_spin_lock((void *)(record + 1));
	bpf_ringbuf_submit(record, 0);
	return 0;
}

static struct locked *lock_of(__u32 key)
{
	return bpf_map_lookup_elem(&locks, &key);
}

// fault: the program holds the lock at
SEC("syscall") int lock_twice(void *ctx)
{
	struct locked *locked = lock_of(0);
	if (!locked)
		return 0;
	bpf_spin_lock(&locked->lock);
	bpf_spin_lock(&locked->lock);
	return 0;
}

// fault: the program does not hold the lock
SEC("syscall") int unlock_only(void *ctx)
{
	struct locked *locked = lock_of(0);
	if (locked)
		bpf_spin_unlock(&locked->lock);
	return 0;
}

// fault: the lock in a value of map locks is read-only
SEC("syscall") int write_a_lock(void *ctx)
{
	struct locked *locked = lock_of(1);
	if (locked)
		*(volatile __u32 *)&locked->lock = 7;
	return 0;
}

// fault: write of 8 bytes at
SEC("syscall") int write_over_a_lock(void *ctx)
{
	struct locked *locked = lock_of(1);
	if (locked)
		bpf_probe_read_kernel(locked, 8, memory);
	return 0;
}

// fault: was not given back within a second
SEC("syscall") int lock_what_is_no_lock(void *ctx)
{
	volatile __u32 number = 7;
	bpf_spin_lock((void *)&number);
	return 0;
}

// fault: the program holds the lock at
SEC("syscall") int update_under_the_lock(void *ctx)
{
	__u32 key = 1;
	struct locked *locked = lock_of(1), fresh = {};
	if (!locked)
		return 0;
	bpf_spin_lock(&locked->lock);
	return bpf_map_update_elem(&locks, &key, &fresh, BPF_F_LOCK);
}

// fault: atomic access of 4 bytes
SEC("syscall") int lock_askew(void *ctx)
{
	struct locked *locked = lock_of(0);
	if (locked)
		bpf_spin_lock((void *)&locked->lock + 1);
	return 0;
}

// fault: is not the address of a function of the program
SEC("syscall") int loop_over_no_function(void *ctx)
{
	return bpf_loop(2, (void *)0x7000, 0, 0);
}

// fault: is not a map of this program
SEC("syscall") int lookup_in_no_map(void *ctx)
{
	__u32 key = 0;
	return bpf_map_lookup_elem(memory, &key) != 0;
}

// fault: write of 16 bytes at
SEC("syscall") int comm_past_the_end(void *ctx)
{
	return bpf_get_current_comm(memory + 60, 16);
}

// fault: write of 8 bytes at
SEC("syscall") int number_into_constants(void *ctx)
{
	return bpf_strtol("12", 3, 0, (long *)constant);
}

// fault: read of 1 byte at
SEC("syscall") int compare_with_no_string(void *ctx)
{
	char text[4] = "ab";
	return bpf_strncmp(text, 4, (char *)0x7000);
}

// fault: read of 1 byte at
SEC("syscall") int format_without_end(void *ctx)
{
	__builtin_memset(memory, 'x', sizeof(memory));
	return bpf_snprintf(0, 0, memory, 0, 0);
}

// fault: read of 4 bytes at
SEC("syscall") int iterator_nowhere(void *ctx)
{
	return bpf_iter_num_next((void *)0x7000) != 0;
}

// A made-up state gives no bits.
// value: 0
SEC("syscall") int bits_made_up(void *ctx)
{
	__u64 forged[2] = { 9, ~0UL };
	int *bit = bpf_iter_bits_next((void *)forged);
	bpf_iter_bits_destroy((void *)forged);
	return bit != 0;
}

// Only what is the program's own can be read by an address.
// value: -34
SEC("syscall") int probe_the_process(void *ctx)
{
	long data;
	return bpf_probe_read_kernel(&data, 8, (void *)0x400000);
}

static long goes_on(__u32 i, void *ctx)
{
	*(volatile long *)32 = i;
	return 0;
}

// A fault in a callback is that of the run.
// fault: write of 8 bytes at 0x20
SEC("syscall") int fault_in_a_callback(void *ctx)
{
	bpf_loop(2, goes_on, 0, 0);
	return 0;
}

extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *words, __u32 count) __ksym __weak;

// Memory for iterators that nobody ends has a limit.
// value: -12
SEC("syscall") int bits_without_end(void *ctx)
{
	struct bpf_iter_bits it;
	__u64 word = 1;
	int made = 0, result = 0;
	for (volatile int i = 0; i < 300 && !result; i++) {
		result = bpf_iter_bits_new(&it, &word, 1);
		made += !result;
	}
	return made == 256 ? result : made;
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} few SEC(".maps");

static long inner(void *map, __u32 *key, __u32 *value, __u64 *sum)
{
	*sum += *value;
	return 0;
}

static long outer(void *map, __u32 *key, __u32 *value, __u64 *sum)
{
	bpf_for_each_map_elem(map, inner, sum, 0);
	// The inner walk has had the same key, and this one still has it.
	*sum += *key;
	return 0;
}

// value: 45
SEC("syscall") int walk_within_a_walk(void *ctx)
{
	__u64 sum = 0;
	for (__u32 key = 1; key < 3; key++) {
		__u32 value = 7 * key;
		bpf_map_update_elem(&few, &key, &value, 0);
	}
	bpf_for_each_map_elem(&few, outer, &sum, 0);
	return sum;
}
