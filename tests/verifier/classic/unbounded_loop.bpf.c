// The loop ends only when chance wills it.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("tracepoint/syscalls/sys_enter_openat")
int wait_for_luck(void *ctx)
{
	while (bpf_get_prandom_u32() != 7)
		;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
