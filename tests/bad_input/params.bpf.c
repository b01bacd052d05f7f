// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Constants of several types, and a ring buffer: for wrong --param and --record. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

enum skbi_mode { skbi_mode_off, skbi_mode_on };

struct skbi_event {
	__u32 pid;
	char comm[16];
};

const volatile __u8 small_limit = 1;
const volatile __s16 signed_limit = -1;
const volatile bool verbose = false;
const volatile char prefix[8] = "";
const volatile enum skbi_mode mode = skbi_mode_off;
const volatile __u32 ports[2] = {};
__u64 exec_count;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct skbi_event);
} skbi_events SEC(".maps");

SEC("tp/sched/sched_process_exec")
int skbi_params(void *ctx)
{
	struct skbi_event *event = bpf_ringbuf_reserve(&skbi_events, sizeof(*event), 0);

	exec_count++;
	if (!event)
		return 0;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (verbose && prefix[0] && mode == skbi_mode_on && ports[0] > small_limit && signed_limit)
		event->pid = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
