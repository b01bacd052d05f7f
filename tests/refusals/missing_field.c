// A field that this kernel does not have, used without a guard.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include <bpf/bpf_core_read.h>

struct task_struct___imagined {
	int no_such_field;
} __attribute__((preserve_access_index));

SEC("raw_tp/sched_switch")
int peek(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct___imagined *task = (void *)ctx->args[1];

	return BPF_CORE_READ(task, no_such_field);
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: peek
reason:  reached a relocation that could not be satisfied: byte_off of struct task_struct___imagined.no_such_field: the kernel's struct task_struct has no no_such_field of a fitting type
line:    13: int peek(struct bpf_raw_tracepoint_args *ctx)
title:   something that this kernel does not have is used
fix:     guard the use: bpf_core_field_exists(), bpf_core_type_exists(), bpf_ksym_exists()
*/
