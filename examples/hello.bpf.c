// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The smallest program: one line for each program that is started on this machine.
 *
 *	skep run examples/hello.bpf.c -- ls
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("tp/sched/sched_process_exec")
int hello(void *ctx)
{
	char comm[16];

	bpf_get_current_comm(comm, sizeof(comm));
	bpf_printk("hello, %s (pid %d)", comm, (int)(bpf_get_current_pid_tgid() >> 32));
	return 0;
}
