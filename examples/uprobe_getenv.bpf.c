// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Which environment variables a program asks for, and whether they are set: a uprobe and a uretprobe on a function
 * of the C library.
 *
 *	skep run examples/uprobe_getenv.bpf.c -- bash -c :
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "skep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct getenv_event {
	__u32 pid;
	bool is_set;
	char comm[16];
	char name[64];
	char value[64]; /* empty where not set */
};

/* The name that each thread is asking for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, const char *);
} asked SEC(".maps");
SKEP_HIDE(asked);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} lookups SEC(".maps");
SKEP_RECORD(lookups, struct getenv_event);

__u64 lost; /* records that found the ring buffer full */

SEC("uprobe/libc.so.6:getenv")
int BPF_KPROBE(on_getenv, const char *name)
{
	__u32 thread = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&asked, &thread, &name, BPF_ANY);
	return 0;
}

SEC("uretprobe/libc.so.6:getenv")
int BPF_KRETPROBE(on_answer, const char *value)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id;
	const char **name = bpf_map_lookup_elem(&asked, &thread);
	struct getenv_event *lookup;

	if (!name)
		return 0;
	lookup = bpf_ringbuf_reserve(&lookups, sizeof(*lookup), 0);
	if (lookup) {
		lookup->pid = id >> 32;
		lookup->is_set = value != NULL;
		bpf_get_current_comm(lookup->comm, sizeof(lookup->comm));
		if (bpf_probe_read_user_str(lookup->name, sizeof(lookup->name), *name) < 0)
			lookup->name[0] = 0;
		if (bpf_probe_read_user_str(lookup->value, sizeof(lookup->value), value) < 0)
			lookup->value[0] = 0;
		bpf_ringbuf_submit(lookup, 0);
	} else {
		__sync_fetch_and_add(&lost, 1);
	}
	bpf_map_delete_elem(&asked, &thread);
	return 0;
}
