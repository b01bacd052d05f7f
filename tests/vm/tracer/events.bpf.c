// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the kernel's tracepoints say of a process and its children, for the test that compares the tracer with them
 * (crates/vm/tests/tracer.rs). The test puts the first process into `followed`; its children follow by themselves.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum kind { ENTER = 1, EXIT, FORK, EXEC, TASK_EXIT, SIGNAL };

/* Layout asserted in the test. */
struct seen {
	__u32 tid;
	__u32 kind;
	__s64 number; /* call, child, old thread, whether the last of its process, signal */
	__s64 result; /* of a call; priority; si_code */
	__u64 args[6];
	char text[64]; /* comm; of an exec the file name */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} followed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} events SEC(".maps");

__u64 lost;

static struct seen *begin(enum kind kind)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct seen *seen;

	if (!bpf_map_lookup_elem(&followed, &tid))
		return NULL;
	seen = bpf_ringbuf_reserve(&events, sizeof(*seen), 0);
	if (!seen) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	__builtin_memset(seen, 0, sizeof(*seen));
	seen->tid = tid;
	seen->kind = kind;
	bpf_get_current_comm(seen->text, 16);
	return seen;
}

SEC("tracepoint/raw_syscalls/sys_enter")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	struct seen *seen = begin(ENTER);

	if (!seen)
		return 0;
	seen->number = ctx->id;
	bpf_probe_read_kernel(seen->args, sizeof(seen->args), ctx->args);
	bpf_ringbuf_submit(seen, 0);
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct seen *seen = begin(EXIT);

	if (!seen)
		return 0;
	seen->number = ctx->id;
	seen->result = ctx->ret;
	bpf_ringbuf_submit(seen, 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_fork")
int on_fork(struct trace_event_raw_sched_process_fork *ctx)
{
	struct seen *seen = begin(FORK);
	__u32 child = ctx->child_pid, one = 1;

	if (!seen)
		return 0;
	bpf_map_update_elem(&followed, &child, &one, BPF_ANY);
	seen->number = child;
	bpf_ringbuf_submit(seen, 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_exec")
int on_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	__u32 tid = ctx->pid, old = ctx->old_pid, one = 1;
	struct seen *seen;

	/* A thread that was followed has become the first one of its process. */
	if (bpf_map_lookup_elem(&followed, &old))
		bpf_map_update_elem(&followed, &tid, &one, BPF_ANY);
	seen = begin(EXEC);
	if (!seen)
		return 0;
	seen->number = old;
	bpf_probe_read_kernel_str(seen->text, sizeof(seen->text),
				  (void *)ctx + (ctx->__data_loc_filename & 0xffff));
	bpf_ringbuf_submit(seen, 0);
	return 0;
}

struct trace_event_raw_sched_process_exit___grown {
	bool group_dead;
} __attribute__((preserve_access_index));

SEC("tracepoint/sched/sched_process_exit")
int on_task_exit(struct trace_event_raw_sched_process_exit *ctx)
{
	struct trace_event_raw_sched_process_exit___grown *grown = (void *)ctx;
	struct seen *seen = begin(TASK_EXIT);

	if (!seen)
		return 0;
	seen->number = bpf_core_field_exists(grown->group_dead) ? grown->group_dead : -1;
	seen->result = ctx->prio;
	bpf_ringbuf_submit(seen, 0);
	return 0;
}

SEC("tracepoint/signal/signal_deliver")
int on_signal(struct trace_event_raw_signal_deliver *ctx)
{
	struct seen *seen = begin(SIGNAL);

	if (!seen)
		return 0;
	seen->number = ctx->sig;
	seen->result = ctx->code;
	seen->args[0] = ctx->sa_handler;
	seen->args[1] = ctx->sa_flags;
	bpf_ringbuf_submit(seen, 0);
	return 0;
}
