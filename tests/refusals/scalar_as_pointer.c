// A kernel address read as plain memory.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("raw_tp/sched_switch")
int state(struct bpf_raw_tracepoint_args *ctx)
{
	int *task = (int *)ctx->args[1];

	return task[4] > 0;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: state
reason:  R1 invalid mem access 'scalar'
line:    11: return task[4] > 0;
title:   a number is used as a pointer
fix:     read kernel memory with BPF_CORE_READ() or bpf_probe_read_kernel(); user memory with bpf_probe_read_user()
*/
