// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * An iterator: the kernel walks over its tasks and calls this program for each; what it prints is read like a file.
 *
 *	skep run examples/task_iter.bpf.c
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct seq_file *out = ctx->meta->seq;
	struct task_struct *task = ctx->task;

	if (ctx->meta->seq_num == 0)
		BPF_SEQ_PRINTF(out, "%8s %8s %8s %s\n", "pid", "thread", "parent", "comm");
	if (task) /* the last call has none */
		BPF_SEQ_PRINTF(out, "%8d %8d %8d %s\n", task->tgid, task->pid, task->real_parent->tgid, task->comm);
	return 0;
}
