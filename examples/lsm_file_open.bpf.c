// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A security guard: watches files of one name, and with --param deny=1 lets nobody open them. The kernel must run
 * with "bpf" among its lsm= modules.
 *
 *	skep run --param watch=secret.txt --param deny=1 examples/lsm_file_open.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "skep.h"

#define NAME_SIZE 32
#define EPERM 1

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile char watch[NAME_SIZE] = ""; /* the last part of the path, whole; empty: watch nothing */
const volatile bool deny = false;

struct guarded_open_event {
	__u32 pid;
	__u32 uid;
	bool denied;
	char comm[16];
	char name[NAME_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} opens SEC(".maps");
SKEP_RECORD(opens, struct guarded_open_event);

__u64 denied_opens;
__u64 lost; /* records that found the ring buffer full */

static __always_inline bool is_watched(const char *name)
{
	for (int i = 0; i < NAME_SIZE; i++) {
		if (name[i] != watch[i])
			return false;
		if (!name[i])
			return i > 0;
	}
	return false; /* longer than what can be asked for */
}

/* Another program's refusal is not looked at: the kernel asks no further once one program has refused. */
SEC("lsm/file_open")
int BPF_PROG(on_open, struct file *file)
{
	char name[NAME_SIZE] = {};
	struct guarded_open_event *record;

	bpf_probe_read_kernel_str(name, sizeof(name), file->f_path.dentry->d_name.name);
	if (!is_watched(name))
		return 0;
	record = bpf_ringbuf_reserve(&opens, sizeof(*record), 0);
	if (record) {
		record->pid = bpf_get_current_pid_tgid() >> 32;
		record->uid = bpf_get_current_uid_gid();
		record->denied = deny;
		bpf_get_current_comm(record->comm, sizeof(record->comm));
		__builtin_memcpy(record->name, name, sizeof(name));
		bpf_ringbuf_submit(record, 0);
	} else {
		__sync_fetch_and_add(&lost, 1);
	}
	if (!deny)
		return 0;
	/* More than a return value: of a plain choice between two, clang would make arithmetic whose bounds 6.12 can't see. */
	__sync_fetch_and_add(&denied_opens, 1);
	return -EPERM;
}
