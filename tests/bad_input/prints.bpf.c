// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A print of two lines. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp/sched/sched_process_exec")
int skbi_prints(void *ctx)
{
	bpf_printk("first\nsecond");
	return 0;
}
