// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Each file that is removed, and what came of it, by kprobe and kretprobe. Reports through a perf buffer, which
 * kernels before 5.8 have too.
 *
 *	skep run examples/kprobe_unlink.bpf.c -- sh -c 'touch /tmp/x; rm /tmp/x'
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
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

/* The entry that each thread is about to remove. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct unlink_event);
} entered SEC(".maps");
SKEP_HIDE(entered);

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(int));
	__uint(value_size, sizeof(int));
} removals SEC(".maps");
SKEP_RECORD(removals, struct unlink_event);

/* The first argument's type changed over the years (a user namespace, then an id map); it is not looked at. */
SEC("kprobe/vfs_unlink")
int BPF_KPROBE(on_unlink, void *id_map, struct inode *directory, struct dentry *entry)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct unlink_event removal = { .pid = id >> 32 };
	__u32 thread = id;

	bpf_get_current_comm(removal.comm, sizeof(removal.comm));
	bpf_probe_read_kernel_str(removal.name, sizeof(removal.name), BPF_CORE_READ(entry, d_name.name));
	bpf_map_update_elem(&entered, &thread, &removal, BPF_ANY);
	return 0;
}

SEC("kretprobe/vfs_unlink")
int BPF_KRETPROBE(on_unlinked, int result)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct unlink_event *removal = bpf_map_lookup_elem(&entered, &thread);

	if (!removal)
		return 0;
	removal->result = result;
	bpf_perf_event_output(ctx, &removals, BPF_F_CURRENT_CPU, removal, sizeof(*removal));
	bpf_map_delete_elem(&entered, &thread);
	return 0;
}
