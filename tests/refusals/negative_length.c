// A length that may be negative.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[256]);
} buffers SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_write")
int copy(struct { __u64 pad; long nr; long fd; const char *buf; long count; } *ctx)
{
	__u32 zero = 0;
	char *buffer = bpf_map_lookup_elem(&buffers, &zero);
	int count = ctx->count;

	if (!buffer || count > 256)
		return 0;
	bpf_probe_read_user(buffer, count, ctx->buf);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: copy
reason:  R2 min value is negative, either use unsigned or 'var &= const'
line:    22: bpf_probe_read_user(buffer, count, ctx->buf);
after:   20: if (!buffer || count > 256)
title:   an index, offset or length may be negative
fix:     make the variable unsigned (`__u32`, `__u64`), or test `if (n < 0) return 0;` before the use
*/
