// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Each program that is started, with its arguments.
 *
 *	skep run examples/execsnoop.bpf.c -- sh -c 'ls /; uname -a'
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "skep.h"

#define ARGS_SIZE 256 /* a power of two */

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct exec_event {
	__u32 pid;
	__u32 parent_pid;
	__u32 uid;
	char comm[16];
	char file[128];
	char args[ARGS_SIZE]; /* with spaces between them, cut where the room ends */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} execs SEC(".maps");
SKEP_RECORD(execs, struct exec_event);

__u64 lost; /* records that found the ring buffer full */

/* The kernel keeps a new program's arguments in one piece of its memory, each ended by a zero byte. */
static __always_inline void read_args(struct exec_event *exec)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	__u64 size = end - start;

	if (size > ARGS_SIZE)
		size = ARGS_SIZE;
	exec->args[0] = 0;
	if (!size || bpf_probe_read_user(exec->args, size, (void *)start))
		return;
	/* Over the whole room and not only up to size: with a bound that varies, the verifier would follow each one. */
	for (__u32 i = 0; i < ARGS_SIZE; i++)
		if (!exec->args[i])
			exec->args[i] = ' ';
	exec->args[(size - 1) & (ARGS_SIZE - 1)] = 0;
}

SEC("tp/sched/sched_process_exec")
int on_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct exec_event *exec = bpf_ringbuf_reserve(&execs, sizeof(*exec), 0);

	if (!exec) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	exec->pid = bpf_get_current_pid_tgid() >> 32;
	exec->parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	exec->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(exec->comm, sizeof(exec->comm));
	/* __data_loc: the low half is where in the tracepoint's record the string starts. */
	bpf_probe_read_kernel_str(exec->file, sizeof(exec->file), (void *)ctx + (ctx->__data_loc_filename & 0xFFFF));
	read_args(exec);
	bpf_ringbuf_submit(exec, 0);
	return 0;
}
