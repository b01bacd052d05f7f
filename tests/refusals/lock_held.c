// A helper called while a lock is held.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct value {
	struct bpf_spin_lock lock;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} values SEC(".maps");

SEC("tc")
int stamp(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct value *value = bpf_map_lookup_elem(&values, &zero);

	if (!value)
		return 0;
	bpf_spin_lock(&value->lock);
	value->last = bpf_ktime_get_ns();
	bpf_spin_unlock(&value->lock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: stamp
reason:  function calls are not allowed while holding a lock
line:    27: value->last = bpf_ktime_get_ns();
after:   24: if (!value)
title:   something is called while a lock is held
fix:     call before locking or after unlocking
*/
