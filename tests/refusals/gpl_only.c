// A helper for GPL programs in a program that is not.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tracepoint/sched/sched_switch")
int trace(void *ctx)
{
	bpf_printk("switched");
	return 0;
}

char LICENSE[] SEC("license") = "Proprietary";

/* expected
program: trace
reason:  cannot call GPL-restricted function from non-GPL compatible program
line:    9: bpf_printk("switched");
title:   a function for GPL programs is called by a program with another licence
fix:     declare it: `char LICENSE[] SEC("license") = "GPL";` (or "Dual MIT/GPL", "Dual BSD/GPL")
*/
