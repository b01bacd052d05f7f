/* The old maps section, with definitions of 20 and of 36 bytes (iproute2's struct bpf_elf_map), no types. */
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))

struct bpf_map_def { unsigned int type, key_size, value_size, max_entries, map_flags; };
struct bpf_elf_map { __u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };

static void *(*lookup)(void *map, const void *key) = (void *)1;

struct bpf_map_def SEC("maps") counts = { 1, 4, 8, 16, 1 };
struct bpf_elf_map SEC("maps") shared = { .type = 2, .size_key = 4, .size_value = 8, .max_elem = 2, .pinning = 2 };
struct bpf_map_def SEC("maps") last = { 5, 4, 4, 9 };

SEC("classifier")
int count(struct __sk_buff *skb)
{
	int key = 0;
	long *value = lookup(&shared, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	value = lookup(&counts, &key);
	return value ? *value : -1;
}

char _license[] SEC("license") = "GPL";
