// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Each openat(2): who opened which file, and what came of it.
 *
 *	skep run examples/opensnoop.bpf.c -- cat /etc/hostname
 *	skep run --param target_pid=1 --param failed_only=1 examples/opensnoop.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u32 target_pid = 0;   /* only this process; 0: all */
const volatile bool failed_only = false;

struct open_event {
	__u32 pid;
	__s32 result; /* the file descriptor, or -errno */
	__u32 flags;
	char comm[16];
	char file[256];
};

struct open_arguments {
	const char *file;
	__u32 flags;
};

/* What each thread that is inside openat(2) passed to it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct open_arguments);
} entered SEC(".maps");
SKEP_HIDE(entered);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} opens SEC(".maps");
SKEP_RECORD(opens, struct open_event);

__u64 lost; /* records that found the ring buffer full */

SEC("tp/syscalls/sys_enter_openat")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;
	struct open_arguments arguments = { (const char *)ctx->args[1], ctx->args[2] };

	if (!target_pid || target_pid == id >> 32)
		bpf_map_update_elem(&entered, &thread, &arguments, BPF_ANY);
	return 0;
}

/* The name is read on the way out: by then the kernel has touched its page, so the read does not fail. */
SEC("tp/syscalls/sys_exit_openat")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct open_arguments *arguments = bpf_map_lookup_elem(&entered, &thread);
	struct open_event *open;

	if (!arguments)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto out;
	open = bpf_ringbuf_reserve(&opens, sizeof(*open), 0);
	if (!open) {
		__sync_fetch_and_add(&lost, 1);
		goto out;
	}
	open->pid = bpf_get_current_pid_tgid() >> 32;
	open->result = ctx->ret;
	open->flags = arguments->flags;
	bpf_get_current_comm(open->comm, sizeof(open->comm));
	if (bpf_probe_read_user_str(open->file, sizeof(open->file), arguments->file) < 0)
		open->file[0] = 0;
	bpf_ringbuf_submit(open, 0);
out:
	bpf_map_delete_elem(&entered, &thread);
	return 0;
}
