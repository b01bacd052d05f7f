// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Each file that is removed, and what came of it, by fentry and fexit: cheaper than kprobes, arguments with their
 * types, and at the end both the arguments and the result.
 *
 *	skep run examples/fentry_unlink.bpf.c -- sh -c 'touch /tmp/x; rm /tmp/x'
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct unlink_event {
	__u32 pid;
	__s32 result; /* 0, or -errno */
	char comm[16];
	char name[64]; /* the last part of the path */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} removals SEC(".maps");
SKEP_RECORD(removals, struct unlink_event);

__u64 begun;
__u64 lost; /* records that found the ring buffer full */

SEC("fentry/vfs_unlink")
int BPF_PROG(on_unlink)
{
	__sync_fetch_and_add(&begun, 1);
	return 0;
}

/* The first argument's type changed over the years (a user namespace, then an id map); it is not looked at. */
SEC("fexit/vfs_unlink")
int BPF_PROG(on_unlinked, void *id_map, struct inode *directory, struct dentry *entry, void *delegated, int result)
{
	struct unlink_event *removal = bpf_ringbuf_reserve(&removals, sizeof(*removal), 0);

	if (!removal) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	removal->pid = bpf_get_current_pid_tgid() >> 32;
	removal->result = result;
	bpf_get_current_comm(removal->comm, sizeof(removal->comm));
	bpf_probe_read_kernel_str(removal->name, sizeof(removal->name), entry->d_name.name);
	bpf_ringbuf_submit(removal, 0);
	return 0;
}
